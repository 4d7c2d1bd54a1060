// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <map>
#include <utility>

#include "base/error.hpp"
#include "base/file.hpp"
#include "base/json.hpp"
#include "data/byte_level.hpp"
#include "data/tokenizer.hpp"
#include "data/utf8.hpp"

namespace triphase::data {
namespace {

using Pair = std::pair<std::string, std::string>;

/// A word as it is cut at present, and how often it stands in the texts.
struct Word {
  std::vector<std::string> pieces;
  std::int64_t count = 0;
};

std::vector<Word> count_words(const std::vector<std::string>& texts) {
  std::map<std::string, std::int64_t> counts;
  for (const std::string& text : texts) {
    TRIPHASE_CHECK(DataError, is_utf8(text), "a text of ", text.size(), " bytes is not UTF-8.");
    WordSplitter splitter(text);
    for (std::string_view word = splitter.next(); !word.empty(); word = splitter.next())
      ++counts[std::string(word)];
  }
  std::vector<Word> words;
  for (const auto& [text, count] : counts) {
    Word word;
    word.count = count;
    for (const char byte : text)
      word.pieces.push_back(byte_characters()[static_cast<unsigned char>(byte)]);
    words.push_back(std::move(word));
  }
  return words;
}

void join(Word& word, const Pair& pair) {
  std::vector<std::string> joined;
  for (std::size_t i = 0; i < word.pieces.size(); ++i) {
    if (i + 1 < word.pieces.size() && word.pieces[i] == pair.first &&
        word.pieces[i + 1] == pair.second) {
      joined.push_back(pair.first + pair.second);
      ++i;
    } else {
      joined.push_back(word.pieces[i]);
    }
  }
  word.pieces = std::move(joined);
}

/// The pair that occurs most often, the first in text order among equals; a pair seen once teaches
/// nothing.
const Pair* best_pair(const std::map<Pair, std::int64_t>& counts) {
  const Pair* best = nullptr;
  std::int64_t best_count = 1;
  for (const auto& [pair, count] : counts)
    if (count > best_count) {
      best = &pair;
      best_count = count;
    }
  return best;
}

}  // namespace

void train_tokenizer(const std::vector<std::string>& texts, std::int64_t vocabulary_size,
                     const std::filesystem::path& folder) {
  TRIPHASE_CHECK(ConfigError, vocabulary_size >= 260, "the vocabulary size is ", vocabulary_size,
                 ", expected at least 260 (4 specials and 256 bytes).");
  std::vector<std::string> tokens{"<s>", "<pad>", "</s>", "<unk>"};
  for (const unsigned char byte : byte_order()) tokens.push_back(byte_characters()[byte]);
  std::vector<Word> words = count_words(texts);
  std::string merges = "#version: 0.2\n";
  while (static_cast<std::int64_t>(tokens.size()) < vocabulary_size) {
    std::map<Pair, std::int64_t> counts;
    for (const Word& word : words)
      for (std::size_t i = 0; i + 1 < word.pieces.size(); ++i)
        counts[{word.pieces[i], word.pieces[i + 1]}] += word.count;
    const Pair* best = best_pair(counts);
    if (best == nullptr) break;
    for (Word& word : words) join(word, *best);
    merges += best->first + " " + best->second + "\n";
    // Two pairs can make the same token; it keeps its first id.
    const std::string merged = best->first + best->second;
    if (std::find(tokens.begin(), tokens.end(), merged) == tokens.end()) tokens.push_back(merged);
  }
  std::string vocabulary = "{";
  for (std::size_t id = 0; id < tokens.size(); ++id)
    vocabulary += str(id == 0 ? "\n" : ",\n", "  ", Json(tokens[id]).dump(), ": ", id);
  vocabulary += "\n}\n";
  make_output_directory(folder);
  write_file_atomically(folder / "vocab.json", vocabulary);
  write_file_atomically(folder / "merges.txt", merges);
}

}  // namespace triphase::data
