// SPDX-License-Identifier: Apache-2.0
#include "data/tokenizer.hpp"

#include <algorithm>
#include <array>
#include <unordered_map>

#include "base/error.hpp"
#include "base/file.hpp"
#include "base/hash.hpp"
#include "data/byte_level.hpp"
#include "data/utf8.hpp"
#include "data/vocabulary.hpp"
#include "data/word_encoder.hpp"

namespace triphase::data {
namespace {

using Id = std::int32_t;

/// The bytes that a token stands for; characters that stand for none are left out.
std::string bytes_of(const std::string& token) {
  static const std::unordered_map<std::string, char> kBytes = [] {
    std::unordered_map<std::string, char> bytes;
    for (std::size_t byte = 0; byte < 256; ++byte)
      bytes.emplace(byte_characters()[byte], static_cast<char>(static_cast<unsigned char>(byte)));
    return bytes;
  }();
  std::string text;
  for (std::size_t at = 0; at < token.size();) {
    const std::size_t length = static_cast<unsigned char>(token[at]) < 0x80 ? 1 : 2;
    const auto byte = kBytes.find(token.substr(at, length));
    if (byte != kBytes.end()) text.push_back(byte->second);
    at += length;
  }
  return text;
}

}  // namespace

struct Tokenizer::State {
  std::string folder;
  TokenIds ids;
  std::vector<const std::string*> tokens;  ///< by id; the keys of ids
  WordEncoder words;
  Id bos = 0, pad = 0, eos = 0;
  std::string hash;

  [[nodiscard]] Id require(std::string_view token, const std::string& why) const;
  void add_merges(std::string_view text, const std::string& path);
};

Id Tokenizer::State::require(std::string_view token, const std::string& why) const {
  const auto found = ids.find(std::string(token));
  TRIPHASE_CHECK(DataError, found != ids.end(), "'", folder, "/vocab.json' has no token '",
                 shown_token(token), "' (", why,
                 "). Use the vocabulary that the model was trained with.");
  return found->second;
}

void Tokenizer::State::add_merges(std::string_view text, const std::string& path) {
  std::vector<bool> is_made(tokens.size(), false);
  for (const MergeLine& merge : parse_merges(text, path)) {
    const std::string why = str("it is in merges.txt line ", merge.number);
    const std::string joined = std::string(merge.left) + std::string(merge.right);
    const Id made = require(joined, why);
    words.add_merge(require(merge.left, why), require(merge.right, why), made);
    is_made[static_cast<std::size_t>(made)] = true;
  }
  // A file that was cut between two lines looks whole otherwise.
  for (std::size_t id = 0; id < tokens.size(); ++id)
    TRIPHASE_CHECK(DataError, is_made[id] || is_made_without_merge(*tokens[id]), "'", path,
                   "' makes no token '", shown_token(*tokens[id]),
                   "', which vocab.json has: it is cut short, or belongs to another vocabulary. "
                   "Fetch both files again.");
}

Tokenizer::Tokenizer(const std::filesystem::path& folder) : state_(std::make_unique<State>()) {
  State& state = *state_;
  state.folder = folder.string();
  std::string vocabulary = read_file(folder / "vocab.json", kMaxTokenizerFileBytes);
  const std::string merges = read_file(folder / "merges.txt", kMaxTokenizerFileBytes);
  StreamingHash hash;
  hash.update(vocabulary);
  hash.update(std::string_view("\0", 1));
  hash.update(merges);
  state.hash = hex64(hash.digest());
  state.ids = parse_vocabulary(vocabulary, (folder / "vocab.json").string());
  std::string().swap(vocabulary);  // its memory is needed no longer
  state.tokens.resize(state.ids.size());
  for (const auto& [token, id] : state.ids) state.tokens[static_cast<std::size_t>(id)] = &token;
  state.bos = state.require("<s>", "it begins every text");
  state.pad = state.require("<pad>", "it fills up short texts");
  state.eos = state.require("</s>", "it ends every text");
  std::array<Id, 256> byte_ids{};
  for (std::size_t byte = 0; byte < 256; ++byte)
    byte_ids[byte] = state.require(byte_characters()[byte], "every byte needs a token");
  state.words.set_byte_ids(byte_ids);
  state.add_merges(merges, (folder / "merges.txt").string());
  for (const auto& [token, id] : state.ids) state.words.remember(bytes_of(token));
}

Tokenizer::~Tokenizer() = default;
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;

std::vector<std::int64_t> Tokenizer::encode(std::string_view text, std::int64_t max_tokens) const {
  TRIPHASE_CHECK(ConfigError, max_tokens >= 2, "max_text_tokens is ", max_tokens,
                 ", expected at least 2 (both specials).");
  TRIPHASE_CHECK(DataError, is_utf8(text), "a text of ", text.size(),
                 " bytes is not UTF-8. Convert the reports to UTF-8.");
  std::vector<std::int64_t> ids{state_->bos};
  const auto enough = static_cast<std::size_t>(max_tokens) - 1;
  ids.reserve(std::min(enough + 1, text.size() / 4 + 8));
  WordSplitter splitter(text);
  while (ids.size() < enough) {
    const std::string_view word = splitter.next();
    if (word.empty()) break;
    state_->words.encode(word, ids);
  }
  if (ids.size() > enough) ids.resize(enough);
  ids.push_back(state_->eos);
  return ids;
}

std::string Tokenizer::decode(const std::vector<std::int64_t>& ids) const {
  std::string text;
  for (const std::int64_t id : ids) {
    TRIPHASE_CHECK(DataError, id >= 0 && id < vocabulary_size(), "there is no token with the id ",
                   id, " in '", state_->folder, "'.");
    const std::string& token = *state_->tokens[static_cast<std::size_t>(id)];
    if (!is_special(token)) text += bytes_of(token);
  }
  return text;
}

std::int64_t Tokenizer::vocabulary_size() const { return std::ssize(state_->tokens); }
std::int64_t Tokenizer::bos_id() const { return state_->bos; }
std::int64_t Tokenizer::pad_id() const { return state_->pad; }
std::int64_t Tokenizer::eos_id() const { return state_->eos; }
const std::string& Tokenizer::hash() const { return state_->hash; }

}  // namespace triphase::data
