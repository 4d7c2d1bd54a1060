// SPDX-License-Identifier: Apache-2.0
// Real CTs and the full-size network: what a user's first day looks like. Needs the shared folder.
#include "tests/launch/embedding_file.hpp"
#include "tests/launch/program_fixture.hpp"

#include <sys/resource.h>

namespace triphase::test {
namespace {

namespace fs = std::filesystem;

/// Manifest, cache and run file over both shared CTs, with the `merlin` presets.
class RealInput : public ::testing::Test {
 protected:
  void SetUp() override {
    TRIPHASE_NEEDS_SHARED();
    const fs::path ct = shared_folder() / "data/ct";
    write_text(folder_ / "manifest.csv",
               "id,patient_id,site,split,image,report\n"
               "one,p1,here,train," + (ct / "example_ct.nii.gz").string() +
                   ",\"Liver: no focal lesion. Spleen: normal.\"\n"
                   "two,p2,here,train," + (ct / "example_ct_sm.nii.gz").string() +
                   ",\"A 30 mm arterially enhancing mass in segment VIII.\"\n");
    write_text(folder_ / "run.toml",
               "run.name = \"run\"\nrun.output_dir = \"" + (folder_ / "runs").string() + "\"\nrun.log_every_steps = 1\n" +
                   "data.cache = \"" + (folder_ / "cache").string() + "\"\ndata.validation_split = \"\"\n" +
                   "model.preset = \"merlin\"\nmodel.weights = \"random\"\nmodel.tokenizer = \"" +
                   (shared_folder() / "data/roberta").string() + "\"\n" +
                   "adapt.method = \"peft\"\nadapt.image.rank = 8\nadapt.text.rank = 8\nloss.temperature_learnable = false\n" +
                   "batch.global_pairs = 2\noptimizer.lr = 1e-3\nschedule.kind = \"constant\"\nschedule.max_steps = 2\n" +
                   "precision.compute = \"float32\"\n" +
                   "precision.recompute = \"blocks\"\nevaluate.every_epochs = 0\nevaluate.batch_size = 1\n");
    const CommandResult built =
        triphase("cache build --quiet --preset merlin --manifest " + (folder_ / "manifest.csv").string() + " --out " +
                     (folder_ / "cache").string() + " --tokenizer " + (shared_folder() / "data/roberta").string(), 2);
    ASSERT_EQ(built.exit_code, 0) << built.output;
  }
  [[nodiscard]] std::string config() const { return " --quiet --config " + (folder_ / "run.toml").string(); }
  TemporaryFolder folder_;
};

/// Largest resident set of any child so far, GiB.
double peak_child_gib() {
  rusage usage{};
  getrusage(RUSAGE_CHILDREN, &usage);
  return static_cast<double>(usage.ru_maxrss) / (1 << 20);
}

TEST_F(RealInput, FullSizeMerlinEmbedsBothCtsWithinEightGiB) {
  expect_outcome(triphase("embed" + config() + " --out " + (folder_ / "e.h5").string()), 0, {"e.h5"});
  EXPECT_LE(peak_child_gib(), 8.0);
  for (const std::string side : {"image", "text"}) {
    const EmbeddingRows rows = read_rows(folder_ / "e.h5", side);
    EXPECT_EQ(rows.shape, (std::vector<std::int64_t>{2, 512}));
    for (const std::int64_t row : {0, 1}) EXPECT_NEAR(rows.squared_norm(row), 1.0, 1e-5) << side << " " << row;
  }
}

TEST_F(RealInput, TwoStepsOfPeftReduceAdapterBytesAndNothingElse) {
  const CommandResult plan = triphase("weights show --config " + (folder_ / "run.toml").string());
  expect_outcome(plan, 0, {"\nadapters 2,975,744 of 270,935,389 (1.098 %)\n", "\nlog-scale fixed\n"});
  expect_outcome(triphase("train" + config(), 2), 0, {});
  const std::vector<Json> lines = read_metrics(folder_ / "runs/run");
  ASSERT_EQ(lines.size(), 2U);
  for (const Json& line : lines) EXPECT_EQ(line.at("bytes_reduced").get<std::int64_t>(), 2'975'744 * 4);
}

}  // namespace
}  // namespace triphase::test
