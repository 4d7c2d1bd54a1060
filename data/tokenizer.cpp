// SPDX-License-Identifier: Apache-2.0
#include "data/tokenizer.hpp"

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>
#include <queue>
#include <set>
#include <unordered_map>

#include "base/error.hpp"
#include "base/file.hpp"
#include "base/hash.hpp"
#include "data/byte_level.hpp"
#include "data/utf8.hpp"

namespace triphase::data {
namespace {

using Id = std::int32_t;
constexpr std::int64_t kMaxFileBytes = std::int64_t{64} << 20;
constexpr Id kMaxId = 1 << 24;

/// What two neighbouring tokens become, and how early.
struct Merge {
  std::int64_t rank;
  Id merged;
};

std::uint64_t pair_key(Id left, Id right) {
  return (static_cast<std::uint64_t>(static_cast<std::uint32_t>(left)) << 32) |
         static_cast<std::uint32_t>(right);
}

/// {"token": id, ...}, ids and tokens unique.
std::unordered_map<std::string, Id> parse_vocabulary(const std::string& text,
                                                     const std::string& path) {
  std::set<std::string> keys;
  const auto check = [&](int depth, nlohmann::json::parse_event_t event,
                         const nlohmann::json& parsed) {
    using Event = nlohmann::json::parse_event_t;
    const bool opens = event == Event::object_start || event == Event::array_start;
    TRIPHASE_CHECK(DataError, !opens || depth == 0, "'", path,
                   "' is nested, expected one flat object.");
    TRIPHASE_CHECK(DataError, event != Event::key || keys.insert(parsed.get<std::string>()).second,
                   "'", path, "' has the token ", parsed.dump(), " twice. Fetch the file again.");
    return true;
  };
  nlohmann::json json;
  try {
    json = nlohmann::json::parse(text, check);
  } catch (const nlohmann::json::exception& error) {
    throw DataError(str("'", path, "' is not JSON: ", error.what(), ". Fetch the file again."));
  }
  TRIPHASE_CHECK(DataError, json.is_object(), "'", path, "' is not an object of token: id.");
  std::unordered_map<std::string, Id> ids;
  std::set<Id> seen;
  for (const auto& [token, value] : json.items()) {
    TRIPHASE_CHECK(DataError, value.is_number_unsigned() && value.get<std::uint64_t>() <= kMaxId,
                   "'", path, "' gives the token '", token, "' the id ", value.dump(),
                   ", expected a whole number from 0 to ", kMaxId, ".");
    const auto id = value.get<Id>();
    TRIPHASE_CHECK(DataError, seen.insert(id).second, "'", path, "' gives the id ", id,
                   " twice (the second time to '", token, "').");
    ids.emplace(token, id);
  }
  return ids;
}

}  // namespace

struct Tokenizer::State {
  std::string folder;
  std::unordered_map<std::string, Id> ids;
  std::unordered_map<Id, std::string> tokens;
  std::unordered_map<std::uint64_t, Merge> merges;
  std::array<Id, 256> byte_ids{};
  Id bos = 0, pad = 0, eos = 0, largest = 0;
  std::string hash;

  [[nodiscard]] Id require(const std::string& token, const std::string& why) const;
  void read_merges(const std::string& text, const std::string& path);
  void encode_word(std::string_view word, std::vector<std::int64_t>& out) const;
};

Id Tokenizer::State::require(const std::string& token, const std::string& why) const {
  const auto found = ids.find(token);
  TRIPHASE_CHECK(DataError, found != ids.end(), "'", folder, "/vocab.json' has no token '", token,
                 "' (", why, "). Use the vocabulary that the model was trained with.");
  return found->second;
}

void Tokenizer::State::read_merges(const std::string& text, const std::string& path) {
  std::int64_t line_number = 0, rank = 0;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    std::string line = text.substr(at, end - at);
    at = end + 1;
    ++line_number;
    if (!line.empty() && line.back() == '\r') line.pop_back();
    if (line.empty() || (line_number == 1 && line.starts_with("#version"))) continue;
    const std::size_t space = line.find(' ');
    TRIPHASE_CHECK(
        DataError, space != std::string::npos && line.find(' ', space + 1) == std::string::npos,
        "'", path, "' line ", line_number, " is no pair of tokens with one space between.");
    const std::string left = line.substr(0, space), right = line.substr(space + 1);
    const std::string why = str("it is in merges.txt line ", line_number);
    const Merge merge{rank++, require(left + right, why)};
    merges.emplace(pair_key(require(left, why), require(right, why)), merge);
  }
}

/// Joins the neighbours that were learnt first, from left to right among equals, until none is
/// left.
void Tokenizer::State::encode_word(std::string_view word, std::vector<std::int64_t>& out) const {
  struct Piece {
    Id id;
    int previous, next;  ///< -1: none
  };
  std::vector<Piece> pieces;
  for (const char byte : word) {
    const int at = static_cast<int>(pieces.size());
    pieces.push_back({byte_ids[static_cast<unsigned char>(byte)], at - 1, at + 1});
  }
  if (pieces.empty()) return;
  pieces.back().next = -1;
  struct Candidate {
    std::int64_t rank;
    int left;
    std::uint64_t key;
    bool operator>(const Candidate& other) const {
      return rank != other.rank ? rank > other.rank : left > other.left;
    }
  };
  std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> queue;
  const auto piece = [&](int at) -> Piece& { return pieces[static_cast<std::size_t>(at)]; };
  const auto consider = [&](int left) {
    if (left < 0 || piece(left).next < 0) return;
    const std::uint64_t key = pair_key(piece(left).id, piece(piece(left).next).id);
    if (const auto found = merges.find(key); found != merges.end())
      queue.push({found->second.rank, left, key});
  };
  for (int i = 0; i + 1 < static_cast<int>(pieces.size()); ++i) consider(i);
  while (!queue.empty()) {
    const Candidate best = queue.top();
    queue.pop();
    // A candidate is stale when one of its two pieces was joined to another meanwhile (id -1:
    // swallowed).
    Piece& left = piece(best.left);
    if (left.id < 0 || left.next < 0 || pair_key(left.id, piece(left.next).id) != best.key)
      continue;
    Piece& right = piece(left.next);
    left.id = merges.at(best.key).merged;
    right.id = -1;
    left.next = right.next;
    if (left.next >= 0) piece(left.next).previous = best.left;
    consider(left.previous);
    consider(best.left);
  }
  for (int i = 0; i >= 0; i = piece(i).next) out.push_back(piece(i).id);
}

Tokenizer::Tokenizer(const std::filesystem::path& folder) : state_(std::make_unique<State>()) {
  State& state = *state_;
  state.folder = folder.string();
  const std::string vocabulary = read_file(folder / "vocab.json", kMaxFileBytes);
  const std::string merges = read_file(folder / "merges.txt", kMaxFileBytes);
  StreamingHash hash;
  hash.update(vocabulary);
  hash.update(std::string_view("\0", 1));
  hash.update(merges);
  state.hash = hex64(hash.digest());
  state.ids = parse_vocabulary(vocabulary, (folder / "vocab.json").string());
  for (const auto& [token, id] : state.ids) {
    state.tokens.emplace(id, token);
    state.largest = std::max(state.largest, id);
  }
  state.bos = state.require("<s>", "it begins every text");
  state.pad = state.require("<pad>", "it fills up short texts");
  state.eos = state.require("</s>", "it ends every text");
  for (std::size_t byte = 0; byte < 256; ++byte)
    state.byte_ids[byte] = state.require(byte_characters()[byte], "every byte needs a token");
  state.read_merges(merges, (folder / "merges.txt").string());
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
  word_split().for_each_match(text, [&](std::string_view word) {
    state_->encode_word(word, ids);
    return ids.size() < enough;
  });
  if (ids.size() > enough) ids.resize(enough);
  ids.push_back(state_->eos);
  return ids;
}

std::string Tokenizer::decode(const std::vector<std::int64_t>& ids) const {
  static const std::unordered_map<std::string, char> kBytes = [] {
    std::unordered_map<std::string, char> bytes;
    for (std::size_t byte = 0; byte < 256; ++byte)
      bytes.emplace(byte_characters()[byte], static_cast<char>(static_cast<unsigned char>(byte)));
    return bytes;
  }();
  static const std::set<std::string> kSpecial{"<s>", "<pad>", "</s>", "<unk>", "<mask>"};
  std::string text;
  for (const std::int64_t id : ids) {
    const auto found =
        id < 0 || id > kMaxId ? state_->tokens.end() : state_->tokens.find(static_cast<Id>(id));
    TRIPHASE_CHECK(DataError, found != state_->tokens.end(), "there is no token with the id ", id,
                   " in '", state_->folder, "'.");
    const std::string& token = found->second;
    if (kSpecial.contains(token)) continue;
    for (std::size_t at = 0; at < token.size();) {
      const std::size_t length = static_cast<unsigned char>(token[at]) < 0x80 ? 1 : 2;
      const auto byte = kBytes.find(token.substr(at, length));
      if (byte != kBytes.end()) text.push_back(byte->second);
      at += length;
    }
  }
  return text;
}

std::int64_t Tokenizer::vocabulary_size() const { return state_->largest + 1; }
std::int64_t Tokenizer::bos_id() const { return state_->bos; }
std::int64_t Tokenizer::pad_id() const { return state_->pad; }
std::int64_t Tokenizer::eos_id() const { return state_->eos; }
const std::string& Tokenizer::hash() const { return state_->hash; }

}  // namespace triphase::data
