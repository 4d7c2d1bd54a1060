// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace triphase::data {

/// Merlin's report text: lower-case, split by \w+|[^\w\s]+ (Unicode), joined by one space.
/// Source: nltk wordpunct_tokenize as called by Merlin's sanitize_report().
/// @throws DataError when the text is not UTF-8
[[nodiscard]] std::string sanitize_report(std::string_view text);

/// Byte-level BPE as RoBERTa has it: <s>=bos ... </s>=eos, right-padded with <pad>.
/// Source: GPT-2's encoder.py (byte table, pre-tokenisation pattern), huggingface tokenizers (behaviour).
class Tokenizer {
 public:
  /// Reads vocab.json and merges.txt from a folder.
  /// @throws DataError (66) when a file is missing, (65) when malformed or a special token is absent
  explicit Tokenizer(const std::filesystem::path& folder);
  ~Tokenizer();
  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;

  /// Ids of one text as given (call sanitize_report() first), between <s> and </s>, cut to at most
  /// max_tokens (>= 2) including both. Safe to call from several threads.
  [[nodiscard]] std::vector<std::int64_t> encode(std::string_view text, std::int64_t max_tokens) const;
  /// The text of ids, special tokens left out.
  [[nodiscard]] std::string decode(const std::vector<std::int64_t>& ids) const;

  [[nodiscard]] std::int64_t vocabulary_size() const;  ///< largest id + 1
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
