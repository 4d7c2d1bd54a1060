// SPDX-License-Identifier: Apache-2.0
#include "dist/process_group_mpi.hpp"
#include "dist/runtime.hpp"
#include "tests/dist/backends.hpp"

namespace triphase::test {
namespace {

constexpr double kTimeoutSeconds = 30;

dist::RuntimeOptions mpi_options() {
  dist::RuntimeOptions options;
  options.backend = "mpi";
  options.timeout_seconds = kTimeoutSeconds;
  return options;
}

void run_on_world(const RankBody& body) {
  dist::Runtime runtime(mpi_options());
  body(runtime.world());
}

/// As among many ranks: by MPI's own collectives.
void run_on_collectives(const RankBody& body) {
  const dist::Runtime runtime(mpi_options());
  const auto watch = std::make_shared<dist::MpiWatch>();
  watch->timeout_seconds = kTimeoutSeconds;
  const auto group = dist::make_mpi_group(MPI_COMM_WORLD, watch, nullptr, /*direct_ranks=*/0);
  body(*group);
}

}  // namespace

std::vector<Backend> backends() {
  return {{"mpi", run_on_world}, {"mpi_collectives", run_on_collectives}};
}

}  // namespace triphase::test
