// SPDX-License-Identifier: Apache-2.0
// Input: a scan in one file, compressed or not. What is read must be finite, have as many voxels as
// its shape says, and come out the same whether it is prepared in one sweep or step by step.
#include <algorithm>
#include <cmath>
#include <optional>

#include "base/error.hpp"
#include "data/prepare.hpp"
#include "data/voxel_codec.hpp"
#include "tests/fuzz/target.hpp"

namespace triphase::fuzz {
namespace {

constexpr data::NiftiLimits kLimits{.max_voxels = 1 << 16};

data::PreprocessOptions small_grid() {
  data::PreprocessOptions options;
  options.volume_shape = {6, 5, 4};
  return options;
}

/// The voxels step by step; nothing where the scan cannot be brought onto the grid.
std::optional<std::vector<std::byte>> prepared_in_steps(const data::Volume& scan,
                                                        const data::PreprocessOptions& options) {
  try {
    return data::encode_voxels(data::preprocess(scan, options).voxels, data::codec_for(options));
  } catch (const DataError&) {
    return std::nullopt;
  }
}

}  // namespace
}  // namespace triphase::fuzz

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace triphase;
  const auto path = fuzz::scratch_file("scan.nii", fuzz::text_of(data, size));
  fuzz::expect_clean_end([&] {
    const data::Volume scan = data::read_nifti(path, fuzz::kLimits);
    fuzz::require(static_cast<std::int64_t>(scan.voxels.size()) == scan.size(),
                  "there are as many voxels as the shape says");
    fuzz::require(std::all_of(scan.voxels.begin(), scan.voxels.end(),
                              [](float voxel) { return std::isfinite(voxel); }),
                  "voxels are finite");
    const data::PreprocessOptions options = fuzz::small_grid();
    const auto in_steps = fuzz::prepared_in_steps(scan, options);
    std::optional<std::vector<std::byte>> in_one_sweep;
    try {
      in_one_sweep = data::prepare_nifti(path, options, fuzz::kLimits).bytes;
    } catch (const DataError&) {
      fuzz::require(!in_steps.has_value(), "what can be prepared in steps can be in one sweep");
      throw;
    }
    fuzz::require(in_steps == in_one_sweep, "one sweep gives the same bits as the steps");
  });
  return 0;
}
