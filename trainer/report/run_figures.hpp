// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/json.hpp"
#include "trainer/report/read.hpp"

namespace triphase::trainer {

/// One element of figures.runs (see report_figures()); without `group` and `series`.
[[nodiscard]] Json run_figures(const ReportRun& run);

}  // namespace triphase::trainer
