// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/json.hpp"
#include "trainer/report/read.hpp"

#include <vector>

namespace triphase::trainer {

/// Settings on which the runs differ: [{key, values: [one text a run]}]; null where a run's file
/// lacks the key. A key that some lack and that the others have as this version's default is left
/// to missing_fields().
[[nodiscard]] Json differing_run_settings(const std::vector<ReportRun>& runs);

/// What files of another version lack or have beyond this one: [{run, file, fields: [...], why}].
/// A value that is null is there: it was undefined when it was computed.
[[nodiscard]] Json missing_fields(const std::vector<ReportRun>& runs);

}  // namespace triphase::trainer
