// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/json.hpp"

#include <string>

namespace triphase::trainer {

/// One sentence or two that tell what came out, with its numbers. @param figures without `headline`
/// yet
[[nodiscard]] std::string report_headline(const Json& figures);

/// The evaluation of `run` (an element of figures.runs) that the page compares: of the run's test
/// split, else its first; null when there is none.
[[nodiscard]] const Json* main_evaluation(const Json& run);

/// `sites` of an evaluation or of a run's trained_on in words: "target" or "north and target".
[[nodiscard]] std::string sites_text(const Json& holder);

/// "full fine-tuning", "PEFT" or "no adaptation".
[[nodiscard]] std::string method_text(const Json& run);

}  // namespace triphase::trainer
