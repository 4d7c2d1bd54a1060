// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "dist/process_group.hpp"

namespace triphase::test {

/// Takes steps in every mode on the group's ranks and compares, on rank 0, loss and gradients with
/// those of one process over the joined batch, by autograd and the dense formula.
/// @return how many modes. Collective over group.
std::int64_t expect_one_process_gradients(dist::ProcessGroup& group);

}  // namespace triphase::test
