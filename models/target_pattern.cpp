// SPDX-License-Identifier: Apache-2.0
#include "models/target_pattern.hpp"

#include <algorithm>
#include <cctype>

namespace triphase::models {

bool is_plain_name(const std::string& target) {
  return std::all_of(target.begin(), target.end(),
                     [](unsigned char c) { return std::isalnum(c) != 0 || c == '_' || c == '.'; });
}

TargetPattern::TargetPattern(const std::string& target) : name_(target) {
  if (!is_plain_name(target)) expression_.emplace(target, PatternOrigin::kGiven);
}

bool TargetPattern::fits(const std::string& path) const {
  if (expression_) return expression_->is_found_in(path);
  return path == name_ || path.ends_with("." + name_);
}

}  // namespace triphase::models
