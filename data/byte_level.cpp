// SPDX-License-Identifier: Apache-2.0
#include "data/byte_level.hpp"

#include "data/ascii_class.hpp"

namespace triphase::data {
namespace {

/// The bytes that stand for themselves, as Latin-1 characters.
bool is_printable(unsigned byte) {
  return (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
}

std::string utf8_of(unsigned code) {  // below U+0800
  if (code < 0x80) return {static_cast<char>(code)};
  return {static_cast<char>(0xC0 | (code >> 6)), static_cast<char>(0x80 | (code & 0x3F))};
}

}  // namespace

const std::array<std::string, 256>& byte_characters() {
  static const std::array<std::string, 256> kCharacters = [] {
    std::array<std::string, 256> characters;
    unsigned next = 256;
    for (unsigned byte = 0; byte < 256; ++byte)
      characters[byte] = utf8_of(is_printable(byte) ? byte : next++);
    return characters;
  }();
  return kCharacters;
}

const std::array<unsigned char, 256>& byte_order() {
  static const std::array<unsigned char, 256> kOrder = [] {
    std::array<unsigned char, 256> order{};
    std::size_t at = 0;
    for (const bool printable : {true, false})
      for (unsigned byte = 0; byte < 256; ++byte)
        if (is_printable(byte) == printable) order[at++] = static_cast<unsigned char>(byte);
    return order;
  }();
  return kOrder;
}

const TextPattern& word_split() {
  static const TextPattern kSplit = [] {
    // White space is spelt out as Unicode's White_Space: PCRE2's \s also takes U+180E.
    const std::string space =
        R"(\x{09}-\x{0D}\x{20}\x{85}\x{A0}\x{1680}\x{2000}-\x{200A}\x{2028}\x{2029}\x{202F}\x{205F}\x{3000})";
    return TextPattern(R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^)" + space +
                       R"(\p{L}\p{N}]+|[)" + space + R"(]+(?![^)" + space + R"(])|[)" + space +
                       "]+");
  }();
  return kSplit;
}

WordSplitter::WordSplitter(std::string_view text) : text_(text), search_(word_split(), text) {}

/// Where word_split()'s match at at_ ends, or 0 where a character outside ASCII has a say.
std::size_t WordSplitter::ascii_word_end() const {
  using enum ByteClass;
  const std::string_view rest = text_.substr(at_);
  if (rest[0] == '\'')
    for (const std::string_view ending : {"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"})
      if (rest.starts_with(ending)) return at_ + ending.size();
  const std::size_t begin = at_ + (rest[0] == ' ' ? 1 : 0);
  std::size_t end = at_;
  const ByteClass first = begin < text_.size() ? class_at(text_, begin) : kSpace;
  if (first == kLetter) {
    end = end_of_run<kLetter>(text_, begin);
  } else if (first == kDigit) {
    end = end_of_run<kDigit>(text_, begin);
  } else if (first != kSpace) {  // a character outside ASCII ends this run at once
    end = end_of_run<kMark, kUnderscore, kSeparator>(text_, begin);
  } else {
    end = end_of_run<kSpace>(text_, at_);
    // The last white space before a word goes with the word.
    if (end < text_.size() && end - at_ > 1 && is_ascii_end(text_, end)) return end - 1;
  }
  return is_ascii_end(text_, end) ? end : 0;
}

std::string_view WordSplitter::next() {
  if (at_ >= text_.size()) return {};
  std::string_view word;
  if (const std::size_t end = ascii_word_end(); end > 0)
    word = text_.substr(at_, end - at_);
  else
    word = search_.next(at_).value_or(std::string_view{});
  at_ += word.size();  // words leave nothing out
  return word;
}

}  // namespace triphase::data
