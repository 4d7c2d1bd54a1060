// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "dist/process_group.hpp"
#include "dist/rank_record.hpp"

#include <cstdint>
#include <string>
#include <vector>

namespace triphase::dist {

/// Where each rank of the job runs, so that one that does not come can be looked at.
class RankPeers {
 public:
  RankPeers() = default;
  /// Collective over `world`, the group of all ranks.
  RankPeers(ProcessGroup& world, const SharedRecord& record);

  /// What can be known of a rank from here, such as "rank 1 on node07, process 4711, is stopped; its
  /// last collective: ...". Of a rank on another host no more than host and process. Purely local.
  [[nodiscard]] std::string describe(int rank) const;
  /// Whether it is known that the process has ended: a rank of this host. Purely local.
  [[nodiscard]] bool is_gone(int rank) const;
  /// The whole record of a rank of this host, or empty. Purely local.
  [[nodiscard]] std::string record_text(int rank) const;

 private:
  struct Peer {
    std::string host;
    std::int64_t process = 0;
    std::int64_t descriptor = -1;
  };
  [[nodiscard]] const Peer* find_here(int rank) const;

  std::string host_;
  std::uint64_t job_ = 0;
  std::vector<Peer> peers_;
};

}  // namespace triphase::dist
