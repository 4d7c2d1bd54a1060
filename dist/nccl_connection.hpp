// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/error.hpp"
#include "dist/gpu_libraries.hpp"
#include "dist/transport.hpp"

#include <ATen/core/Tensor.h>

#include <atomic>
#include <exception>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace triphase::dist {

/// What every communicator of a rank has in common.
struct NcclSetup {
  std::shared_ptr<const GpuLibraries> libraries;  // an abort that hangs outlives its group
  int gpu = 0;  ///< of this rank, as CUDA counts those that the process sees
  at::Device device = at::Device(at::kCUDA, 0);  ///< of the tensors
  std::shared_ptr<std::atomic<double>> timeout_seconds;  // shared by the rank's groups
};

/// A communicator of NCCL that does not block, and the stream its collectives run on. Whatever fails
/// aborts it, once; then it cannot be used. One thread at a time.
class NcclConnection {
 public:
  /// Rank 0's id is broadcast over `host`, then NCCL is asked until the communicator stands.
  /// @throws CommError, with kTimeout after the deadline. Collective over host.
  NcclConnection(NcclSetup setup, Transport& host);
  /// After success it waits, a few seconds at most, until nothing is on its way; else it aborts.
  ~NcclConnection();
  NcclConnection(const NcclConnection&) = delete;
  NcclConnection& operator=(const NcclConnection&) = delete;

  [[nodiscard]] int rank() const { return rank_; }
  [[nodiscard]] int num_ranks() const { return num_ranks_; }
  [[nodiscard]] const NcclSetup& setup() const { return setup_; }
  [[nodiscard]] const NcclLibrary& nccl() const { return setup_.libraries->nccl; }
  [[nodiscard]] const CudaRuntime& cuda() const { return setup_.libraries->cuda; }
  [[nodiscard]] NcclLibrary::Comm comm() const { return comm_; }
  [[nodiscard]] CudaRuntime::Stream stream() const { return stream_; }
  [[nodiscard]] const std::optional<CommError>& broken() const { return broken_; }

  /// Until NCCL has taken a call in. @param result what the call returned @throws CommError
  void settle(int result, const std::string& what);
  /// Whether NCCL or the network has met an error since.
  [[nodiscard]] bool has_asynchronous_error() const noexcept;
  /// Until everything before `event` on the stream is done. @throws CommError, with kTimeout after
  /// the deadline
  void wait_for(CudaRuntime::Event event, const std::string& what);
  /// Ends what is on its way, on this rank. Only the first call does something.
  void abort(const CommError& cause) noexcept;
  /// Keeps the memory of a collective that nobody waits for until the stream is past it.
  void keep(CudaRuntime::Event event, std::vector<at::Tensor> tensors) noexcept;

 private:
  struct Kept {
    CudaRuntime::Event event;
    std::vector<at::Tensor> tensors;
  };
  void connect(Transport& host);
  /// What NCCL says of the communicator's state now.
  [[nodiscard]] int asynchronous_result() const noexcept;
  /// Flushes and frees the communicator. @return whether that came to an end
  [[nodiscard]] bool finish() noexcept;
  [[noreturn]] void fail(int result, const std::string& what) const;
  void free_what_is_done() noexcept;

  NcclSetup setup_;
  int rank_;
  int num_ranks_;
  NcclLibrary::Comm comm_ = nullptr;
  CudaRuntime::Stream stream_ = nullptr;
  std::vector<Kept> kept_;
  int uncaught_exceptions_ = std::uncaught_exceptions();
  std::optional<CommError> broken_;
};

}  // namespace triphase::dist
