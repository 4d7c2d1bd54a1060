// SPDX-License-Identifier: Apache-2.0
#include "data/phantom_render.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <vector>

#include "data/fast_normal.hpp"

namespace triphase::data {
namespace {

constexpr float kAir = -1000;

/// Voxels of one scan, R fastest, and where each voxel lies in the patient before the patient was
/// bent.
class Canvas {
 public:
  Canvas(const Patient& patient, const Scan& scan);
  void paint(const Shape& shape);
  void add_noise(const Scan& scan, KeyedRandom& random);
  [[nodiscard]] Volume stored(const Scan& scan, const PhantomSite& site) const;

 private:
  struct Box {
    std::array<std::size_t, 3> low, high;
  };
  struct Row {
    std::size_t begin;  ///< of the row's first voxel within the box
    std::size_t count;
    std::size_t column;  ///< of that voxel
    float bump_yz;       ///< share of the row in the surface's nodules
  };
  [[nodiscard]] Point displacement_at(const Point& where) const;
  void bend();
  void paint_table(const Shape& shape);
  [[nodiscard]] Box box_of(const Shape& shape) const;
  void weigh_ellipsoid(const Shape& shape, const Row& row);
  void weigh_capsule(const Shape& shape, const Row& row);
  void blend(const Shape& shape, const Row& row);

  const Displacement& displacement_;
  Shape3 shape_;
  Point spacing_, first_;
  std::array<float, 3> soft_;  ///< edge widths (mm): resolution and partial volume
  std::vector<float> hu_, x_, y_, z_, cavity_;
  std::vector<float> weight_, surface_;      ///< of one row
  std::array<std::vector<float>, 3> bumps_;  ///< waves along each axis
};

Canvas::Canvas(const Patient& patient, const Scan& scan)
    : displacement_(patient.displacement), shape_(scan.shape), spacing_(scan.spacing_mm) {
  for (std::size_t a = 0; a < 3; ++a) {
    first_[a] = scan.center_mm[a] - 0.5 * static_cast<double>(shape_[a] - 1) * spacing_[a];
    const double blur = a < 2 ? scan.blur_mm : 0;
    soft_[a] = static_cast<float>(std::hypot(blur, 0.35 * spacing_[a]));
    for (std::int64_t i = 0; i < shape_[a]; ++i) {
      // Two lengths without a common measure (mm), so that nodules do not stand in rank and file.
      const double turn = 2 * std::numbers::pi * (first_[a] + static_cast<double>(i) * spacing_[a]);
      bumps_[a].push_back(static_cast<float>(std::sin(turn / 21) + std::sin(turn / 34 + 1)));
    }
  }
  const auto size = static_cast<std::size_t>(shape_[0] * shape_[1] * shape_[2]);
  hu_.assign(size, kAir);
  cavity_.assign(size, 0);
  x_.resize(size);
  y_.resize(size);
  z_.resize(size);
  weight_.resize(static_cast<std::size_t>(shape_[0]));
  surface_.resize(static_cast<std::size_t>(shape_[0]));
  bend();
}

/// Trilinear between the nodes.
Point Canvas::displacement_at(const Point& where) const {
  constexpr int kNodes = Displacement::kNodes;
  std::array<int, 3> node{};
  std::array<double, 3> part{};
  for (std::size_t a = 0; a < 3; ++a) {
    const double half = displacement_.half_extent_mm[a];
    const double u = std::clamp((where[a] + half) / (2 * half), 0.0, 1.0) * (kNodes - 1);
    node[a] = std::min(static_cast<int>(u), kNodes - 2);
    part[a] = u - node[a];
  }
  Point sum{};
  for (int corner = 0; corner < 8; ++corner) {
    const int i = corner & 1, j = (corner >> 1) & 1, k = corner >> 2;
    const double weight =
        (i ? part[0] : 1 - part[0]) * (j ? part[1] : 1 - part[1]) * (k ? part[2] : 1 - part[2]);
    const auto& value = displacement_.nodes[static_cast<std::size_t>(
        ((node[2] + k) * kNodes + node[1] + j) * kNodes + node[0] + i)];
    for (std::size_t a = 0; a < 3; ++a) sum[a] += weight * static_cast<double>(value[a]);
  }
  return sum;
}

/// Along a row the displacement is piecewise linear, so it is worked out at a few voxels only.
void Canvas::bend() {
  constexpr std::int64_t kStride = 8;
  std::size_t at = 0;
  for (std::int64_t k = 0; k < shape_[2]; ++k)
    for (std::int64_t j = 0; j < shape_[1]; ++j) {
      const double y = first_[1] + static_cast<double>(j) * spacing_[1];
      const double z = first_[2] + static_cast<double>(k) * spacing_[2];
      const auto place = [&](std::int64_t i) -> Point {
        const double x = first_[0] + static_cast<double>(i) * spacing_[0];
        const Point d = displacement_at({x, y, z});
        return {x + d[0], y + d[1], z + d[2]};
      };
      Point left = place(0);
      for (std::int64_t i = 0; i < shape_[0]; i += kStride) {
        const Point right = place(i + kStride);
        const std::int64_t count = std::min(kStride, shape_[0] - i);
        for (std::int64_t m = 0; m < count; ++m, ++at) {
          const double t = static_cast<double>(m) / kStride;
          x_[at] = static_cast<float>(left[0] + t * (right[0] - left[0]));
          y_[at] = static_cast<float>(left[1] + t * (right[1] - left[1]));
          z_[at] = static_cast<float>(left[2] + t * (right[2] - left[2]));
        }
        left = right;
      }
    }
}

/// The voxels that a shape may touch, with room for its bent outline and its soft edge.
Canvas::Box Canvas::box_of(const Shape& shape) const {
  const Point shift = displacement_at(shape.center);
  Box box{};
  for (std::size_t a = 0; a < 3; ++a) {
    const double reach = shape.semi_mm[a] + std::abs(shape.half_length[a]);
    const double margin = std::min(24.0, 6 + 0.3 * reach) + 3 * static_cast<double>(soft_[a]);
    const double center = shape.center[a] - shift[a];
    const auto voxel = [&](double mm) {
      const double index =
          std::clamp((mm - first_[a]) / spacing_[a], 0.0, static_cast<double>(shape_[a]));
      return static_cast<std::size_t>(index);
    };
    box.low[a] = voxel(center - reach - margin);
    box.high[a] = voxel(center + reach + margin + spacing_[a]);
  }
  return box;
}

/// How much of a voxel so many edge widths inside the surface is covered.
inline float coverage(float edge_widths) {
  float s = 0.5F + edge_widths * (1.0F / 3);
  s = s < 0 ? 0 : s;
  s = s > 1 ? 1 : s;
  return s * s * (3 - 2 * s);
}

void Canvas::weigh_ellipsoid(const Shape& shape, const Row& row) {
  std::array<float, 3> center{}, inverse{}, soft{};
  for (std::size_t a = 0; a < 3; ++a) {
    center[a] = static_cast<float>(shape.center[a]);
    inverse[a] = static_cast<float>(1 / shape.semi_mm[a]);
    soft[a] = soft_[a] * inverse[a];
  }
  const float* x = x_.data() + row.begin;
  const float* y = y_.data() + row.begin;
  const float* z = z_.data() + row.begin;
  float* weight = weight_.data();
  // The nodules' waves stay between -6 and 6.
  const auto bump = static_cast<float>(shape.bump / 6);
  const float* bump_x = bumps_[0].data() + row.column;
  float* surface = surface_.data();
  for (std::size_t i = 0; i < row.count; ++i) surface[i] = 1 + bump * (bump_x[i] + row.bump_yz);
  for (std::size_t i = 0; i < row.count; ++i) {
    const float ux = (x[i] - center[0]) * inverse[0];
    const float uy = (y[i] - center[1]) * inverse[1];
    const float uz = (z[i] - center[2]) * inverse[2];
    const float f = std::sqrt(ux * ux + uy * uy + uz * uz + 1e-8F);
    const float gx = ux * soft[0], gy = uy * soft[1], gz = uz * soft[2];
    // f - 1 over its change across one edge width: the gradient of f is (u / semi-axis) / f.
    const float edge = std::sqrt(gx * gx + gy * gy + gz * gz + 1e-9F);
    weight[i] = coverage((surface[i] - f) * f / edge);
  }
}

void Canvas::weigh_capsule(const Shape& shape, const Row& row) {
  const Point& h = shape.half_length;
  const auto inverse_h2 = static_cast<float>(1 / (h[0] * h[0] + h[1] * h[1] + h[2] * h[2]));
  const std::array<float, 3> half{static_cast<float>(h[0]), static_cast<float>(h[1]),
                                  static_cast<float>(h[2])};
  const auto radius = static_cast<float>(shape.semi_mm[0]);
  const float edge = std::cbrt(soft_[0] * soft_[1] * soft_[2]);
  for (std::size_t i = 0; i < row.count; ++i) {
    const std::size_t at = row.begin + i;
    const float dx = x_[at] - static_cast<float>(shape.center[0]);
    const float dy = y_[at] - static_cast<float>(shape.center[1]);
    const float dz = z_[at] - static_cast<float>(shape.center[2]);
    float t = (dx * half[0] + dy * half[1] + dz * half[2]) * inverse_h2;
    t = std::clamp(t, -1.0F, 1.0F);
    const float px = dx - t * half[0], py = dy - t * half[1], pz = dz - t * half[2];
    weight_[i] = coverage((radius - std::sqrt(px * px + py * py + pz * pz)) / edge);
  }
}

void Canvas::blend(const Shape& shape, const Row& row) {
  float* hu = hu_.data() + row.begin;
  float* cavity = cavity_.data() + row.begin;
  const float* weight = weight_.data();
  const auto value = static_cast<float>(shape.hu);
  if (shape.in_cavity) {
    for (std::size_t i = 0; i < row.count; ++i) hu[i] += weight[i] * cavity[i] * (value - hu[i]);
    return;
  }
  for (std::size_t i = 0; i < row.count; ++i) hu[i] += weight[i] * (value - hu[i]);
  if (shape.is_cavity) std::copy_n(weight, row.count, cavity);
}

/// The table is not bent with the patient.
void Canvas::paint_table(const Shape& shape) {
  const auto width = static_cast<std::size_t>(shape_[0]);
  const auto height = static_cast<std::size_t>(shape_[1]);
  for (std::size_t row = 0; row < hu_.size() / width; ++row) {
    const double y = first_[1] + static_cast<double>(row % height) * spacing_[1];
    const double inside_mm = shape.semi_mm[1] - std::abs(y - shape.center[1]);
    const float weight = coverage(static_cast<float>(inside_mm) / soft_[1]);
    for (std::size_t i = 0; i < width; ++i) {
      float& hu = hu_[row * width + i];
      hu += weight * (static_cast<float>(shape.hu) - hu);
    }
  }
}

void Canvas::paint(const Shape& shape) {
  if (shape.is_table) {
    paint_table(shape);
    return;
  }
  const Box box = box_of(shape);
  if (box.low[0] >= box.high[0]) return;
  const bool capsule = shape.half_length != Point{};
  const auto width = static_cast<std::size_t>(shape_[0]);
  const auto height = static_cast<std::size_t>(shape_[1]);
  for (std::size_t k = box.low[2]; k < box.high[2]; ++k)
    for (std::size_t j = box.low[1]; j < box.high[1]; ++j) {
      const Row row{.begin = (k * height + j) * width + box.low[0],
                    .count = box.high[0] - box.low[0],
                    .column = box.low[0],
                    .bump_yz = bumps_[1][j] + bumps_[2][k]};
      if (capsule) {
        weigh_capsule(shape, row);
      } else {
        weigh_ellipsoid(shape, row);
      }
      blend(shape, row);
    }
}

/// A Gaussian with unit sum of squares, so that filtered white noise keeps its variance.
std::vector<float> noise_kernel(double sigma_voxels) {
  if (sigma_voxels < 0.2) return {1.0F};
  const int radius = static_cast<int>(std::ceil(2.5 * sigma_voxels));
  std::vector<float> kernel;
  float squares = 0;
  for (int i = -radius; i <= radius; ++i) {
    kernel.push_back(static_cast<float>(std::exp(-0.5 * i * i / (sigma_voxels * sigma_voxels))));
    squares += kernel.back() * kernel.back();
  }
  for (float& k : kernel) k /= std::sqrt(squares);
  return kernel;
}

/// Adds noise that is correlated in plane, and the calibration error; air is cut at -1000 HU as
/// scanners do.
void Canvas::add_noise(const Scan& scan, KeyedRandom& random) {
  const std::vector<float> kernel = noise_kernel(scan.noise_correlation_mm / scan.spacing_mm[0]);
  const std::size_t taps = kernel.size();
  const auto width = static_cast<std::size_t>(shape_[0]);
  const auto height = static_cast<std::size_t>(shape_[1]);
  const std::size_t wide = width + taps - 1, high = height + taps - 1;
  std::vector<float> white(wide), rows(high * width), sum(width);
  const auto sigma = static_cast<float>(scan.noise_hu);
  const auto offset = static_cast<float>(scan.hu_offset);
  for (std::size_t k = 0; k < static_cast<std::size_t>(shape_[2]); ++k) {
    std::fill(rows.begin(), rows.end(), 0.0F);
    for (std::size_t j = 0; j < high; ++j) {
      for (float& value : white) value = fast_normal(random.bits());
      float* row = rows.data() + j * width;
      for (std::size_t t = 0; t < taps; ++t)
        for (std::size_t i = 0; i < width; ++i) row[i] += kernel[t] * white[i + t];
    }
    for (std::size_t j = 0; j < height; ++j) {
      std::fill(sum.begin(), sum.end(), 0.0F);
      for (std::size_t t = 0; t < taps; ++t)
        for (std::size_t i = 0; i < width; ++i) sum[i] += kernel[t] * rows[(j + t) * width + i];
      float* hu = hu_.data() + (k * height + j) * width;
      for (std::size_t i = 0; i < width; ++i) {
        // Air shows little noise: it is at the end of the scale.
        const float share = std::min(1.0F, std::max(0.0F, (hu[i] + 1000) / 400));
        hu[i] = std::max(kAir, hu[i] + share * (offset + sigma * sum[i]));
      }
    }
  }
}

Volume Canvas::stored(const Scan& scan, const PhantomSite& site) const {
  Volume volume;
  const std::array<std::int64_t, 3> stride{1, shape_[0], shape_[0] * shape_[1]};
  std::array<std::int64_t, 3> step{};
  std::int64_t start = 0;
  for (std::size_t a = 0; a < 3; ++a) volume.affine[a][3] = first_[a];
  for (std::size_t s = 0; s < 3; ++s) {
    const bool backwards = site.stored_axes[s] < 0;
    const auto axis = static_cast<std::size_t>(std::abs(site.stored_axes[s]) - 1);
    volume.shape[s] = shape_[axis];
    step[s] = backwards ? -stride[axis] : stride[axis];
    volume.affine[axis][s] = backwards ? -scan.spacing_mm[axis] : scan.spacing_mm[axis];
    if (backwards) {
      start += (shape_[axis] - 1) * stride[axis];
      volume.affine[axis][3] += static_cast<double>(shape_[axis] - 1) * scan.spacing_mm[axis];
    }
  }
  volume.affine[3] = {0, 0, 0, 1};
  volume.voxels.reserve(hu_.size());
  for (std::int64_t i = 0; i < volume.shape[0]; ++i)
    for (std::int64_t j = 0; j < volume.shape[1]; ++j)
      for (std::int64_t k = 0; k < volume.shape[2]; ++k)
        volume.voxels.push_back(
            hu_[static_cast<std::size_t>(start + i * step[0] + j * step[1] + k * step[2])]);
  return volume;
}

}  // namespace

Scan draw_scan(const PhantomSite& site, const PhantomSampling& sampling, std::uint64_t seed,
               std::int64_t patient) {
  KeyedRandom random = patient_random(seed, patient, Purpose::kScan);
  Scan scan;
  const double fov = random.uniform(site.fov[0], site.fov[1]);
  const double slice = sampling.slice_factor * random.uniform(site.slice_mm[0], site.slice_mm[1]);
  scan.spacing_mm[2] = std::round(slice * 20) / 20;  // a multiple of 0.05 mm, as scanners have it
  for (std::size_t a = 0; a < 2; ++a) {
    scan.shape[a] = sampling.matrix[a];
    scan.spacing_mm[a] = sampling.extent_mm[a] * fov / static_cast<double>(sampling.matrix[a]);
    scan.center_mm[a] = random.normal(0, 3);
  }
  scan.shape[2] = static_cast<std::int64_t>(std::ceil(sampling.extent_mm[2] / scan.spacing_mm[2]));
  scan.center_mm[2] = random.normal(0, 4);
  scan.blur_mm = site.blur_mm;
  scan.noise_hu = random.uniform(site.noise_hu[0], site.noise_hu[1]);
  scan.noise_correlation_mm = site.noise_correlation_mm;
  scan.hu_offset = random.normal(site.hu_offset[0], site.hu_offset[1]);
  return scan;
}

Volume render_patient(const Patient& patient, const Scan& scan, const PhantomSite& site,
                      KeyedRandom noise) {
  Canvas canvas(patient, scan);
  for (const Shape& shape : patient.shapes) canvas.paint(shape);
  canvas.add_noise(scan, noise);
  return canvas.stored(scan, site);
}

}  // namespace triphase::data
