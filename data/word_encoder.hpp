// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace triphase::data {

/// Byte-pair encoding of single words: joins the neighbours that were learnt first, from left to
/// right among equals, until none is left. Source: GPT-2's encoder.py, bpe().
class WordEncoder {
 public:
  using Id = std::int32_t;

  /// Ids of the 256 single bytes.
  void set_byte_ids(const std::array<Id, 256>& ids) { byte_ids_ = ids; }
  /// In the order in which they were learnt; of two merges of one pair the first holds.
  void add_merge(Id left, Id right, Id merged);
  /// Looks the word up from now on, where its encoding is one token. Called after all merges.
  void remember(std::string_view word);

  /// Appends the word's ids. Safe to call from several threads once all is added.
  void encode(std::string_view word, std::vector<std::int64_t>& out) const;

 private:
  /// What two neighbouring tokens become, and how early; rank kNone in a slot that is free.
  struct Merge {
    std::uint64_t pair = 0;
    std::int32_t rank = kNone;
    Id merged = 0;
  };
  struct Word {
    std::uint64_t hash = 0;
    std::uint32_t begin = 0;  ///< in word_bytes_
    std::uint32_t size = 0;   ///< 0 in a slot that is free
    Id id = 0;
  };
  static constexpr std::int32_t kNone = INT32_MAX;

  /// The slot of a pair: its own or, with rank kNone, the one that it would take.
  [[nodiscard]] std::size_t merge_slot(std::uint64_t pair) const;
  [[nodiscard]] const Merge& find_merge(Id left, Id right) const;
  [[nodiscard]] const Word* find_word(std::string_view word) const;
  void encode_short(std::string_view word, std::vector<std::int64_t>& out) const;
  void encode_long(std::string_view word, std::vector<std::int64_t>& out) const;
  void grow_merges();
  void grow_words();

  // Both tables: open addressing, a power of two of slots, at most half of them full.
  std::vector<Merge> merges_ = std::vector<Merge>(2);
  std::size_t num_merges_ = 0;
  std::vector<Word> words_ = std::vector<Word>(2);
  std::size_t num_words_ = 0;
  std::string word_bytes_;
  std::array<Id, 256> byte_ids_{};
};

}  // namespace triphase::data
