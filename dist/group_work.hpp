// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/error.hpp"
#include "dist/collective_call.hpp"
#include "dist/device_transport.hpp"
#include "dist/process_group.hpp"
#include "dist/rank_record.hpp"

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

namespace triphase::dist {

/// What a group and its collectives on their way share.
struct GroupState {
  std::shared_ptr<RankRecord> record;  ///< one for all groups of the rank
  std::optional<CommError> broken;     ///< after it the group cannot be used
};

/// One collective of a group, from its call on.
struct GroupCall {
  CollectiveCall call;
  std::int64_t sequence = 0;
  int num_ranks = 1;
  double start_seconds = 0;
  std::uint64_t ticket = 0;           ///< in the record
  const char* place_label = nullptr;  ///< where the program was, if it says so
  std::int64_t step = -1;

  [[nodiscard]] std::int64_t bytes() const;
  /// Such as "in all_reduce(sum) of Float [3], collective 7 of 3 ranks, at train: loss, step 12".
  [[nodiscard]] std::string where() const;
};

/// Of a collective whose result is there.
[[nodiscard]] WorkPtr make_finished_work(const GroupCall& call, at::Tensor result);

/// Of a collective on its way on a device. Its end and its errors go to `state`.
[[nodiscard]] WorkPtr make_device_work(GroupCall call, at::Tensor result,
                                       std::unique_ptr<DeviceFlight> flight,
                                       std::shared_ptr<GroupState> state);

}  // namespace triphase::dist
