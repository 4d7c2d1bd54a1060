// SPDX-License-Identifier: Apache-2.0
// The main job at its smallest, through the program, under mpirun.
#include "tests/launch/embedding_file.hpp"
#include "tests/launch/program_fixture.hpp"

#include <cmath>
#include <limits>

namespace triphase::test {
namespace {

namespace fs = std::filesystem;

CommandResult train(const fs::path& file, int num_ranks) {
  return triphase("train --quiet --config " + file.string(), num_ranks);
}

std::vector<double> losses(const fs::path& run_dir) {
  std::vector<double> values;
  for (const Json& line : read_metrics(run_dir))
    if (line.contains("loss")) values.push_back(line.at("loss").get<double>());
  return values;
}

/// Embeds the test split with a run file and a checkpoint of any form ("": model.weights).
void embed(const fs::path& run_file, const fs::path& checkpoint, const fs::path& out) {
  expect_outcome(triphase("embed --quiet --split test --config " + run_file.string() +
                          (checkpoint.empty() ? "" : " --checkpoint " + checkpoint.string()) + " --out " + out.string()),
                 0, {});
}

/// Over all elements of `/image` or `/text` of two embedding files; infinite when their shapes differ.
double largest_difference(const fs::path& a, const fs::path& b, const std::string& side) {
  const EmbeddingRows one = read_rows(a, side);
  const EmbeddingRows two = read_rows(b, side);
  if (one.shape != two.shape || one.values.empty()) return std::numeric_limits<double>::infinity();
  double largest = 0;
  for (std::size_t i = 0; i < one.values.size(); ++i)
    largest = std::max(largest, std::abs(static_cast<double>(one.values[i] - two.values[i])));
  return largest;
}

void expect_same_rows(const fs::path& a, const fs::path& b) {
  for (const std::string side : {"image", "text"})
    EXPECT_LT(largest_difference(a, b, side), 1e-5) << side << " of " << a << " and " << b;  // unit rows, float32
}

struct RankCase {
  std::string method;
  std::string compute;
  /// Relative: sums in another order, over 20 AdamW steps. Adam divides a gradient by its own size, so one that is
  /// zero but for rounding moves its weight by rounding over eps: hence the larger eps in float32.
  double tolerance;
};

class AnyNumberOfRanks : public ::testing::TestWithParam<RankCase> {};

TEST_P(AnyNumberOfRanks, TwentyStepsHaveTheSameLosses) {
  const RankCase& c = GetParam();
  const TemporaryFolder folder;
  std::vector<std::vector<double>> all;
  for (const int num_ranks : {1, 2, 3}) {
    const std::string name = "ranks" + std::to_string(num_ranks);
    expect_outcome(train(write_run_file(folder.path(), name,
                                        {{"adapt.method", "\"" + c.method + "\""},
                                         {"precision.compute", "\"" + c.compute + "\""},
                                         {"data.augment.noise_sigma", "0.03"},
                                         {"optimizer.eps", c.compute == "float64" ? "1e-8" : "1e-5"},
                                         {"optimizer.lr", c.compute == "float64" ? "1e-3" : "3e-4"},
                                         {"schedule.max_steps", "20"}}),
                         num_ranks),
                   0, {});
    all.push_back(losses(folder / ("runs/" + name)));
    ASSERT_EQ(all.back().size(), 20U);
  }
  for (std::size_t step = 0; step < 20; ++step) {
    for (const std::size_t other : {1U, 2U})
      EXPECT_NEAR(all[other][step] / all[0][step], 1.0, c.tolerance) << "step " << step << ", " << other + 1 << " ranks";
  }
  EXPECT_GT(std::abs(all[0][0] - all[0][19]), 1e-6);  // it did train
}

INSTANTIATE_TEST_SUITE_P(Modes, AnyNumberOfRanks,
                         ::testing::Values(RankCase{"full", "float64", 1e-10}, RankCase{"peft", "float64", 1e-10},
                                           RankCase{"full", "float32", 1e-4}, RankCase{"peft", "float32", 1e-4}));

TEST(MainJob, PretrainAdaptEvaluateReport) {
  const TemporaryFolder folder;
  const fs::path pretrain = write_run_file(folder.path(), "pretrain",
                                           {{"data.sites", "[\"source\"]"},
                                            {"loss.phenotype_weight", "10"},
                                            {"model.batch_norm", "\"local\""}});
  expect_outcome(train(pretrain, 2), 0, {"pretrain"});
  const std::map<std::string, std::string> from{{"model.weights", "\"" + (folder / "runs/pretrain").string() + "\""}};
  const fs::path before = write_run_file(folder.path(), "before", from);
  expect_outcome(triphase("evaluate --quiet --config " + before.string(), 2), 0, {"hcc", "AUC"});
  auto peft_changes = from;
  peft_changes["adapt.method"] = "\"peft\"";
  peft_changes["adapt.image.rank"] = "2";
  peft_changes["adapt.text.rank"] = "2";
  for (const auto& [name, changes] : {std::pair{std::string("full"), from}, std::pair{std::string("peft"), peft_changes}}) {
    const fs::path file = write_run_file(folder.path(), name, changes);
    expect_outcome(train(file, 2), 0, {name});
    expect_outcome(triphase("evaluate --quiet --config " + file.string() + " --checkpoint " +
                                (folder / ("runs/" + name)).string(), 2),
                   0, {"hcc"});
    const Json evaluation = read_json(folder / ("runs/" + name) / "evaluation/test.json");
    const Json& hcc = evaluation.at("findings").at("hcc");
    EXPECT_GE(hcc.at("auc").get<double>(), 0.0);
    EXPECT_LE(hcc.at("auc_ci95").at(0).get<double>(), hcc.at("auc_ci95").at(1).get<double>());
    EXPECT_EQ(hcc.at("n_positive").get<int>() + hcc.at("n_negative").get<int>(), evaluation.at("n").get<int>());
  }
  expect_outcome(triphase("report " + (folder / "runs/before").string() + " " + (folder / "runs/full").string() + " " +
                          (folder / "runs/peft").string() + " --out " + (folder / "report.html").string()),
                 0, {"report.html"});
  const std::string page = read_text(folder / "report.html");
  EXPECT_NE(page.find("<svg"), std::string::npos);
  EXPECT_NE(page.find("peft"), std::string::npos);
  // Adapters only: fewer bytes are reduced than with every weight.
  EXPECT_LT(read_metrics(folder / "runs/peft")[0].at("bytes_reduced").get<std::int64_t>(),
            read_metrics(folder / "runs/full")[0].at("bytes_reduced").get<std::int64_t>() / 10);
  // Three ways from one checkpoint to its outputs: the checkpoint, the merged weights, the exported folder on the base.
  const std::string peft_run = " --config " + (folder / "peft.toml").string() + " --checkpoint " + (folder / "runs/peft").string();
  expect_outcome(triphase("weights export" + peft_run + " --out " + (folder / "adapter").string()), 0, {});
  expect_outcome(triphase("weights merge" + peft_run + " --out " + (folder / "merged.safetensors").string()), 0, {});
  embed(folder / "peft.toml", folder / "runs/peft", folder / "two_path.h5");
  embed(before, folder / "merged.safetensors", folder / "merged.h5");
  embed(before, folder / "adapter/", folder / "adapter.h5");
  embed(before, "", folder / "base.h5");
  expect_same_rows(folder / "merged.h5", folder / "two_path.h5");
  expect_same_rows(folder / "merged.h5", folder / "adapter.h5");
  EXPECT_GT(largest_difference(folder / "merged.h5", folder / "base.h5", "image"), 1e-3);  // the adapters do something
  EXPECT_GT(largest_difference(folder / "merged.h5", folder / "base.h5", "text"), 1e-3);
  const std::string scores = (folder / "adapter.json").string();
  expect_outcome(triphase("evaluate --quiet --config " + before.string() + " --checkpoint " + (folder / "adapter").string() +
                          " --out " + scores, 2), 0, {"hcc"});
  EXPECT_EQ(read_json(scores).at("model").at("checkpoint"), "adapter");
  EXPECT_EQ(read_json(scores).at("model").at("adapt_method"), "peft");
  expect_outcome(triphase("weights show " + (folder / "merged.safetensors").string()), 0, {"encode_image.i3_resnet.conv1.weight"});
  expect_outcome(triphase("cache verify --quiet " + tiny_cohort().cache().string()), 0, {"every hash is right"});
  expect_outcome(triphase("cache show " + tiny_cohort().cache().string()), 0, {"target", "train", "hcc"});
}

TEST(MainJob, AnExportHoldsWhateverTheCheckpointTrained) {
  const TemporaryFolder folder;
  const std::map<std::string, std::string> adapters{{"adapt.method", "\"peft\""}, {"schedule.max_steps", "3"}};
  auto heads_too = adapters;
  heads_too["adapt.train_heads"] = "true";
  heads_too["model.batch_norm"] = "\"local\"";  // running statistics move
  heads_too["optimizer.lr"] = "3e-2";
  expect_outcome(train(write_run_file(folder.path(), "trained", heads_too), 2), 0, {});
  // The file given says nothing of heads or statistics: the checkpoint's own configuration does.
  const fs::path plain = write_run_file(folder.path(), "plain", adapters);
  const fs::path run = folder / "runs/trained";
  expect_outcome(triphase("weights export --config " + plain.string() + " --checkpoint " + run.string() + " --out " +
                          (folder / "adapter").string()), 0, {});
  const std::string saved = read_json(folder / "adapter/adapter_config.json").at("modules_to_save").dump();
  for (const char* module : {"contrastive_head", "linear_layer", "bn1"})
    EXPECT_NE(saved.find(module), std::string::npos) << module << " is not in " << saved;
  embed(plain, run, folder / "checkpoint.h5");
  embed(plain, folder / "adapter", folder / "adapter.h5");
  embed(plain, last_checkpoint(run) / "adapter", folder / "beside.h5");
  expect_same_rows(folder / "checkpoint.h5", folder / "adapter.h5");
  expect_same_rows(folder / "checkpoint.h5", folder / "beside.h5");
  // What has no adapters is not exported.
  expect_outcome(train(write_run_file(folder.path(), "full", {{"schedule.max_steps", "1"}}), 1), 0, {});
  expect_outcome(triphase("weights export --config " + plain.string() + " --checkpoint " + (folder / "runs/full").string() +
                          " --out " + (folder / "none").string()), 64, {"'full'", "weights merge"});
  expect_outcome(triphase("weights export --config " + plain.string() + " --checkpoint " + (folder / "gone").string() +
                          " --out " + (folder / "none").string()), 66, {"gone"});
}

TEST(MainJob, AReportOfOneRunLiesInItsFolder) {
  const TemporaryFolder folder;
  expect_outcome(train(write_run_file(folder.path(), "run", {{"schedule.max_steps", "1"}}), 1), 0, {});
  const std::string run = (folder / "runs/run").string();
  expect_outcome(triphase("report " + run), 0, {run + "/report.html"});
  EXPECT_NE(read_text(run + "/report.html").find("<svg"), std::string::npos);
  EXPECT_TRUE(read_json(run + "/report.json").contains("runs"));
  expect_outcome(triphase("report " + run), 0, {});  // its own page is no part of the run
  expect_outcome(triphase("report " + run + " " + run), 64, {"--out", "2 run folders"});
}

TEST(MainJob, ABuildRunAgainDoesNothing) {
  const std::string build = "cache build --quiet --preset phantom --set 'preprocess.volume_shape=[28,20,16]' --set "
                            "'preprocess.spacing_mm=[11.2,11.2,12.0]' --manifest " + tiny_cohort().manifest().string() +
                            " --out " + tiny_cohort().cache().string();
  expect_outcome(triphase(build, 2), 0, {"built" + std::string(22, ' ') + "0", "up to date", "seconds"});
}

TEST(MainJob, AStudyRunsItsGridAndWritesOneTable) {
  const TemporaryFolder folder;
  const fs::path base = write_run_file(folder.path(), "base", {{"schedule.max_steps", "2"}});
  write_text(folder / "study.toml", "[study]\nname = \"grid\"\noutput_dir = \"" + (folder / "runs").string() + "\"\nbase = [\"" +
                                        base.string() + "\"]\n[study.axes]\n\"adapt.method\" = [\"full\", \"peft\"]\n\"loss.temperature_init\" = [0.07, 0.5]\n");
  expect_outcome(triphase("study --quiet --config " + (folder / "study.toml").string(), 2), 0, {"full", "peft", "0.5"});
  EXPECT_EQ(read_json(folder / "runs/grid/study.json").at("cells").size(), 4U);
  EXPECT_TRUE(fs::exists(folder / "runs/grid/report.html"));
}

TEST(MainJob, DryRunAndPrintConfigTrainNothing) {
  const TemporaryFolder folder;
  const fs::path file = write_run_file(folder.path(), "run");
  expect_outcome(triphase("train --config " + file.string() + " --dry-run --ranks 3"), 0, {"trainable", "3"});
  expect_outcome(triphase("train --config " + file.string() + " --print-config --set loss.scale_max=50"), 0,
                 {"scale_max", "--set", "run.toml:"});
  EXPECT_FALSE(fs::exists(folder / "runs/run/metrics.jsonl"));
}

TEST(MainJob, BenchAndDoctorSayWhatTheyFound) {
  expect_outcome(triphase("doctor", 2), 0, {"LibTorch", "HDF5", "rank 1"});
  expect_outcome(triphase("bench collectives --max-bytes 65536 --iterations 2", 2), 0, {"busbw", "of limit"});
  expect_outcome(triphase("bench loss --pairs 64 --iterations 1", 2), 0, {"dense"});
  expect_outcome(triphase("bench step --preset merlin_tiny --pairs 2 --iterations 1", 2), 0, {"forward"});
  const TemporaryFolder folder;
  expect_outcome(triphase("bench data --step-ms 1 --steps 2 --cache " + tiny_cohort().cache().string() + " --manifest " +
                              tiny_cohort().manifest().string() + " --scratch " + folder.path().string() + " --out " +
                              (folder / "figures.json").string(),
                          2),
                 0, {"pread", "waiting", "build"});
  EXPECT_EQ(read_json(folder / "figures.json").at("build").at("volumes"), 96);
  const auto left = fs::directory_iterator(folder.path());
  EXPECT_EQ(std::distance(begin(left), end(left)), 1) << "the cache that was built is still there";
}

}  // namespace
}  // namespace triphase::test
