// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <memory>
#include <string_view>

namespace triphase::data {

/// A Unicode regular expression. Matching is safe from several threads.
class TextPattern {
 public:
  explicit TextPattern(std::string_view pattern);
  ~TextPattern();
  TextPattern(TextPattern&&) noexcept;
  TextPattern& operator=(TextPattern&&) noexcept;

  /// Calls `take` with each match from left to right until it returns false.
  /// @param text must be UTF-8 (see is_utf8()): it is not checked again
  void for_each_match(std::string_view text,
                      const std::function<bool(std::string_view)>& take) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace triphase::data
