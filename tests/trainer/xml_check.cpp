// SPDX-License-Identifier: Apache-2.0
#include "tests/trainer/xml_check.hpp"

#include <cctype>
#include <map>
#include <vector>

namespace triphase::test {
namespace {

const std::map<std::string, char> kEntities{
    {"&amp;", '&'}, {"&lt;", '<'}, {"&gt;", '>'}, {"&quot;", '"'}, {"&#39;", '\''}};

/// The entity that begins at `at`, or "".
std::string entity_at(const std::string& text, std::size_t at) {
  for (const auto& [entity, character] : kEntities)
    if (text.compare(at, entity.size(), entity) == 0) return entity;
  return "";
}

bool is_name(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '-' || c == ':';
}

/// One pass over a document; `error` is set at the first fault.
class Checker {
 public:
  explicit Checker(const std::string& text) : text_(text) {}

  std::string run() {
    constexpr const char* kDoctype = "<!DOCTYPE html>";
    if (text_.starts_with(kDoctype)) at_ = std::string(kDoctype).size();
    while (at_ < text_.size() && error_.empty()) {
      if (text_[at_] == '<')
        tag();
      else
        character(false);
    }
    if (error_.empty() && !open_.empty()) fail("<" + open_.back() + "> is not closed");
    return error_;
  }

 private:
  void fail(const std::string& what) {
    if (error_.empty()) error_ = what + " near: " + text_.substr(at_ < 60 ? 0 : at_ - 60, 120);
  }

  void character(bool in_attribute) {
    if (text_[at_] == '&') {
      const std::string entity = entity_at(text_, at_);
      if (entity.empty()) fail("a bare '&'");
      at_ += entity.empty() ? 1 : entity.size();
      return;
    }
    if (in_attribute && text_[at_] == '<') fail("'<' in an attribute");
    ++at_;
  }

  std::string name() {
    const std::size_t first = at_;
    while (at_ < text_.size() && is_name(text_[at_])) ++at_;
    if (at_ == first) fail("a name is missing");
    return text_.substr(first, at_ - first);
  }

  void skip_space() {
    while (at_ < text_.size() && std::isspace(static_cast<unsigned char>(text_[at_])) != 0) ++at_;
  }

  void attribute() {
    name();
    if (text_.compare(at_, 2, "=\"") != 0) {
      fail("an attribute without quotes");
      return;
    }
    at_ += 2;
    while (at_ < text_.size() && text_[at_] != '"' && error_.empty()) character(true);
    ++at_;
  }

  void tag() {
    ++at_;
    const bool closes = at_ < text_.size() && text_[at_] == '/';
    if (closes) ++at_;
    const std::string element = name();
    if (closes) {
      if (open_.empty() || open_.back() != element)
        fail("</" + element + "> closes nothing");
      else
        open_.pop_back();
    }
    skip_space();
    while (error_.empty() && at_ < text_.size() && text_[at_] != '>' && text_[at_] != '/') {
      attribute();
      skip_space();
    }
    const bool is_empty = at_ < text_.size() && text_[at_] == '/';
    if (is_empty) ++at_;
    if (at_ >= text_.size() || text_[at_] != '>') fail("a tag does not end");
    ++at_;
    if (!closes && !is_empty) open_.push_back(element);
  }

  const std::string& text_;
  std::size_t at_ = 0;
  std::vector<std::string> open_;
  std::string error_;
};

}  // namespace

std::string xml_error(const std::string& text) { return Checker(text).run(); }

std::string xml_text(const std::string& text) {
  std::string result;
  bool in_tag = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '<') in_tag = true;
    if (!in_tag) {
      const std::string entity = entity_at(text, i);
      result += entity.empty() ? text[i] : kEntities.at(entity);
      i += entity.empty() ? 0 : entity.size() - 1;
    }
    if (text[i] == '>' && in_tag) {
      in_tag = false;
      result += '\n';
    }
  }
  return result;
}

}  // namespace triphase::test
