// SPDX-License-Identifier: Apache-2.0
#include "dist/launcher.hpp"

#include <charconv>
#include <cstdlib>

namespace triphase::dist {
namespace {

std::optional<int> read_count(const Environment& environment, const char* name) {
  const auto text = environment(name);
  if (!text) return std::nullopt;
  int value = 0;
  const char* end = text->data() + text->size();
  const auto parsed = std::from_chars(text->data(), end, value);
  if (parsed.ec != std::errc{} || parsed.ptr != end || value < 1) return std::nullopt;
  return value;
}

}  // namespace

Launcher find_launcher(const Environment& environment) {
  if (const auto n = read_count(environment, "OMPI_COMM_WORLD_SIZE")) return {"mpirun", *n};
  if (const auto n = read_count(environment, "PMI_SIZE")) return {"a PMI launcher", *n};
  if (const auto n = read_count(environment, "SLURM_STEP_NUM_TASKS"); n && *n > 1)
    return {"srun", *n};
  const bool one_step = environment("SLURM_STEP_NUM_TASKS").has_value();
  if (environment("PMIX_RANK") && !one_step) return {"a PMIx launcher", 2};
  return {};
}

std::optional<std::string> process_environment(const char* name) {
  const char* value = std::getenv(name);
  if (value == nullptr) return std::nullopt;
  return value;
}

}  // namespace triphase::dist
