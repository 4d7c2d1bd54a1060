// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/json.hpp"

#include <string>

namespace triphase::trainer {

/// The headline and a line a run for a terminal, from report_figures(): method, AUC and its 95 %
/// interval, F1, average precision (AP), AUC of the linear probe, best step, trained percentage.
[[nodiscard]] std::string report_summary(const Json& figures);

}  // namespace triphase::trainer
