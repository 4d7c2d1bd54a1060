// SPDX-License-Identifier: Apache-2.0
#include "trainer/loop/metrics_log.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <string_view>

#include "base/file.hpp"

namespace triphase::trainer {
namespace {

constexpr std::int64_t kMetricsBytesMax = std::int64_t{1} << 31;

bool is_kept(std::string_view line, std::int64_t last_step) {
  const Json record = Json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (!record.is_object() || !record.contains("step") || !record.at("step").is_number_integer())
    return false;
  return record.at("step").get<std::int64_t>() <= last_step;
}

/// Keeps the whole lines of steps up to last_step.
void drop_later_lines(const std::filesystem::path& path, std::int64_t last_step) {
  const std::string text = read_file(path, kMetricsBytesMax);
  std::string kept;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = text.find('\n', begin);
    if (end == std::string::npos) break;  // cut short
    const std::string_view line(text.data() + begin, end - begin);
    if (is_kept(line, last_step)) kept += std::string(line) + "\n";
    begin = end + 1;
  }
  if (kept != text) write_file_atomically(path, kept);
}

}  // namespace

MetricsLog::MetricsLog(std::filesystem::path path, std::int64_t last_step)
    : path_(std::move(path)) {
  if (std::filesystem::exists(path_)) drop_later_lines(path_, last_step);
  file_ = Descriptor(open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666));
  if (file_.get() < 0)
    throw io_error(str("cannot write '", path_.string(), "'"), errno, /*creating=*/true);
}

void MetricsLog::append(const Json& record) {
  const std::string line = record.dump() + "\n";
  std::size_t written = 0;
  while (written < line.size()) {
    const ssize_t count = write(file_.get(), line.data() + written, line.size() - written);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) throw io_error(str("cannot write '", path_.string(), "'"), errno);
    written += static_cast<std::size_t>(count);
  }
}

void MetricsLog::sync() {
  if (fsync(file_.get()) != 0) throw io_error(str("cannot flush '", path_.string(), "'"), errno);
}

}  // namespace triphase::trainer
