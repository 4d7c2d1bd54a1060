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
  TRIPHASE_CHECK(ConfigError, config.distributed.backend != "self" || runtime.num_ranks() == 1,
                 "distributed.backend is 'self' but mpirun started ", runtime.num_ranks(),
                 " ranks (they would train ", runtime.num_ranks(),
                 " separate models into one folder). Set it to 'auto', or start one process.");
  runtime.set_timeout(config.distributed.timeout_seconds);
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
  return std::move(*log);
}

}  // namespace triphase::launch
