// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <string>
#include <string_view>

#include "base/text_pattern.hpp"

namespace triphase::data {

/// GPT-2's printable character (as UTF-8) for each byte value.
/// Source: bytes_to_unicode() of GPT-2's encoder.py.
[[nodiscard]] const std::array<std::string, 256>& byte_characters();

/// Byte values in the order in which GPT-2 lists them: printable ones first.
[[nodiscard]] const std::array<unsigned char, 256>& byte_order();

/// GPT-2's split of text into words, each with the space before it.
[[nodiscard]] const TextPattern& word_split();

/// The words of one text by word_split(), one after the other. The text must be UTF-8 and outlive
/// it.
class WordSplitter {
 public:
  explicit WordSplitter(std::string_view text);
  /// The next word; empty at the text's end.
  [[nodiscard]] std::string_view next();

 private:
  [[nodiscard]] std::size_t ascii_word_end() const;
  std::string_view text_;
  TextSearch search_;
  std::size_t at_ = 0;
};

}  // namespace triphase::data
