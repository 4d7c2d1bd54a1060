// SPDX-License-Identifier: Apache-2.0
#include "dist/nccl_connection.hpp"

#include "dist/poll_pause.hpp"
#include "dist/rank_record.hpp"

#include <algorithm>
#include <future>
#include <thread>
#include <utility>

// Note [Communicators that do not block]
// NCCL aborts safely only what does not block: its calls return "in progress", and the
// communicator is asked until that is over. So every wait here has a deadline and sees errors that
// NCCL meets meanwhile (a peer that is gone, a link that is down).
// Source: NCCL's user guide, "Fault Tolerance", and the comments of its header, 2.28.

namespace triphase::dist {
namespace {

/// How long an ordinary end may take. It waits for the other ranks' ends.
constexpr double kFarewellSeconds = 5;
/// How long an abort may take. NCCL's has been seen to hang; the job must end all the same.
constexpr std::chrono::seconds kAbortLimit{3};

/// What rank 0 sends to all.
struct Invitation {
  NcclLibrary::UniqueId id;
  std::int32_t result;
};

}  // namespace

NcclConnection::NcclConnection(NcclSetup setup, Transport& host)
    : setup_(std::move(setup)), rank_(host.rank()), num_ranks_(host.num_ranks()) {
  try {
    connect(host);
  } catch (const CommError& error) {
    abort(error);
    if (stream_ != nullptr) cuda().stream_destroy(stream_);
    throw;
  }
}

void NcclConnection::connect(Transport& host) {
  Invitation invitation{};
  if (rank_ == 0) invitation.result = nccl().get_unique_id(&invitation.id);
  host.broadcast(reinterpret_cast<std::byte*>(&invitation), sizeof invitation, 0);
  TRIPHASE_CHECK(CommError, invitation.result == NcclLibrary::kSuccess,
                 "NCCL: rank 0 got no id for the communicator: ",
                 nccl().get_error_string(invitation.result));
  CUDA_TRY(cuda(), set_device(setup_.gpu));
  CUDA_TRY(cuda(), stream_create_with_flags(&stream_, CudaRuntime::kStreamNonBlocking));
  NcclLibrary::Config config;
  config.blocking = 0;
  const std::string what = str("the start of a communicator on rank ", rank_, " of ", num_ranks_,
                               ", GPU ", setup_.gpu);
  settle(nccl().comm_init_rank_config(&comm_, num_ranks_, invitation.id, rank_, &config), what);
}

NcclConnection::~NcclConnection() {
  // After an exception the ranks may be in different places.
  const bool is_orderly = !broken_ && std::uncaught_exceptions() <= uncaught_exceptions_;
  if (!is_orderly || !finish()) abort(CommError("the communicator did not come to its end"));
  free_what_is_done();
  if (kept_.empty()) {
    cuda().stream_destroy(stream_);
    return;
  }
  // A kernel that the abort has not reached may still write: its memory is never freed.
  static_cast<void>(std::make_unique<std::vector<Kept>>(std::move(kept_)).release());
}

bool NcclConnection::finish() noexcept {
  // The others may still need what this rank has sent, so that it must not simply abort.
  const double start = steady_seconds();
  int result = nccl().comm_finalize(comm_);
  while (result == NcclLibrary::kInProgress) {
    const double waited = steady_seconds() - start;
    if (waited > kFarewellSeconds) return false;
    poll_pause(waited);
    result = asynchronous_result();
  }
  return result == NcclLibrary::kSuccess && nccl().comm_destroy(comm_) == NcclLibrary::kSuccess;
}

int NcclConnection::asynchronous_result() const noexcept {
  int state = NcclLibrary::kSuccess;
  const int result = nccl().comm_get_async_error(comm_, &state);
  const bool is_known = result == NcclLibrary::kSuccess || result == NcclLibrary::kInProgress;
  return is_known ? state : result;
}

bool NcclConnection::has_asynchronous_error() const noexcept {
  const int state = asynchronous_result();
  return state != NcclLibrary::kSuccess && state != NcclLibrary::kInProgress;
}

void NcclConnection::fail(int result, const std::string& what) const {
  const char* words = nccl().get_last_error(comm_);
  const bool has_words = words != nullptr && words[0] != '\0';
  throw CommError(str("NCCL: ", what, " failed: ", nccl().get_error_string(result),
                      has_words ? str(" (", words, ")") : ""));
}

void NcclConnection::settle(int result, const std::string& what) {
  const double start = steady_seconds();
  while (result == NcclLibrary::kInProgress) {
    result = asynchronous_result();
    if (result != NcclLibrary::kInProgress) break;
    const double waited = steady_seconds() - start;
    TRIPHASE_CHECK_CODE(CommError, kTimeout, waited <= setup_.timeout_seconds->load(), "NCCL: ",
                        what, " was not taken in within ", waited,
                        " s. Look at the other ranks' logs, or raise "
                        "distributed.timeout_seconds.");
    poll_pause(waited);
  }
  if (result != NcclLibrary::kSuccess) fail(result, what);
}

void NcclConnection::wait_for(CudaRuntime::Event event, const std::string& what) {
  const double start = steady_seconds();
  while (true) {
    const int code = cuda().event_query(event);
    TRIPHASE_CHECK(CommError, code == CudaRuntime::kSuccess || code == CudaRuntime::kNotReady,
                   "CUDA: ", what, " failed: ", cuda().get_error_string(code));
    // Also when the event has passed: what it left may be half done.
    const int state = asynchronous_result();
    if (state != NcclLibrary::kSuccess && state != NcclLibrary::kInProgress) fail(state, what);
    if (code == CudaRuntime::kSuccess) return;
    const double waited = steady_seconds() - start;
    TRIPHASE_CHECK_CODE(CommError, kTimeout, waited <= setup_.timeout_seconds->load(), "NCCL: ",
                        what, " did not end within ", waited,
                        " s, though every rank had begun it: a GPU or a link is stuck. Look at "
                        "the other ranks' logs, or raise distributed.timeout_seconds.");
    poll_pause(waited);
  }
}

void NcclConnection::abort(const CommError& cause) noexcept {
  if (broken_) return;
  broken_ = cause;
  if (comm_ == nullptr) return;
  try {
    std::packaged_task<void()> task([libraries = setup_.libraries, gpu = setup_.gpu, comm = comm_] {
      libraries->cuda.set_device(gpu);
      libraries->nccl.comm_abort(comm);
    });
    const std::future<void> end = task.get_future();
    std::thread(std::move(task)).detach();
    end.wait_for(kAbortLimit);
  } catch (...) {  // no thread to be had: the communicator is left as it is, the job ends
  }
  comm_ = nullptr;
}

void NcclConnection::keep(CudaRuntime::Event event, std::vector<at::Tensor> tensors) noexcept {
  free_what_is_done();
  kept_.push_back({event, std::move(tensors)});
}

void NcclConnection::free_what_is_done() noexcept {
  std::erase_if(kept_, [&](const Kept& kept) {
    if (cuda().event_query(kept.event) == CudaRuntime::kNotReady) return false;
    cuda().event_destroy(kept.event);
    return true;
  });
}

}  // namespace triphase::dist
