// SPDX-License-Identifier: Apache-2.0
#include "data/report_text.hpp"

#include <algorithm>
#include <cstdint>
#include <span>

#include "base/error.hpp"
#include "base/text_pattern.hpp"
#include "data/ascii_class.hpp"
#include "data/lower_case_table.hpp"
#include "data/utf8.hpp"

namespace triphase::data {
namespace {

constexpr std::uint32_t kCapitalSigma = 0x3A3, kSmallSigma = 0x3C3, kFinalSigma = 0x3C2;
constexpr std::uint32_t kCapitalDottedI = 0x130;

/// Code points of well-formed UTF-8.
std::u32string decode(std::string_view text) {
  std::u32string codes;
  codes.reserve(text.size());
  for (std::size_t i = 0; i < text.size();) {
    const auto lead = static_cast<unsigned char>(text[i]);
    const std::size_t length = lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
    std::uint32_t code = length == 1 ? lead : lead & (0x7FU >> length);
    for (std::size_t k = 1; k < length; ++k)
      code = (code << 6) | (static_cast<unsigned char>(text[i + k]) & 0x3FU);
    codes.push_back(static_cast<char32_t>(code));
    i += length;
  }
  return codes;
}

void append(std::string& text, std::uint32_t code) {
  const auto put = [&](std::uint32_t byte) { text.push_back(static_cast<char>(byte)); };
  if (code < 0x80) {
    put(code);
  } else if (code < 0x800) {
    put(0xC0 | (code >> 6));
    put(0x80 | (code & 0x3F));
  } else if (code < 0x10000) {
    put(0xE0 | (code >> 12));
    put(0x80 | ((code >> 6) & 0x3F));
    put(0x80 | (code & 0x3F));
  } else {
    put(0xF0 | (code >> 18));
    put(0x80 | ((code >> 12) & 0x3F));
    put(0x80 | ((code >> 6) & 0x3F));
    put(0x80 | (code & 0x3F));
  }
}

/// The range that could hold the code, or nullptr.
template <class Range>
const Range* find_range(std::span<const Range> ranges, std::uint32_t code) {
  const auto at =
      std::lower_bound(ranges.begin(), ranges.end(), code,
                       [](const Range& range, std::uint32_t c) { return range.last < c; });
  return at != ranges.end() && at->first <= code ? &*at : nullptr;
}

std::uint32_t simple_lower(std::uint32_t code) {
  if (code < 0x80) return code >= 'A' && code <= 'Z' ? code + 32 : code;
  const LowerRange* range = find_range(lower_ranges(), code);
  if (range == nullptr || (code - range->first) % range->step != 0) return code;
  return static_cast<std::uint32_t>(static_cast<std::int32_t>(code) + range->shift);
}

/// Unicode's Final_Sigma: a letter before and none after, marks and the like looked through.
bool is_final_sigma(const std::u32string& codes, std::size_t at) {
  const auto ignorable = [](char32_t c) {
    return find_range(case_ignorable_ranges(), c) != nullptr;
  };
  const auto cased = [](char32_t c) { return find_range(cased_ranges(), c) != nullptr; };
  std::size_t before = at;
  while (before > 0 && ignorable(codes[before - 1])) --before;
  if (before == 0 || !cased(codes[before - 1])) return false;
  std::size_t after = at + 1;
  while (after < codes.size() && ignorable(codes[after])) ++after;
  return after == codes.size() || !cased(codes[after]);
}

/// What Python's str.lower() gives.
std::string lower_case(std::string_view text) {
  std::string lower(text);
  bool is_ascii = true;
  for (char& c : lower) {
    is_ascii &= static_cast<unsigned char>(c) < 0x80;
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + ('a' - 'A'));
  }
  if (is_ascii) return lower;
  const std::u32string codes = decode(text);
  lower.clear();
  for (std::size_t i = 0; i < codes.size(); ++i) {
    const auto code = static_cast<std::uint32_t>(codes[i]);
    if (code == kCapitalSigma) {
      append(lower, is_final_sigma(codes, i) ? kFinalSigma : kSmallSigma);
    } else if (code == kCapitalDottedI) {
      lower += "i\xCC\x87";  // i and a combining dot: the only letter that becomes two
    } else {
      append(lower, simple_lower(code));
    }
  }
  return lower;
}

/// \w+|[^\w\s]+ with Python's classes spelt out: PCRE2's \s is another one (no U+001C, but U+180E).
const TextPattern& word_or_marks() {
  static const TextPattern kPattern(
      R"([\p{L}\p{N}_]+|[^\p{L}\p{N}_\x{09}-\x{0D}\x{1C}-\x{20}\x{85}\x{A0}\x{1680}\x{2000}-\x{200A}\x{2028}\x{2029}\x{202F}\x{205F}\x{3000}]+)");
  return kPattern;
}

/// The next match of word_or_marks() at `from` or later, empty at the end.
std::string_view next_word(std::string_view text, std::size_t from, TextSearch& search) {
  using enum ByteClass;
  const std::size_t begin = end_of_run<kSpace, kSeparator>(text, from);
  if (begin == text.size()) return {};
  const ByteClass first = class_at(text, begin);
  const std::size_t end = first == kMark ? end_of_run<kMark>(text, begin)
                                         : end_of_run<kLetter, kDigit, kUnderscore>(text, begin);
  if (first != kOther && is_ascii_end(text, end)) return text.substr(begin, end - begin);
  return search.next(begin).value_or(std::string_view{});
}

void check_utf8(std::string_view text) {
  TRIPHASE_CHECK(DataError, is_utf8(text), "a report of ", text.size(),
                 " bytes is not UTF-8. Convert the reports to UTF-8.");
}

}  // namespace

const std::vector<std::string>& text_preparation_names() {
  static const std::vector<std::string> kNames{"wordpunct", "lower"};
  return kNames;
}

std::string text_preparation_name(TextPreparation preparation) {
  return text_preparation_names().at(static_cast<std::size_t>(preparation));
}

TextPreparation text_preparation_from_name(const std::string& name) {
  for (const TextPreparation preparation : {TextPreparation::kWordPunct, TextPreparation::kLower})
    if (text_preparation_name(preparation) == name) return preparation;
  throw ConfigError(str("text_preparation is '", name, "', expected 'wordpunct' or 'lower'."));
}

std::string prepare_report(std::string_view text, TextPreparation preparation) {
  if (preparation == TextPreparation::kWordPunct) return sanitize_report(text);
  check_utf8(text);
  return lower_case(text);
}

std::string sanitize_report(std::string_view text) {
  check_utf8(text);
  const std::string lower = lower_case(text);
  TextSearch search(word_or_marks(), lower);
  std::string joined;
  joined.reserve(lower.size() + lower.size() / 4);
  std::size_t at = 0;
  for (;;) {
    const std::string_view word = next_word(lower, at, search);
    if (word.empty()) return joined;
    if (!joined.empty()) joined += ' ';
    joined += word;
    at = static_cast<std::size_t>(word.data() - lower.data()) + word.size();
  }
}

}  // namespace triphase::data
