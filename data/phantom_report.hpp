// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "data/phantom_anatomy.hpp"

namespace triphase::data {

/// The report of one study in its site's manner: 30 to 65 words and marks; what is normal is often
/// left out.
[[nodiscard]] std::string write_phantom_report(const Findings& findings, ReportStyle style,
                                               KeyedRandom random);

/// prompts.toml: positive and negative prompts in the source's and the target's manner.
[[nodiscard]] std::string phantom_prompts_toml();

}  // namespace triphase::data
