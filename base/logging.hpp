// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/error.hpp"

#include <cstdio>
#include <filesystem>
#include <memory>
#include <string_view>

namespace triphase {

struct LoggerOptions {
  int rank = 0;
  int num_ranks = 1;
  bool quiet = false;            ///< nothing but warnings on standard error
  std::filesystem::path file{};  ///< also appended here when not empty, e.g. logs/rank-00003.log
};

/// One line per event: time, rank, level, text. Rank 0 prints to standard error, every rank writes
/// its own file; a warning of another rank is printed with its rank. Safe to call from several
/// threads. Never throws once constructed: logging does not change what the program does.
class Logger {
 public:
  /// @throws IoError when the log file cannot be created
  explicit Logger(LoggerOptions options = {});
  ~Logger();
  Logger(Logger&&) noexcept;
  Logger& operator=(Logger&&) noexcept;

  template <class... Parts>
  void info(const Parts&... parts) {
    write("info", str(parts...));
  }
  template <class... Parts>
  void warning(const Parts&... parts) {
    write("warning", str(parts...));
  }
  [[nodiscard]] const LoggerOptions& options() const noexcept;

 private:
  void write(std::string_view level, const std::string& text) noexcept;
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace triphase
