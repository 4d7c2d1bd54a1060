// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/error.hpp"
#include "dist/runtime.hpp"
#include "launch/command_line.hpp"

#include <functional>
#include <string>
#include <vector>

namespace triphase::launch {

/// What a command does once its arguments and files are read. May be collective.
using Action = std::function<ExitCode()>;

/// A sub-command. `prepare` reads and checks arguments and configuration, without any collective: whatever
/// it throws is agreed over the ranks and printed once. The action does the work.
struct Command {
  CommandSpec spec;
  std::function<Action(const Arguments&, dist::Runtime&)> prepare;
};

[[nodiscard]] Command phantom_command();
[[nodiscard]] Command cache_import_command();
[[nodiscard]] Command cache_build_command();
[[nodiscard]] Command cache_verify_command();
[[nodiscard]] Command cache_show_command();
[[nodiscard]] Command train_command();
[[nodiscard]] Command evaluate_command();
[[nodiscard]] Command embed_command();
[[nodiscard]] Command study_command();
[[nodiscard]] Command report_command();
[[nodiscard]] Command weights_show_command();
[[nodiscard]] Command weights_convert_command();
[[nodiscard]] Command weights_merge_command();
[[nodiscard]] Command weights_export_command();
[[nodiscard]] Command bench_collectives_command();
[[nodiscard]] Command bench_loss_command();
[[nodiscard]] Command bench_step_command();
[[nodiscard]] Command bench_data_command();
[[nodiscard]] Command doctor_command();

/// All of them, in the order of the help page.
[[nodiscard]] const std::vector<Command>& commands();

/// True where progress should be shown: rank 0, without --quiet.
[[nodiscard]] bool shows_progress(const Arguments& arguments, const dist::Runtime& runtime);

}  // namespace triphase::launch
