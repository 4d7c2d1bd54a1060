// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace triphase::data {

/// Limits on a tokenizer's two files, so that hostile ones cost little memory and time: RoBERTa's
/// have 50,265 tokens in 0.9 MB and 50,000 merges in 0.5 MB.
inline constexpr std::int64_t kMaxTokenizerFileBytes = std::int64_t{8} << 20;
inline constexpr std::int32_t kMaxTokens = 1 << 17;
inline constexpr std::int64_t kMaxMerges = 2 * std::int64_t{kMaxTokens};

/// Id of each token.
using TokenIds = std::unordered_map<std::string, std::int32_t>;

/// Reads the text of a vocab.json: one flat object {"token": id}, tokens and ids unique, ids from 0
/// without a gap. Nothing but the table is built while it is read.
/// @param path names the file in messages
/// @throws DataError
[[nodiscard]] TokenIds parse_vocabulary(std::string_view text, const std::string& path);

/// One line of a merges.txt.
struct MergeLine {
  std::string_view left;
  std::string_view right;
  std::int64_t number = 0;  ///< from 1
};
/// Reads the text of a merges.txt in its order: two tokens with one space between on each line; a
/// first line that begins with "#version" and empty lines are passed over.
/// @return views into the text
/// @throws DataError
[[nodiscard]] std::vector<MergeLine> parse_merges(std::string_view text, const std::string& path);

/// One of RoBERTa's five: <s> <pad> </s> <unk> <mask>. No text is encoded as one: a word holds
/// letters or signs, not both.
[[nodiscard]] bool is_special(std::string_view token);

/// A token that needs no merge: one byte's character, one in <> or [], or fairseq's
/// "madeupword0000" and so on, which fill up RoBERTa's vocabulary.
[[nodiscard]] bool is_made_without_merge(std::string_view token);

/// As much of a token as a message can show, cut between characters.
[[nodiscard]] std::string shown_token(std::string_view token);

}  // namespace triphase::data
