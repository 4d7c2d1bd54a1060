// SPDX-License-Identifier: Apache-2.0
#include "trainer/report/page.hpp"

#include "base/error.hpp"
#include "trainer/report/format.hpp"

namespace triphase::trainer {
namespace {

/// Colours after Okabe and Ito, "Color Universal Design", 2008, told apart with any colour vision
/// and darkened to be read on white; a lighter set of the same hues for dark pages.
constexpr const char* kStyle = R"css(
:root { color-scheme: light dark; --page: #fbfbf9; --card: #ffffff; --ink: #1b1f23; --soft: #5b6570;
  --rule: #d9dde1; --note: #fff4d6; --note-ink: #5c4400;
  --c0: #0072b2; --c1: #d55e00; --c2: #009e73; --c3: #b3588c; --c4: #3a9bd0; --c5: #a87900; }
@media (prefers-color-scheme: dark) { :root { --page: #14171a; --card: #1c2024; --ink: #e8eaed;
  --soft: #a3adb8; --rule: #363c43; --note: #3d3213; --note-ink: #ffe3a0;
  --c0: #56a9e0; --c1: #ff9152; --c2: #3ccba0; --c3: #e29bc4; --c4: #8fd0f2; --c5: #e6b93c; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 1000px; margin: 0 auto; padding: 1.5rem 1rem 4rem; }
h1 { font-size: 1rem; letter-spacing: .08em; text-transform: uppercase;
  color: var(--soft); margin: 0; }
h2 { font-size: 1.2rem; margin: 2.5rem 0 .5rem; }
h3 { font-size: 1rem; margin: 1.5rem 0 .3rem; }
p { max-width: 70ch; margin: .4rem 0; }
.story { font-size: 1.35rem; line-height: 1.4; margin: .6rem 0 1rem; max-width: 46ch; }
.banner { background: var(--note); color: var(--note-ink); border-radius: 6px; padding: .6rem .9rem;
  margin: 1rem 0; max-width: none; }
.soft { color: var(--soft); font-size: .9rem; }
.charts { display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 300px), 1fr)); }
figure { margin: 0; background: var(--card); border: 1px solid var(--rule);
  border-radius: 8px; padding: .8rem; }
figcaption { font-weight: 600; font-size: .95rem; margin-bottom: .3rem; }
svg { display: block; width: 100%; height: auto; max-width: 520px; }
svg text { font: 13px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; fill: var(--ink); }
svg .tick { font-size: 12px; fill: var(--soft); }
.end { text-anchor: end; } .middle { text-anchor: middle; }
.grid { stroke: var(--rule); stroke-width: 1; } .axis { stroke: var(--soft); stroke-width: 1; }
.reference { stroke: var(--soft); stroke-width: 1; stroke-dasharray: 4 3; }
.c0 { --c: var(--c0); } .c1 { --c: var(--c1); } .c2 { --c: var(--c2); }
.c3 { --c: var(--c3); } .c4 { --c: var(--c4); } .c5 { --c: var(--c5); }
.curve { fill: none; stroke: var(--c); stroke-width: 2.2; stroke-linejoin: round; }
.faint { fill: none; stroke: var(--c); stroke-width: 1; opacity: .3; }
.whisker { stroke: var(--c); stroke-width: 2.5; } .dot { fill: var(--c); }
.hollow { fill: var(--card); stroke: var(--c); stroke-width: 2; } .bar { fill: var(--c); }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: .3rem 1.2rem;
  padding: 0; margin: .5rem 0; }
.legend svg { display: inline-block; width: 30px; height: 10px; vertical-align: middle;
  margin-right: .4rem; }
.scroll { overflow-x: auto; background: var(--card); border: 1px solid var(--rule);
  border-radius: 8px; }
table { border-collapse: collapse; width: 100%; font-size: .92rem; }
th, td { padding: .4rem .7rem; text-align: left; border-bottom: 1px solid var(--rule);
  white-space: nowrap; }
tr:last-child > td, tr:last-child > th { border-bottom: 0; }
thead th { color: var(--soft); font-weight: 600; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
td.wrap { white-space: normal; overflow-wrap: anywhere; min-width: 8rem; }
code { font: .88em ui-monospace, Menlo, Consolas, monospace; overflow-wrap: anywhere; }
@media print { body { background: #ffffff; } }
)css";

constexpr const char* kBanner =
    "<p class=\"banner\"><strong>Phantom data: no clinical evidence.</strong> Volumes and reports "
    "were made by a "
    "program. The numbers show that the software works, and say nothing about patients.</p>\n";

}  // namespace

std::string report_page(const Json& figures) {
  const std::string title = escape_html(figures.at("title").get<std::string>());
  std::string page =
      str("<!DOCTYPE html>\n<html xmlns=\"http://www.w3.org/1999/xhtml\" lang=\"en\"><head>\n"
          "<meta charset=\"utf-8\"/>\n"
          "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n<title>",
          title, "</title>\n<style>", kStyle, "</style>\n</head><body><main>\n<header><h1>", title,
          "</h1>\n<p class=\"story\">", escape_html(figures.at("headline").get<std::string>()),
          "</p></header>\n");
  if (figures.at("phantom").get<bool>()) page += kBanner;
  page += result_section(figures) + curves_section(figures) + methods_section(figures) +
          cohort_section(figures) + retrieval_section(figures) + settings_section(figures) +
          environment_section(figures);
  return page + "</main></body></html>\n";
}

}  // namespace triphase::trainer
