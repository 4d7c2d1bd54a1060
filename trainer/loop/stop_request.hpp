// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace triphase::trainer {

/// Whether a signal has asked this process to stop (see install_stop_signals()). Stays true: a
/// study stops, too.
[[nodiscard]] bool stop_requested();

/// Wall-clock seconds since this process was started, for run.max_seconds.
[[nodiscard]] double seconds_since_program_start();

/// Forgets the request; for tests, which stop more than one run.
void clear_stop_request();

}  // namespace triphase::trainer
