// SPDX-License-Identifier: Apache-2.0
// The main job at its smallest, through the program, under mpirun.
#include "tests/launch/embedding_file.hpp"
#include "tests/launch/program_fixture.hpp"

#include <cmath>

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
  // The exported adapter folder and the merged weights come from the same checkpoint.
  const std::string peft_run = " --config " + (folder / "peft.toml").string() + " --checkpoint " + (folder / "runs/peft").string();
  expect_outcome(triphase("weights export" + peft_run + " --out " + (folder / "adapter").string()), 0, {});
  EXPECT_TRUE(fs::exists(folder / "adapter/adapter_config.json"));
  expect_outcome(triphase("weights merge" + peft_run + " --out " + (folder / "merged.safetensors").string()), 0, {});
  const auto embed = [&](const std::string& run, const std::string& more, const std::string& out) {
    return triphase("embed --quiet --split test --config " + (folder / run).string() + more + " --out " + (folder / out).string());
  };
  expect_outcome(embed("peft.toml", " --checkpoint " + (folder / "runs/peft").string(), "two_path.h5"), 0, {});
  expect_outcome(embed("before.toml", " --set model.weights=" + (folder / "merged.safetensors").string(), "merged.h5"), 0, {});
  expect_outcome(embed("before.toml", "", "base.h5"), 0, {});
  for (const std::string side : {"image", "text"}) {
    const EmbeddingRows two_path = read_rows(folder / "two_path.h5", side);
    const EmbeddingRows merged = read_rows(folder / "merged.h5", side);
    const EmbeddingRows base = read_rows(folder / "base.h5", side);
    ASSERT_EQ(two_path.shape, merged.shape);
    double largest = 0;
    double moved = 0;
    for (std::size_t i = 0; i < two_path.values.size(); ++i) {
      largest = std::max(largest, std::abs(static_cast<double>(two_path.values[i] - merged.values[i])));
      moved = std::max(moved, std::abs(static_cast<double>(two_path.values[i] - base.values[i])));
    }
    EXPECT_LT(largest, 1e-5) << side;  // unit rows, float32
    EXPECT_GT(moved, 1e-3) << side;    // the adapters do something
  }
  expect_outcome(triphase("weights show " + (folder / "merged.safetensors").string()), 0, {"encode_image.i3_resnet.conv1.weight"});
  expect_outcome(triphase("cache verify --quiet " + tiny_cohort().cache().string()), 0, {"every hash is right"});
  expect_outcome(triphase("cache show " + tiny_cohort().cache().string()), 0, {"target", "train", "hcc"});
}

TEST(MainJob, ABuildRunAgainDoesNothing) {
  const std::string build = "cache build --quiet --preset phantom --set 'preprocess.volume_shape=[28,20,16]' --set "
                            "'preprocess.spacing_mm=[11.2,11.2,12.0]' --manifest " + tiny_cohort().manifest().string() +
                            " --out " + tiny_cohort().cache().string();
  expect_outcome(triphase(build, 2), 0, {", 0 built"});
}

TEST(MainJob, AStudyRunsItsGridAndWritesOneTable) {
  const TemporaryFolder folder;
  const fs::path base = write_run_file(folder.path(), "base", {{"schedule.max_steps", "2"}});
  write_text(folder / "study.toml", "[study]\nname = \"grid\"\noutput_dir = \"" + (folder / "runs").string() + "\"\nbase = [\"" +
                                        base.string() + "\"]\ntemperatures = [0.07, 0.5]\nseeds = [1]\n");
  expect_outcome(triphase("study --quiet --config " + (folder / "study.toml").string(), 2), 0, {"full", "peft", "0.5"});
  EXPECT_EQ(read_json(folder / "runs/grid/study.json").at("runs").size() % 4, 0U);
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
  expect_outcome(triphase("bench collectives --max-bytes 65536 --iterations 2", 2), 0, {"busbw"});
  expect_outcome(triphase("bench loss --pairs 64 --iterations 1", 2), 0, {"dense"});
  expect_outcome(triphase("bench step --preset merlin_tiny --pairs 2 --iterations 1", 2), 0, {"forward"});
  expect_outcome(triphase("bench data --cache " + tiny_cohort().cache().string()), 0, {"volumes"});
}

}  // namespace
}  // namespace triphase::test
