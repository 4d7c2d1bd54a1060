// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/text_pattern.hpp"

#include <optional>
#include <string>

namespace triphase::models {

/// One entry of `targets`. Of letters, digits, _ and dots: a path or its end at a dot, as peft reads it.
/// Anything else: a regular expression searched in the path (see TextPattern).
class TargetPattern {
 public:
  /// @throws ConfigError when it is no regular expression, or too long a one
  explicit TargetPattern(const std::string& target);
  /// @throws ConfigError when the expression takes too much work
  [[nodiscard]] bool fits(const std::string& path) const;

 private:
  std::string name_;
  std::optional<TextPattern> expression_;  ///< none for a plain name
};

/// Letters, digits, _ and dots only.
[[nodiscard]] bool is_plain_name(const std::string& target);

}  // namespace triphase::models
