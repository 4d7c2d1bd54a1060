// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "dist/rank_record.hpp"

#include <string>
#include <vector>

namespace triphase::launch {

/// The whole program: finds the command, runs it, and is the only place that prints errors: one block, by the
/// rank that knows. @param record of dist::supervise()
/// @return the exit code, the same on every rank
[[nodiscard]] int run_main(const std::vector<std::string>& words, const dist::SharedRecord& record = {});

}  // namespace triphase::launch
