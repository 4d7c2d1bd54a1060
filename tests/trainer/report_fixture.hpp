// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <string>
#include <vector>

#include "base/json.hpp"
#include "tests/support/test_support.hpp"
#include "trainer/report.hpp"

/// Run folders written by hand, as an earlier version left them, and the page over them.
namespace triphase::test {

namespace fs = std::filesystem;

struct RunOnDisk {
  std::string name = "full";
  std::string method = "full";
  std::string site = "target";
  double auc = 0.965;
  int steps = 40;  ///< 0: a folder that holds an evaluation alone
};

inline Json scores(double auc) {
  return {{"auc", auc},
          {"auc_ci95", {auc - 0.031, auc + 0.022}},
          {"f1", 0.842},
          {"f1_ci95", {0.781, 0.893}},
          {"sensitivity", 0.871},
          {"sensitivity_ci95", {0.812, 0.923}},
          {"specificity", 0.764},
          {"specificity_ci95", {0.703, 0.826}},
          {"threshold", 0.0123},
          {"threshold_rule", "youden"},
          {"threshold_from", "validation"},
          {"n_positive", 117},
          {"n_negative", 183},
          {"scoring", "prompts"}};
}

inline Json evaluation(const RunOnDisk& run) {
  Json json{{"schema_version", 1}, {"split", "test"}, {"n", 300}, {"sites", {run.site}}};
  json["findings"]["hcc"] = scores(run.auc);
  json["findings"]["hcc"]["linear_probe"] = scores(run.auc + 0.004);
  json["retrieval"] = Json{{"n", 300},
                           {"image_to_text",
                            {{"recall_at_1", 0.113},
                             {"recall_at_5", 0.377},
                             {"recall_at_10", 0.512},
                             {"median_rank", 9.5}}},
                           {"text_to_image",
                            {{"recall_at_1", 0.127},
                             {"recall_at_5", 0.391},
                             {"recall_at_10", 0.533},
                             {"median_rank", 8.5}}},
                           {"distinct_reports", 297}};
  json["phantom"] = true;
  json["cohort"] = Json::array();
  for (const char* split : {"train", "test"})
    json["cohort"].push_back(
        {{"site", run.site},
         {"split", split},
         {"n", 311},
         {"patients", 307},
         {"findings", {{"hcc", {{"positive", 119}, {"negative", 181}, {"unknown", 11}}}}}});
  json["data_hash"] = "00112233445566" + std::string(run.site == "target" ? "77" : "88");
  json["model"] = Json{{"preset", "merlin_small"},
                       {"checkpoint", run.name + "/step_00000040"},
                       {"adapt_method", run.steps > 0 ? Json(run.method) : Json()}};
  json["config_hash"] = "99aabbccddeeff00";
  json["versions"] = Json{{"libtorch", "2.11.0"}};
  json["num_ranks"] = 2;
  return json;
}

inline std::string quoted(const std::string& text) { return Json(text).dump(); }  // also a TOML string

inline fs::path write_run(const fs::path& root, const std::string& folder, const RunOnDisk& run) {
  const fs::path path = root / folder;
  fs::create_directories(path / "evaluation");
  const std::string config = "[run]\nname = " + quoted(run.name) + "\nseed = 21\n[data]\ncache = " +
                             quoted((root / "no_cache").string()) +
                             "\n[adapt]\nmethod = " + quoted(run.method) +
                             "\n[batch]\nglobal_pairs = 32\n[schedule]\nmax_steps = 40\n";
  write_text(path / "evaluation" / "test.json", evaluation(run).dump());
  write_text(path / (run.steps > 0 ? "config.toml" : "evaluation/test.toml"), config);
  if (run.steps == 0) return path;
  const double percent = run.method == "peft" ? 1.263 : 99.871;
  write_text(path / "environment.json",
             Json{{"versions", {{"libtorch", "2.11.0"}, {"mpi", "Open MPI v4.1.4"}}},
                  {"num_ranks", 2},
                  {"threads_per_rank", 1},
                  {"backend", "mpi"},
                  {"data", {{"data_hash", "0011223344556677"}}},
                  {"model",
                   {{"num_trainable", 12345},
                    {"num_base_parameters", 977321},
                    {"trainable_percent", percent},
                    {"trainable_percent_of", "all parameters of the network"}}}}
                 .dump());
  std::string metrics;
  for (int step = 1; step <= run.steps; ++step) {
    metrics += Json{{"step", step},
                    {"epoch", 0},
                    {"pairs_seen", 32 * step},
                    {"loss", 3.4 / step},
                    {"temperature", 0.07 + 0.0001 * step},
                    {"grad_norm", 1},
                    {"lr", 3e-4},
                    {"skipped_steps", 0},
                    {"pairs_per_second", 71.25},
                    {"seconds",
                     {{"data", 0.011},
                      {"forward", 0.102},
                      {"loss", 0.003},
                      {"backward", step == 1 ? 0.9 : 0.223},  // a first step is slow
                      {"reduce_exposed", 0.021},
                      {"optimizer", 0.013}}},
                    {"bytes_reduced", 49380}}
                   .dump() +
               "\n";
    if (step % 10 == 0)
      metrics += Json{{"step", step},
                      {"validation",
                       {{"loss", 2.5 + 0.01 * std::abs(step - 20)},
                        {"mean_auc", 0.9},
                        {"hcc_auc", 0.9 + 0.001 * step}}}}
                     .dump() +
                 "\n";
  }
  write_text(path / "metrics.jsonl", metrics);
  return path;
}

struct Page {
  std::string html;
  Json json;
};

inline Page report(const std::vector<fs::path>& runs, const fs::path& out) {
  std::vector<std::string> folders;
  for (const fs::path& run : runs) folders.push_back(run.string());
  trainer::write_report(folders, out.string());
  return {read_text(out), read_json(fs::path(out).replace_extension(".json"))};
}

}  // namespace triphase::test
