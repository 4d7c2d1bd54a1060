// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "dist/gpu_libraries.hpp"
#include "dist/nccl_connection.hpp"

#include <atomic>
#include <memory>

namespace triphase::test {

/// What the fake is told to do.
struct FakeBehaviour {
  int version = 22809;
  int num_gpus = 8;           ///< that every rank sees; 0: CUDA refuses
  bool has_own_gpus = false;  ///< each rank sees one, another one
  int init_polls = 3;         ///< that find a new communicator in progress
  int call_polls = 1;         ///< that find a call in progress
  int unique_id_result = 0;
  int init_result = 0;    ///< on the faulty rank
  int faulty_rank = -1;   ///< -1: every rank
  bool never_connects = false;
  int hang_at = -1;       ///< number of a communicator's collective that never ends
  int error_at = -1;      ///< number of one that never ends, and of which the faulty rank hears
  int error_result = 6;   ///< as ncclRemoteError
  bool abort_hangs = false;
  int cuda_error_at = -1;  ///< number of one after which CUDA reports an error
};

/// What was called, over all ranks.
struct FakeCounts {
  std::atomic<int> unique_ids = 0;
  std::atomic<int> inits = 0;
  std::atomic<int> collectives = 0;  ///< parts of ranks
  std::atomic<int> finalizes = 0;
  std::atomic<int> destroys = 0;
  std::atomic<int> aborts = 0;
  std::atomic<int> misuses = 0;  ///< calls that the real ones forbid; the first is in `misuse`
  std::atomic<int> events = 0;   ///< that exist
};

/// CUDA and NCCL for ranks that are threads of this process. Device memory is the host's; a
/// collective happens when all ranks of its communicator have come. One lives at a time.
class FakeNccl {
 public:
  explicit FakeNccl(FakeBehaviour behaviour = {});
  ~FakeNccl();
  FakeNccl(const FakeNccl&) = delete;
  FakeNccl& operator=(const FakeNccl&) = delete;

  [[nodiscard]] dist::CudaRuntime cuda() const;
  [[nodiscard]] dist::NcclLibrary nccl() const;
  /// For groups whose device memory is the host's.
  [[nodiscard]] dist::NcclSetup setup(double timeout_seconds = 30) const;
  [[nodiscard]] const FakeCounts& counts() const;
  /// Empty when nothing was misused.
  [[nodiscard]] std::string misuse() const;

  struct State;

 private:
  std::shared_ptr<State> state_;  // an abort that hangs outlives the fake
};

}  // namespace triphase::test
