// SPDX-License-Identifier: Apache-2.0
#include "data/report_sections.hpp"

#include <gtest/gtest.h>

#include <map>

namespace triphase::data {
namespace {

using Sections = std::map<std::string, std::string>;

Sections sections_of(const std::string& report) {
  Sections found;
  const auto sections = split_sections(report);
  for (std::size_t i = 0; i < sections.size(); ++i)
    if (!sections[i].empty()) found[std::string(report_section_names()[i])] = sections[i];
  return found;
}

TEST(ReportSections, EachRunsFromItsHeadingToTheNext) {
  EXPECT_EQ(sections_of("FINDINGS: CT of the abdomen.\nLower thorax: Clear.\nLIVER AND BILIARY TREE:  3 cm lesion,\nsegment 7. \n"
                        "Gallbladder: Normal. Spleen: Normal.\nAdrenal Glands:\nKidneys and ureters: No stone: none.\n"
                        "Vasculature: Patent.\nIMPRESSION: Liver lesion. Spleen: as before"),
            (Sections{{"lower thorax", "Clear."}, {"liver", "3 cm lesion,\nsegment 7."}, {"gallbladder", "Normal."},
                      {"spleen", "Normal. as before"}, {"kidneys", "No stone: none."}, {"vessels", "Patent."}}));
}

TEST(ReportSections, AWordInASentenceIsNoHeading) {
  EXPECT_EQ(sections_of("The liver: large. In the spleen: a cyst. Mesenteric vessels:none"), Sections{});
  EXPECT_EQ(sections_of("Liver.Spleen: x"), Sections{});
  EXPECT_EQ(sections_of(""), Sections{});
  EXPECT_EQ(sections_of("liver:"), Sections{});
  EXPECT_EQ(sections_of("liver:x"), (Sections{{"liver", "x"}}));
  EXPECT_EQ(sections_of("Livers: x"), Sections{});
}

TEST(ReportSections, OneThatComesTwiceIsJoined) {
  EXPECT_EQ(sections_of("Peritoneum: No fluid. Retroperitoneum: No mass.\r\nBones: Fine."),
            (Sections{{"peritoneum", "No fluid. No mass."}, {"musculoskeletal", "Fine."}}));
}

}  // namespace
}  // namespace triphase::data
