// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "dist/process_group.hpp"

#include <functional>
#include <ostream>
#include <string>
#include <vector>

namespace triphase::test {

using RankBody = std::function<void(dist::ProcessGroup& group)>;

/// A way to get ranks. The contracts run on each; which there are is chosen when linking.
struct Backend {
  std::string name;
  std::function<void(const RankBody& body)>
      run;  ///< calls body once on every rank, each with its group
};
inline std::ostream& operator<<(std::ostream& out, const Backend& backend) {
  return out << backend.name;
}

/// backends_host.cpp: self and threads; backends_mpi.cpp: mpi; backends_nccl.cpp: nccl on a fake.
[[nodiscard]] std::vector<Backend> backends();

/// Runs body on `num_ranks` threads; the first exception of a rank is thrown when all are done. A
/// rank that ends early gives up its group, so that the others do not wait for it.
void run_on_threads(int num_ranks, const RankBody& body, double timeout_seconds = 30);

}  // namespace triphase::test

/// A test that is run on every backend, with `backend` given.
#define TRIPHASE_CONTRACT(Suite)                                                         \
  class Suite : public ::testing::TestWithParam<::triphase::test::Backend> {};           \
  INSTANTIATE_TEST_SUITE_P(On, Suite, ::testing::ValuesIn(::triphase::test::backends()), \
                           [](const auto& tested) { return tested.param.name; })
