// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <set>

#include "base/error.hpp"
#include "tests/trainer/xml_check.hpp"
#include "trainer/report/format.hpp"
#include "trainer/report/draw/svg.hpp"

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
  const std::string svg = line_chart(
      {.title = "loss <&>",
       .x_label = "step",
       .series = {{"full", 0, points, points}, {"peft \"x\"", 1, points, Json::array()}}});
  EXPECT_EQ(xml_error(svg), "");
  std::size_t lines = 0;
  for (std::size_t at = svg.find("<polyline"); at != std::string::npos;
       at = svg.find("<polyline", at + 1))
    ++lines;
  EXPECT_EQ(lines, 3u);
  EXPECT_LT(svg.size(), 60000u);
  EXPECT_EQ(svg.find("nan"), std::string::npos);
}

TEST(LineChart, SurvivesOnePointEqualValuesAndNothing) {
  const auto chart = [](const Json& points) {
    return line_chart({.title = "t", .x_label = "step", .series = {{"a", 0, points, nullptr}}});
  };
  EXPECT_EQ(chart(Json::array()), "");
  EXPECT_EQ(chart(Json::array({Json{1, 2.0}})), "");
  const std::string flat = chart(Json::array({Json{1, 0.0}, Json{2, 0.0}}));
  EXPECT_EQ(xml_error(flat), "");
  EXPECT_EQ(flat.find("–"), std::string::npos);  // what a number that is not finite would print
}

TEST(IntervalPlot, ShowsLabelsValuesAndWhiskersInsideTheDrawing) {
  IntervalPlot plot{.title = "AUC", .rows = {}, .reference = 0.5};
  plot.rows.push_back({"full <b>", "0.965 [0.944, 0.982]", 0, false, 0.965, {{0.944, 0.982}}});
  plot.rows.push_back({"probe", "0.3", 1, true, 0.3, std::nullopt});
  const std::string svg = interval_plot(plot);
  EXPECT_EQ(xml_error(svg), "");
  for (const char* part :
       {"full &lt;b&gt;", "0.965 [0.944, 0.982]", "whisker", "hollow", "class=\"reference\""})
    EXPECT_NE(svg.find(part), std::string::npos) << part;
  EXPECT_EQ(interval_plot({.title = "AUC", .rows = {}, .reference = {}}), "");
}

TEST(StackedBars, ShareTheLongestRowsScale) {
  const std::string svg =
      stacked_bars({.title = "time",
                    .part_names = {"data", "forward"},
                    .rows = {{"full", "0.3 s", {0.1, 0.2}}, {"peft", "0.15 s", {0.05, 0.1}}}});
  EXPECT_EQ(xml_error(svg), "");
  EXPECT_NE(svg.find("width=\"140.0\""), std::string::npos);  // a third of the 420 units
  EXPECT_NE(svg.find("width=\"70.0\""), std::string::npos);
  EXPECT_EQ(stacked_bars({.title = "time", .part_names = {"data"}, .rows = {{"a", "", {0.0}}}}),
            "");
}

}  // namespace
}  // namespace triphase::trainer
