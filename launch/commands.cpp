// SPDX-License-Identifier: Apache-2.0
#include "launch/command.hpp"

namespace triphase::launch {

const std::vector<Command>& commands() {
  static const std::vector<Command> all{
      phantom_command(),        cache_import_command(),    cache_build_command(),     cache_verify_command(),
      cache_show_command(),     train_command(),           evaluate_command(),
      embed_command(),          study_command(),           report_command(),
      weights_show_command(),   weights_convert_command(), weights_merge_command(),
      weights_export_command(), bench_collectives_command(), bench_loss_command(),
      bench_step_command(),     bench_data_command(),      doctor_command(),
  };
  return all;
}

bool shows_progress(const Arguments& arguments, const dist::Runtime& runtime) {
  return runtime.rank() == 0 && !arguments.has("quiet");
}

}  // namespace triphase::launch
