// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <string_view>

namespace triphase::data {

/// What the patterns of this room ask of a byte: reports are ASCII but for a sign here and there,
/// so that most words are found by a table, and the regular expression is left to what it alone
/// knows.
enum class ByteClass : unsigned char {
  kLetter,     ///< A-Z a-z
  kDigit,      ///< 0-9
  kSpace,      ///< white space of Unicode and of Python: \t \n \v \f \r and the blank
  kSeparator,  ///< U+001C to U+001F: white space of Python's \s, not of Unicode
  kUnderscore,
  kMark,   ///< any other ASCII character
  kOther,  ///< part of a character outside ASCII
};

inline constexpr std::array<ByteClass, 256> kByteClasses = [] {
  std::array<ByteClass, 256> classes{};
  for (std::size_t byte = 0; byte < 256; ++byte) {
    const bool letter = (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z');
    classes[byte] = letter                                     ? ByteClass::kLetter
                    : byte >= '0' && byte <= '9'               ? ByteClass::kDigit
                    : (byte >= 9 && byte <= 13) || byte == ' ' ? ByteClass::kSpace
                    : byte >= 0x1C && byte <= 0x1F             ? ByteClass::kSeparator
                    : byte == '_'                              ? ByteClass::kUnderscore
                    : byte < 0x80                              ? ByteClass::kMark
                                                               : ByteClass::kOther;
  }
  return classes;
}();

[[nodiscard]] inline ByteClass class_at(std::string_view text, std::size_t at) {
  return kByteClasses[static_cast<unsigned char>(text[at])];
}

/// The first byte from `at` that is of none of the classes, or the text's end.
template <ByteClass... kClasses>
[[nodiscard]] std::size_t end_of_run(std::string_view text, std::size_t at) {
  while (at < text.size() && ((class_at(text, at) == kClasses) || ...)) ++at;
  return at;
}

/// Whether a run that ends at `at` has surely ended: a character outside ASCII might belong to it.
[[nodiscard]] inline bool is_ascii_end(std::string_view text, std::size_t at) {
  return at == text.size() || class_at(text, at) != ByteClass::kOther;
}

}  // namespace triphase::data
