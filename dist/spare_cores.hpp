// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "dist/process_group.hpp"

#include <bitset>
#include <vector>

namespace triphase::dist {

inline constexpr std::size_t kMostCpus = 1024;  ///< of a host, as the kernel's usual masks

/// What a rank may run on and how many threads it computes with.
struct RankCpus {
  std::bitset<kMostCpus> cpus;
  int threads = 1;
};

/// Whether each of the ranks of one host could have one thread more without two threads having to
/// share a hardware thread: its own set is larger than its threads, and all sets together hold
/// every rank's threads and one more for each.
[[nodiscard]] bool has_spare_cpu(const std::vector<RankCpus>& ranks_of_host);

/// Whether that holds on every host of the group, by the processes' affinity and LibTorch's number of
/// threads; false where a host does not tell. The same on every rank. Collective over group.
[[nodiscard]] bool has_spare_cpus(ProcessGroup& group);

}  // namespace triphase::dist
