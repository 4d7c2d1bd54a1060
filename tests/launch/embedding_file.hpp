// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "data/h5.hpp"

#include <filesystem>
#include <vector>

namespace triphase::test {

/// `/image` or `/text` of a file that `triphase embed` wrote.
struct EmbeddingRows {
  std::vector<std::int64_t> shape;  ///< [N,E]
  std::vector<float> values;

  [[nodiscard]] double squared_norm(std::int64_t row) const {
    double sum = 0;
    for (std::int64_t i = row * shape[1]; i < (row + 1) * shape[1]; ++i)
      sum += static_cast<double>(values[static_cast<std::size_t>(i)]) * values[static_cast<std::size_t>(i)];
    return sum;
  }
};

inline EmbeddingRows read_rows(const std::filesystem::path& path, const std::string& name) {
  const auto lock = data::h5::lock();
  const data::h5::Id file = data::h5::open_file(path);
  EmbeddingRows rows{.shape = data::h5::shape_of(data::h5::open_dataset(file, name), 2), .values = {}};
  rows.values = data::h5::read_array<float>(file, name, rows.shape);
  return rows;
}

}  // namespace triphase::test
