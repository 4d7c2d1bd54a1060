// SPDX-License-Identifier: Apache-2.0
#include "trainer/report/page.hpp"

#include "base/error.hpp"
#include "trainer/report/format.hpp"

#include <vector>

namespace triphase::trainer {
namespace {

constexpr const char* kBanner =
    "<p class=\"banner\"><strong>Phantom data: no clinical evidence.</strong> Volumes and reports "
    "were made by a program. The numbers show that the software works, and say nothing about "
    "patients.</p>\n";

struct Link {
  const char* id;
  const char* text;
};
constexpr Link kContents[] = {{"results", "Results"},         {"shape", "Curves of the scores"},
                              {"training", "Training"},       {"temperature", "Temperature"},
                              {"cost", "Cost"},               {"places", "Sites and subgroups"},
                              {"retrieval", "Retrieval"},     {"cohort", "Cohort"},
                              {"settings", "Configurations"}, {"origins", "Versions and hashes"},
                              {"missing", "Missing fields"},  {"limits", "Limits"}};

/// Links to the sections that are there.
std::string contents(const std::string& sections) {
  std::string html = "<nav aria-label=\"Contents\"><ul>";
  for (const Link& link : kContents)
    if (sections.find(str("<section id=\"", link.id, "\"")) != std::string::npos)
      html += str("<li><a href=\"#", link.id, "\">", link.text, "</a></li>");
  return html + "</ul></nav>\n";
}

}  // namespace

std::string report_page(const Json& figures) {
  const std::string title = escape_html(figures.at("title").get<std::string>());
  const std::string sections =
      result_section(figures) + shape_section(figures) + training_section(figures) +
      temperature_section(figures) + cost_section(figures) + place_section(figures) +
      retrieval_section(figures) + cohort_section(figures) + settings_section(figures) +
      origins_section(figures) + missing_section(figures) + limits_section(figures);
  return str("<!DOCTYPE html>\n<html xmlns=\"http://www.w3.org/1999/xhtml\" lang=\"en\"><head>\n"
             "<meta charset=\"utf-8\"/>\n"
             "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n"
             "<meta name=\"color-scheme\" content=\"light dark\"/>\n<title>",
             title, "</title>\n<style>", page_style(),
             "</style>\n</head><body>\n<a class=\"skip\" href=\"#content\">Skip to the results</a>\n"
             "<header><h1>",
             title, "</h1>\n<p class=\"story\">",
             escape_html(figures.at("headline").get<std::string>()), "</p>\n",
             figures.at("phantom").get<bool>() ? kBanner : "", "</header>\n", contents(sections),
             "<main id=\"content\">\n", sections, "</main></body></html>\n");
}

}  // namespace triphase::trainer
