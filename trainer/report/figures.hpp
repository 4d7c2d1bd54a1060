// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/json.hpp"
#include "trainer/report/read.hpp"

#include <vector>

namespace triphase::trainer {

/// Everything that the page shows, as data: {title, headline, phantom, finding, cohorts, runs,
/// settings}. The page is made from this and nothing else. Holds no row of any patient.
[[nodiscard]] Json report_figures(const std::vector<ReportRun>& runs);

}  // namespace triphase::trainer
