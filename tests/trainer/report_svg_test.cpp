// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <set>

#include "base/error.hpp"
#include "tests/trainer/xml_check.hpp"
#include "trainer/report/draw/charts.hpp"
#include "trainer/report/format.hpp"

namespace triphase::trainer {
namespace {

using test::xml_error;

TEST(XmlCheck, FindsWhatBreaksADocument) {
  EXPECT_EQ(xml_error("<!DOCTYPE html>\n<a b=\"c\"><d/>x &amp; y</a>"), "");
  for (const char* broken : {"<a>", "<a><b></a></b>", "</a>", "<a b=c></a>", "<a>x & y</a>",
                             "<a>1 < 2</a>", "<a b=\"<\"></a>", "<a"})
    EXPECT_NE(xml_error(broken), "") << broken;
  EXPECT_EQ(test::xml_text("<a>x &amp; y</a>"), "\nx & y\n");
}

TEST(ReportFormat, EscapesWhateverEndsTextOrAttribute) {
  const std::string hostile = "</script><img src=x onerror='a(\"b\")'>&amp;\x01";
  const std::string escaped = escape_html(hostile);
  EXPECT_EQ(escaped.find_first_of("<>\"'\x01"), std::string::npos);
  EXPECT_EQ(xml_error("<a b=\"" + escaped + "\">" + escaped + "</a>"), "");
  EXPECT_EQ(escape_html("Größe → µ"), "Größe → µ");
}

TEST(ReportFormat, WritesNumbersForPeople) {
  EXPECT_EQ(count_text(std::int64_t{270935389}), "270,935,389");
  EXPECT_EQ(count_text(std::int64_t{999}), "999");
  EXPECT_EQ(count_text(std::int64_t{-1000}), "-1,000");
  EXPECT_EQ(score_text(0.84651), "0.847");
  EXPECT_EQ(score_text(nullptr), "–");
  EXPECT_EQ(decimal(std::stod("nan"), 2), "–");
  EXPECT_EQ(interval_text(Json{0.8, 0.9}), "[0.800, 0.900]");
  EXPECT_EQ(interval_text(nullptr), "");
  EXPECT_EQ(bytes_text(1024), "1.00 KiB");
  EXPECT_EQ(bytes_text(12), "12 B");
  EXPECT_EQ(bytes_text(std::int64_t{17} << 20), "17.0 MiB");
  EXPECT_EQ(seconds_text(0.3317), "0.332 s");
  EXPECT_EQ(seconds_text(0.0417), "42 ms");
  EXPECT_EQ(seconds_text(0.00123), "1.23 ms");
}

TEST(AxisTicks, AreRoundRisingAndInside) {
  for (const auto& [low, high] : {std::pair{0.0, 1.0},
                                  {0.83, 0.97},
                                  {-3.0, 1200.0},
                                  {1e-4, 3e-4},
                                  {2.0, 2.01},
                                  {5.0, 95.0}}) {
    const std::vector<double> ticks = axis_ticks(low, high);
    EXPECT_GE(ticks.size(), 3u);
    EXPECT_LE(ticks.size(), 12u);
    for (std::size_t i = 0; i < ticks.size(); ++i) {
      EXPECT_GE(ticks[i], low - 1e-9 * (high - low));
      EXPECT_LE(ticks[i], high + 1e-6 * (high - low));
      if (i > 0) {
        EXPECT_GT(ticks[i], ticks[i - 1]);
      }
    }
  }
}

TEST(SeriesLook, TellsTwentyFourRunsApart) {
  std::set<std::string> looks;
  for (std::size_t i = 0; i < 24; ++i) looks.insert(series_class(i) + series_dash(i));
  EXPECT_EQ(looks.size(), 24u);
}

TEST(LineChart, DrawsEverySeriesAndStaysSmall) {
  Json points = Json::array();
  for (int step = 0; step < 20000; ++step) points.push_back({step, 3.0 / (1 + step)});
  LineChart chart{.title = "loss <&>", .description = "falls", .x_label = "step", .y_label = "loss", .series = {}};
  chart.series.push_back({.name = "full", .index = 0, .points = points});
  chart.series.push_back({.name = "peft \"x\"", .index = 1, .points = points, .is_thin = true});
  chart.series.push_back({.name = "nothing", .index = 2});
  const std::string svg = line_chart(chart);
  EXPECT_EQ(xml_error(svg), "");
  std::size_t lines = 0;
  for (std::size_t at = svg.find("<polyline"); at != std::string::npos;
       at = svg.find("<polyline", at + 1))
    ++lines;
  EXPECT_EQ(lines, 2u);
  EXPECT_LT(svg.size(), 60000u);
  EXPECT_EQ(svg.find("nan"), std::string::npos);
}

TEST(LineChart, SurvivesOnePointEqualValuesAndNothing) {
  const auto chart = [](const Json& points) {
    LineChart drawn{.title = "t", .description = "", .x_label = "step", .y_label = "", .series = {}};
    drawn.series.push_back({.name = "a", .index = 0, .points = points});
    return line_chart(drawn);
  };
  EXPECT_EQ(chart(Json::array()), "");
  EXPECT_EQ(chart(Json::array({Json{1, 2.0}})), "");
  const std::string flat = chart(Json::array({Json{1, 0.0}, Json{2, 0.0}}));
  EXPECT_EQ(xml_error(flat), "");
  EXPECT_EQ(flat.find("–"), std::string::npos);  // what a number that is not finite would print
}

TEST(IntervalPlot, ShowsLabelsValuesAndWhiskersInsideTheDrawing) {
  IntervalPlot plot{.title = "AUC", .description = "of runs", .rows = {}, .reference = 0.5};
  plot.rows.push_back({"full <b>", "0.965 [0.944, 0.982]", 0, false, 0.965, {{0.944, 0.982}}});
  plot.rows.push_back({"probe", "0.3", 1, true, 0.3, std::nullopt});
  const std::string svg = interval_plot(plot);
  EXPECT_EQ(xml_error(svg), "");
  for (const char* part :
       {"full &lt;b&gt;", "0.965 [0.944, 0.982]", "whisker", "hollow", "class=\"reference\""})
    EXPECT_NE(svg.find(part), std::string::npos) << part;
  EXPECT_EQ(interval_plot({.title = "AUC", .description = "", .rows = {}, .reference = {}}), "");
}

TEST(StackedBars, ShareTheLongestRowsScale) {
  const std::string svg =
      stacked_bars({.title = "time",
                    .description = "",
                    .part_names = {"data", "forward"},
                    .rows = {{"full", "0.3 s", {0.1, 0.2}}, {"peft", "0.15 s", {0.05, 0.1}}}});
  EXPECT_EQ(xml_error(svg), "");
  EXPECT_NE(svg.find("width=\"140.0\""), std::string::npos);  // a third of the 420 units
  EXPECT_NE(svg.find("width=\"70.0\""), std::string::npos);
  EXPECT_EQ(stacked_bars({.title = "time", .description = "", .part_names = {"data"}, .rows = {{"a", "", {0.0}}}}),
            "");
}

/// How many times a piece stands in a text.
std::size_t count(const std::string& text, const std::string& piece) {
  std::size_t found = 0;
  for (std::size_t at = text.find(piece); at != std::string::npos; at = text.find(piece, at + 1)) ++found;
  return found;
}

TEST(LineChart, DrawsBandsRingsAndOnlyWhatAnAxisHolds) {
  LineChart chart{.title = "t", .description = "", .x_label = "T", .y_label = "AUC", .series = {}};
  chart.is_x_log = true;
  chart.series.push_back({.name = "a",
                          .index = 0,
                          .points = {{0.01, 0.8}, {-1, 0.7}, {0.0, 0.5}, {1, 0.9}, {2, nullptr}},
                          .band = {{0.01, 0.7, 0.9}, {1, 0.8, 1.0}},
                          .marked = {{1, 0.9}},
                          .has_dots = true});
  const std::string svg = line_chart(chart);
  EXPECT_EQ(xml_error(svg), "");
  EXPECT_EQ(count(svg, "class=\"dot\""), 2u);  // what is not positive has no logarithm
  EXPECT_EQ(count(svg, "class=\"band\""), 1u);
  EXPECT_EQ(count(svg, "class=\"ring\""), 1u);
  EXPECT_EQ(svg.find("inf"), std::string::npos);
}

TEST(LogTicks, AreRoundAndInside) {
  for (const auto& [low, high] : {std::pair{0.01, 1.0}, {1e-5, 10.0}, {1.0, 32.0}}) {
    const std::vector<double> ticks = log_ticks(low, high);
    EXPECT_GE(ticks.size(), 3u);
    EXPECT_LE(ticks.size(), 8u);
    for (const double tick : ticks) {
      EXPECT_GE(tick, low * (1 - 1e-9));
      EXPECT_LE(tick, high * (1 + 1e-9));
    }
  }
}

TEST(HeatMap, ShowsEveryValueAndMarksWhatIsMissing) {
  const std::string svg = heat_map({.title = "sites",
                                    .description = "",
                                    .row_title = "trained on",
                                    .column_title = "tested at",
                                    .rows = {"a<b", "c"},
                                    .columns = {"a<b", "c"},
                                    .values = {{0.9, 0.75}, {std::nullopt, 0.5}}});
  EXPECT_EQ(xml_error(svg), "");
  for (const char* part : {"0.900", "0.750", "0.500", "a&lt;b", "trained on", "tested at"})
    EXPECT_NE(svg.find(part), std::string::npos) << part;
  EXPECT_EQ(count(svg, "class=\"heat\""), 3u);
  EXPECT_EQ(count(svg, "class=\"empty\""), 1u);
}

}  // namespace
}  // namespace triphase::trainer
