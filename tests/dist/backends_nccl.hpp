// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "tests/dist/backends.hpp"
#include "tests/dist/fake_nccl.hpp"

namespace triphase::test {

/// As run_on_threads(), with groups of the nccl backend on the fake, which all take the same `setup`'s
/// timeout.
void run_on_fake(FakeNccl& fake, int num_ranks, const RankBody& body, double timeout_seconds = 30);

}  // namespace triphase::test
