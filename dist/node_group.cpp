// SPDX-License-Identifier: Apache-2.0
#include "dist/node_group.hpp"

#include <ATen/ops/full.h>
#include <unistd.h>

#include <algorithm>
#include <array>

#include "base/hash.hpp"

namespace triphase::dist {

std::string host_name() {
  std::array<char, 256> name{};
  return gethostname(name.data(), name.size() - 1) == 0 ? name.data() : "unknown host";
}

std::unique_ptr<ProcessGroup> make_node_group(ProcessGroup& group, const std::string& host) {
  const auto mine = static_cast<std::int64_t>(xxh3(host));
  const at::Tensor all = group.all_gather(at::full({1}, mine, at::kLong))->wait();
  const auto* hashes = all.data_ptr<std::int64_t>();
  // The color is the node's lowest rank.
  const auto color = std::find(hashes, hashes + group.num_ranks(), mine) - hashes;
  return group.split(static_cast<int>(color), group.rank());
}

}  // namespace triphase::dist
