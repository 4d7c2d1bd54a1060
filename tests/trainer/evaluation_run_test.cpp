// SPDX-License-Identifier: Apache-2.0
// Whole evaluations: what they find, what they write, what they refuse.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <cmath>

#include "data/embeddings.hpp"
#include "data/h5.hpp"
#include "data/tokenizer.hpp"
#include "dist/runtime.hpp"
#include "models/weights.hpp"
#include "tests/trainer/evaluation_fixture.hpp"
#include "trainer/evaluate_cohort.hpp"
#include "trainer/evaluate_model.hpp"
#include "trainer/metrics.hpp"

namespace triphase::trainer {
namespace {

using namespace test;
namespace fs = std::filesystem;

/// A prompts file of one finding's form; its path is the value of evaluate.prompts.
std::string prompts_setting(const TemporaryFolder& folder, const std::string& text) {
  write_text(folder / "own_prompts.toml", text);
  return "\"" + (folder / "own_prompts.toml").string() + "\"";
}

/// No NaN and no infinity, which JSON does not know, anywhere.
void expect_json_numbers(const Json& json) {
  const Json flat = json.flatten();  // items() refers to it
  for (const auto& [key, value] : flat.items())
    if (value.is_number_float()) {
      EXPECT_TRUE(std::isfinite(value.get<double>())) << key;
    }
}

TEST(EvaluateModel, GivesEveryFigureOfTheAgreedForm) {
  const TemporaryFolder folder;
  EvaluationSubject subject = evaluation_subject(folder.path());
  const auto self = dist::make_self_group();
  const Json json =
      evaluate_model(subject.model, *subject.cache, subject.config, "test", *self, false);
  EXPECT_EQ(json.at("split"), "test");
  EXPECT_EQ(json.at("n"), 4);
  expect_json_numbers(json);
  const Json& hcc = json.at("findings").at("hcc");
  for (const Json& scored : {hcc, hcc.at("linear_probe")}) {
    for (const char* key : {"auc", "f1", "sensitivity", "specificity", "threshold"})
      EXPECT_TRUE(scored.at(key).is_number()) << key;
    for (const char* key : {"auc_ci95", "f1_ci95", "sensitivity_ci95", "specificity_ci95"})
      EXPECT_EQ(scored.at(key).size(), 2u) << key;
    EXPECT_EQ(scored.at("threshold_from"), "validation");
    EXPECT_EQ(scored.at("n_positive"), 2);
    EXPECT_EQ(scored.at("n_negative"), 2);
  }
  EXPECT_EQ(hcc.at("linear_probe").at("n_fitted"), 18);
  EXPECT_EQ(hcc.at("linear_probe").at("features"), subject.model->image_tower()->num_features());
  EXPECT_EQ(json.at("retrieval").at("n"), 4);
  EXPECT_EQ(json.at("data_hash"), subject.cache->data_hash());
  EXPECT_EQ(json.at("phantom"), false);
  EXPECT_TRUE(json.at("not_scored").empty());
  // Unknown labels (cyst of sample 28) are left out of their finding alone.
  const Json& cyst = json.at("findings").at("cyst");
  EXPECT_EQ(cyst.at("n_positive").get<int>() + cyst.at("n_negative").get<int>(), 3);
}

TEST(EvaluateModel, ScoresAreThoseOfTheSplitAndThresholdsOfTheValidation) {
  const TemporaryFolder folder;
  EvaluationSubject subject =
      evaluation_subject(folder.path(), {{"evaluate.linear_probe", "false"}});
  const auto self = dist::make_self_group();
  const Json json =
      evaluate_model(subject.model, *subject.cache, subject.config, "test", *self, false);
  const auto scores_of = [&](const std::string& split, std::vector<std::int8_t>& labels) {
    const EmbeddingTable table =
        embed_samples(subject.model, *subject.cache, subject.cache->select(split, {}),
                      subject.config, *self, false);
    for (const std::int64_t index : table.indices)
      labels.push_back(subject.cache->entries()[static_cast<std::size_t>(index)].labels[0]);
    return prompt_scores(subject.model, table, read_prompts(tiny_cache().prompts().string())[0],
                         subject.config, tiny_cache().tokenizer().string());
  };
  std::vector<std::int8_t> labels;
  const std::vector<double> scores = scores_of("test", labels);
  std::vector<std::int8_t> tuning_labels;
  const std::vector<double> tuning = scores_of("validation", tuning_labels);
  const Json& hcc = json.at("findings").at("hcc");
  EXPECT_EQ(hcc.at("auc"), roc_auc(scores, labels));
  EXPECT_EQ(hcc.at("threshold"), choose_threshold("youden", tuning, tuning_labels));
  EXPECT_FALSE(hcc.contains("linear_probe"));
}

TEST(EvaluateModel, KeepsToTheSitesAskedForAndSaysSo) {
  const TemporaryFolder folder;
  EvaluationSubject subject = evaluation_subject(folder.path(), {{"data.sites", "[\"south\"]"}});
  const auto self = dist::make_self_group();
  const Json json =
      evaluate_model(subject.model, *subject.cache, subject.config, "train", *self, false);
  EXPECT_EQ(json.at("sites"), Json({"south"}));
  EXPECT_EQ(json.at("n"), 14);  // of 18, four are of north
  EXPECT_TRUE(json.at("findings").at("hcc").at("linear_probe").at("auc").is_null());
}

TEST(EvaluateModel, LabelsAndPromptsMustMeet) {
  const TemporaryFolder folder;
  const auto self = dist::make_self_group();
  const auto evaluate = [&](const Settings& changes) {
    EvaluationSubject subject = evaluation_subject(folder.path(), changes);
    return evaluate_model(subject.model, *subject.cache, subject.config, "test", *self, false);
  };
  const auto refuse = [&](const std::string& prompts, std::initializer_list<std::string> words) {
    expect_error<Error>(
        [&] {
          (void)evaluate({{"evaluate.prompts", prompts}});
        },
        ExitCode::kBadData, words);
  };
  refuse(prompts_setting(folder, one_finding("fracture")),
         {"label without a prompt", "'fracture'", "'hcc', 'cyst'"});
  refuse("\"\"", {"label without a prompt", "'hcc'", "none"});
  const Json one = evaluate({{"evaluate.prompts", prompts_setting(folder, one_finding("hcc"))}});
  EXPECT_EQ(one.at("not_scored"), Json({"cyst"}));
  EXPECT_TRUE(one.at("not_labelled").empty());
  EXPECT_EQ(one.at("findings").size(), 1u);
  const Json other =
      evaluate({{"evaluate.prompts",
                 prompts_setting(folder, one_finding("fracture") + one_finding("cyst"))}});
  EXPECT_EQ(other.at("not_scored"), Json({"hcc"}));
  EXPECT_EQ(other.at("not_labelled"), Json({"fracture"}));
  EXPECT_EQ(other.at("findings").size(), 1u);
  EXPECT_TRUE(other.at("findings").at("cyst").at("auc").is_number());
}

TEST(EvaluateModel, MissingPartsAreNamed) {
  const TemporaryFolder folder;
  const auto self = dist::make_self_group();
  const auto refuse = [&](const Settings& changes, const std::string& split, ExitCode code,
                          std::initializer_list<std::string> words) {
    EvaluationSubject subject = evaluation_subject(folder.path(), changes);
    expect_error<Error>(
        [&] {
          (void)evaluate_model(subject.model, *subject.cache, subject.config, split, *self, false);
        },
        code, words);
  };
  refuse({}, "tset", ExitCode::kBadData, {"tset", "test"});
  refuse({{"model.tokenizer", ""}}, "test", ExitCode::kUsage, {"model.tokenizer"});
  refuse({{"data.validation_split", "\"tune\""}}, "test", ExitCode::kBadData,
         {"tune", "validation"});
  data::train_tokenizer({"other words than before"}, 270, folder / "other");
  refuse({{"model.tokenizer", "\"" + (folder / "other").string() + "\""}}, "test",
         ExitCode::kBadData, {"tokenizer", "hash"});
}

TEST(CohortCounts, AddUpAndHoldNoPatient) {
  const TemporaryFolder folder;
  const EvaluationSubject subject = evaluation_subject(folder.path());
  const Json rows = cohort_counts(*subject.cache);
  std::int64_t studies = 0;
  std::int64_t labels = 0;
  for (const Json& row : rows) {
    studies += row.at("n").get<std::int64_t>();
    EXPECT_EQ(row.at("patients"), row.at("n"));
    for (const auto& [key, count] : row.at("findings").at("cyst").items())
      labels += count.get<std::int64_t>();
  }
  EXPECT_EQ(studies, 30);
  EXPECT_EQ(labels, 30);
  EXPECT_EQ(rows.dump().find("p1"), std::string::npos);
}

TEST(IsPhantom, FollowsTheMarkBesideThePrompts) {
  const TemporaryFolder folder;
  EvaluationSubject subject = evaluation_subject(
      folder.path(), {{"evaluate.prompts", prompts_setting(folder, one_finding("hcc"))}});
  EXPECT_FALSE(is_phantom(subject.config, *subject.cache));
  write_text(folder / "phantom.json", "{}");
  EXPECT_TRUE(is_phantom(subject.config, *subject.cache));
}

TEST(EvaluateRun, WritesItsResultAndConfigurationIntoTheRunFolder) {
  const TemporaryFolder folder;
  const RunConfig config = evaluation_subject(folder.path()).config;
  dist::Runtime runtime({.backend = "self"});
  Logger log(LoggerOptions{.quiet = true});
  const Json json = evaluate_run(config, "", "test", "", runtime, log, false);
  const fs::path written = fs::path(config.run_dir()) / "evaluation";
  EXPECT_EQ(read_json(written / "test.json").dump(), json.dump());
  EXPECT_EQ(json.at("model").at("checkpoint"), "random");
  EXPECT_TRUE(json.at("model").at("step").is_null());
  // What lies beside it loads again, and gives the same numbers.
  const RunConfig again =
      load_run_config({.files = {written / "test.toml"}, .environment = {}, .sets = {}});
  EXPECT_EQ(
      evaluate_run(again, "", "test", (folder / "own.json").string(), runtime, log, false).dump(),
      json.dump());
  EXPECT_TRUE(fs::exists(folder / "own.json"));
}

TEST(EvaluateRun, WarnsOnceOfLabelsWithoutPromptsAndPromptsWithoutLabels) {
  const TemporaryFolder folder;
  dist::Runtime runtime({.backend = "self"});
  const auto log_of = [&](const std::string& prompts, const std::string& name) {
    const RunConfig config = evaluation_subject(folder.path(), {{"evaluate.prompts", prompts},
                                                                {"evaluate.linear_probe", "false"}})
                                 .config;
    Logger log(LoggerOptions{.quiet = true, .file = folder / name});
    (void)evaluate_run(config, "", "test", (folder / "e.json").string(), runtime, log, false);
    return read_text(folder / name);
  };
  const auto count = [](const std::string& text, const std::string& word) {
    int found = 0;
    for (std::size_t at = 0; (at = text.find(word, at)) != std::string::npos; ++at) ++found;
    return found;
  };
  const std::string text =
      log_of(prompts_setting(folder, one_finding("fracture") + one_finding("hcc")), "some.log");
  EXPECT_EQ(count(text, " warning "), 2) << text;
  EXPECT_EQ(count(text, "no prompts for these label columns: 'cyst'"), 1) << text;
  EXPECT_EQ(count(text, "own_prompts.toml': 'fracture'"), 1) << text;
  const std::string whole = log_of("\"" + tiny_cache().prompts().string() + "\"", "all.log");
  EXPECT_EQ(count(whole, " warning "), 0) << whole;
}

TEST(EvaluateRun, LimitsTheThreadsAsTrainingDoes) {
  // Threads are those of OMP_NUM_THREADS, which the tests set to 1.
  const TemporaryFolder folder;
  const RunConfig config =
      evaluation_subject(folder.path(), {{"evaluate.linear_probe", "false"}}).config;
  dist::Runtime runtime({.backend = "self"});
  Logger log(LoggerOptions{.quiet = true});
  at::set_num_threads(3);
  (void)evaluate_run(config, "", "test", (folder / "e.json").string(), runtime, log, false);
  EXPECT_EQ(at::get_num_threads(), 1);
  EXPECT_TRUE(at::globalContext().deterministicAlgorithms());
  at::set_num_threads(3);
  embed_run(config, "", "test", (folder / "e.h5").string(), runtime, log, false);
  EXPECT_EQ(at::get_num_threads(), 1);
}

TEST(EvaluateRun, AcceptsRunFolderCheckpointAndWeightsFile) {
  for (const char* method : {"full", "peft"}) {
    const TemporaryFolder folder;
    const Settings settings{{"adapt.method", "\"" + std::string(method) + "\""},
                            {"schedule.max_steps", "3"},
                            {"evaluate.bootstrap_samples", "0"}};
    const RunConfig config = tiny_run(folder.path(), settings);
    const auto self = dist::make_self_group();
    const RunRecord trained = run_once(config, *self);
    dist::Runtime runtime({.backend = "self"});
    Logger log(LoggerOptions{.quiet = true});
    RunConfig later = config;
    later.run.seed =
        99;  // another seed than trained with: the base must be the checkpoint's all the same
    const auto evaluate = [&](const std::string& checkpoint) {
      return evaluate_run(later, checkpoint, "test", (folder / "e.json").string(), runtime, log,
                          false);
    };
    const Json by_folder = evaluate(config.run_dir());
    EXPECT_EQ(by_folder.at("model").at("adapt_method"), method);
    EXPECT_EQ(by_folder.at("model").at("checkpoint"),
              "run/" + fs::path(trained.result.best_checkpoint).filename().string());
    EXPECT_EQ(evaluate(trained.result.best_checkpoint).dump(), by_folder.dump());
    models::TwoTower model = load_model_for_evaluation(later, trained.result.best_checkpoint).model;
    models::merge_adapters(model);
    models::write_safetensors(folder / "merged.safetensors", models::base_state(model));
    const Json merged = evaluate((folder / "merged.safetensors").string());
    EXPECT_NEAR(merged.at("findings").at("hcc").at("threshold").get<double>(),
                by_folder.at("findings").at("hcc").at("threshold").get<double>(), 1e-5);
    expect_error<Error>([&] { (void)evaluate((folder / "none").string()); },
                        ExitCode::kMissingInput, {"none"});
  }
}

TEST(EmbedRun, WritesRowsThatReadBack) {
  const TemporaryFolder folder;
  EvaluationSubject subject = evaluation_subject(folder.path());
  dist::Runtime runtime({.backend = "self"});
  Logger log(LoggerOptions{.quiet = true});
  const fs::path out = folder / "deep/embeddings.h5";
  embed_run(subject.config, "", "all", out.string(), runtime, log, false);
  const EmbeddingTable table =
      embed_samples(subject.model, *subject.cache, all_samples(*subject.cache), subject.config,
                    runtime.world(), false);
  const auto lock = data::h5::lock();
  const data::h5::Id file = data::h5::open_file(out);
  const auto read = [&](const char* name, const at::Tensor& expected) {
    const data::h5::Id dataset = data::h5::open_dataset(file, name);
    EXPECT_EQ(data::h5::shape_of(dataset, 2), expected.sizes().vec());
    const at::Tensor rows = at::empty(expected.sizes());
    H5_TRY(H5Dread(dataset.get(), H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT,
                   rows.mutable_data_ptr<float>()));
    EXPECT_TRUE(at::equal(rows, expected)) << name;
  };
  read("image", table.image);
  read("text", table.text);
  read("image_features", table.features);
  const std::vector<std::string> ids = data::h5::read_strings(file, "id", 30);
  for (std::size_t i = 0; i < ids.size(); ++i) EXPECT_EQ(ids[i], subject.cache->entries()[i].id);
  EXPECT_EQ(data::h5::read_text_attribute(file, "model"), "merlin_tiny");
  EXPECT_EQ(data::h5::read_text_attribute(file, "spec_hash"), subject.cache->spec().hash());
  EXPECT_EQ(std::distance(fs::directory_iterator(out.parent_path()), {}), 1);  // no leftover
}

TEST(WriteEmbeddings, RefusesRowsThatDoNotFitAndPlacesThatCannotBe) {
  const TemporaryFolder folder;
  data::EmbeddingFile file{.ids = {"a", "b"},
                           .image = at::zeros({2, 3}),
                           .text = at::zeros({2, 3}),
                           .image_features = at::zeros({2, 5}),
                           .attributes = {}};
  write_text(folder / "file", "");
  expect_error<IoError>([&] { data::write_embeddings(folder / "file/e.h5", file); },
                        ExitCode::kCannotCreateOutput, {"file"});
  file.text = at::zeros({3, 3});
  expect_error<InternalError>([&] { data::write_embeddings(folder / "e.h5", file); },
                              ExitCode::kInternal, {"2 samples"});
}

}  // namespace
}  // namespace triphase::trainer
