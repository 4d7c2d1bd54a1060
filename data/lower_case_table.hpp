// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>

namespace triphase::data {

/// Every step-th character from first to last has its lower-case form `shift` further on.
struct LowerRange {
  std::uint32_t first, last, step;
  std::int32_t shift;
};
struct CodeRange {
  std::uint32_t first, last;
};

// All ordered by code point. Cased and Case_Ignorable are Unicode's, less what is in both (it is
// ignorable).
[[nodiscard]] std::span<const LowerRange> lower_ranges();
[[nodiscard]] std::span<const CodeRange> cased_ranges();
[[nodiscard]] std::span<const CodeRange> case_ignorable_ranges();

}  // namespace triphase::data
