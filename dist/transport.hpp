// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/error.hpp"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

namespace triphase::dist {

/// Moves bytes between the ranks of one group: all that a backend has to bring. HostGroup makes the
/// collectives of ProcessGroup from it and has checked, before each call, that the ranks agree.
/// Every call blocks and is collective; a rank that waits longer than the timeout throws CommError
/// with kTimeout, and the transport cannot be used after it.
class Transport {
 public:
  virtual ~Transport() = default;
  [[nodiscard]] virtual int rank() const = 0;
  [[nodiscard]] virtual int num_ranks() const = 0;
  [[nodiscard]] virtual std::string backend() const = 0;
  /// Also of the groups that were split from this one.
  virtual void set_timeout(double seconds) = 0;
  /// After a failure that leaves the ranks in different places; memory given to a call may still be
  /// in use.
  [[nodiscard]] virtual bool is_broken() const = 0;
  /// Whether a thread may be in a call of this transport while another is in one of a transport
  /// split from it.
  [[nodiscard]] virtual bool allows_threads() const { return true; }

  /// The `bytes` bytes at `in` of rank r arrive at out + r * stride on every rank. `in` may be the
  /// place in `out` where this rank's own bytes belong.
  virtual void all_gather(const std::byte* in, std::int64_t bytes, std::byte* out,
                          std::int64_t stride) = 0;
  /// The `bytes` bytes at in + r * stride go to rank r; what rank r sent here arrives at out + r *
  /// bytes.
  virtual void all_to_all(const std::byte* in, std::int64_t bytes, std::int64_t stride,
                          std::byte* out) = 0;
  virtual void broadcast(std::byte* data, std::int64_t bytes, int root) = 0;
  /// Every rank sends to one and receives from one.
  virtual void send_receive(const std::byte* out, int to, std::byte* in, int from,
                            std::int64_t bytes) = 0;
  /// Ranks of equal color (>= 0), ordered by (key, rank).
  [[nodiscard]] virtual std::unique_ptr<Transport> split(int color, int key) = 0;
};

}  // namespace triphase::dist
