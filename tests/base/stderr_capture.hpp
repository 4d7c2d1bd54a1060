// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/descriptor.hpp"

#include <string>

namespace triphase::test {

enum class StderrTarget { kFile, kTerminal };

/// Sends standard error into a file or a terminal of its own until taken or destroyed.
class StderrCapture {
 public:
  explicit StderrCapture(StderrTarget target);
  ~StderrCapture();
  StderrCapture(const StderrCapture&) = delete;
  StderrCapture& operator=(const StderrCapture&) = delete;
  /// Puts standard error back and returns what was written.
  [[nodiscard]] std::string take();

 private:
  void restore();
  Descriptor saved_;
  Descriptor reading_;
  StderrTarget target_;
};

}  // namespace triphase::test
