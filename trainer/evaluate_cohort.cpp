// SPDX-License-Identifier: Apache-2.0
#include "trainer/evaluate_cohort.hpp"

#include <filesystem>
#include <map>
#include <set>
#include <utility>

namespace triphase::trainer {
namespace {

struct Cell {
  std::int64_t n = 0;
  std::set<std::string> patients;
  std::vector<std::array<std::int64_t, 3>> labels;  ///< by finding: negative, positive, unknown
};

}  // namespace

Json cohort_counts(const data::Cache& cache) {
  const std::vector<std::string>& findings = cache.findings();
  std::map<std::pair<std::string, std::string>, Cell> cells;
  for (const data::CacheEntry& entry : cache.entries()) {
    Cell& cell = cells[{entry.site, entry.split}];
    cell.labels.resize(findings.size());
    ++cell.n;
    cell.patients.insert(entry.patient_id);
    for (std::size_t f = 0; f < findings.size(); ++f) {
      const std::int8_t label = entry.labels.at(f);
      ++cell.labels[f][label < 0 ? 2 : static_cast<std::size_t>(label)];
    }
  }
  Json rows = Json::array();
  for (const auto& [key, cell] : cells) {
    Json row{{"site", key.first},
             {"split", key.second},
             {"n", cell.n},
             {"patients", cell.patients.size()},
             {"findings", Json::object()}};
    for (std::size_t f = 0; f < findings.size(); ++f)
      row["findings"][findings[f]] = Json{{"positive", cell.labels[f][1]},
                                          {"negative", cell.labels[f][0]},
                                          {"unknown", cell.labels[f][2]}};
    rows.push_back(std::move(row));
  }
  return rows;
}

bool is_phantom(const RunConfig& config, const data::Cache& cache) {
  namespace fs = std::filesystem;
  const auto beside = [](const fs::path& folder) {
    std::error_code ignored;
    return fs::exists(folder / "phantom.json", ignored);
  };
  if (cache.spec().preprocess.preset == "phantom") return true;
  const std::string& prompts = config.evaluate.prompts;
  if (!prompts.empty() && beside(fs::absolute(prompts).parent_path())) return true;
  const std::string& tokenizer = config.model.tokenizer;
  return !tokenizer.empty() && beside((fs::absolute(tokenizer) / "..").lexically_normal());
}

}  // namespace triphase::trainer
