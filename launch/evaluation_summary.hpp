// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/json.hpp"

#include <string>

namespace triphase::launch {

/// The lines of an evaluation that a person wants to see at the end; its file holds the rest. A figure that a split does
/// not give stands as "none", with the reason below.
/// @param evaluation what trainer::evaluate_model() returns
[[nodiscard]] std::string evaluation_summary(const Json& evaluation);

}  // namespace triphase::launch
