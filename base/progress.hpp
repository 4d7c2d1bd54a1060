// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <string>

namespace triphase {

struct ProgressOptions {
  bool enabled = true;               ///< false on ranks other than 0 and with --quiet
  double seconds_between_lines = 5;  ///< in a log that is no terminal
};

/// "12/100 (12 %), 3/s, 0:29 left"; only the count where `total` is not positive.
[[nodiscard]] std::string progress_text(std::int64_t done, std::int64_t total, double seconds);

/// Tells how far a long task is: a bar on a terminal, a line every few seconds elsewhere, with the
/// time that is left. Writes to standard error. Safe to call from several threads.
class Progress {
 public:
  Progress(std::string title, std::int64_t total, ProgressOptions options = {});
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  void advance(std::int64_t count = 1, const std::string& note = "");
  /// Writes the last line. Called once; the destructor of an unfinished progress only ends its
  /// line.
  void finish();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace triphase
