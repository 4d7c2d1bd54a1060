// SPDX-License-Identifier: Apache-2.0
#include "launch/run_options.hpp"

#include "base/file.hpp"

#include <cstdio>
#include <optional>

namespace triphase::launch {

trainer::RunConfig config_from(const Arguments& arguments, dist::Runtime& runtime) {
  ConfigSources sources{.files = {}, .environment = config_environment(), .sets = arguments.all("set")};
  for (const std::string& file : arguments.all("config")) sources.files.emplace_back(file);
  trainer::RunConfig config = trainer::load_run_config(sources);
  trainer::check_backend(config, runtime.num_ranks());
  runtime.set_timeout(config.distributed.timeout_seconds);
  if (config.distributed.backend == "nccl") runtime.use_nccl();
  return config;
}

Logger run_logger(const trainer::RunConfig& config, bool quiet, dist::Runtime& runtime) {
  const std::filesystem::path folder = std::filesystem::path(config.run_dir()) / "logs";
  char name[32];
  std::snprintf(name, sizeof name, "rank-%05d.log", runtime.rank());
  std::optional<Logger> log;
  dist::agree_on(runtime.world(), [&] {
    make_output_directory(folder);
    log.emplace(LoggerOptions{.rank = runtime.rank(),
                              .num_ranks = runtime.num_ranks(),
                              .quiet = quiet,
                              .file = folder / name});
  });
  runtime.record().set_log_file(folder / name);
  return std::move(*log);
}

Logger console_logger(bool quiet, const dist::Runtime& runtime) {
  return Logger({.rank = runtime.rank(), .num_ranks = runtime.num_ranks(), .quiet = quiet});
}

}  // namespace triphase::launch
