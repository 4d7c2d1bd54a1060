// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "dist/collective_call.hpp"
#include "dist/transport.hpp"

#include <memory>
#include <string>

namespace triphase::dist {

/// A collective that a device carries out.
class DeviceFlight {
 public:
  virtual ~DeviceFlight() = default;
  /// Whether wait() would return or throw at once.
  [[nodiscard]] virtual bool is_done() = 0;
  /// Until the result is there. @throws CommError, with kTimeout after the deadline
  virtual void wait() = 0;
};

/// Moves tensors of one device between the ranks of a group; HostGroup hands it the calls that
/// the ranks have agreed on, and those of host memory go the other way. After an error it
/// cannot be used.
class DeviceTransport {
 public:
  virtual ~DeviceTransport() = default;
  [[nodiscard]] virtual std::string backend() const = 0;
  [[nodiscard]] virtual at::Device device() const = 0;
  /// Also of the transports that were split from it.
  virtual void set_timeout(double seconds) = 0;
  [[nodiscard]] virtual bool is_broken() const = 0;
  /// Makes the connection where there is none. Collective over `host`, which has the same ranks.
  virtual void connect(Transport& host) = 0;
  /// Begins a collective on tensors that are not empty; connects if need be.
  /// @param result as the call returns it, of the right shape: the call's own tensor where that is so
  /// @throws CommError. Collective. Enqueues; the host does not wait.
  [[nodiscard]] virtual std::unique_ptr<DeviceFlight> start(const CollectiveCall& call,
                                                            const at::Tensor& result,
                                                            Transport& host) = 0;
  /// For some of the ranks. Connects at its first collective. Purely local.
  [[nodiscard]] virtual std::unique_ptr<DeviceTransport> split() const = 0;
};

}  // namespace triphase::dist
