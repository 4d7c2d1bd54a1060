// SPDX-License-Identifier: Apache-2.0
#include "base/text_pattern.hpp"

#include "base/error.hpp"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <array>
#include <cstdint>
#include <string>

namespace triphase {
namespace {

/// For one match of a given pattern: some 10 ms. Module paths are short, so an honest pattern needs
/// thousands.
constexpr std::uint32_t kGivenMatchLimit = 500'000;
constexpr std::uint32_t kGivenHeapLimitKib = 16 << 10;

std::string pcre2_message(int code) {
  std::array<PCRE2_UCHAR, 256> text{};
  pcre2_get_error_message(code, text.data(), text.size());
  return {reinterpret_cast<const char*>(text.data())};
}

PCRE2_SPTR units(std::string_view text) { return reinterpret_cast<PCRE2_SPTR>(text.data()); }

/// As much of a pattern as a message can show.
std::string shown(std::string_view pattern) {
  constexpr std::size_t kShown = 120;
  return pattern.size() <= kShown ? std::string(pattern)
                                  : std::string(pattern.substr(0, kShown)) + "...";
}

struct FreePcre2 {
  void operator()(pcre2_code* code) const { pcre2_code_free(code); }
  void operator()(pcre2_match_data* match) const { pcre2_match_data_free(match); }
  void operator()(pcre2_match_context* context) const { pcre2_match_context_free(context); }
};
template <class Object>
using Pcre2 = std::unique_ptr<Object, FreePcre2>;

Pcre2<pcre2_match_data> match_data_for(const pcre2_code* code) {
  Pcre2<pcre2_match_data> match(pcre2_match_data_create_from_pattern(code, nullptr));
  TRIPHASE_CHECK(InternalError, match, "no memory for matching a pattern.");
  return match;
}

}  // namespace

struct TextPattern::State {
  Pcre2<pcre2_code> code;
  Pcre2<pcre2_match_context> limits;  ///< none: the library's own
  std::string shown;                  ///< in messages
};

TextPattern::TextPattern(std::string_view pattern, PatternOrigin origin)
    : state_(std::make_unique<State>()) {
  const bool is_given = origin == PatternOrigin::kGiven;
  state_->shown = shown(pattern);
  TRIPHASE_CHECK(ConfigError, !is_given || pattern.size() <= kMaxGivenPatternBytes, "the pattern '",
                 state_->shown, "' is ", pattern.size(), " bytes long, at most ",
                 kMaxGivenPatternBytes, " are read. Write a shorter one.");
  int error = 0;
  PCRE2_SIZE offset = 0;
  const std::uint32_t options = PCRE2_UTF | PCRE2_UCP | (is_given ? PCRE2_NEVER_BACKSLASH_C : 0U);
  state_->code.reset(
      pcre2_compile(units(pattern), pattern.size(), options, &error, &offset, nullptr));
  if (!state_->code) {
    const std::string what =
        str("the pattern '", state_->shown, "' is no regular expression: ", pcre2_message(error),
            " (at ", offset, ").");
    if (is_given) throw ConfigError(what);
    throw InternalError(what);
  }
  if (!is_given) {
    // Where memory may not be made executable this fails, and the interpreter does the work.
    static_cast<void>(pcre2_jit_compile(state_->code.get(), PCRE2_JIT_COMPLETE));
    return;
  }
  state_->limits.reset(pcre2_match_context_create(nullptr));
  TRIPHASE_CHECK(InternalError, state_->limits, "no memory for matching a pattern.");
  pcre2_set_match_limit(state_->limits.get(), kGivenMatchLimit);
  pcre2_set_heap_limit(state_->limits.get(), kGivenHeapLimitKib);
}

TextPattern::~TextPattern() = default;
TextPattern::TextPattern(TextPattern&&) noexcept = default;
TextPattern& TextPattern::operator=(TextPattern&&) noexcept = default;

bool TextPattern::matches(std::string_view text, unsigned options) const {
  const Pcre2<pcre2_match_data> match = match_data_for(state_->code.get());
  const int result = pcre2_match(state_->code.get(), units(text), text.size(), 0, options,
                                 match.get(), state_->limits.get());
  TRIPHASE_CHECK(ConfigError, result >= 0 || result == PCRE2_ERROR_NOMATCH, "the pattern '",
                 state_->shown, "' cannot be matched with '", shown(text),
                 "': ", pcre2_message(result),
                 ". Write a simpler one, without repetitions inside repetitions.");
  return result >= 0;
}

bool TextPattern::is_found_in(std::string_view text) const { return matches(text, 0); }

bool TextPattern::fits_whole(std::string_view text) const {
  return matches(text, PCRE2_ANCHORED | PCRE2_ENDANCHORED);
}

void TextPattern::for_each_match(std::string_view text,
                                 const std::function<bool(std::string_view)>& take) const {
  TextSearch search(*this, text);
  std::size_t at = 0;
  while (const std::optional<std::string_view> match = search.next(at)) {
    if (!take(*match)) return;
    at = static_cast<std::size_t>(match->data() - text.data()) + match->size();
  }
}

struct TextSearch::State {
  Pcre2<pcre2_match_data> match;
};

TextSearch::TextSearch(const TextPattern& pattern, std::string_view text)
    : pattern_(pattern), text_(text), state_(std::make_unique<State>()) {}
TextSearch::~TextSearch() = default;

std::optional<std::string_view> TextSearch::next(std::size_t from) {
  if (from >= text_.size()) return std::nullopt;
  const TextPattern::State& pattern = *pattern_.state_;
  if (!state_->match) state_->match = match_data_for(pattern.code.get());
  // Without NO_UTF_CHECK every call would look through the whole text again.
  const int result =
      pcre2_match(pattern.code.get(), units(text_), text_.size(), from,
                  PCRE2_NO_UTF_CHECK | PCRE2_NOTEMPTY, state_->match.get(), pattern.limits.get());
  if (result == PCRE2_ERROR_NOMATCH) return std::nullopt;
  TRIPHASE_CHECK(DataError, result > 0, "a text of ", text_.size(),
                 " bytes could not be split: ", pcre2_message(result), ". Shorten the text.");
  const PCRE2_SIZE* span = pcre2_get_ovector_pointer(state_->match.get());
  return text_.substr(span[0], span[1] - span[0]);
}

}  // namespace triphase
