// SPDX-License-Identifier: Apache-2.0
#include "data/text_pattern.hpp"

#include "base/error.hpp"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <array>
#include <string>

namespace triphase::data {
namespace {

std::string pcre2_message(int code) {
  std::array<PCRE2_UCHAR, 256> text{};
  pcre2_get_error_message(code, text.data(), text.size());
  return {reinterpret_cast<const char*>(text.data())};
}

struct FreeCode {
  void operator()(pcre2_code* code) const { pcre2_code_free(code); }
};
struct FreeMatch {
  void operator()(pcre2_match_data* match) const { pcre2_match_data_free(match); }
};

}  // namespace

struct TextPattern::State {
  std::unique_ptr<pcre2_code, FreeCode> code;
};

TextPattern::TextPattern(std::string_view pattern) : state_(std::make_unique<State>()) {
  int error = 0;
  PCRE2_SIZE offset = 0;
  state_->code.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                                   PCRE2_UTF | PCRE2_UCP, &error, &offset, nullptr));
  TRIPHASE_CHECK(InternalError, state_->code, "pattern '", pattern, "' does not compile at ",
                 offset, ": ", pcre2_message(error), ".");
}

TextPattern::~TextPattern() = default;
TextPattern::TextPattern(TextPattern&&) noexcept = default;
TextPattern& TextPattern::operator=(TextPattern&&) noexcept = default;

void TextPattern::for_each_match(std::string_view text,
                                 const std::function<bool(std::string_view)>& take) const {
  const pcre2_code* code = state_->code.get();
  const std::unique_ptr<pcre2_match_data, FreeMatch> match(
      pcre2_match_data_create_from_pattern(code, nullptr));
  TRIPHASE_CHECK(InternalError, match, "no memory for matching a pattern.");
  std::size_t at = 0;
  while (at < text.size()) {
    // Without NO_UTF_CHECK every call would look through the whole text again.
    const int result = pcre2_match(code, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), at,
                                   PCRE2_NO_UTF_CHECK | PCRE2_NOTEMPTY, match.get(), nullptr);
    if (result == PCRE2_ERROR_NOMATCH) return;
    TRIPHASE_CHECK(DataError, result > 0, "a text of ", text.size(),
                   " bytes could not be split: ", pcre2_message(result), ". Shorten the report.");
    const PCRE2_SIZE* span = pcre2_get_ovector_pointer(match.get());
    if (!take(text.substr(span[0], span[1] - span[0]))) return;
    at = span[1];
  }
}

}  // namespace triphase::data
