// SPDX-License-Identifier: Apache-2.0
#include "data/preprocess.hpp"

#include <algorithm>
#include <cmath>

#include "base/error.hpp"
#include "data/grid.hpp"

namespace triphase::data {
namespace {

/// MONAI pads after windowing, with 0: air in Merlin's range.
constexpr float kPadding = 0;

/// Which of the output's voxels along one axis come from the scan; the others are padding.
struct AxisFit {
  std::int64_t shift = 0;  ///< output index + shift = index on the resampled grid
  std::int64_t first = 0;  ///< first output index inside the resampled grid
  std::int64_t last = 0;   ///< one past the last
};

/// SpatialPad and CenterSpatialCrop in one. Source: monai/transforms/croppad/array.py.
AxisFit fit_axis(std::int64_t size, std::int64_t wanted) {
  if (size >= wanted) return {size / 2 - wanted / 2, 0, wanted};
  const std::int64_t before = (wanted - size) / 2;
  return {-before, before, before + size};
}

/// Between which two old voxels (as places in memory) a new one lies, and how far along.
struct Neighbours {
  std::int64_t low = 0;
  std::int64_t high = 0;
  double weight = 0;  ///< of `high`
};

Neighbours neighbours(double coordinate, std::int64_t length, std::int64_t stride) {
  const double last = static_cast<double>(length - 1);
  const double clamped = std::min(std::max(coordinate, 0.0), last);
  const double floor = std::floor(clamped);
  const auto low = static_cast<std::int64_t>(floor);
  return {low * stride, std::min(low + 1, length - 1) * stride, clamped - floor};
}

/// MONAI's ScaleIntensityRange with clip, in float32 as there.
class Window {
 public:
  explicit Window(const PreprocessOptions& options)
      : low_hu_(static_cast<float>(options.window_hu[0])),
        width_hu_(static_cast<float>(options.window_hu[1] - options.window_hu[0])),
        low_(static_cast<float>(options.output_range[0])),
        high_(static_cast<float>(options.output_range[1])),
        width_(static_cast<float>(options.output_range[1] - options.output_range[0])) {}
  [[nodiscard]] float operator()(double hu) const {
    const float scaled = (static_cast<float>(hu) - low_hu_) / width_hu_ * width_ + low_;
    return std::min(std::max(scaled, low_), high_);
  }

 private:
  float low_hu_, width_hu_, low_, high_, width_;
};

/// Everything that both ways of sampling need.
struct Task {
  const float* voxels = nullptr;  ///< of the scan, at RAS index (0,0,0)
  const GridView& source;
  const ResamplePlan& plan;
  std::array<AxisFit, 3> fit;
  Window window;
};

double blend(double a, double b, double weight) { return a + (b - a) * weight; }

/// A grid that is only zoomed: each axis has its own table.
void sample_by_axis(const Task& task, Volume& out) {
  std::array<std::vector<Neighbours>, 3> tables;
  for (std::size_t axis = 0; axis < 3; ++axis)
    for (std::int64_t o = task.fit[axis].first; o < task.fit[axis].last; ++o) {
      const double index = static_cast<double>(o + task.fit[axis].shift);
      const double coordinate = task.plan.unchanged ? index
                                                    : task.plan.index_map[axis][axis] * index +
                                                          task.plan.index_map[axis][3];
      tables[axis].push_back(
          neighbours(coordinate, task.source.shape[axis], task.source.strides[axis]));
    }
  std::int64_t x = task.fit[0].first;
  for (const Neighbours& nx : tables[0]) {
    std::int64_t y = task.fit[1].first;
    for (const Neighbours& ny : tables[1]) {
      const float* line00 = task.voxels + nx.low + ny.low;
      const float* line01 = task.voxels + nx.low + ny.high;
      const float* line10 = task.voxels + nx.high + ny.low;
      const float* line11 = task.voxels + nx.high + ny.high;
      const double w11 = nx.weight * ny.weight;
      const double w10 = nx.weight - w11;
      const double w01 = ny.weight - w11;
      const double w00 = 1 - nx.weight - w01;
      const auto across = [&](std::int64_t k) {
        return w00 * static_cast<double>(line00[k]) + w01 * static_cast<double>(line01[k]) +
               w10 * static_cast<double>(line10[k]) + w11 * static_cast<double>(line11[k]);
      };
      float* row = &out.at(x, y, task.fit[2].first);
      for (const Neighbours& nz : tables[2])
        *row++ = task.window(blend(across(nz.low), across(nz.high), nz.weight));
      ++y;
    }
    ++x;
  }
}

double sample_at(const Task& task, const Vector3& coordinate) {
  std::array<Neighbours, 3> n;
  for (std::size_t axis = 0; axis < 3; ++axis)
    n[axis] = neighbours(coordinate[axis], task.source.shape[axis], task.source.strides[axis]);
  const auto along_z = [&](std::int64_t place) {
    return blend(static_cast<double>(task.voxels[place + n[2].low]),
                 static_cast<double>(task.voxels[place + n[2].high]), n[2].weight);
  };
  const auto along_y = [&](std::int64_t place) {
    return blend(along_z(place + n[1].low), along_z(place + n[1].high), n[1].weight);
  };
  return blend(along_y(n[0].low), along_y(n[0].high), n[0].weight);
}

/// A sheared scan: every voxel has a place of its own.
void sample_anywhere(const Task& task, Volume& out) {
  const auto& [fx, fy, fz] = task.fit;
  for (std::int64_t x = fx.first; x < fx.last; ++x)
    for (std::int64_t y = fy.first; y < fy.last; ++y)
      for (std::int64_t z = fz.first; z < fz.last; ++z) {
        const Vector3 index{static_cast<double>(x + fx.shift), static_cast<double>(y + fy.shift),
                            static_cast<double>(z + fz.shift)};
        out.at(x, y, z) = task.window(sample_at(task, apply(task.plan.index_map, index)));
      }
}

/// Off-diagonal terms that move no voxel by a billionth of a voxel are rounding noise.
bool is_only_zoomed(const ResamplePlan& plan) {
  if (plan.unchanged) return true;
  for (std::size_t i = 0; i < 3; ++i)
    for (std::size_t j = 0; j < 3; ++j)
      if (i != j && !(std::abs(plan.index_map[i][j]) * static_cast<double>(plan.shape[j]) < 1e-9))
        return false;
  return true;
}

}  // namespace

Volume preprocess(const Volume& scan, const PreprocessOptions& options) {
  check_preprocess_options(options);
  TRIPHASE_CHECK(InternalError,
                 scan.size() > 0 && static_cast<std::int64_t>(scan.voxels.size()) == scan.size(),
                 "a scan of shape ", scan.shape[0], "x", scan.shape[1], "x", scan.shape[2], " has ",
                 scan.voxels.size(), " voxels");
  const GridView source = view_as_ras(scan.shape, scan.affine);
  const ResamplePlan plan = plan_resampling(source.shape, source.affine, options.spacing_mm);
  Task task{scan.voxels.data() + source.start, source, plan, {}, Window(options)};
  Vector3 corner{};
  for (std::size_t i = 0; i < 3; ++i) {
    task.fit[i] = fit_axis(plan.shape[i], options.volume_shape[i]);
    corner[i] = static_cast<double>(task.fit[i].shift);
  }

  Volume out;
  out.shape = options.volume_shape;
  out.affine = affine_from(linear_part(plan.affine), apply(plan.affine, corner));
  out.voxels.assign(static_cast<std::size_t>(out.size()), kPadding);
  if (is_only_zoomed(plan))
    sample_by_axis(task, out);
  else
    sample_anywhere(task, out);
  return out;
}

}  // namespace triphase::data
