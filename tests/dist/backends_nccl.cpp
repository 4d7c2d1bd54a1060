// SPDX-License-Identifier: Apache-2.0
#include "tests/dist/backends_nccl.hpp"

#include "dist/process_group_nccl.hpp"

#include <gtest/gtest.h>

namespace triphase::test {

void run_on_fake(FakeNccl& fake, int num_ranks, const RankBody& body, double timeout_seconds) {
  const auto with_nccl = [&](dist::ProcessGroup& host) {
    const auto group = dist::make_nccl_group(host.split(0, host.rank()), fake.setup(timeout_seconds));
    body(*group);
  };
  run_on_threads(num_ranks, with_nccl, timeout_seconds);
}

std::vector<Backend> backends() {
  std::vector<Backend> all;
  for (const int n : {1, 2, 3})
    all.push_back({"nccl" + std::to_string(n), [n](const RankBody& body) {
                     FakeNccl fake;
                     run_on_fake(fake, n, body);
                     EXPECT_EQ(fake.misuse(), "");
                     EXPECT_EQ(fake.counts().aborts, 0);
                     EXPECT_EQ(fake.counts().destroys, fake.counts().inits);
                     EXPECT_EQ(fake.counts().events, 0);
                   }});
  return all;
}

}  // namespace triphase::test
