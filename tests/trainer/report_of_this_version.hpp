// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>

#include "base/random.hpp"
#include "tests/trainer/report_fixture.hpp"
#include "tests/trainer/xml_check.hpp"

namespace triphase::test {

inline Json curve(const char* x, const char* y, double shift) {
  const std::string name(y);
  Json json{{x, Json::array()}, {name, Json::array()}, {name + "_low", Json::array()}, {name + "_high", Json::array()}};
  for (int i = 0; i <= 50; ++i) {
    const double at = i / 50.0;
    json[x].push_back(at);
    json[name].push_back(std::min(1.0, at + shift));
    json[name + "_low"].push_back(at);
    json[name + "_high"].push_back(1.0);
  }
  return json;
}

inline void add_new_fields(Json& scores, double shift) {
  scores["auc_delong_ci95"] = {0.871, 0.999};
  for (const char* key : {"average_precision", "ppv", "npv", "balanced_accuracy"}) {
    scores[key] = 0.7 + shift;
    scores[std::string(key) + "_ci95"] = {0.6, 0.9};
  }
  scores["roc"] = curve("fpr", "tpr", shift);
  scores["precision_recall"] = curve("recall", "precision", shift);
  scores["calibration"] = Json{{"of", "a probability"},
                               {"brier", 0.1234},
                               {"ece", 0.0567},
                               {"bins",
                                {{{"from", 0.1}, {"to", 0.2}, {"n", 31}, {"mean_predicted", 0.15}, {"fraction_positive", 0.2}},
                                 {{"from", 0.8}, {"to", 0.9}, {"n", 17}, {"mean_predicted", 0.85}, {"fraction_positive", 0.7}}}}};
}

/// A run folder of this version: curves, calibration, sites, subgroups, pools, and every sample's score.
inline fs::path write_new_run(const fs::path& root, const RunOnDisk& run, double temperature, std::uint64_t seed) {
  const fs::path folder = write_run(root, run.name, run);
  const fs::path file = folder / "evaluation/test.json";
  Json json = read_json(file);
  Json& hcc = json["findings"]["hcc"];
  add_new_fields(hcc, 0.1);
  add_new_fields(hcc["linear_probe"], 0.2);
  hcc["linear_probe"]["k_shot"] = {{{"k", 1}, {"repeats", 10}, {"auc_mean", 0.611}, {"auc_sd", 0.05}},
                                   {{"k", 16}, {"repeats", 10}, {"auc_mean", 0.822}, {"auc_sd", 0.03}}};
  hcc["report_probe"] = scores(0.987);
  json["by_site"] = Json::array();
  for (const auto& [site, auc] : {std::pair{"north", 0.7123}, {"target", 0.9345}})
    json["by_site"].push_back({{"site", site},
                               {"n", 150},
                               {"findings", {{"hcc", {{"auc", auc}, {"auc_ci95", {0.61, 0.97}}, {"n_positive", 60}, {"n_negative", 90}}}}}});
  json["by_subgroup"] = {{{"column", "sex"}, {"value", "f"}, {"n", 140}, {"findings", {{"hcc", {{"auc", 0.8765}, {"auc_ci95", nullptr}, {"n_positive", 50}, {"n_negative", 90}}}}}}};
  const Json recall{{"recall_at_1", 0.3}, {"recall_at_5", 0.6}, {"recall_at_10", 0.8}, {"recall_at_50", 1.0}, {"median_rank", 3.0}};
  json["retrieval"]["pools"] = {{{"size", 32}, {"num_pools", 9}, {"image_to_text", recall}, {"text_to_image", recall}}};
  write_text(file, json.dump());
  std::string config = read_text(folder / "config.toml");
  write_text(folder / "config.toml", config + "[loss]\ntemperature_init = " + std::to_string(temperature) + "\n");
  KeyedRandom random{seed};
  Json rows{{"index", Json::array()}, {"label", Json::array()}, {"prompt", Json::array()}, {"linear_probe", nullptr}, {"report_probe", nullptr}};
  for (int i = 0; i < 60; ++i) {
    rows["index"].push_back(i);
    rows["label"].push_back(i % 3 == 0 ? 1 : 0);
    rows["prompt"].push_back(random.normal(i % 3 == 0 ? 1 : 0, 1));
  }
  write_text(folder / "evaluation/test.scores.json",
             Json{{"data_hash", "0011"}, {"split", "test"}, {"findings", {{"hcc", rows}}}}.dump());
  return folder;
}

struct NewPage : Page {
  explicit NewPage(const TemporaryFolder& folder)
      : Page(report({write_new_run(folder.path(), {.name = "full"}, 0.07, 1),
                     write_new_run(folder.path(), {.name = "peft", .method = "peft", .auc = 0.933}, 0.5, 2)},
                    folder / "out/report.html")),
        text(xml_text(html)) {}
  std::string text;
};

}  // namespace triphase::test
