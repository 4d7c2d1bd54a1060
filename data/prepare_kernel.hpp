// SPDX-License-Identifier: Apache-2.0
#pragma once

// No standard header with code: this one is compiled for several processors.
#include <cstdint>

namespace triphase::data {

/// One line of an output plane: where its voxels lie in two rows of a slice.
struct LineSource {
  const float* row_low;       ///< y below
  const float* row_high;      ///< y above
  double weight_y;            ///< of row_high
  const std::int32_t* low;    ///< places in both rows, for each output x
  const std::int32_t* high;
  const double* weight_x;     ///< of `high`
  std::int64_t count;
};

/// HU to output_range (see Window).
struct WindowNumbers {
  float low_hu, width_hu, low, high, width;
};

/// The sums of preprocess() and encode_voxels() over whole lines, in the vectors of one kind of
/// processor: the same operations in the same order, so the same bits on each. Purely local.
struct PrepareKernel {
  const char* name;     ///< "avx512", "avx2", "any"
  bool (*is_usable)();  ///< on this processor
  /// Bilinear within a slice. @param out `count` values in HU
  void (*across)(const LineSource& line, double* out);
  /// Linear between two slices, windowed.
  void (*between)(const double* low, const double* high, double weight_high,
                  const WindowNumbers& window, std::int64_t count, float* out);
  /// Nearest of 65536 steps; ties to even. `offset` and `scale` as in VoxelCodec.
  void (*to_uint16)(const float* values, double offset, double scale, std::int64_t count,
                    std::uint16_t* out);
};

/// The one for this processor: the widest vectors it has.
[[nodiscard]] const PrepareKernel& prepare_kernel();
/// All that were compiled, the widest first; for tests.
[[nodiscard]] const PrepareKernel* const* all_prepare_kernels(int& count);

}  // namespace triphase::data
