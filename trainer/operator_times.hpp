// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace triphase::trainer {

/// What one ATen operator took, the operators that it called aside.
struct OperatorTime {
  std::string name;  ///< "aten::mkldnn_convolution"; "backward" ones are named by what they call
  std::int64_t calls = 0;
  double seconds = 0;
};

/// Watches every ATen operator of the process from its making to its end, on all threads; one at a
/// time. Costs about a microsecond a call.
class OperatorTimes {
 public:
  OperatorTimes();
  ~OperatorTimes();
  OperatorTimes(const OperatorTimes&) = delete;
  OperatorTimes& operator=(const OperatorTimes&) = delete;

  /// Forgets what was seen. Not while operators run.
  void clear();
  /// The longest first; of equals by name. The seconds of one thread's operators add up to no more
  /// than the time it spent.
  [[nodiscard]] std::vector<OperatorTime> times() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace triphase::trainer
