// SPDX-License-Identifier: Apache-2.0
#include "data/word_encoder.hpp"

#include <algorithm>
#include <functional>
#include <queue>

#include "base/hash.hpp"

namespace triphase::data {
namespace {

/// Longest word for which looking through all its pairs again after each merge is the quickest way.
constexpr std::size_t kShortBytes = 64;

std::uint64_t pair_of(WordEncoder::Id left, WordEncoder::Id right) {
  return (static_cast<std::uint64_t>(static_cast<std::uint32_t>(left)) << 32) |
         static_cast<std::uint32_t>(right);
}

/// Spreads the pairs over the slots. Source: the finalizer of MurmurHash3.
std::size_t spread(std::uint64_t value) {
  value ^= value >> 33;
  value *= 0xff51afd7ed558ccdULL;
  value ^= value >> 33;
  return static_cast<std::size_t>(value);
}

}  // namespace

std::size_t WordEncoder::merge_slot(std::uint64_t pair) const {
  const std::size_t mask = merges_.size() - 1;
  std::size_t at = spread(pair) & mask;
  while (merges_[at].rank != kNone && merges_[at].pair != pair) at = (at + 1) & mask;
  return at;
}

const WordEncoder::Merge& WordEncoder::find_merge(Id left, Id right) const {
  return merges_[merge_slot(pair_of(left, right))];
}

void WordEncoder::grow_merges() {
  std::vector<Merge> old(merges_.size() * 2);
  old.swap(merges_);
  for (const Merge& merge : old)
    if (merge.rank != kNone) merges_[merge_slot(merge.pair)] = merge;
}

void WordEncoder::add_merge(Id left, Id right, Id merged) {
  if (2 * (num_merges_ + 1) > merges_.size()) grow_merges();
  const std::uint64_t pair = pair_of(left, right);
  Merge& slot = merges_[merge_slot(pair)];
  if (slot.rank != kNone) return;
  slot = {pair, static_cast<std::int32_t>(num_merges_), merged};
  ++num_merges_;
}

const WordEncoder::Word* WordEncoder::find_word(std::string_view word) const {
  const std::uint64_t hash = xxh3(word);
  const std::size_t mask = words_.size() - 1;
  for (std::size_t at = static_cast<std::size_t>(hash) & mask; words_[at].size > 0;
       at = (at + 1) & mask) {
    const Word& candidate = words_[at];
    if (candidate.hash == hash &&
        std::string_view(word_bytes_).substr(candidate.begin, candidate.size) == word)
      return &candidate;
  }
  return nullptr;
}

void WordEncoder::grow_words() {
  std::vector<Word> old(words_.size() * 2);
  old.swap(words_);
  const std::size_t mask = words_.size() - 1;
  for (const Word& word : old) {
    if (word.size == 0) continue;
    std::size_t at = static_cast<std::size_t>(word.hash) & mask;
    while (words_[at].size > 0) at = (at + 1) & mask;
    words_[at] = word;
  }
}

void WordEncoder::remember(std::string_view word) {
  if (word.empty() || word.size() > kShortBytes || find_word(word) != nullptr) return;
  std::vector<std::int64_t> ids;
  encode_short(word, ids);
  if (ids.size() != 1) return;
  if (2 * (num_words_ + 1) > words_.size()) grow_words();
  const std::uint64_t hash = xxh3(word);
  const std::size_t mask = words_.size() - 1;
  std::size_t at = static_cast<std::size_t>(hash) & mask;
  while (words_[at].size > 0) at = (at + 1) & mask;
  words_[at] = {hash, static_cast<std::uint32_t>(word_bytes_.size()),
                static_cast<std::uint32_t>(word.size()), static_cast<Id>(ids[0])};
  word_bytes_ += word;
  ++num_words_;
}

void WordEncoder::encode(std::string_view word, std::vector<std::int64_t>& out) const {
  if (word.size() > kShortBytes) return encode_long(word, out);
  if (const Word* whole = find_word(word))
    out.push_back(whole->id);
  else
    encode_short(word, out);
}

void WordEncoder::encode_short(std::string_view word, std::vector<std::int64_t>& out) const {
  std::array<Id, kShortBytes> ids;
  std::array<std::int32_t, kShortBytes> ranks;  // of the pair that begins here
  std::array<Id, kShortBytes> merged;           // what that pair becomes
  std::size_t size = word.size();
  for (std::size_t i = 0; i < size; ++i) ids[i] = byte_ids_[static_cast<unsigned char>(word[i])];
  const auto look = [&](std::size_t i) {
    const Merge& merge = find_merge(ids[i], ids[i + 1]);
    ranks[i] = merge.rank;
    merged[i] = merge.merged;
  };
  for (std::size_t i = 0; i + 1 < size; ++i) look(i);
  while (size > 1) {
    const auto end = ranks.begin() + static_cast<std::ptrdiff_t>(size) - 1;
    const auto best = std::min_element(ranks.begin(), end);
    if (*best == kNone) break;
    const auto at = static_cast<std::size_t>(best - ranks.begin());
    ids[at] = merged[at];
    --size;
    for (std::size_t i = at + 1; i < size; ++i) {
      ids[i] = ids[i + 1];
      ranks[i] = ranks[i + 1];
      merged[i] = merged[i + 1];
    }
    if (at + 1 < size) look(at);
    if (at > 0) look(at - 1);
  }
  for (std::size_t i = 0; i < size; ++i) out.push_back(ids[i]);
}

void WordEncoder::encode_long(std::string_view word, std::vector<std::int64_t>& out) const {
  struct Piece {
    Id id;
    int previous, next;  ///< -1: none
  };
  std::vector<Piece> pieces;
  pieces.reserve(word.size());
  for (const char byte : word) {
    const int at = static_cast<int>(pieces.size());
    pieces.push_back({byte_ids_[static_cast<unsigned char>(byte)], at - 1, at + 1});
  }
  pieces.back().next = -1;
  struct Candidate {
    std::int32_t rank;
    int left;
    std::uint64_t pair;
    Id merged;
    bool operator>(const Candidate& other) const {
      return rank != other.rank ? rank > other.rank : left > other.left;
    }
  };
  std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> queue;
  const auto piece = [&](int at) -> Piece& { return pieces[static_cast<std::size_t>(at)]; };
  const auto consider = [&](int left) {
    if (left < 0 || piece(left).next < 0) return;
    const Merge& merge = find_merge(piece(left).id, piece(piece(left).next).id);
    if (merge.rank != kNone) queue.push({merge.rank, left, merge.pair, merge.merged});
  };
  for (int i = 0; i + 1 < static_cast<int>(pieces.size()); ++i) consider(i);
  while (!queue.empty()) {
    const Candidate best = queue.top();
    queue.pop();
    // A candidate is stale when one of its two pieces was joined to another meanwhile (id -1:
    // swallowed).
    Piece& left = piece(best.left);
    if (left.id < 0 || left.next < 0 || pair_of(left.id, piece(left.next).id) != best.pair)
      continue;
    Piece& right = piece(left.next);
    left.id = best.merged;
    right.id = -1;
    left.next = right.next;
    if (left.next >= 0) piece(left.next).previous = best.left;
    consider(left.previous);
    consider(best.left);
  }
  for (int i = 0; i >= 0; i = piece(i).next) out.push_back(piece(i).id);
}

}  // namespace triphase::data
