// SPDX-License-Identifier: Apache-2.0
#include "base/progress.hpp"

#include "base/error.hpp"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <mutex>
#include <utility>

namespace triphase {
namespace {

using Clock = std::chrono::steady_clock;

constexpr double kSecondsBetweenRedraws = 0.1;
constexpr int kBarWidth = 24;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// "4:05" or "1:02:07".
std::string duration_text(double seconds) {
  const auto total = static_cast<long long>(std::clamp(seconds, 0.0, 3.6e7) + 0.5);
  std::array<char, 48> text{};
  if (total >= 3600)
    std::snprintf(text.data(), text.size(), "%lld:%02lld:%02lld", total / 3600, total / 60 % 60,
                  total % 60);
  else
    std::snprintf(text.data(), text.size(), "%lld:%02lld", total / 60, total % 60);
  return text.data();
}

std::string rate_text(double rate) {
  std::array<char, 48> text{};
  std::snprintf(text.data(), text.size(), "%.3g/s", rate);
  return text.data();
}

std::string bar_text(double fraction) {
  const int full = static_cast<int>(std::clamp(fraction, 0.0, 1.0) * kBarWidth);
  return str("[", std::string(static_cast<std::size_t>(full), '#'),
             std::string(static_cast<std::size_t>(kBarWidth - full), '.'), "] ");
}

void write_error_stream(const std::string& text) {
  const ssize_t written = ::write(STDERR_FILENO, text.data(), text.size());
  static_cast<void>(written);  // progress that cannot be shown must not end the work
}

}  // namespace

std::string progress_text(std::int64_t done, std::int64_t total, double seconds) {
  const double rate = seconds > 0 ? static_cast<double>(done) / seconds : 0;
  std::string text = total > 0 ? str(done, "/", total) : str(done);
  if (total > 0) text += str(" (", done * 100 / total, " %)");
  if (rate > 0) text += ", " + rate_text(rate);
  if (rate > 0 && done < total)
    text += str(", ", duration_text(static_cast<double>(total - done) / rate), " left");
  return text;
}

struct Progress::State {
  std::string title;
  std::int64_t total = 0;
  ProgressOptions options;
  bool on_terminal = false;
  std::mutex mutex;
  std::int64_t done = 0;
  bool is_finished = false;
  bool line_is_open = false;  ///< a bar was drawn and not ended
  Clock::time_point start = Clock::now();
  Clock::time_point last_shown = start;

  void show(const std::string& ending) {
    last_shown = Clock::now();
    const double fraction =
        total > 0 ? static_cast<double>(done) / static_cast<double>(total) : 0.0;
    std::string line = title + (on_terminal ? " " + bar_text(fraction) : ": ");
    line += progress_text(done, total, seconds_since(start)) + ending;
    // Carriage return, then erase to the end of the line (ECMA-48 EL).
    write_error_stream(on_terminal ? "\r" + line + "\x1b[K" : line + "\n");
    line_is_open = on_terminal;
  }
  void end_line() {
    if (std::exchange(line_is_open, false)) write_error_stream("\n");
  }
};

Progress::Progress(std::string title, std::int64_t total, ProgressOptions options)
    : state_(std::make_unique<State>()) {
  state_->title = std::move(title);
  state_->total = total;
  state_->options = options;
  state_->on_terminal = ::isatty(STDERR_FILENO) == 1;
}

Progress::~Progress() { state_->end_line(); }

void Progress::advance(std::int64_t count, const std::string& note) {
  const std::scoped_lock lock(state_->mutex);
  state_->done += count;
  if (!state_->options.enabled || state_->is_finished) return;
  const double pause =
      state_->on_terminal ? kSecondsBetweenRedraws : state_->options.seconds_between_lines;
  if (seconds_since(state_->last_shown) < pause) return;
  state_->show(note.empty() ? "" : ", " + note);
}

void Progress::finish() {
  const std::scoped_lock lock(state_->mutex);
  if (std::exchange(state_->is_finished, true) || !state_->options.enabled) return;
  state_->show(", took " + duration_text(seconds_since(state_->start)));
  state_->end_line();
}

}  // namespace triphase
