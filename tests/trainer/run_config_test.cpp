// SPDX-License-Identifier: Apache-2.0
#include "trainer/run_config.hpp"

#include <cmath>
#include <limits>

#include "tests/support/test_support.hpp"

namespace triphase::trainer {
namespace {

using test::TemporaryFolder;

RunConfig from_sets(const std::vector<std::string>& sets) {
  return load_run_config({.files = {}, .environment = {}, .sets = sets});
}

/// One key, values that are taken, and values that are refused.
struct KeyCase {
  std::string key;
  std::vector<std::string> good;
  std::vector<std::string> bad;
};

std::vector<KeyCase> key_cases() {
  return {
      {"run.name", {"\"a\"", "\"a.b\""}, {"\"\"", "\"a/b\"", "\"..\"", "3"}},
      {"run.output_dir", {"\"out/deep\""}, {"\"\"", "1"}},
      {"run.seed", {"0", "9223372036854775807"}, {"-1", "1.5", "\"a b\""}},
      {"run.log_every_steps", {"1", "100"}, {"0", "-1", "true"}},
      {"run.max_seconds", {"0", "3600", "0.5"}, {"-1", "nan", "inf"}},
      {"data.cache", {"\"cache\""}, {"1"}},
      {"data.train_split", {"\"all\""}, {"\"\"", "[]"}},
      {"data.validation_split", {"\"\"", "\"v\""}, {"1"}},
      {"data.test_split", {"\"t\""}, {"1"}},
      {"data.sites", {"[]", "[\"a\", \"b\"]"}, {"\"a b\"", "[1]"}},
      {"data.report_sections", {"\"full\""}, {"\"none\""}},
      {"data.pairs", {"\"own\"", "\"shuffled\""}, {"\"random\"", "true"}},
      {"data.workers", {"1", "8"}, {"0", "1000"}},
      {"data.read_ahead_bytes", {"1", "8589934592"}, {"0", "-1"}},
      {"data.sampler", {"\"shuffle\"", "\"patient_distinct\"", "\"by_site\""}, {"\"site\"", "1"}},
      {"data.site_quota", {"\"proportional\""}, {"\"equal\"", "\"balanced\""}},
      {"data.site_temperature", {"1", "2.5"}, {"0.5", "nan"}},
      {"data.staging_dir", {"\"\"", "\"/scratch\""}, {"1"}},
      {"cache.compression", {"\"none\"", "\"zstd\""}, {"\"gzip\"", "true"}},
      {"data.augment.shift_voxels", {"0", "2.5"}, {"-1", "nan"}},
      {"data.augment.intensity_scale", {"0", "0.1"}, {"1", "-0.1"}},
      {"data.augment.intensity_offset", {"0", "0.1"}, {"-0.1", "inf"}},
      {"data.augment.noise_sigma", {"0.03"}, {"-1"}},
      {"model.preset", {"\"merlin_tiny\""}, {"\"merlin_huge\"", "1"}},
      {"model.weights", {"\"random\"", "\"a.safetensors\""}, {"\"\"", "1"}},
      {"model.allow_missing", {"[]", "[\"pooler\"]"}, {"\"pooler\"", "[\"(\"]"}},
      {"model.tokenizer", {"\"t\""}, {"1"}},
      {"model.max_text_tokens", {"2", "4096"}, {"1", "5000"}},
      {"model.text_preparation", {"\"wordpunct\"", "\"lower\""}, {"\"upper\"", "1"}},
      {"model.batch_norm", {"\"frozen\"", "\"local\"", "\"sync\""}, {"\"none\""}},
      {"adapt.method", {"\"full\"", "\"peft\""}, {"\"lora\"", "1"}},
      {"adapt.execution", {"\"two_path\"", "\"merged\""}, {"\"fused\"", "true"}},
      {"adapt.federated_steps", {"0", "8"}, {"-1", "true"}},
      {"adapt.train_heads", {"true"}, {"1"}},
      {"adapt.train_layer_norms", {"true"}, {"\"x y\""}},
      {"adapt.train_batch_norms", {"true"}, {"0"}},
      {"adapt.image.rank", {"0", "8"}, {"-1", "1.5"}},
      {"adapt.image.alpha", {"0.5"}, {"0", "-1", "nan"}},
      {"adapt.image.dropout", {"0", "0.5"}, {"1", "-0.1"}},
      {"adapt.image.rslora", {"true"}, {"1"}},
      {"adapt.image.targets", {"[\"conv2\"]"}, {"[]", "[\"\"]", "[\"(\"]", "\"conv 2\""}},
      {"adapt.image.rank_pattern",
       {"[]", "[\"conv2=4\"]", "[\"layer(?=3)=4\", \"a=b=4096\"]"},
       {"[\"conv2\"]", "[\"=4\"]", "[\"conv2=\"]", "[\"conv2=0\"]", "[\"conv2=1.5\"]",
        "[\"conv2=4097\"]", "[\"(=4\"]", "[\"conv2= 4\"]", "[4]", "\"conv2=4\""}},
      {"adapt.image.alpha_pattern",
       {"[\"conv2=0.5\"]", "[\"conv2=16\"]"},
       {"[\"conv2=0\"]", "[\"conv2=-1\"]", "[\"conv2=nan\"]", "[\"conv2=1e9\"]", "[\"conv2=x\"]"}},
      {"adapt.text.rank_pattern", {"[\"query=4\"]"}, {"[\"query=0\"]"}},
      {"adapt.text.alpha_pattern", {"[\"query=4.5\"]"}, {"[\"query=0\"]"}},
      {"adapt.text.rank", {"0", "8"}, {"-1"}},
      {"adapt.text.alpha", {"1"}, {"0"}},
      {"adapt.text.dropout", {"0.1"}, {"1"}},
      {"adapt.text.rslora", {"false"}, {"0"}},
      {"adapt.text.targets", {"[\"query\"]"}, {"[]"}},
      {"loss.kind", {"\"infonce\"", "\"siglip\""}, {"\"clip\""}},
      {"loss.temperature_init",
       {"0.01", "0.07", "1", "100"},
       {"0", "-0.07", "1e9", "0.001", "nan"}},
      {"loss.temperature_learnable", {"false"}, {"0"}},
      {"loss.scale_max", {"100", "1000"}, {"0.5", "inf"}},
      {"loss.negatives", {"\"global\"", "\"local\"", "\"site\""}, {"\"x\""}},
      {"loss.positives", {"\"pair\"", "\"patient\"", "\"text\""}, {"\"x\""}},
      {"loss.transport", {"\"gather\"", "\"ring\""}, {"\"x\""}},
      {"loss.phenotype_weight", {"0", "10"}, {"-1", "nan"}},
      {"batch.global_pairs", {"2", "64"}, {"1", "0", "-4"}},
      {"batch.micro_pairs", {"0", "16"}, {"-1", "64"}},
      {"optimizer.lr", {"1e-4"}, {"0", "-1", "11", "\"fast lane\""}},
      {"optimizer.weight_decay", {"0", "0.1"}, {"-0.1"}},
      {"optimizer.betas", {"[0.9, 0.95]"}, {"[0.9]", "[0.9, 1.0]", "0.9"}},
      {"optimizer.eps", {"1e-6"}, {"0"}},
      {"optimizer.grad_clip_norm", {"0", "1"}, {"-1"}},
      {"optimizer.lora_plus_ratio", {"1", "16"}, {"0"}},
      {"optimizer.lr_image", {"0", "1e-3"}, {"-1"}},
      {"optimizer.lr_text", {"1e-3"}, {"-1"}},
      {"optimizer.lr_heads", {"1e-3"}, {"-1"}},
      {"optimizer.lr_scale", {"1e-3"}, {"-1"}},
      {"schedule.kind", {"\"cosine\"", "\"constant\"", "\"linear\""}, {"\"step\""}},
      {"schedule.warmup_steps", {"0", "10"}, {"-1"}},
      {"schedule.max_steps", {"0", "10"}, {"-1"}},
      {"schedule.max_epochs", {"0", "10"}, {"-1"}},
      {"schedule.early_stop_patience", {"0", "3"}, {"-1"}},
      {"precision.compute", {"\"float32\"", "\"bfloat16\"", "\"float64\""}, {"\"float16\""}},
      {"precision.memory_format", {"\"contiguous\"", "\"channels_last_3d\""}, {"\"nhwc\""}},
      {"precision.recompute", {"\"none\"", "\"blocks\"", "\"stages\""}, {"\"all\""}},
      {"precision.deterministic", {"false"}, {"0"}},
      {"precision.device", {"\"auto\"", "\"cpu\"", "\"cuda\""}, {"\"gpu\"", "0"}},
      {"precision.tf32", {"true"}, {"1"}},
      {"distributed.backend", {"\"auto\"", "\"self\"", "\"mpi\"", "\"nccl\""}, {"\"gloo\""}},
      {"distributed.overlap", {"\"auto\"", "\"on\"", "\"off\""}, {"\"yes\"", "true"}},
      {"distributed.bucket_bytes", {"1024"}, {"0"}},
      {"distributed.reduction", {"\"fast\""}, {"\"ordered\"", "\"tree\""}},
      {"distributed.wire_dtype",
       {"\"gradient\"", "\"float32\"", "\"bfloat16\""},
       {"\"float16\"", "\"int8\""}},
      {"distributed.shard_optimizer", {"false", "true"}, {"1"}},
      {"distributed.timeout_seconds", {"30", "0.5"}, {"0", "-1"}},
      {"checkpoint.every_steps", {"0", "10"}, {"-1"}},
      {"checkpoint.keep_last", {"1"}, {"0"}},
      {"checkpoint.keep_best", {"\"\"", "\"validation_loss\"", "\"validation_recall_at_5\""},
       {"\"auc\"", "\"validation_\"", "\"validation_auc\"", "\"validation_hcc_auc\""}},
      {"evaluate.prompts", {"\"p.toml\""}, {"1"}},
      {"evaluate.every_epochs", {"0", "2"}, {"-1"}},
      {"evaluate.every_steps", {"0", "5"}, {"-1"}},
      {"evaluate.threshold", {"\"youden\"", "\"f1\""}, {"\"half\""}},
      {"evaluate.bootstrap_samples", {"0", "1000"}, {"-1"}},
      {"evaluate.linear_probe", {"false"}, {"1"}},
      {"evaluate.batch_size", {"1"}, {"0"}},
      {"evaluate.scoring", {"\"softmax\""}, {"\"sum\""}},
      {"evaluate.report_probe", {"false"}, {"1"}},
      {"evaluate.k_shot", {"[]", "[1, 5]"}, {"[0]", "[4, 4]", "[4, 1]"}},
      {"evaluate.k_shot_repeats", {"1"}, {"0"}},
      {"evaluate.sites", {"[\"*\"]"}, {"1"}},
      {"evaluate.manifest", {"\"m.csv\""}, {"1"}},
      {"evaluate.subgroups", {"[]"}, {"[\"sex\"]"}},
      {"preprocess.preset", {"\"merlin\"", "\"ct_clip\"", "\"phantom\""}, {"\"x\""}},
      {"preprocess.spacing_mm", {"[1, 1, 2.5]"}, {"[1, 1]", "[1, 1, 0]", "[1, 1, nan]"}},
      {"preprocess.volume_shape", {"[16, 16, 8]"}, {"[16, 16]", "[16, 16, 0]", "[1.5, 2, 2]"}},
      {"preprocess.window_hu", {"[-150, 250]"}, {"[250, -150]", "[1]"}},
      {"preprocess.output_range", {"[-1, 1]"}, {"[1, 1]"}},
      {"preprocess.storage", {"\"float32\""}, {"\"int8\""}},
      {"preprocess.padding", {"0.5", "1"}, {"-0.5", "nan", "\"air\""}},
      {"preprocess.resampling", {"\"torch_interpolate\""}, {"\"nearest\""}},
      {"preprocess.orientation", {"\"stored\"", "\"ras\""}, {"\"lps\""}},
  };
}

TEST(RunConfig, EveryKeyTakesItsValuesAndRefusesOthersByPlace) {
  const TemporaryFolder folder;
  for (const KeyCase& each : key_cases()) {
    for (const std::string& value : each.good)
      EXPECT_NO_THROW(from_sets({each.key + "=" + value})) << each.key << " = " << value;
    for (const std::string& value : each.bad) {
      SCOPED_TRACE(each.key + " = " + value);
      test::write_text(folder / "run.toml", "# first line\n" + each.key + " = " + value + "\n");
      const std::string table = each.key.substr(0, each.key.rfind('.'));
      test::expect_error<ConfigError>(
          [&] {
            static_cast<void>(
                load_run_config({.files = {folder / "run.toml"}, .environment = {}, .sets = {}}));
          },
          ExitCode::kUsage, {"run.toml:2:", each.key});
    }
  }
}

TEST(RunConfig, AnUnknownKeyIsRefusedWithTheNearestOne) {
  for (const KeyCase& each : key_cases()) {
    const std::string wrong = each.key + "q";
    test::expect_error<ConfigError>([&] { static_cast<void>(from_sets({wrong + "=1"})); },
                                    ExitCode::kUsage,
                                    {wrong, each.key.substr(0, each.key.size() - 1)});
  }
}

TEST(RunConfig, ResolvedFileGivesTheSameRun) {
  const TemporaryFolder folder;
  const RunConfig first =
      from_sets({"adapt.method=peft", "schedule.max_steps=9", "data.sites=[\"a\"]",
                 "preprocess.preset=phantom", "loss.phenotype_weight=2"});
  test::write_text(folder / "config.toml", first.resolved_toml);
  const RunConfig second =
      load_run_config({.files = {folder / "config.toml"}, .environment = {}, .sets = {}});
  EXPECT_EQ(first.resolved_toml, second.resolved_toml);
  EXPECT_EQ(second.adapt.method, "peft");
  EXPECT_EQ(second.schedule.max_steps, 9);
  EXPECT_TRUE(second.preprocess.has_value());
  EXPECT_TRUE(second.adapt.train_phenotype_head);
}

TEST(RunConfig, CombinationsThatCannotWorkAreRefused) {
  const auto refuses = [](const std::vector<std::string>& sets, const std::string& word) {
    test::expect_error<ConfigError>([&] { static_cast<void>(from_sets(sets)); }, ExitCode::kUsage,
                                    {word});
  };
  refuses({"schedule.max_steps=5", "schedule.max_epochs=5"}, "schedule.max_steps");
  refuses({"schedule.max_steps=5", "schedule.warmup_steps=6"}, "schedule.warmup_steps");
  refuses({"data.augment.text_drop=0.5"}, "model.tokenizer");
  refuses({"data.site_quota=temperature", "data.sampler=patient_distinct"}, "'by_site'");
  refuses({"schedule.early_stop_patience=2", "evaluate.every_epochs=0"}, "evaluate.every_epochs");
  refuses({"checkpoint.keep_best=validation_auc"}, "evaluate.prompts");
  refuses({"adapt.method=peft", "adapt.image.rank=0", "adapt.text.rank=0",
           "loss.temperature_learnable=false"},
          "nothing else trains");
  EXPECT_NO_THROW(from_sets({"adapt.method=peft", "adapt.image.rank=0", "adapt.text.rank=0",
                             "loss.temperature_learnable=false", "loss.kind=siglip"}));
  refuses({"loss.bias_init=-5"}, "'infonce', which has no bias");
  refuses({"loss.kind=siglip", "loss.bias_init=nan"}, "loss.bias_init");
  refuses({"loss.transport=ring", "loss.negatives=local"}, "no text leaves its rank");
  refuses({"adapt.execution=merged", "adapt.text.dropout=0.1"}, "adapt.text.dropout");
  refuses({"adapt.execution=merged", "precision.compute=bfloat16"}, "two_path");
  EXPECT_NO_THROW(
      from_sets({"adapt.execution=merged", "adapt.text.dropout=0.1", "adapt.text.rank=0"}));
  EXPECT_NO_THROW(from_sets({"checkpoint.keep_best=validation_auc", "evaluate.prompts=p.toml"}));
}

TEST(RunConfig, OrderedSumsNeedATreeAndNothingThatDependsOnTheRanks) {
  const std::vector<std::string> ordered{"distributed.reduction=ordered", "batch.micro_pairs=2",
                                         "batch.global_pairs=16"};
  const auto with = [&](const std::string& set) {
    std::vector<std::string> sets = ordered;
    sets.push_back(set);
    return from_sets(sets);
  };
  EXPECT_EQ(from_sets(ordered).distributed.reduction, "ordered");
  for (const auto& [set, word] : std::vector<std::pair<std::string, std::string>>{
           {"batch.micro_pairs=0", "batch.micro_pairs is 0"},
           {"model.batch_norm=local", "Use 'frozen'"},
           {"model.batch_norm=sync", "Use 'frozen'"},
           {"loss.negatives=local", "other pairs"},
           {"distributed.overlap=on", "after backward"},
           {"distributed.shard_optimizer=true", "rank by rank"},
           {"distributed.wire_dtype=bfloat16", "rounds"}})
    test::expect_error<ConfigError>([&] { static_cast<void>(with(set)); }, ExitCode::kUsage,
                                    {"distributed.reduction", "'ordered'", word});
  const auto expect_no_tree = [&](const std::string& set, int num_ranks) {
    test::expect_error<ConfigError>(
        [&] { static_cast<void>(pairs_per_rank(with(set), num_ranks)); }, ExitCode::kUsage,
        {"complete binary tree"});
  };
  for (const int num_ranks : {1, 2, 4, 8})
    EXPECT_EQ(pairs_per_rank(from_sets(ordered), num_ranks), 16 / num_ranks);
  expect_no_tree("batch.micro_pairs=2", 16);   // more ranks than micro batches
  expect_no_tree("batch.micro_pairs=3", 1);    // does not divide
  expect_no_tree("batch.global_pairs=12", 1);  // six micro batches
  expect_no_tree("batch.global_pairs=12", 3);
}

TEST(RunConfig, ShareOfASiteFollowsItsQuota) {
  const auto power = [](std::vector<std::string> sets) {
    sets.emplace_back("data.sampler=by_site");
    const RunConfig config = from_sets(sets);
    EXPECT_EQ(config.data.sampler.mode, data::SamplerOptions::Mode::kBySite);
    return config.data.sampler.site_power;
  };
  EXPECT_EQ(power({}), 1);
  EXPECT_EQ(power({"data.site_quota=balanced"}), 0);
  EXPECT_EQ(power({"data.site_quota=temperature", "data.site_temperature=4"}), 0.25);
  EXPECT_EQ(from_sets({"data.sampler=patient_distinct"}).data.sampler.mode,
            data::SamplerOptions::Mode::kPatientDistinct);
  EXPECT_EQ(from_sets({}).data.sampler.mode, data::SamplerOptions::Mode::kShuffle);
}

TEST(RunConfig, PatternsAreDividedAtTheLastEqualsSign) {
  const RunConfig config = from_sets({R"(adapt.image.rank_pattern=["layer(?=4)=16", "conv2=4"])",
                                      R"(adapt.text.alpha_pattern=["query=2.5"])"});
  using Ranks = std::vector<std::pair<std::string, std::int64_t>>;
  using Alphas = std::vector<std::pair<std::string, double>>;
  EXPECT_EQ(config.adapt.image.rank_pattern, (Ranks{{"layer(?=4)", 16}, {"conv2", 4}}));
  EXPECT_EQ(config.adapt.text.alpha_pattern, (Alphas{{"query", 2.5}}));
  EXPECT_TRUE(config.adapt.image.alpha_pattern.empty());
}

TEST(RunConfig, TemperatureHasItsDeclaredMeaning) {
  const auto log_scale = [](double value, const std::string& as, double scale_max = 100) {
    LossOptions loss;
    loss.temperature_init = value;
    loss.temperature_init_as = as;
    loss.scale_max = scale_max;
    return initial_log_scale(loss);
  };
  EXPECT_DOUBLE_EQ(log_scale(0.07, "temperature"), std::log(1 / 0.07));
  EXPECT_DOUBLE_EQ(log_scale(14.3, "scale"), std::log(14.3));
  EXPECT_DOUBLE_EQ(log_scale(1.0, "log_scale"),
                   1.0);  // Merlin's own first value: temperature 0.368
  EXPECT_LE(log_scale(0.01, "temperature"), std::log(100.0));
  EXPECT_DOUBLE_EQ(log_scale(0.001, "temperature", 1000), std::log(1000.0));
  for (const auto& [value, as] : std::vector<std::pair<double, std::string>>{
           {0.0, "temperature"},
           {-1.0, "temperature"},
           {0.009, "temperature"},
           {101.0, "scale"},
           {0.0, "scale"},
           {4.7, "log_scale"},
           {std::numeric_limits<double>::infinity(), "log_scale"}})
    test::expect_error<ConfigError>([&] { static_cast<void>(log_scale(value, as)); },
                                    ExitCode::kUsage, {"temperature_init"});
}

TEST(RunConfig, TheSigmoidLossStartsAtAScaleOfTenAndABiasOfMinusTen) {
  const RunConfig siglip = from_sets({"loss.kind=siglip"});
  EXPECT_NEAR(initial_log_scale(siglip.loss), std::log(10), 1e-12);
  EXPECT_EQ(siglip.loss.bias_init, -10);
  EXPECT_EQ(from_sets({"loss.kind=siglip", "loss.bias_init=-5"}).loss.bias_init, -5);
  EXPECT_EQ(from_sets({"loss.kind=siglip", "loss.temperature_init=0.05"}).loss.temperature_init,
            0.05);
  EXPECT_EQ(from_sets({}).loss.temperature_init, 0.07);
  for (const char* kind : {"infonce", "siglip"}) {  // what is resolved can be read again
    const std::string resolved = from_sets({str("loss.kind=", kind)}).resolved_toml;
    EXPECT_EQ(resolved.find("bias_init") != std::string::npos, std::string(kind) == "siglip");
    const TemporaryFolder folder;
    test::write_text(folder / "config.toml", resolved);
    EXPECT_EQ(load_run_config({.files = {folder / "config.toml"}, .environment = {}, .sets = {}})
                  .resolved_toml,
              resolved);
  }
}

TEST(RunConfig, PairsAreSharedEvenlyOrNotAtAll) {
  RunConfig config;
  config.batch.global_pairs = 12;
  for (const int num_ranks : {1, 2, 3, 4, 6, 12})
    EXPECT_EQ(pairs_per_rank(config, num_ranks), 12 / num_ranks);
  for (const int num_ranks : {5, 7, 24})
    test::expect_error<ConfigError>([&] { static_cast<void>(pairs_per_rank(config, num_ranks)); },
                                    ExitCode::kUsage,
                                    {"global_pairs", "12", std::to_string(num_ranks)});
  config.batch.micro_pairs = 4;
  config.model.batch_norm = "sync";
  EXPECT_EQ(pairs_per_rank(config, 3), 4);
  test::expect_error<ConfigError>([&] { static_cast<void>(pairs_per_rank(config, 2)); },
                                  ExitCode::kUsage, {"model.batch_norm", "micro batches of 4"});
  for (const char* batch_norm : {"frozen", "local"}) {
    config.model.batch_norm = batch_norm;
    EXPECT_EQ(pairs_per_rank(config, 2), 6);
  }
}

TEST(PreprocessTable, StartsFromThePresetGiven) {
  ConfigReader reader(
      {.files = {}, .environment = {}, .sets = {"preprocess.volume_shape=[8, 9, 10]"}});
  const data::PreprocessOptions options = read_preprocess_table(reader, "phantom");
  EXPECT_EQ(options.preset, "phantom");
  EXPECT_EQ(options.volume_shape, (data::Shape3{8, 9, 10}));
  EXPECT_EQ(options.spacing_mm, data::preprocess_preset("phantom").spacing_mm);
}

}  // namespace
}  // namespace triphase::trainer
