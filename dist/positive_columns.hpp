// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "dist/contrastive_tile.hpp"

namespace triphase::dist {

/// For every row the columns of equal key, in O(b + B) memory. Purely local.
class PositiveColumns {
 public:
  explicit PositiveColumns(const PairKeys& keys);
  /// Of row i, those in [begin, end): a range of ascending columns.
  [[nodiscard]] std::pair<const std::int64_t*, const std::int64_t*> within(std::int64_t row,
                                                                           std::int64_t begin,
                                                                           std::int64_t end) const;
  /// How many row i has in all.
  [[nodiscard]] std::int64_t count(std::int64_t row) const;

 private:
  std::vector<std::int64_t> columns_;                          ///< ordered by key, then by column
  std::vector<std::pair<std::int64_t, std::int64_t>> ranges_;  ///< of a row, in columns_
};

}  // namespace triphase::dist
