// SPDX-License-Identifier: Apache-2.0
// What a run refuses before its first step, or ends with on every rank.
#include "base/hash.hpp"
#include "base/json.hpp"
#include "dist/runtime.hpp"
#include "tests/trainer/run_fixture.hpp"

namespace triphase::test {
namespace {

namespace fs = std::filesystem;

/// Runs on `num_ranks` thread ranks; expects the same kind of end on each.
void expect_end(const trainer::RunConfig& config, int num_ranks, ExitCode code,
                std::initializer_list<std::string> words, const std::string& resume = "never") {
  expect_error<Error>(
      [&] {
        on_thread_ranks(num_ranks, [&](dist::ProcessGroup& group) {
          expect_error<Error>([&] { run_once(config, group, {.resume = resume}); }, code, words);
          if (group.rank() == 0) throw Error("Ended", "", code);
        });
      },
      code, {});
}

TEST(BadStart, ACacheOfAnotherSpecificationIsRefused) {
  const TemporaryFolder folder;
  expect_end(tiny_run(folder.path(), {{"preprocess.volume_shape", "[16, 16, 16]"}}), 2,
             ExitCode::kBadData, {"volume_shape"});
  expect_end(tiny_run(folder.path(), {{"model.max_text_tokens", "8"}}), 2, ExitCode::kBadData,
             {"model.max_text_tokens", "64"});
  expect_end(tiny_run(folder.path(), {{"data.cache", "\"nowhere\""}}), 2, ExitCode::kMissingInput,
             {"nowhere"});
  EXPECT_FALSE(fs::exists(folder / "run/metrics.jsonl"));
}

TEST(BadStart, ACheckpointOfAnotherModelIsRefused) {
  const auto self = dist::make_self_group();
  const TemporaryFolder folder;
  run_once(tiny_run(folder.path(), {{"adapt.method", "\"peft\""}, {"run.name", "\"other\""}}),
           *self);
  const std::string other = (folder / "other").string();
  expect_end(tiny_run(folder.path(), {{"model.preset", "\"merlin_small\""}}), 2, ExitCode::kBadData,
             {"another model", "merlin_tiny"}, other);
  expect_end(tiny_run(folder.path(), {{"adapt.method", "\"full\""}}), 2, ExitCode::kBadData,
             {"another model"}, other);
  expect_end(tiny_run(folder.path(), {{"adapt.method", "\"peft\""}, {"adapt.image.rank", "3"}}), 2,
             ExitCode::kBadData, {"another model", "lora_A"}, other);
}

TEST(BadStart, ACheckpointOfOtherDataIsRefused) {
  const auto self = dist::make_self_group();
  const TemporaryFolder folder;
  run_once(tiny_run(folder.path(), {{"run.name", "\"other\""}}), *self);
  const std::string other = (folder / "other").string();
  const std::vector<std::pair<Settings, std::string>> changes{
      {{{"batch.global_pairs", "8"}}, "batch.global_pairs"},
      {{{"data.train_split", "\"validation\""}}, "data.train_split"},
      {{{"data.sites", "[\"south\"]"}}, "data.sites"}};
  for (const auto& [change, word] : changes)
    expect_end(tiny_run(folder.path(), change), 2, ExitCode::kBadData, {word}, other);
}

TEST(BadStart, PairsThatDoNotDivideAreRefused) {
  const TemporaryFolder folder;
  expect_end(tiny_run(folder.path(), {{"batch.global_pairs", "5"}}), 2, ExitCode::kUsage,
             {"global_pairs", "5", "2"});
  expect_end(tiny_run(folder.path(), {{"batch.micro_pairs", "2"}, {"model.batch_norm", "\"sync\""}}),
             2, ExitCode::kUsage, {"batch.micro_pairs", "'sync'"});
  expect_end(tiny_run(folder.path(), {{"batch.global_pairs", "20"}}), 2, ExitCode::kUsage,
             {"global_pairs", "18"});
}

TEST(BadStart, AnEmptySplitOrAMissingLengthIsRefused) {
  const TemporaryFolder folder;
  expect_end(tiny_run(folder.path(), {{"data.train_split", "\"training\""}}), 2, ExitCode::kBadData,
             {"training", "validation"});
  expect_end(tiny_run(folder.path(), {{"schedule.max_steps", ""}}), 1, ExitCode::kUsage,
             {"schedule.max_steps"});
}

TEST(BadStart, AnOutputFolderThatCannotBeMadeIs73) {
  const TemporaryFolder folder;
  write_text(folder / "file", "");
  expect_end(tiny_run(folder / "file/runs"), 2, ExitCode::kCannotCreateOutput, {"file/runs"});
}

TEST(BadStart, AFolderThatHoldsARunIsNotOverwritten) {
  const auto self = dist::make_self_group();
  const TemporaryFolder folder;
  run_once(tiny_run(folder.path()), *self);
  const std::string before = read_text(folder / "run/metrics.jsonl");
  expect_end(tiny_run(folder.path()), 2, ExitCode::kUsage, {"run'", "--resume auto", "run.name"});
  run_once(tiny_run(folder.path(), {{"run.name", "\"other\""}}), *self);
  expect_end(tiny_run(folder.path()), 1, ExitCode::kUsage, {"--resume auto"},
             (folder / "other").string());
  EXPECT_EQ(read_text(folder / "run/metrics.jsonl"), before);
}

TEST(BadStart, LogsAndEvaluationsAreNoRun) {
  const auto self = dist::make_self_group();
  const TemporaryFolder folder;
  fs::create_directories(folder / "run/logs");
  fs::create_directories(folder / "run/evaluation");
  EXPECT_EQ(run_once(tiny_run(folder.path()), *self).losses.size(), 8U);
}

TEST(BadStart, OneRankThatCannotReadItsShardEndsAll) {
  const TinyCache cache(2);
  const fs::path shard = cache.cache() / "shard-00000.h5";
  const std::string bytes = read_text(shard);
  std::string damaged = bytes;
  for (std::size_t i = bytes.size() / 2; i < bytes.size() * 3 / 4; i += 64)
    damaged[i] = static_cast<char>(damaged[i] ^ 1);
  const TemporaryFolder folder;
  const trainer::RunConfig config =
      tiny_run(folder.path(), {{"data.validation_split", "\"\""}}, cache);
  write_text(shard, damaged);
  expect_end(config, 2, ExitCode::kBadData, {"shard-00000.h5"});
}

TEST(BadStart, RanksThatWereToldDifferentThingsSayWhat) {
  const TemporaryFolder folder;
  const trainer::RunConfig one = tiny_run(folder.path(), {{"optimizer.lr", "1e-3"}});
  const trainer::RunConfig other = tiny_run(folder.path(), {{"optimizer.lr", "2e-3"}});
  on_thread_ranks(2, [&](dist::ProcessGroup& group) {
    expect_error<dist::AgreedError>([&] { run_once(group.rank() == 0 ? one : other, group); },
                                    ExitCode::kCommunication, {"configuration", "lr"});
  });
}

/// Rank 1 runs with `change`, of which its configuration says nothing: as when a file, a build or an
/// environment differs between hosts.
void expect_difference(const Settings& settings, const Settings& change, const TinyCache& cache,
                       std::initializer_list<std::string> words) {
  const TemporaryFolder folder;
  const trainer::RunConfig one = tiny_run(folder.path(), settings);
  Settings changed = settings;
  for (const auto& [key, value] : change) changed[key] = value;
  trainer::RunConfig other = tiny_run(folder.path(), changed, cache);
  other.resolved_toml = one.resolved_toml;
  on_thread_ranks(2, [&](dist::ProcessGroup& group) {
    expect_error<dist::AgreedError>([&] { run_once(group.rank() == 0 ? one : other, group); },
                                    ExitCode::kCommunication, words);
  });
}

TEST(BadStart, RanksCompareSeedDataWeightsParametersAndBuckets) {
  const Settings peft{{"adapt.method", "\"peft\""}};
  const TemporaryFolder folder;
  const trainer::RunConfig one = tiny_run(folder.path());
  const trainer::RunConfig other_seed = tiny_run(folder.path(), {{"run.seed", "8"}});
  on_thread_ranks(2, [&](dist::ProcessGroup& group) {
    expect_error<dist::AgreedError>([&] { run_once(group.rank() == 0 ? one : other_seed, group); },
                                    ExitCode::kCommunication, {"configuration", "seed"});
  });
  expect_difference(peft, {}, companions_cache(), {"the hash of the data"});
  expect_difference(peft, {{"run.seed", "8"}}, tiny_cache(), {"the hash of the weights"});
  expect_difference(peft, {{"adapt.train_layer_norms", "true"}}, tiny_cache(),
                    {"the trainable parameters"});
  expect_difference(peft, {{"distributed.bucket_bytes", "1024"}}, tiny_cache(),
                    {"the trainable parameters", "bucket"});
}

TEST(BadStart, ThePhenotypeLossNeedsLabelsThatFitTheHead) {
  const TemporaryFolder folder;
  const trainer::RunConfig config = tiny_run(folder.path(), {{"loss.phenotype_weight", "1"}});
  models::TwoTowerOptions model = models::model_preset("merlin_tiny");
  model.image.num_phenotypes = 1;
  expect_error<ConfigError>([&] { static_cast<void>(trainer::open_train_data(config, model)); },
                            ExitCode::kUsage, {"2 label columns", "phenotype head"});
}

TEST(BadStart, PromptsWithoutAnyLabelColumnAreRefused) {
  const TemporaryFolder folder;
  write_text(folder / "prompts.toml",
             "[[finding]]\nname = \"fracture\"\npositive = [\"fracture\"]\nnegative = [\"no "
             "fracture\"]\n");
  expect_end(tiny_run(folder.path(),
                      {{"evaluate.prompts", "\"" + (folder / "prompts.toml").string() + "\""}}),
             2, ExitCode::kBadData, {"prompts.toml", "hcc"});
}

}  // namespace
}  // namespace triphase::test
