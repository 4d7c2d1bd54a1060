// SPDX-License-Identifier: Apache-2.0
#include "dist/positive_columns.hpp"

#include <algorithm>
#include <numeric>

namespace triphase::dist {

PositiveColumns::PositiveColumns(const PairKeys& keys) {
  const std::int64_t* key_of = keys.column.const_data_ptr<std::int64_t>();
  columns_.resize(static_cast<std::size_t>(keys.column.numel()));
  std::iota(columns_.begin(), columns_.end(), std::int64_t{0});
  std::stable_sort(columns_.begin(), columns_.end(),
                   [&](std::int64_t a, std::int64_t b) { return key_of[a] < key_of[b]; });
  const std::int64_t* row_key = keys.row.const_data_ptr<std::int64_t>();
  for (std::int64_t i = 0; i < keys.row.numel(); ++i) {
    const auto first = std::lower_bound(
        columns_.begin(), columns_.end(), row_key[i],
        [&](std::int64_t column, std::int64_t key) { return key_of[column] < key; });
    const auto last = std::upper_bound(
        first, columns_.end(), row_key[i],
        [&](std::int64_t key, std::int64_t column) { return key < key_of[column]; });
    ranges_.emplace_back(first - columns_.begin(), last - columns_.begin());
  }
}

std::pair<const std::int64_t*, const std::int64_t*> PositiveColumns::within(
    std::int64_t row, std::int64_t begin, std::int64_t end) const {
  const auto& [first, last] = ranges_[static_cast<std::size_t>(row)];
  const std::int64_t* from =
      std::lower_bound(columns_.data() + first, columns_.data() + last, begin);
  return {from, std::lower_bound(from, columns_.data() + last, end)};
}

std::int64_t PositiveColumns::count(std::int64_t row) const {
  const auto& [first, last] = ranges_[static_cast<std::size_t>(row)];
  return last - first;
}

}  // namespace triphase::dist
