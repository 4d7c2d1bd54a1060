// SPDX-License-Identifier: Apache-2.0
#include "dist/spare_cores.hpp"

#include "dist/node_group.hpp"
#include "dist/runtime.hpp"

#include <ATen/Parallel.h>
#include <ATen/ops/zeros.h>
#include <sched.h>

#include <algorithm>

namespace triphase::dist {
namespace {

RankCpus own_cpus() {
  RankCpus own{{}, at::get_num_threads()};
  cpu_set_t mask;
  CPU_ZERO(&mask);
  if (sched_getaffinity(0, sizeof mask, &mask) != 0) return own;
  for (std::size_t cpu = 0; cpu < std::min<std::size_t>(kMostCpus, CPU_SETSIZE); ++cpu)
    own.cpus[cpu] = CPU_ISSET(cpu, &mask) != 0;
  return own;
}

}  // namespace

bool has_spare_cpu(const std::vector<RankCpus>& ranks_of_host) {
  std::bitset<kMostCpus> all;
  std::size_t needed = 0;
  for (const RankCpus& rank : ranks_of_host) {
    const auto wanted = static_cast<std::size_t>(rank.threads) + 1;
    if (rank.cpus.count() < wanted) return false;
    all |= rank.cpus;
    needed += wanted;
  }
  return all.count() >= needed;
}

bool has_spare_cpus(ProcessGroup& group) {
  const RankCpus own = own_cpus();
  at::Tensor row = at::zeros({1, static_cast<std::int64_t>(kMostCpus)}, at::kByte);
  at::Tensor threads = at::zeros({1}, at::kLong);
  for (std::size_t cpu = 0; cpu < kMostCpus; ++cpu)
    row.data_ptr<std::uint8_t>()[cpu] = own.cpus[cpu] ? 1 : 0;
  threads.data_ptr<std::int64_t>()[0] = own.threads;
  const auto node = make_node_group(group);
  const at::Tensor rows = node->all_gather(row)->wait();
  const at::Tensor counts = node->all_gather(threads)->wait();
  std::vector<RankCpus> ranks(static_cast<std::size_t>(node->num_ranks()));
  for (std::size_t r = 0; r < ranks.size(); ++r) {
    const std::uint8_t* cpus = rows.data_ptr<std::uint8_t>() + r * kMostCpus;
    for (std::size_t cpu = 0; cpu < kMostCpus; ++cpu) ranks[r].cpus[cpu] = cpus[cpu] != 0;
    ranks[r].threads = static_cast<int>(counts.data_ptr<std::int64_t>()[r]);
  }
  return !any_rank(group, !has_spare_cpu(ranks));
}

}  // namespace triphase::dist
