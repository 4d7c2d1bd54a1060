// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "data/report_text.hpp"

namespace triphase::data {

/// Byte-level BPE as RoBERTa has it: <s>=bos ... </s>=eos, right-padded with <pad>.
/// Source: GPT-2's encoder.py (byte table, pre-tokenisation pattern), huggingface tokenizers (behaviour).
class Tokenizer {
 public:
  /// Reads vocab.json and merges.txt from a folder. Both are checked against one another: every token
  /// but bytes, specials and the like must come out of a merge, so that a file cut short is noticed.
  /// @throws DataError (66) when a file is missing, (65) when malformed or a special token is absent
  explicit Tokenizer(const std::filesystem::path& folder);
  ~Tokenizer();
  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;

  /// Ids of one text as given (call prepare_report() first), between <s> and </s>, cut to at most
  /// max_tokens (>= 2) including both. A special token's name inside the text is text like any other: the
  /// ids between the two ends are never those of <s>, <pad>, </s>, <unk> or <mask>.
  /// Safe to call from several threads. @throws DataError when the text is not UTF-8
  [[nodiscard]] std::vector<std::int64_t> encode(std::string_view text, std::int64_t max_tokens) const;
  /// The text of ids, special tokens left out.
  [[nodiscard]] std::string decode(const std::vector<std::int64_t>& ids) const;

  [[nodiscard]] std::int64_t vocabulary_size() const;  ///< tokens, and largest id + 1
  [[nodiscard]] std::int64_t bos_id() const;
  [[nodiscard]] std::int64_t pad_id() const;
  [[nodiscard]] std::int64_t eos_id() const;
  [[nodiscard]] const std::string& hash() const;  ///< hex xxh3 over both files

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// Learns a byte-level BPE of `vocabulary_size` tokens (specials <s> <pad> </s> <unk> first, then the 256
/// bytes, then merges by falling pair count, ties by pair text) from sanitised texts, and writes
/// vocab.json and merges.txt, which Tokenizer and Python's tokenizers read. Deterministic.
/// @throws ConfigError when vocabulary_size < 260; IoError
void train_tokenizer(const std::vector<std::string>& texts, std::int64_t vocabulary_size,
                     const std::filesystem::path& folder);

}  // namespace triphase::data
