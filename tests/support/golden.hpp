// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/json.hpp"

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace triphase::test {

/// One tensor of a golden file. Whole numbers beyond 2^53 are not to be had.
struct GoldenTensor {
  std::vector<std::int64_t> shape;
  std::string dtype;           ///< safetensors' own word: "F32", "I64", ...
  std::vector<double> values;  ///< in row-major order
};

/// What tests/reference wrote: names and tensors.
class Golden {
 public:
  explicit Golden(std::map<std::string, GoldenTensor> tensors) : tensors_(std::move(tensors)) {}
  /// @throws std::runtime_error that names a tensor that is not there
  [[nodiscard]] const GoldenTensor& at(const std::string& name) const;
  [[nodiscard]] bool contains(const std::string& name) const { return tensors_.contains(name); }
  [[nodiscard]] const std::map<std::string, GoldenTensor>& tensors() const { return tensors_; }

 private:
  std::map<std::string, GoldenTensor> tensors_;
};

/// Reads tests/golden/<name>.safetensors, e.g. "preprocess/files". For files of our own only: little is
/// checked.
[[nodiscard]] Golden load_golden(const std::string& name);
/// Reads tests/golden/<name>.json.
[[nodiscard]] Json load_golden_json(const std::string& name);

}  // namespace triphase::test
