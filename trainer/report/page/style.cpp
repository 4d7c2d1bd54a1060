// SPDX-License-Identifier: Apache-2.0
#include "trainer/report/page.hpp"

namespace triphase::trainer {

/// Colours after Okabe and Ito, "Color Universal Design", 2008, told apart with any colour vision
/// and darkened to be read on white; a lighter set of the same hues for dark pages.
const char* page_style() {
  return R"css(
:root { color-scheme: light dark; --page: #fbfbf9; --card: #ffffff; --ink: #1b1f23; --soft: #566069;
  --rule: #d9dde1; --note: #fff4d6; --note-ink: #5c4400; --link: #00568a;
  --c0: #0072b2; --c1: #d55e00; --c2: #009e73; --c3: #b3588c; --c4: #3a9bd0; --c5: #a87900; }
@media (prefers-color-scheme: dark) { :root { --page: #14171a; --card: #1c2024; --ink: #e8eaed;
  --soft: #a3adb8; --rule: #363c43; --note: #3d3213; --note-ink: #ffe3a0; --link: #8fd0f2;
  --c0: #56a9e0; --c1: #ff9152; --c2: #3ccba0; --c3: #e29bc4; --c4: #8fd0f2; --c5: #e6b93c; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; text-size-adjust: 100%; }
body { margin: 0; background: var(--page); color: var(--ink); overflow-wrap: break-word;
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
header, nav, main { max-width: 1040px; margin: 0 auto; padding: 0 1rem; }
header { padding-top: 1.5rem; } main { padding-bottom: 4rem; }
a { color: var(--link); }
:focus-visible { outline: 3px solid var(--c1); outline-offset: 2px; border-radius: 3px; }
.skip { position: absolute; left: 1rem; top: -4rem; background: var(--card); padding: .5rem 1rem;
  z-index: 1; border-radius: 6px; }
.skip:focus { top: .5rem; }
h1 { font-size: 1rem; letter-spacing: .08em; text-transform: uppercase;
  color: var(--soft); margin: 0; }
h2 { font-size: 1.25rem; margin: 3rem 0 .5rem; scroll-margin-top: 1rem; }
h3 { font-size: 1.02rem; margin: 1.8rem 0 .4rem; }
p { max-width: 70ch; margin: .4rem 0; }
.story { font-size: 1.35rem; line-height: 1.4; margin: .6rem 0 1rem; max-width: 50ch; }
.banner { background: var(--note); color: var(--note-ink); border-radius: 6px; padding: .6rem .9rem;
  margin: 1rem 0; max-width: none; }
.soft { color: var(--soft); font-size: .9rem; }
nav ul { list-style: none; display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; padding: .6rem 0;
  margin: 0; border-block: 1px solid var(--rule); font-size: .95rem; }
.charts { display: grid; gap: 1rem; margin: .5rem 0;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 320px), 1fr)); }
figure { margin: 0; background: var(--card); border: 1px solid var(--rule);
  border-radius: 8px; padding: .8rem; min-width: 0; }
figcaption { font-weight: 600; font-size: .95rem; margin-bottom: .3rem; }
svg { display: block; width: 100%; height: auto; max-width: 560px; margin: 0 auto; }
svg text { font: 13px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; fill: var(--ink); }
svg .tick { font-size: 12px; fill: var(--soft); } svg .small { font-size: 11.5px; }
svg .end { text-anchor: end; } svg .middle { text-anchor: middle; }
.grid { stroke: var(--rule); stroke-width: 1; } .axis { stroke: var(--soft); stroke-width: 1; }
.reference { stroke: var(--soft); stroke-width: 1.2; stroke-dasharray: 4 3; }
.c0 { --c: var(--c0); } .c1 { --c: var(--c1); } .c2 { --c: var(--c2); }
.c3 { --c: var(--c3); } .c4 { --c: var(--c4); } .c5 { --c: var(--c5); }
.curve { fill: none; stroke: var(--c); stroke-width: 2.2; stroke-linejoin: round; }
.curve.thin { stroke-width: 1.2; opacity: .75; } .thin { stroke: var(--c); stroke-width: 1.2; }
.band { fill: var(--c); opacity: .14; }
.ring { fill: none; stroke: var(--c); stroke-width: 2.2; }
.whisker { stroke: var(--c); stroke-width: 2.5; } .dot { fill: var(--c); }
.hollow { fill: var(--card); stroke: var(--c); stroke-width: 2; } .bar { fill: var(--c); }
.part { stroke: var(--card); stroke-width: 1; }
.chance { stroke: var(--ink); stroke-width: 2; } .heat { fill: var(--c0); }
.empty { fill: none; stroke: var(--rule); }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: .3rem 1.2rem;
  padding: 0; margin: .5rem 0; font-size: .95rem; }
.legend svg { display: inline-block; width: 36px; height: 12px; vertical-align: middle;
  margin: 0 .4rem 0 0; }
.scroll { overflow: auto; max-height: 36rem; background: var(--card); margin: .6rem 0;
  border: 1px solid var(--rule); border-radius: 8px; }
table { border-collapse: collapse; width: 100%; font-size: .92rem; }
caption { text-align: left; padding: .5rem .7rem; font-weight: 600; }
th, td { padding: .4rem .7rem; text-align: left; border-bottom: 1px solid var(--rule);
  white-space: nowrap; }
tr:last-child > td, tbody tr:last-child > th { border-bottom: 0; }
thead th { color: var(--soft); font-weight: 600; position: sticky; top: 0; background: var(--card); }
tbody th { font-weight: 500; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
td.wrap { white-space: normal; overflow-wrap: anywhere; min-width: 12rem; }
details { margin: .5rem 0; } summary { cursor: pointer; color: var(--link); padding: .2rem 0; }
code { font: .88em ui-monospace, Menlo, Consolas, monospace; overflow-wrap: anywhere; }
@media (max-width: 480px) { .story { font-size: 1.15rem; } figure { padding: .5rem; }
  th, td { padding: .35rem .5rem; } }
@media print { :root { --page: #ffffff; } nav, .skip, summary { display: none; }
  .scroll { overflow: visible; max-height: none; border: 0; } table { font-size: .7rem; }
  th, td { white-space: normal; padding: .2rem .3rem; } thead th { position: static; }
  figure, tr { break-inside: avoid; } h2, h3 { break-after: avoid; } }
)css";
}

}  // namespace triphase::trainer
