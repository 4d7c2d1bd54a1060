// SPDX-License-Identifier: Apache-2.0
#include "dist/group_work.hpp"

#include <utility>

namespace triphase::dist {
namespace {

/// Collectives on host memory are done when the call returns; only the result is handed on.
class FinishedWork final : public Work {
 public:
  /// Made when the result is there.
  FinishedWork(const GroupCall& call, at::Tensor result)
      : result_(std::move(result)),
        bytes_(call.bytes()),
        sequence_(call.sequence),
        start_seconds_(call.start_seconds),
        end_seconds_(steady_seconds()) {}
  at::Tensor wait() override { return result_; }
  [[nodiscard]] bool done() const override { return true; }
  [[nodiscard]] std::int64_t bytes() const override { return bytes_; }
  [[nodiscard]] std::int64_t sequence() const override { return sequence_; }
  [[nodiscard]] double start_seconds() const override { return start_seconds_; }
  [[nodiscard]] double end_seconds() const override { return end_seconds_; }

 private:
  at::Tensor result_;
  std::int64_t bytes_;
  std::int64_t sequence_;
  double start_seconds_;
  double end_seconds_;
};

class DeviceWork final : public Work {
 public:
  DeviceWork(GroupCall call, at::Tensor result, std::unique_ptr<DeviceFlight> flight,
             std::shared_ptr<GroupState> state)
      : call_(std::move(call)),
        result_(std::move(result)),
        flight_(std::move(flight)),
        state_(std::move(state)) {}
  at::Tensor wait() override;
  [[nodiscard]] bool done() const override { return flight_ == nullptr || flight_->is_done(); }
  [[nodiscard]] std::int64_t bytes() const override { return call_.bytes(); }
  [[nodiscard]] std::int64_t sequence() const override { return call_.sequence; }
  [[nodiscard]] double start_seconds() const override { return call_.start_seconds; }
  [[nodiscard]] double end_seconds() const override { return end_seconds_; }

 private:
  GroupCall call_;
  at::Tensor result_;
  std::unique_ptr<DeviceFlight> flight_;  // gone when its end is known
  std::shared_ptr<GroupState> state_;     // the group may go first
  std::optional<CommError> error_;
  double end_seconds_ = 0;
};

at::Tensor DeviceWork::wait() {
  if (error_) throw CommError(*error_);
  if (flight_ == nullptr) return result_;
  try {
    flight_->wait();
  } catch (CommError& error) {
    error.add_context(call_.where());
    error_ = error;
    if (!state_->broken) state_->broken = error;
    state_->record->end(call_.ticket, /*has_failed=*/true);
    throw;
  }
  flight_.reset();
  end_seconds_ = steady_seconds();
  state_->record->end(call_.ticket, /*has_failed=*/false);
  return result_;
}

}  // namespace

std::int64_t GroupCall::bytes() const {
  return call.tensor.defined() ? static_cast<std::int64_t>(call.tensor.nbytes()) : 0;
}

std::string GroupCall::where() const {
  std::string text =
      str("in ", call.describe(), ", collective ", sequence, " of ", num_ranks, " ranks");
  if (place_label != nullptr) text += str(", at ", place_label);
  if (step >= 0) text += str(", step ", step);
  return text;
}

WorkPtr make_finished_work(const GroupCall& call, at::Tensor result) {
  return std::make_unique<FinishedWork>(call, std::move(result));
}

WorkPtr make_device_work(GroupCall call, at::Tensor result, std::unique_ptr<DeviceFlight> flight,
                         std::shared_ptr<GroupState> state) {
  return std::make_unique<DeviceWork>(std::move(call), std::move(result), std::move(flight),
                                      std::move(state));
}

}  // namespace triphase::dist
