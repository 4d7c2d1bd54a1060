// SPDX-License-Identifier: Apache-2.0
#include "trainer/study/study_results.hpp"

#include <algorithm>

#include "trainer/study/cell_record.hpp"
#include "trainer/study/setting_json.hpp"

namespace triphase::trainer {
namespace {

/// Scalars and intervals, without curves and tables.
Json numbers_of(const Json& finding) {
  Json numbers = Json::object();
  for (const auto& [key, value] : finding.items()) {
    const bool is_interval =
        value.is_array() && value.size() == 2 &&
        std::all_of(value.begin(), value.end(), [](const Json& v) { return v.is_number(); });
    const bool is_probe = key == "linear_probe" || key == "report_probe";
    if (is_probe && value.is_object()) numbers[key] = numbers_of(value);
    else if (value.is_primitive() || is_interval) numbers[key] = value;
  }
  return numbers;
}

Json number_or_null(const auto& value) { return value ? Json(*value) : Json(); }

void add_results(const StudyCell& cell, Json& json) {
  const Json evaluation = read_json(cell.evaluation());
  TRIPHASE_CHECK(DataError, evaluation.contains("findings") && evaluation.at("findings").is_object(),
                 "'", cell.evaluation().string(),
                 "' is no evaluation (it has no findings). Remove it to have it written again.");
  json["findings"] = Json::object();
  for (const auto& [name, finding] : evaluation.at("findings").items())
    json["findings"][name] = numbers_of(finding);
  json["by_site"] = evaluation.value("by_site", Json::array());
  const CellRecord record = read_cell_record(cell.config);
  const Json model = evaluation.value("model", Json::object());
  json["training"] = Json{{"steps", number_or_null(record.steps)},
                          {"best_step", model.value("step", Json())},
                          {"final_temperature", number_or_null(record.temperature)},
                          {"bytes_per_step", number_or_null(record.bytes_per_step)},
                          {"num_trainable", number_or_null(record.num_trainable)},
                          {"trainable_percent", record.num_trainable ? Json(record.trainable_percent) : Json()}};
}

Json cell_json(const StudyCell& cell, const CellOutcome& outcome) {
  using Status = CellOutcome::Status;
  Json json{{"name", cell.name}, {"run_dir", cell.config.run_dir()}, {"settings", Json::object()}};
  for (const ConfigSetting& value : cell.values) json["settings"][value.key] = setting_json(value);
  json["status"] = outcome.status == Status::kDone     ? "done"
                   : outcome.status == Status::kFailed ? "failed"
                                                       : "not_run";
  if (outcome.status == Status::kFailed)
    json["error"] = Json{{"exit_code", static_cast<int>(outcome.exit_code)}, {"message", outcome.message}};
  if (outcome.status == Status::kDone) add_results(cell, json);
  return json;
}

}  // namespace

Json study_json(const StudyConfig& study, const std::vector<StudyCell>& cells,
                const std::vector<CellOutcome>& outcomes) {
  Json json{{"name", study.name}, {"axes", Json::array()}, {"cells", Json::array()}};
  for (const StudyAxis& axis : study.axes) {
    Json values = Json::array();
    for (const ConfigSetting& value : axis.values) values.push_back(setting_json(value));
    json["axes"].push_back(Json{{"key", axis.key}, {"values", values}});
  }
  for (std::size_t i = 0; i < cells.size(); ++i)
    json["cells"].push_back(cell_json(cells[i], outcomes.at(i)));
  return json;
}

}  // namespace triphase::trainer
