// SPDX-License-Identifier: Apache-2.0
#include "data/prepare.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/error.hpp"
#include "data/dicom/dicom.hpp"
#include "data/nifti_file.hpp"
#include "data/prepare_kernel.hpp"
#include "data/sampling.hpp"
#include "data/voxel_codec.hpp"

namespace triphase::data {
namespace {

/// Stored indices of the neighbours along one axis.
struct StoredTable {
  std::vector<std::int32_t> low, high;
  std::vector<double> weight;  ///< of `high`
  [[nodiscard]] std::size_t size() const { return weight.size(); }
};

StoredTable stored_table(const SamplingPlan& plan, std::size_t axis) {
  StoredTable table;
  const std::int64_t last = plan.source.shape[axis] - 1;
  const auto stored = [&](std::int64_t index) {
    return static_cast<std::int32_t>(plan.source.is_flipped[axis] ? last - index : index);
  };
  for (const Neighbours& entry : axis_table(plan, axis)) {
    table.low.push_back(stored(entry.low));
    table.high.push_back(stored(entry.high));
    table.weight.push_back(entry.weight);
  }
  return table;
}

/// Output planes from a scan whose slices lie along them: each slice that is needed is converted and
/// interpolated within itself once, then pairs of slices are blended.
class SliceSweep {
 public:
  SliceSweep(const StoredScan& scan, const SamplingPlan& plan, const PreprocessOptions& options)
      : scan_(scan),
        options_(options),
        codec_(codec_for(options)),
        window_(window_numbers(options)),
        tables_{stored_table(plan, 0), stored_table(plan, 1), stored_table(plan, 2)},
        num_voxels_(tables_[0].size() * tables_[1].size()) {
    const auto mark = [&](std::int32_t y) { needed_rows_[static_cast<std::size_t>(y)] = true; };
    needed_rows_.resize(static_cast<std::size_t>(scan.header.shape[1]));
    std::for_each(tables_[1].low.begin(), tables_[1].low.end(), mark);
    std::for_each(tables_[1].high.begin(), tables_[1].high.end(), mark);
    slice_.resize(static_cast<std::size_t>(scan.header.shape[0] * scan.header.shape[1]));
    plane_.resize(num_voxels_);
  }

  [[nodiscard]] std::size_t num_planes() const { return tables_[2].size(); }
  /// Output plane z, y fastest within it, as the cache's type.
  void encode_plane(std::size_t z, std::byte* out) {
    const double* low = across(tables_[2].low[z], tables_[2].high[z]);
    const double* high = across(tables_[2].high[z], tables_[2].low[z]);
    kernel_.between(low, high, tables_[2].weight[z], window_,
                    static_cast<std::int64_t>(num_voxels_), plane_.data());
    if (codec_.storage == Storage::kUint16)
      kernel_.to_uint16(plane_.data(), codec_.offset, codec_.scale,
                        static_cast<std::int64_t>(num_voxels_),
                        reinterpret_cast<std::uint16_t*>(out));
    else
      encode_voxels_into(plane_, codec_, {out, num_voxels_ * bytes_per_element()});
  }
  [[nodiscard]] std::size_t num_voxels() const { return num_voxels_; }  ///< of a plane
  [[nodiscard]] std::size_t bytes_per_element() const {
    return static_cast<std::size_t>(bytes_per_voxel(codec_.storage));
  }

 private:
  struct SlicePlane {
    std::int32_t slice = -1;
    std::vector<double> hu;
  };

  static WindowNumbers window_numbers(const PreprocessOptions& options) {
    const Window window(options);
    return {window.low_hu, window.width_hu, window.low, window.high, window.width};
  }

  /// Slice `slice` on the output's x and y. Two are kept: that of `other`, needed beside it, stays.
  const double* across(std::int32_t slice, std::int32_t other) {
    for (const SlicePlane& plane : planes_)
      if (plane.slice == slice) return plane.hu.data();
    SlicePlane& plane = planes_[0].slice == other ? planes_[1] : planes_[0];
    plane.slice = slice;
    plane.hu.resize(num_voxels_);
    convert_slice(slice);
    const StoredTable& table_y = tables_[1];
    const StoredTable& table_x = tables_[0];
    const std::int64_t nx = scan_.header.shape[0];
    for (std::size_t y = 0; y < table_y.size(); ++y)
      kernel_.across({.row_low = slice_.data() + table_y.low[y] * nx,
                      .row_high = slice_.data() + table_y.high[y] * nx,
                      .weight_y = table_y.weight[y],
                      .low = table_x.low.data(),
                      .high = table_x.high.data(),
                      .weight_x = table_x.weight.data(),
                      .count = static_cast<std::int64_t>(table_x.size())},
                     plane.hu.data() + y * table_x.size());
    return plane.hu.data();
  }

  void convert_slice(std::int32_t slice) {
    const auto [nx, ny, nz] = scan_.header.shape;
    const std::int64_t row_bytes = nx * scan_.header.bytes_per_voxel;
    const std::byte* stored = scan_.voxels.data() + slice * ny * row_bytes;
    const auto low = static_cast<float>(options_.window_hu[0]);
    const auto high = static_cast<float>(options_.window_hu[1]);
    for (std::int64_t y = 0; y < ny; ++y) {
      if (!needed_rows_[static_cast<std::size_t>(y)]) continue;
      float* row = slice_.data() + y * nx;
      convert_(stored + y * row_bytes, nx, scan_.header, row);
      if (clips_first(options_))
        std::transform(row, row + nx, row,
                       [&](float hu) { return std::min(std::max(hu, low), high); });
    }
  }

  const StoredScan& scan_;
  const PreprocessOptions& options_;
  VoxelCodec codec_;
  WindowNumbers window_;
  std::array<StoredTable, 3> tables_;
  std::size_t num_voxels_;
  std::vector<bool> needed_rows_;
  std::vector<float> slice_;  ///< one slice of the scan in HU, where needed
  std::vector<float> plane_;  ///< one plane of the output
  std::array<SlicePlane, 2> planes_;
  const PrepareKernel& kernel_ = prepare_kernel();
  ConvertVoxels convert_ = voxel_converter(scan_.header);
};

/// Where the inside of the scan lies in the output.
struct Inside {
  Shape3 output{};
  std::array<AxisFit, 3> fit;
};

/// Turns a block of planes (x fastest) into the output's order (z fastest).
template <class Element>
void transpose(const std::vector<std::byte>& block, std::size_t pitch_bytes, std::int64_t z_begin,
               std::int64_t depth, const Inside& inside, std::byte* out) {
  const auto& [fx, fy, fz] = inside.fit;
  constexpr std::int64_t kTile = 16;  // of lines that are read together: their places stay cached
  std::array<Element, 32> line{};
  for (std::int64_t y = 0; y < fy.size(); ++y)
    for (std::int64_t x0 = 0; x0 < fx.size(); x0 += kTile)
      for (std::int64_t x = x0; x < std::min(x0 + kTile, fx.size()); ++x) {
        const std::byte* from =
            block.data() + static_cast<std::size_t>(y * fx.size() + x) * sizeof(Element);
        for (std::int64_t z = 0; z < depth; ++z)
          std::memcpy(&line[static_cast<std::size_t>(z)],
                      from + static_cast<std::size_t>(z) * pitch_bytes, sizeof(Element));
        const std::int64_t place =
            ((fx.first + x) * inside.output[1] + fy.first + y) * inside.output[2] + fz.first +
            z_begin;
        std::memcpy(out + static_cast<std::size_t>(place) * sizeof(Element), line.data(),
                    static_cast<std::size_t>(depth) * sizeof(Element));
      }
}

void sweep(const StoredScan& scan, const SamplingPlan& plan, const PreprocessOptions& options,
           std::byte* out) {
  constexpr std::int64_t kDepth = 32;
  SliceSweep planes(scan, plan, options);
  const std::size_t element = planes.bytes_per_element();
  // Planes a multiple of 4096 bytes apart would share a few lines of cache.
  const std::size_t pitch = (planes.num_voxels() * element + 4095) / 4096 * 4096 + 64;
  std::vector<std::byte> block(pitch * static_cast<std::size_t>(kDepth));
  const Inside inside{options.volume_shape, plan.fit};
  const auto num_planes = static_cast<std::int64_t>(planes.num_planes());
  for (std::int64_t begin = 0; begin < num_planes; begin += kDepth) {
    const std::int64_t depth = std::min(kDepth, num_planes - begin);
    for (std::int64_t z = 0; z < depth; ++z)
      planes.encode_plane(static_cast<std::size_t>(begin + z),
                          block.data() + static_cast<std::size_t>(z) * pitch);
    (element == 2 ? transpose<std::uint16_t> : transpose<std::uint32_t>)(block, pitch, begin, depth,
                                                                         inside, out);
  }
}

bool is_axial(const SamplingPlan& plan) {
  return plan.is_by_axis && plan.source.stored_axis == std::array<std::size_t, 3>{0, 1, 2};
}

PreparedVolume encoded(const Volume& volume, const PreprocessOptions& options) {
  return {encode_voxels(volume.voxels, codec_for(options)), volume.affine};
}

}  // namespace

PreparedVolume prepare_scan(const std::filesystem::path& path, const PreprocessOptions& options,
                            const NiftiLimits& limits, const ScanCorrection& correction) {
  if (!std::filesystem::is_directory(path)) return prepare_nifti(path, options, limits, correction);
  return encoded(preprocess(read_dicom(path, limits, correction), options), options);
}

PreparedVolume prepare_nifti(const std::filesystem::path& path, const PreprocessOptions& options,
                             const NiftiLimits& limits, const ScanCorrection& correction) {
  check_preprocess_options(options);
  const StoredScan scan = open_nifti(path, limits, correction);
  const SamplingPlan plan = plan_sampling(scan.header.shape, scan.affine, options);
  if (!is_axial(plan))
    return encoded(preprocess(read_nifti(path, limits, correction), options), options);
  check_voxels_finite(scan, path.string());
  PreparedVolume prepared;
  prepared.affine = plan.affine;
  std::int64_t num_voxels = 1;
  for (const std::int64_t length : options.volume_shape) num_voxels *= length;
  const VoxelCodec codec = codec_for(options);
  const auto padding = static_cast<float>(options.padding);
  const std::vector<std::byte> pad = encode_voxels({&padding, 1}, codec);
  prepared.bytes.resize(static_cast<std::size_t>(num_voxels) * pad.size());
  if (std::any_of(pad.begin(), pad.end(), [](std::byte b) { return b != std::byte{0}; }))
    for (std::size_t i = 0; i < prepared.bytes.size(); i += pad.size())
      std::copy(pad.begin(), pad.end(), prepared.bytes.begin() + static_cast<std::ptrdiff_t>(i));
  sweep(scan, plan, options, prepared.bytes.data());
  return prepared;
}

}  // namespace triphase::data
