// SPDX-License-Identifier: Apache-2.0
// The gradient that reaches the optimizer is that of one process over the joined batch, in every
// mode and at every number of ranks.
#include "tests/trainer/step_gradients.hpp"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include "tests/trainer/run_fixture.hpp"

namespace triphase::test {
namespace {

TEST(StepGradients, OnThreadRanksAreThoseOfOneProcess) {
  at::set_num_threads(1);
  std::int64_t num_cases = 0;
  for (const int num_ranks : {1, 2, 3, 4, 8})
    on_thread_ranks(num_ranks, [&](dist::ProcessGroup& group) {
      const std::int64_t num_modes = expect_one_process_gradients(group);
      if (group.rank() == 0) num_cases += num_modes;
    });
  EXPECT_EQ(num_cases, 5 * 48);
}

}  // namespace
}  // namespace triphase::test
