// SPDX-License-Identifier: Apache-2.0
#include "data/tokenizer.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>
#include <unordered_map>

#include "base/error.hpp"
#include "base/file.hpp"
#include "base/hash.hpp"
#include "data/byte_level.hpp"
#include "data/utf8.hpp"
#include "data/word_encoder.hpp"

namespace triphase::data {
namespace {

using Id = std::int32_t;
constexpr std::int64_t kMaxFileBytes = std::int64_t{64} << 20;
constexpr Id kMaxId = 1 << 24;

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
  std::unordered_map<std::string, Id> ids;
  std::unordered_map<Id, std::string> tokens;
  WordEncoder words;
  Id bos = 0, pad = 0, eos = 0, largest = 0;
  std::string hash;

  [[nodiscard]] Id require(const std::string& token, const std::string& why) const;
  void read_merges(const std::string& text, const std::string& path);
};

Id Tokenizer::State::require(const std::string& token, const std::string& why) const {
  const auto found = ids.find(token);
  TRIPHASE_CHECK(DataError, found != ids.end(), "'", folder, "/vocab.json' has no token '", token,
                 "' (", why, "). Use the vocabulary that the model was trained with.");
  return found->second;
}

void Tokenizer::State::read_merges(const std::string& text, const std::string& path) {
  std::int64_t line_number = 0;
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
    words.add_merge(require(left, why), require(right, why), require(left + right, why));
  }
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
  std::array<Id, 256> byte_ids{};
  for (std::size_t byte = 0; byte < 256; ++byte)
    byte_ids[byte] = state.require(byte_characters()[byte], "every byte needs a token");
  state.words.set_byte_ids(byte_ids);
  state.read_merges(merges, (folder / "merges.txt").string());
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
  static const std::set<std::string> kSpecial{"<s>", "<pad>", "</s>", "<unk>", "<mask>"};
  std::string text;
  for (const std::int64_t id : ids) {
    const auto found =
        id < 0 || id > kMaxId ? state_->tokens.end() : state_->tokens.find(static_cast<Id>(id));
    TRIPHASE_CHECK(DataError, found != state_->tokens.end(), "there is no token with the id ", id,
                   " in '", state_->folder, "'.");
    if (!kSpecial.contains(found->second)) text += bytes_of(found->second);
  }
  return text;
}

std::int64_t Tokenizer::vocabulary_size() const { return state_->largest + 1; }
std::int64_t Tokenizer::bos_id() const { return state_->bos; }
std::int64_t Tokenizer::pad_id() const { return state_->pad; }
std::int64_t Tokenizer::eos_id() const { return state_->eos; }
const std::string& Tokenizer::hash() const { return state_->hash; }

}  // namespace triphase::data
