// SPDX-License-Identifier: Apache-2.0
#include "dist/process_group_mpi.hpp"

#include "dist/host_group.hpp"
#include "dist/mpi_try.hpp"
#include "dist/mpi_wait.hpp"

#include <algorithm>
#include <cstring>
#include <exception>
#include <utility>
#include <vector>

namespace triphase::dist {
namespace {

/// Counts in MPI are int: what is longer goes in pieces of this size.
constexpr std::int64_t kPieceBytes = std::int64_t{1} << 30;

/// `bytes` bytes that repeat every `stride` bytes. Freed at the end of its life; MPI keeps it as
/// long as a transfer uses it.
class StridedBytes {
 public:
  StridedBytes(std::int64_t bytes, std::int64_t stride) {
    MPI_Datatype contiguous = MPI_DATATYPE_NULL;
    MPI_TRY(MPI_Type_contiguous(static_cast<int>(bytes), MPI_BYTE, &contiguous));
    const int code = MPI_Type_create_resized(contiguous, 0, stride, &type_);
    MPI_TRY(MPI_Type_free(&contiguous));
    MPI_TRY(code);
    MPI_TRY(MPI_Type_commit(&type_));
  }
  ~StridedBytes() { MPI_Type_free(&type_); }
  StridedBytes(const StridedBytes&) = delete;
  StridedBytes& operator=(const StridedBytes&) = delete;
  [[nodiscard]] MPI_Datatype type() const { return type_; }

 private:
  MPI_Datatype type_ = MPI_DATATYPE_NULL;
};

// Note [Few ranks exchange directly]
// MPI's nonblocking collectives want a datatype made for every call and a schedule of their own, which
// costs more than a short message. Among few ranks each sends to each other one instead; the agreement
// before every collective (see check_ranks_agree()) says how much comes. Among many ranks MPI's own
// algorithms, which need fewer messages, are the better ones.

class MpiTransport final : public Transport {
 public:
  /// Takes over `comm`.
  MpiTransport(MPI_Comm comm, std::shared_ptr<MpiWatch> watch, int direct_ranks)
      : comm_(comm), watch_(std::move(watch)), direct_ranks_(direct_ranks) {
    MPI_TRY(MPI_Comm_set_errhandler(comm_, MPI_ERRORS_RETURN));
    MPI_TRY(MPI_Comm_rank(comm_, &rank_));
    MPI_TRY(MPI_Comm_size(comm_, &num_ranks_));
  }
  ~MpiTransport() override {
    int is_finalized = 0;
    MPI_Finalized(&is_finalized);
    // Formally, freeing is collective: leave it when ranks may be in different places.
    if (is_finalized == 0 && !broken_ && std::uncaught_exceptions() == 0) MPI_Comm_free(&comm_);
  }
  MpiTransport(const MpiTransport&) = delete;
  MpiTransport& operator=(const MpiTransport&) = delete;

  [[nodiscard]] int rank() const override { return rank_; }
  [[nodiscard]] int num_ranks() const override { return num_ranks_; }
  [[nodiscard]] std::string backend() const override { return "mpi"; }
  void set_timeout(double seconds) override { watch_->timeout_seconds = seconds; }
  [[nodiscard]] bool is_broken() const override { return broken_; }
  [[nodiscard]] bool allows_threads() const override {
    int provided = MPI_THREAD_SINGLE;
    MPI_TRY(MPI_Query_thread(&provided));
    return provided == MPI_THREAD_MULTIPLE;
  }

  void all_gather(const std::byte* in, std::int64_t bytes, std::byte* out,
                  std::int64_t stride) override;
  void all_to_all(const std::byte* in, std::int64_t bytes, std::int64_t stride,
                  std::byte* out) override;
  void broadcast(std::byte* data, std::int64_t bytes, int root) override;
  void send_receive(const std::byte* out, int to, std::byte* in, int from,
                    std::int64_t bytes) override;
  std::unique_ptr<Transport> split(int color, int key) override;

 private:
  /// Starts `count` requests with `start(requests)` and waits for them.
  template <class Start>
  void finish(std::size_t count, Start&& start) {
    requests_.assign(count, MPI_REQUEST_NULL);
    try {
      start(requests_.data());
      mpi_wait(requests_, comm_, *watch_);
    } catch (const CommError&) {
      broken_ = true;
      throw;
    }
  }
  /// Sends out + r * out_stride to every other rank r, and receives from it at in + r * in_stride.
  void exchange(const std::byte* out, std::int64_t out_stride, std::byte* in,
                std::int64_t in_stride, std::int64_t bytes);
  /// Calls body(offset, count) for the pieces of `bytes` bytes.
  template <class Body>
  static void for_pieces(std::int64_t bytes, Body&& body) {
    for (std::int64_t at = 0; at < bytes; at += kPieceBytes)
      body(at, static_cast<int>(std::min(kPieceBytes, bytes - at)));
  }

  MPI_Comm comm_;
  std::shared_ptr<MpiWatch> watch_;  // shared with the groups split from this one
  int direct_ranks_;                 // see Note [Few ranks exchange directly]
  std::vector<MPI_Request> requests_;
  int rank_ = 0;
  int num_ranks_ = 1;
  bool broken_ = false;
};

void MpiTransport::exchange(const std::byte* out, std::int64_t out_stride, std::byte* in,
                            std::int64_t in_stride, std::int64_t bytes) {
  for_pieces(bytes, [&](std::int64_t at, int count) {
    finish(2 * static_cast<std::size_t>(num_ranks_ - 1), [&](MPI_Request* request) {
      for (int step = 1; step < num_ranks_; ++step) {
        const int from = (rank_ + step) % num_ranks_;
        MPI_TRY(MPI_Irecv(in + from * in_stride + at, count, MPI_BYTE, from, kDataTag, comm_,
                          request++));
      }
      for (int step = 1; step < num_ranks_; ++step) {
        const int to = (rank_ + num_ranks_ - step) % num_ranks_;  // who hears from this rank first
        MPI_TRY(MPI_Isend(out + to * out_stride + at, count, MPI_BYTE, to, kDataTag, comm_,
                          request++));
      }
    });
  });
}

void MpiTransport::all_gather(const std::byte* in, std::int64_t bytes, std::byte* out,
                              std::int64_t stride) {
  const bool in_place = in == out + rank_ * stride;
  if (num_ranks_ <= direct_ranks_) {
    exchange(in, /*out_stride=*/0, out, stride, bytes);
    if (!in_place) std::memcpy(out + rank_ * stride, in, static_cast<std::size_t>(bytes));
    return;
  }
  for_pieces(bytes, [&](std::int64_t at, int count) {
    const StridedBytes strided(count, stride);
    finish(1, [&](MPI_Request* request) {
      const void* send = in_place ? MPI_IN_PLACE : in + at;
      MPI_TRY(
          MPI_Iallgather(send, count, MPI_BYTE, out + at, 1, strided.type(), comm_, request));
    });
  });
}

void MpiTransport::all_to_all(const std::byte* in, std::int64_t bytes, std::int64_t stride,
                              std::byte* out) {
  if (num_ranks_ <= direct_ranks_) {
    exchange(in, stride, out, bytes, bytes);
    std::memcpy(out + rank_ * bytes, in + rank_ * stride, static_cast<std::size_t>(bytes));
    return;
  }
  for_pieces(bytes, [&](std::int64_t at, int count) {
    const StridedBytes sent(count, stride);
    const StridedBytes received(count, bytes);
    finish(1, [&](MPI_Request* request) {
      MPI_TRY(
          MPI_Ialltoall(in + at, 1, sent.type(), out + at, 1, received.type(), comm_, request));
    });
  });
}

void MpiTransport::broadcast(std::byte* data, std::int64_t bytes, int root) {
  for_pieces(bytes, [&](std::int64_t at, int count) {
    finish(1, [&](MPI_Request* request) {
      MPI_TRY(MPI_Ibcast(data + at, count, MPI_BYTE, root, comm_, request));
    });
  });
}

void MpiTransport::send_receive(const std::byte* out, int to, std::byte* in, int from,
                                std::int64_t bytes) {
  for_pieces(bytes, [&](std::int64_t at, int count) {
    finish(2, [&](MPI_Request* requests) {
      MPI_TRY(MPI_Irecv(in + at, count, MPI_BYTE, from, kDataTag, comm_, &requests[0]));
      MPI_TRY(MPI_Isend(out + at, count, MPI_BYTE, to, kDataTag, comm_, &requests[1]));
    });
  });
}

std::unique_ptr<Transport> MpiTransport::split(int color, int key) {
  MPI_Comm part = MPI_COMM_NULL;
  MPI_TRY(
      MPI_Comm_split(comm_, color, key, &part));  // all ranks are here: they have just agreed on it
  return std::make_unique<MpiTransport>(part, watch_, direct_ranks_);
}

}  // namespace

std::unique_ptr<ProcessGroup> make_mpi_group(MPI_Comm comm, std::shared_ptr<MpiWatch> watch,
                                             std::shared_ptr<RankRecord> record, int direct_ranks) {
  MPI_Comm own = MPI_COMM_NULL;
  MPI_TRY(MPI_Comm_dup(comm, &own));
  return make_host_group(std::make_unique<MpiTransport>(own, std::move(watch), direct_ranks),
                         std::move(record));
}

}  // namespace triphase::dist
