// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <string_view>

namespace triphase {

/// Who wrote a pattern. The program's own are compiled to machine code and trusted. One that was
/// given (by a configuration or a file) may be hostile: its length and the work of each match are
/// bounded.
enum class PatternOrigin { kProgram, kGiven };

/// Longest pattern that may be given, in bytes.
inline constexpr std::size_t kMaxGivenPatternBytes = std::size_t{64} << 10;

/// A Unicode regular expression in Perl's syntax (Python's too, but for rarities). Matching is safe
/// from several threads, never recurses on the program's stack, and takes time that is bounded for
/// given patterns. Source: PCRE2 with UTF and UCP.
class TextPattern {
 public:
  /// @throws InternalError for a pattern of the program that does not compile, ConfigError for a
  /// given one that does not, or that is longer than kMaxGivenPatternBytes
  explicit TextPattern(std::string_view pattern, PatternOrigin origin = PatternOrigin::kProgram);
  ~TextPattern();
  TextPattern(TextPattern&&) noexcept;
  TextPattern& operator=(TextPattern&&) noexcept;

  /// Python's re.search. @throws ConfigError when a given pattern takes too much work, or the text
  /// is not UTF-8
  [[nodiscard]] bool is_found_in(std::string_view text) const;
  /// Python's re.fullmatch. @throws as is_found_in()
  [[nodiscard]] bool fits_whole(std::string_view text) const;

  /// Calls `take` with each match that is not empty from left to right until it returns false.
  /// @param text must be UTF-8: it is not checked again
  /// @throws DataError when the text cannot be searched within the library's limits
  void for_each_match(std::string_view text,
                      const std::function<bool(std::string_view)>& take) const;

 private:
  friend class TextSearch;
  struct State;
  [[nodiscard]] bool matches(std::string_view text, unsigned options) const;
  std::unique_ptr<State> state_;
};

/// Searches of one text, which must outlive it and be UTF-8. Memory is taken at the first search.
class TextSearch {
 public:
  TextSearch(const TextPattern& pattern, std::string_view text);
  ~TextSearch();
  TextSearch(const TextSearch&) = delete;
  TextSearch& operator=(const TextSearch&) = delete;

  /// The first match that is not empty at byte `from` or later. @throws as
  /// TextPattern::for_each_match()
  [[nodiscard]] std::optional<std::string_view> next(std::size_t from);

 private:
  struct State;
  const TextPattern& pattern_;
  std::string_view text_;
  std::unique_ptr<State> state_;
};

}  // namespace triphase
