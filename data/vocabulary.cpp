// SPDX-License-Identifier: Apache-2.0
#include "data/vocabulary.hpp"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "base/error.hpp"
#include "data/byte_level.hpp"

namespace triphase::data {
namespace {

/// Takes vocab.json event by event: whatever does not fit ends the parse at once.
class VocabularyReader final : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit VocabularyReader(const std::string& path) : path_(path) {}
  TokenIds take() { return std::move(ids_); }

  bool null() override { return refuse_id("null"); }
  bool boolean(bool value) override { return refuse_id(value ? "true" : "false"); }
  bool number_integer(number_integer_t value) override { return refuse_id(str(value)); }
  bool number_float(number_float_t, const string_t& text) override { return refuse_id(text); }
  bool string(string_t& text) override { return refuse_id("'" + shown_token(text) + "'"); }
  bool binary(binary_t&) override { return refuse_id("binary data"); }

  bool number_unsigned(number_unsigned_t value) override {
    if (!is_open_ || value >= static_cast<number_unsigned_t>(kMaxTokens))
      return refuse_id(str(value));
    const auto id = static_cast<std::size_t>(value);
    if (id >= is_seen_.size()) is_seen_.resize(id + 1, false);
    TRIPHASE_CHECK(DataError, !is_seen_[id], "'", path_, "' gives the id ", id,
                   " twice (the second time to '", shown_token(*token_),
                   "'). Fetch the file again.");
    is_seen_[id] = true;
    ids_.at(*token_) = static_cast<std::int32_t>(id);
    return true;
  }

  bool start_object(std::size_t) override {
    TRIPHASE_CHECK(DataError, !is_open_, "'", path_, "' is nested, expected one flat object.");
    is_open_ = true;
    return true;
  }
  bool start_array(std::size_t) override {
    TRIPHASE_CHECK(DataError, !is_open_, "'", path_, "' is nested, expected one flat object.");
    return refuse_id("a list");
  }
  bool end_object() override { return true; }
  bool end_array() override { return true; }

  bool key(string_t& token) override {
    TRIPHASE_CHECK(DataError, std::ssize(ids_) < kMaxTokens, "'", path_, "' has more than ",
                   kMaxTokens, " tokens. Check that it is the right file.");
    const auto [found, is_new] = ids_.emplace(token, 0);
    TRIPHASE_CHECK(DataError, is_new, "'", path_, "' has the token '", shown_token(token),
                   "' twice. Fetch the file again.");
    token_ = &found->first;
    return true;
  }

  bool parse_error(std::size_t position, const std::string&,
                   const nlohmann::detail::exception& error) override {
    throw DataError(str("'", path_, "' is not JSON: at byte ", position, ": ", error.what(),
                        ". Fetch the file again."));
  }

  /// A hole is what a changed digit leaves behind.
  void check_no_gap() const {
    const auto gap = std::find(is_seen_.begin(), is_seen_.end(), false);
    TRIPHASE_CHECK(DataError, gap == is_seen_.end(), "'", path_, "' gives no token the id ",
                   gap - is_seen_.begin(), " and one the id ", is_seen_.size() - 1,
                   ": ids must leave no gap (the file is damaged). Fetch it again.");
  }

 private:
  [[noreturn]] bool refuse_id(const std::string& value) const {
    TRIPHASE_CHECK(DataError, is_open_, "'", path_,
                   "' is not JSON of one object of token: id, but ", value,
                   ". Fetch the file again.");
    throw DataError(str("'", path_, "' gives the token '", shown_token(*token_), "' the id ", value,
                        ", expected a whole number from 0 to ", kMaxTokens - 1, "."));
  }

  const std::string& path_;
  TokenIds ids_;
  std::vector<bool> is_seen_;  ///< by id
  const std::string* token_ = nullptr;
  bool is_open_ = false;
};

}  // namespace

TokenIds parse_vocabulary(std::string_view text, const std::string& path) {
  VocabularyReader reader(path);
  nlohmann::json::sax_parse(text.begin(), text.end(), &reader);
  reader.check_no_gap();
  return reader.take();
}

std::vector<MergeLine> parse_merges(std::string_view text, const std::string& path) {
  std::vector<MergeLine> merges;
  std::int64_t number = 0;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    ++number;
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.empty() || (number == 1 && line.starts_with("#version"))) continue;
    const std::size_t space = line.find(' ');
    TRIPHASE_CHECK(DataError,
                   space != std::string_view::npos && line.find(' ', space + 1) == line.npos, "'",
                   path, "' line ", number, " is no pair of tokens with one space between.");
    TRIPHASE_CHECK(DataError, std::ssize(merges) < kMaxMerges, "'", path, "' has more than ",
                   kMaxMerges, " merges. Check that it is the right file.");
    merges.push_back({line.substr(0, space), line.substr(space + 1), number});
  }
  return merges;
}

bool is_special(std::string_view token) {
  constexpr std::array<std::string_view, 5> kSpecial{"<s>", "<pad>", "</s>", "<unk>", "<mask>"};
  return std::find(kSpecial.begin(), kSpecial.end(), token) != kSpecial.end();
}

bool is_made_without_merge(std::string_view token) {
  const bool is_bracketed = (token.starts_with('<') && token.ends_with('>')) ||
                            (token.starts_with('[') && token.ends_with(']'));
  const auto& bytes = byte_characters();
  return is_bracketed || token.starts_with("madeupword") ||
         std::find(bytes.begin(), bytes.end(), token) != bytes.end();
}

std::string shown_token(std::string_view token) {
  constexpr std::size_t kShown = 100;
  if (token.size() <= kShown) return std::string(token);
  std::size_t end = kShown;
  while (end > 0 && (static_cast<unsigned char>(token[end]) & 0xC0U) == 0x80U) --end;
  return std::string(token.substr(0, end)) + "...";
}

}  // namespace triphase::data
