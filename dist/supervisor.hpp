// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "dist/rank_record.hpp"

#include <functional>

namespace triphase::dist {

/// Runs `program` and returns its exit code; the first thing in main, before there are threads.
///
/// Started by a launcher as one of several ranks, the program runs in a child process, and this one
/// watches it: a rank that is killed, crashes or leaves while others count on it can say nothing
/// itself, and mpirun would give the job a code of its own. Then this process prints which rank it
/// was, how it ended and its last collective, writes the record to the rank's log, and returns 71
/// (70 after a crash). Signals go on to the child, and the child does not outlive this process.
/// @param program gets the record that its Runtime is to be made with
[[nodiscard]] int supervise(const std::function<int(SharedRecord record)>& program);

}  // namespace triphase::dist
