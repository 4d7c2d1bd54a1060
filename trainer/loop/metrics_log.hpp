// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>

#include "base/descriptor.hpp"
#include "base/json.hpp"

namespace triphase::trainer {

/// metrics.jsonl: one JSON object a line, appended whole. Rank 0's.
class MetricsLog {
 public:
  /// Opens the file; lines of steps after `last_step` (a run that is resumed makes them again) and
  /// a line that was cut short are dropped. @throws IoError
  MetricsLog(std::filesystem::path path, std::int64_t last_step);
  /// @param record an object with `step`. @throws IoError
  void append(const Json& record);
  /// Flushes to the disk. Before a checkpoint, whose step's lines must not be lost. @throws IoError
  void sync();

 private:
  std::filesystem::path path_;
  Descriptor file_;
};

}  // namespace triphase::trainer
