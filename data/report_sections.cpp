// SPDX-License-Identifier: Apache-2.0
#include "data/report_sections.hpp"

#include <algorithm>
#include <optional>
#include <utility>


namespace triphase::data {
namespace {

constexpr std::size_t kNoSection = kNumReportSections;  // a heading that only ends the one before it

struct Heading {
  std::string_view words;  ///< lower case
  std::size_t section;
};

constexpr Heading kHeadings[] = {
    {"lower thorax", 0}, {"lower chest", 0}, {"lung bases", 0}, {"visualized lower thorax", 0},
    {"liver and biliary tree", 1}, {"liver", 1}, {"liver and bile ducts", 1}, {"hepatobiliary", 1}, {"biliary tree", 1},
    {"gallbladder", 2}, {"spleen", 3}, {"pancreas", 4}, {"adrenal glands", 5}, {"adrenals", 5},
    {"kidneys and ureters", 6}, {"kidneys", 6}, {"kidneys, ureters and bladder", 6}, {"genitourinary", 6},
    {"gastrointestinal tract", 7}, {"bowel", 7}, {"stomach and bowel", 7}, {"gi tract", 7},
    {"peritoneal cavity", 8}, {"peritoneum", 8}, {"peritoneum and retroperitoneum", 8}, {"retroperitoneum", 8},
    {"pelvic organs", 9}, {"pelvis", 9}, {"pelvic", 9}, {"vasculature", 10}, {"vessels", 10}, {"vascular", 10}, {"circulatory", 10},
    {"lymph nodes", 11}, {"lymphatics", 11}, {"musculoskeletal", 12}, {"bones", 12}, {"bones and soft tissues", 12},
    {"abdominal wall and bones", 12}, {"findings", kNoSection}, {"impression", kNoSection}};

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }
bool is_space(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_space(text.back())) text.remove_suffix(1);
  return text;
}

/// Whether a heading may stand here: nothing, a line's end or a sentence's before it.
bool is_beginning(std::string_view report, std::size_t at) {
  std::size_t before = at;
  while (before > 0 && (report[before - 1] == ' ' || report[before - 1] == '\t')) --before;
  if (before == 0) return true;
  const char last = report[before - 1];
  return last == '\n' || last == '\r' || ((last == '.' || last == ';' || last == ':') && before < at);
}

/// The heading at this place with the place after its colon.
std::optional<std::pair<std::size_t, std::size_t>> heading_at(std::string_view report, std::size_t at) {
  if (!is_beginning(report, at)) return std::nullopt;
  for (const Heading& heading : kHeadings) {
    if (report.size() - at <= heading.words.size() || report[at + heading.words.size()] != ':') continue;
    if (std::equal(heading.words.begin(), heading.words.end(), report.begin() + static_cast<std::ptrdiff_t>(at),
                   [](char word, char c) { return word == lower(c); }))
      return std::pair{heading.section, at + heading.words.size() + 1};
  }
  return std::nullopt;
}

}  // namespace

const std::array<std::string_view, kNumReportSections>& report_section_names() {
  static constexpr std::array<std::string_view, kNumReportSections> kNames{
      "lower thorax", "liver", "gallbladder", "spleen", "pancreas", "adrenal glands", "kidneys",
      "bowel", "peritoneum", "pelvis", "vessels", "lymph nodes", "musculoskeletal"};
  return kNames;
}

std::array<std::string, kNumReportSections> split_sections(std::string_view report) {
  std::array<std::string, kNumReportSections> sections;
  std::size_t section = kNoSection;
  std::size_t begin = 0;
  const auto end_at = [&](std::size_t end) {
    const std::string_view text = trimmed(report.substr(begin, end - begin));
    if (section == kNoSection || text.empty()) return;
    std::string& joined = sections[section];
    joined += (joined.empty() ? "" : " ") + std::string(text);
  };
  for (std::size_t at = 0; at < report.size(); ++at) {
    const auto heading = heading_at(report, at);
    if (!heading) continue;
    end_at(at);
    section = heading->first;
    begin = heading->second;
    at = begin - 1;
  }
  end_at(report.size());
  return sections;
}

}  // namespace triphase::data
