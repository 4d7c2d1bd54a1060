// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "dist/process_group.hpp"
#include "dist/transport.hpp"

#include <c10/core/Device.h>

#include <cstdint>
#include <optional>
#include <string>

namespace triphase::dist {

enum class Operation : std::int32_t {
  kAllReduceSum,
  kAllReduceMax,
  kAllReduceMin,
  kAllGather,
  kReduceScatter,
  kBroadcast,
  kSendReceive,
  kBarrier,
  kSplit,
  kInvalid,  ///< this rank cannot take part; its problem is told to the others
};

/// As in "all_reduce(sum)".
[[nodiscard]] const char* operation_name(Operation operation);

/// What one rank asks for. Two numbers: root of a broadcast; receiver and sender; color and key.
struct CollectiveCall {
  Operation operation = Operation::kBarrier;
  at::Tensor tensor;  ///< undefined for barrier and split
  int first = 0;
  int second = 0;
  std::string problem;  ///< why this rank cannot take part, or empty

  /// Such as "all_reduce(sum) of float32 [3, 4]".
  [[nodiscard]] std::string describe() const;
};

/// Looks at the tensor and at the numbers, and notes in `problem` what is wrong.
/// @param device whose memory the group moves beside the host's
/// Purely local, and does not throw, so that the other ranks can be told.
void check_call(CollectiveCall& call, int num_ranks,
                std::optional<at::Device> device = std::nullopt);

/// Exchanges what each rank is about to do: a few dozen bytes.
/// @throws CommError on every rank when one has a problem or when they do not do the same thing.
///         Collective over the transport.
void check_ranks_agree(const CollectiveCall& call, std::int64_t sequence, Transport& transport);

}  // namespace triphase::dist
