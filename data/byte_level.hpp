// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <string>

#include "base/text_pattern.hpp"

namespace triphase::data {

/// GPT-2's printable character (as UTF-8) for each byte value.
/// Source: bytes_to_unicode() of GPT-2's encoder.py.
[[nodiscard]] const std::array<std::string, 256>& byte_characters();

/// Byte values in the order in which GPT-2 lists them: printable ones first.
[[nodiscard]] const std::array<unsigned char, 256>& byte_order();

/// GPT-2's split of text into words, each with the space before it.
[[nodiscard]] const TextPattern& word_split();

}  // namespace triphase::data
