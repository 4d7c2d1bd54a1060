// SPDX-License-Identifier: Apache-2.0
// The kernel as plain loops: included by prepare_kernel_<processor>.cpp, each compiled for its
// processor, with -O3 and without contraction of products and sums, which would change bits. In an
// unnamed namespace and without functions of other headers, so that the linker cannot put one
// processor's code into another's place.
#include "data/prepare_kernel.hpp"

namespace triphase::data {
namespace {

void across(const LineSource& line, double* __restrict out) {
  const float* const row_low = line.row_low;
  const float* const row_high = line.row_high;
  const std::int32_t* const low = line.low;
  const std::int32_t* const high = line.high;
  const double* const weight_x = line.weight_x;
  const double weight_y = line.weight_y;
  for (std::int64_t i = 0; i < line.count; ++i) {
    const double w11 = weight_x[i] * weight_y;
    const double w10 = weight_x[i] - w11;
    const double w01 = weight_y - w11;
    const double w00 = 1 - weight_x[i] - w01;
    out[i] = w00 * static_cast<double>(row_low[low[i]]) +
             w01 * static_cast<double>(row_high[low[i]]) +
             w10 * static_cast<double>(row_low[high[i]]) +
             w11 * static_cast<double>(row_high[high[i]]);
  }
}

void between(const double* low, const double* high, double weight_high,
             const WindowNumbers& window, std::int64_t count, float* __restrict out) {
  const WindowNumbers w = window;
  for (std::int64_t i = 0; i < count; ++i) {
    const auto hu = static_cast<float>(low[i] + (high[i] - low[i]) * weight_high);
    const float scaled = (hu - w.low_hu) / w.width_hu * w.width + w.low;
    const float above = scaled < w.low ? w.low : scaled;
    out[i] = above > w.high ? w.high : above;
  }
}

void to_uint16(const float* values, double offset, double scale, std::int64_t count,
               std::uint16_t* __restrict out) {
  constexpr double kLargest = 65535;
  constexpr double kRounder = 6755399441055744.0;  // 1.5 * 2^52: adding it rounds to an integer
  for (std::int64_t i = 0; i < count; ++i) {
    const double steps = (static_cast<double>(values[i]) - offset) / scale;
    const double above = steps < 0 ? 0 : steps;
    const double inside = above > kLargest ? kLargest : above;
    out[i] = static_cast<std::uint16_t>(
        static_cast<std::int32_t>((inside + kRounder) - kRounder));
  }
}

constexpr PrepareKernel kernel_of(const char* name, bool (*is_usable)()) {
  return {name, is_usable, across, between, to_uint16};
}

}  // namespace
}  // namespace triphase::data
