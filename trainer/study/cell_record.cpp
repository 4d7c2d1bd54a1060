// SPDX-License-Identifier: Apache-2.0
#include "trainer/study/cell_record.hpp"

#include <filesystem>
#include <sstream>

#include "base/file.hpp"
#include "base/json.hpp"

namespace triphase::trainer {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kMostMetricsBytes = std::int64_t{1} << 30;

double number_of(const Json& record, const char* key) {
  const auto found = record.find(key);
  return found != record.end() && found->is_number() ? found->get<double>() : -1;
}

void read_metrics(const fs::path& file, CellRecord& result) {
  std::istringstream lines(read_file(file, kMostMetricsBytes));
  double seconds = 0;
  std::int64_t count = 0;
  for (std::string line; std::getline(lines, line);) {
    const Json record = Json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (!record.is_object()) continue;
    const double temperature = number_of(record, "temperature");
    const double rate = number_of(record, "pairs_per_second");
    if (temperature <= 0) continue;  // a validation
    result.temperature = temperature;
    result.steps = static_cast<std::int64_t>(number_of(record, "step"));
    const double bytes = number_of(record, record.contains("bytes_exchanged") ? "bytes_exchanged" : "bytes_reduced");
    if (bytes >= 0) result.bytes_per_step = static_cast<std::int64_t>(bytes);
    if (rate <= 0) continue;
    seconds += 1 / rate;
    ++count;
  }
  if (count > 0) result.seconds_per_pair = seconds / static_cast<double>(count);
}

}  // namespace

CellRecord read_cell_record(const RunConfig& config) {
  CellRecord record;
  const fs::path folder(config.run_dir());
  std::error_code ignored;
  try {
    if (fs::exists(folder / "metrics.jsonl", ignored)) read_metrics(folder / "metrics.jsonl", record);
    if (!fs::exists(folder / "environment.json", ignored)) return record;
    const Json environment = read_json(folder / "environment.json");
    const Json model = environment.value("model", Json::object());
    if (model.contains("num_trainable")) record.num_trainable = model.at("num_trainable").get<std::int64_t>();
    record.trainable_percent = number_of(model, "trainable_percent");
  } catch (const Error&) {  // damaged: as if it were not there
  } catch (const Json::exception&) {
  }
  return record;
}

}  // namespace triphase::trainer
