// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace triphase::data {

/// What is done to a text before it is tokenized. Merlin's released code does the first; its older
/// training code, and so perhaps older weights, did the second.
enum class TextPreparation {
  kWordPunct,  ///< "wordpunct": sanitize_report()
  kLower,      ///< "lower": Python's str.lower() and nothing else
};

[[nodiscard]] const std::vector<std::string>& text_preparation_names();
[[nodiscard]] std::string text_preparation_name(TextPreparation preparation);
/// @throws ConfigError that lists the names
[[nodiscard]] TextPreparation text_preparation_from_name(const std::string& name);

/// The text as a tokenizer is to see it. @throws DataError when the text is not UTF-8
[[nodiscard]] std::string prepare_report(std::string_view text, TextPreparation preparation);

/// Merlin's report text: lower-case, split by \w+|[^\w\s]+ (Unicode), joined by one space.
/// Source: nltk wordpunct_tokenize as called by Merlin's sanitize_report().
/// @throws DataError when the text is not UTF-8
[[nodiscard]] std::string sanitize_report(std::string_view text);

}  // namespace triphase::data
