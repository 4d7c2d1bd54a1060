// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

namespace triphase::launch {

/// The whole program: finds the command, runs it, and is the only place that prints errors: one block, by the
/// rank that knows. @return the exit code, the same on every rank
[[nodiscard]] int run_main(const std::vector<std::string>& words);

}  // namespace triphase::launch
