// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <string>
#include <string_view>

namespace triphase::data {

inline constexpr std::size_t kNumReportSections = 13;

/// "lower thorax", "liver", "gallbladder", "spleen", "pancreas", "adrenal glands", "kidneys", "bowel", "peritoneum",
/// "pelvis", "vessels", "lymph nodes", "musculoskeletal". Source: the sections by which Merlin's training
/// alternates (Blankemeier et al. 2024 and reproductions of it).
[[nodiscard]] const std::array<std::string_view, kNumReportSections>& report_section_names();

/// The text of each section, empty for one that the report does not have. A section begins with its heading and a
/// colon ("Liver and biliary tree:"; the headings are our list, in docs/manifests.md), in any case, at the
/// beginning of the report, of a line or of a sentence, and ends at the next heading or at "IMPRESSION:". Of a
/// section that comes twice the parts are joined by a space. The heading is not part of the text.
[[nodiscard]] std::array<std::string, kNumReportSections> split_sections(std::string_view report);

}  // namespace triphase::data
