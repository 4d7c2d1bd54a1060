// SPDX-License-Identifier: Apache-2.0
#include "base/logging.hpp"

#include "base/descriptor.hpp"
#include "base/file.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <ctime>
#include <mutex>
#include <string>
#include <utility>

namespace triphase {
namespace {

std::string time_of_day() {
  const std::time_t now = std::time(nullptr);
  std::tm local{};
  localtime_r(&now, &local);
  std::array<char, 32> text{};
  const std::size_t size = std::strftime(text.data(), text.size(), "%Y-%m-%d %H:%M:%S", &local);
  return {text.data(), size};
}

std::string one_line(std::string_view text) {
  std::string line;
  for (const char c : text) {
    if (c == '\n')
      line += " | ";
    else
      line += c == '\r' ? ' ' : c;
  }
  return line;
}

/// One write per line, so that lines of several processes do not mix. A log that cannot be written
/// is lost: it must not change what the program does.
void write_line(int descriptor, const std::string& line) {
  const ssize_t written = ::write(descriptor, line.data(), line.size());
  static_cast<void>(written);
}

}  // namespace

struct Logger::State {
  LoggerOptions options;
  Descriptor file;
  std::mutex mutex;
};

Logger::Logger(LoggerOptions options) : state_(std::make_unique<State>()) {
  state_->options = std::move(options);
  const std::filesystem::path& file = state_->options.file;
  if (file.empty()) return;
  state_->file = Descriptor(::open(file.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666));
  if (state_->file.get() < 0)
    throw io_error(str("cannot open the log '", file.string(), "'"), errno, true);
}

Logger::~Logger() = default;
Logger::Logger(Logger&&) noexcept = default;
Logger& Logger::operator=(Logger&&) noexcept = default;

const LoggerOptions& Logger::options() const noexcept { return state_->options; }

void Logger::write(std::string_view level, const std::string& text) noexcept {
  try {
    const LoggerOptions& options = state_->options;
    const std::string line = str(time_of_day(), " [rank ", options.rank, "/", options.num_ranks,
                                 "] ", level, " ", one_line(text), "\n");
    const std::scoped_lock lock(state_->mutex);
    const bool is_warning = level == "warning";
    if (is_warning || (options.rank == 0 && !options.quiet)) write_line(STDERR_FILENO, line);
    if (state_->file.get() >= 0) write_line(state_->file.get(), line);
  } catch (...) {  // no memory for a line of the log
  }
}

}  // namespace triphase
