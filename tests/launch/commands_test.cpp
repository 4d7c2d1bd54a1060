// SPDX-License-Identifier: Apache-2.0
// Commands as a user meets them: what they take, what they leave behind, what they say.
#include "base/parallel.hpp"
#include "tests/launch/program_fixture.hpp"

#include <algorithm>
#include <thread>
#include <utility>
#include <vector>

namespace triphase::test {
namespace {

namespace fs = std::filesystem;

/// The program with variables of the environment before it.
CommandResult triphase_with(const std::string& environment, const std::string& arguments, int num_ranks = 1) {
  const std::string launcher = num_ranks == 1 ? "" : "mpirun -np " + std::to_string(num_ranks) + " ";
  return run_command("env " + environment + " " + launcher + program_path().string() + " " + arguments);
}

std::int64_t count(const std::string& text, const std::string& word) {
  std::int64_t found = 0;
  for (std::size_t at = 0; (at = text.find(word, at)) != std::string::npos; ++at) ++found;
  return found;
}

TEST(CacheShow, ThePageShowsSlicesWithDirectionsAndNoIds) {
  const TemporaryFolder folder;
  const std::string page = (folder / "cache.html").string();
  expect_outcome(triphase("cache show --volumes 5 --html " + page + " " + tiny_cohort().cache().string()), 0, {"target"});
  const std::string html = read_text(page);
  EXPECT_EQ(count(html, "<section>"), 5);
  EXPECT_EQ(count(html, "data:image/png;base64,iVBORw0KGgo"), 15) << "three pictures each, with PNG's signature";
  EXPECT_EQ(count(html, "<b class=\"l\">R</b><b class=\"r\">L</b>"), 10) << "axial and coronal: right is at the left";
  EXPECT_EQ(count(html, "<b class=\"l\">A</b>"), 5);
  EXPECT_EQ(count(html, "://"), 0) << "nothing is fetched";
  std::string line = read_text(tiny_cohort().manifest());
  line = line.substr(line.find('\n') + 1);
  const std::string id = line.substr(0, line.find(','));
  EXPECT_EQ(count(html, id), 0) << id;
}

TEST(CacheBuild, TellsHowFarItIsAndEndsWithATable) {
  const TemporaryFolder folder;
  const std::string build = "cache build --preset phantom --set 'preprocess.volume_shape=[28,20,16]' --manifest " +
                            tiny_cohort().manifest().string() + " --out " + folder.path().string();
  const CommandResult first = triphase(build);
  expect_outcome(first, 0, {"cache volumes", "96/96 (100 %)", "/s"});
  const std::string gap(13, ' ');
  expect_outcome(first, 0, {"volumes " + gap, "built   " + gap, "skipped " + gap, "failed  " + gap, "bytes   ", "seconds "});
  EXPECT_EQ(count(triphase(build + "/quiet --quiet").output, "(100 %)"), 0);
}

TEST(CacheBuild, WhatIsSetForRunsDoesNoHarmAndWhatNothingReadsIsRefused) {
  const TemporaryFolder folder;
  const std::string build = "cache build --quiet --preset phantom --set 'preprocess.volume_shape=[28,20,16]' --manifest " +
                            tiny_cohort().manifest().string() + " --out " + (folder / "cache").string();
  expect_outcome(triphase_with("TRIPHASE__run__seed=1 TRIPHASE__optimizer__lr=1e-3",
                               build + " --set batch.global_pairs=8 --set model.max_text_tokens=128"),
                 0, {" built"});
  expect_outcome(triphase_with("TRIPHASE__preprocess__storage=float32", build + " --max-text-tokens 128"), 0,
                 {" built"});
  expect_outcome(triphase("cache show " + (folder / "cache").string()), 0, {"float32", "28"});
  expect_outcome(triphase_with("TRIPHASE__run__sede=1", build), 64, {"TRIPHASE__run__sede", "run.seed"});
  expect_outcome(triphase(build + " --set preproces.storage=float32"), 64, {"--set preproces", "preprocess"});
}

TEST(Weights, ShowAndConvertTakeRunCheckpointAndBest) {
  const TemporaryFolder folder;
  const fs::path file = write_run_file(folder.path(), "run", {{"schedule.max_steps", "1"}});
  expect_outcome(triphase("train --quiet --config " + file.string()), 0, {});
  const fs::path run = folder / "runs/run";
  const fs::path checkpoint = last_checkpoint(run);
  const std::string expected = triphase("weights show " + (checkpoint / "model.safetensors").string()).output;
  EXPECT_NE(expected.find("encode_image"), std::string::npos) << expected;
  for (const fs::path& path : {run, run / "checkpoints/best", checkpoint}) {
    EXPECT_EQ(triphase("weights show " + path.string()).output, expected) << path;
    const fs::path out = folder / "copy.safetensors";
    expect_outcome(triphase("weights convert " + path.string() + " --out " + out.string()), 0, {"copy.safetensors"});
    fs::remove(out);
  }
  expect_outcome(triphase("weights show " + folder.path().string()), 66, {"run folder", folder.path().string()});
  expect_outcome(triphase("weights show " + (folder / "none").string()), 66, {"none"});
}

TEST(Embed, LeavesNothingButItsFile) {
  const TemporaryFolder folder;
  const fs::path file = write_run_file(folder.path(), "run");
  expect_outcome(triphase("embed --quiet --split test --config " + file.string() + " --out " + (folder / "e.h5").string()),
                 0, {"e.h5"});
  EXPECT_TRUE(fs::exists(folder / "e.h5"));
  EXPECT_FALSE(fs::exists(folder / "runs"));
  expect_outcome(triphase("evaluate --quiet --config " + file.string() + " --out " + (folder / "e.json").string()), 0,
                 {"hcc"});
  EXPECT_TRUE(fs::exists(folder / "e.json"));
  EXPECT_FALSE(fs::exists(folder / "runs"));
}

TEST(Evaluate, WarnsOnceOnAnyNumberOfRanksOfWhatItDoesNotScore) {
  const TemporaryFolder folder;
  write_text(folder / "prompts.toml",
             "[[finding]]\nname = \"hcc\"\npositive = [\"carcinoma\"]\nnegative = [\"no carcinoma\"]\n"
             "[[finding]]\nname = \"fracture\"\npositive = [\"fracture\"]\nnegative = [\"no fracture\"]\n");
  const fs::path file = write_run_file(
      folder.path(), "run", {{"evaluate.prompts", "\"" + (folder / "prompts.toml").string() + "\""}});
  const CommandResult result = triphase("evaluate --quiet --config " + file.string(), 2);
  expect_outcome(result, 0, {"hcc", "'cirrhosis'", "'fracture'"});
  EXPECT_EQ(count(result.output, "warning not scored"), 2) << result.output;
}

TEST(Study, KeepsToTheTimeoutBackendAndEnvironmentOfItsRuns) {
  const TemporaryFolder folder;
  const fs::path base = write_run_file(folder.path(), "base", {{"schedule.max_steps", "2"}});
  write_text(folder / "study.toml", "[study]\nname = \"grid\"\noutput_dir = \"" + (folder / "runs").string() +
                                        "\"\nbase = [\"" + base.string() + "\"]\n[study.axes]\n\"run.seed\" = [0]\n");
  const std::string study = "study --quiet --config " + (folder / "study.toml").string();
  expect_outcome(triphase(study + " --dry-run --set study.axes.run.seed=[5]"), 0, {"s5", "missing", "1: 0 done"});
  expect_outcome(triphase_with("TRIPHASE__optimizer__rate=1", study), 64, {"TRIPHASE__optimizer__rate"});
  expect_outcome(triphase_with("TRIPHASE__distributed__backend=self", study, 2), 64, {"distributed.backend", "2 ranks"});
  // Rank 0 alone writes checkpoints: the other one waits for longer than a millisecond.
  expect_outcome(triphase_with("TRIPHASE__distributed__timeout_seconds=0.001", study, 2), 78, {});
}

TEST(CacheBuild, KeepsToTheTimeoutOfItsConfiguration) {
  const TemporaryFolder folder;
  const std::string build =
      "cache build --quiet --preset phantom --set 'preprocess.volume_shape=[28,20,16]' --manifest " +
      tiny_cohort().manifest().string() + " --out " + (folder / "cache").string();
  // A volume takes the other rank longer than half a millisecond.
  expect_outcome(triphase(build + " --set distributed.timeout_seconds=0.0005", 2), 78, {});
  expect_outcome(triphase(build, 2), 0, {});
}

TEST(Bench, EachRankKeepsToItsShareOfTheCores) {
  const TemporaryFolder folder;
  const fs::path out = folder / "step.json";
  const std::string step = "bench step --preset merlin_tiny --pairs 1 --volume 16,16,12 --iterations 1 --out " + out.string();
  expect_outcome(triphase_with("-u OMP_NUM_THREADS", step, 2), 0, {"forward"});
  // Fewer cores than the machine has: they are this process's own, not to be shared further.
  const int cores = available_cores();
  const bool is_bound = cores < static_cast<int>(std::thread::hardware_concurrency());
  EXPECT_EQ(read_json(out).at("threads"), is_bound ? cores : std::max(1, cores / 2));
  expect_outcome(triphase_with("OMP_NUM_THREADS=1", step), 0, {"forward"});
  EXPECT_EQ(read_json(out).at("threads"), 1);
}

TEST(Doctor, SaysWhatARunWouldUseAndWhereCudaAndNcclLie) {
  const CommandResult result = triphase("doctor", 2);
  expect_outcome(result, 0, {"a run here would use   the CPU, 2 ranks with 1 thread each, backend mpi", "NCCL library", "CUDA runtime"});
  EXPECT_EQ(result.output.find("changelog"), std::string::npos);
  for (const char* name : {"CUDA runtime", "NCCL library"}) {
    const std::string row = result.output.substr(result.output.find(name));
    const std::string line = row.substr(0, row.find('\n'));
    EXPECT_TRUE(line.find("not found: ") != std::string::npos || line.find(", /") != std::string::npos) << line;
  }
}

TEST(Train, WithoutAGpuNcclIsRefusedWithWhatToDo) {
  const TemporaryFolder folder;
  write_text(folder / "run.toml", "[distributed]\nbackend = \"nccl\"\n[batch]\nglobal_pairs = 4\n");
  for (const int num_ranks : {1, 2}) {
    const CommandResult result = triphase_with("CUDA_VISIBLE_DEVICES=", "train --config " + (folder / "run.toml").string(),
                                               num_ranks);
    expect_outcome(result, 71, {"distributed.backend is 'nccl'", "\"mpi\""});
    EXPECT_EQ(count(result.output, "CommError"), 1) << result.output;
  }
}

TEST(Phantom, TheCommandTakesWhatTheCohortTakes) {
  const TemporaryFolder folder;
  const std::string phantom = "phantom --quiet --size tiny --patients 18 --out " + (folder / "cohort").string();
  const std::vector<std::pair<std::string, std::string>> beyond{
      {"--lesion-min-mm", "1.9"}, {"--lesion-max-mm", "90.5"}, {"--lesion-contrast", "4.1"}, {"--patients", "1000001"}};
  for (const auto& [option, value] : beyond) {
    const bool is_patients = option == "--patients";
    const std::string words = is_patients ? "phantom --out " + (folder / "cohort").string() : phantom;
    expect_outcome(triphase(words + " " + option + " " + value), 64, {option, value});
  }
  EXPECT_FALSE(fs::exists(folder / "cohort"));
  expect_outcome(triphase(phantom + " --lesion-min-mm 2 --lesion-max-mm 90 --lesion-contrast 4"), 0, {"manifest.csv"});
}

}  // namespace
}  // namespace triphase::test
