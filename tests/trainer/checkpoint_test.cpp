// SPDX-License-Identifier: Apache-2.0
#include "trainer/checkpoint.hpp"

#include <ATen/ATen.h>
#include <unistd.h>

#include <algorithm>

#include "base/hash.hpp"
#include "base/json.hpp"
#include "models/weights.hpp"
#include "tests/trainer/run_fixture.hpp"
#include "trainer/build_model.hpp"

namespace triphase::test {
namespace {

namespace fs = std::filesystem;
using trainer::RunConfig;

/// A trained tiny run whose only checkpoint is `folder()`.
struct Trained {
  explicit Trained(const Settings &settings) {
    Settings all = settings;
    all["schedule.max_steps"] = "2";
    all["schedule.warmup_steps"] = "0";
    config = tiny_run(output.path(), all);
    record = run_once(config, *group);
  }
  [[nodiscard]] fs::path folder() const { return record.result.last_checkpoint; }
  [[nodiscard]] fs::path checkpoints() const { return folder().parent_path(); }

  TemporaryFolder output;
  std::unique_ptr<dist::ProcessGroup> group = dist::make_self_group();
  RunConfig config;
  RunRecord record;
};

const Settings kFull{{"adapt.method", "\"full\""}};
const Settings kPeft{
    {"adapt.method", "\"peft\""}, {"adapt.image.rank", "2"}, {"adapt.train_layer_norms", "true"}};

TEST(Checkpoint, LoadsBackTheSameBitsIntoABareModel) {
  for (const Settings &settings : {kFull, kPeft}) {
    for (const std::string compute : {"\"float32\"", "\"float64\""}) {
      Settings all = settings;
      all["precision.compute"] = compute;
      all["precision.memory_format"] = "\"channels_last_3d\"";
      const Trained trained(all);
      models::TwoTower model = trainer::build_base_model(trained.config);
      if (compute == "\"float64\"") trainer::apply_precision(model, trained.config);
      trainer::TrainState state;
      trainer::read_checkpoint(trained.folder(), model, nullptr, &state);
      EXPECT_EQ(state.step, 2);
      EXPECT_EQ(state.pairs_seen, 12);
      expect_same(copy_weights(model), trained.record.weights);
    }
  }
}

TEST(Checkpoint, PeftHoldsLittleAndFullHoldsAll) {
  const Trained full(kFull);
  const Trained peft(kPeft);
  const auto count = [](const Trained &trained) {
    return models::read_safetensors(trained.folder() / "model.safetensors").tensors.size();
  };
  EXPECT_EQ(count(full), full.record.weights.size());
  EXPECT_LT(count(peft), count(full) / 2);
  EXPECT_TRUE(fs::exists(peft.folder() / "adapter/adapter_config.json"));
  EXPECT_TRUE(fs::exists(peft.folder() / "adapter/adapter_model.safetensors"));
  EXPECT_FALSE(fs::exists(full.folder() / "adapter"));
}

TEST(Checkpoint, HoldsTheLogScaleEvenWhereItDoesNotLearn) {
  for (const Settings &settings : {kFull, kPeft}) {
    Settings fixed = settings;
    fixed["loss.temperature_learnable"] = "false";
    const Trained trained(fixed);
    const auto saved = models::read_safetensors(trained.folder() / "model.safetensors").tensors;
    EXPECT_EQ(std::ranges::count(saved, "logit_scale", [](const auto &pair) { return pair.first; }),
              1);
  }
}

TEST(Checkpoint, HoldsTheBiasOfTheSigmoidLossAndOfNoOther) {
  const auto num_biases = [](const Trained &trained) {
    const auto saved = models::read_safetensors(trained.folder() / "model.safetensors").tensors;
    return std::ranges::count(saved, "logit_bias", [](const auto &pair) { return pair.first; });
  };
  for (Settings settings : {kFull, kPeft}) {
    EXPECT_EQ(num_biases(Trained(settings)), 0);
    settings["loss.kind"] = "\"siglip\"";
    settings["loss.temperature_learnable"] = "false";
    const Trained siglip(settings);
    EXPECT_EQ(num_biases(siglip), 1);
    const at::Tensor bias = siglip.record.weights.at("logit_bias");
    EXPECT_NE(bias.item<double>(), -10);  // it learns, whatever the log-scale does
    models::TwoTower model = trainer::build_base_model(siglip.config);
    trainer::read_checkpoint(siglip.folder(), model, nullptr, nullptr);
    expect_same(copy_weights(model), siglip.record.weights);

    // The base of another run, whose bias is its own.
    const RunConfig next = tiny_run(
        siglip.output.path(), {{"model.weights", "\"" + siglip.config.run_dir() + "\""}});
    EXPECT_FALSE(trainer::build_base_model(next)->logit_bias().defined());

    // A run cannot go on with another loss.
    Settings other = settings;
    other.erase("loss.kind");
    other["schedule.max_steps"] = "4";
    const RunConfig changed = tiny_run(siglip.output.path(), other);
    expect_error<dist::AgreedError>(
        [&] { run_once(changed, *siglip.group, {.resume = "auto"}); }, ExitCode::kBadData,
        {"loss.kind is 'siglip' there"});
  }
}

TEST(Checkpoint, AnyFlippedByteIsFoundAndItsFileNamed) {
  const Trained trained(kPeft);
  trainer::verify_checkpoint(trained.folder());
  std::int64_t num_files = 0;
  for (const auto &entry : fs::recursive_directory_iterator(trained.folder())) {
    if (!entry.is_regular_file()) continue;
    ++num_files;
    const std::string bytes = read_text(entry.path());
    for (const std::size_t at : {std::size_t{0}, bytes.size() / 2, bytes.size() - 1}) {
      std::string damaged = bytes;
      damaged[at] = static_cast<char>(damaged[at] ^ 1);
      write_text(entry.path(), damaged);
      expect_error<CheckpointError>([&] { trainer::verify_checkpoint(trained.folder()); },
                                    ExitCode::kBadData, {entry.path().filename().string()});
    }
    write_text(entry.path(), bytes.substr(0, bytes.size() - 1));
    expect_error<CheckpointError>([&] { trainer::verify_checkpoint(trained.folder()); },
                                  ExitCode::kBadData, {entry.path().filename().string()});
    write_text(entry.path(), bytes);
  }
  EXPECT_EQ(num_files, 8);
  trainer::verify_checkpoint(trained.folder());
}

TEST(Checkpoint, AMissingFileIsNamed) {
  const Trained trained(kFull);
  for (const std::string name :
       {"model.safetensors", "optimizer.safetensors", "state.json", "config.toml"}) {
    fs::rename(trained.folder() / name, trained.output / "aside");
    expect_error<CheckpointError>([&] { trainer::verify_checkpoint(trained.folder()); },
                                  ExitCode::kBadData, {name});
    fs::rename(trained.output / "aside", trained.folder() / name);
  }
  fs::remove(trained.folder() / "COMPLETE");
  expect_error<CheckpointError>([&] { trainer::verify_checkpoint(trained.folder()); },
                                ExitCode::kMissingInput, {"COMPLETE"});
  expect_error<CheckpointError>([&] { trainer::verify_checkpoint(trained.output / "nowhere"); },
                                ExitCode::kMissingInput, {"nowhere"});
}

TEST(Checkpoint, AManifestThatPointsOutsideIsRefused) {
  const Trained trained(kFull);
  for (const std::string name : {"../secret", "/etc/hostname", "a/../../b"}) {
    Json manifest = read_json(trained.folder() / "manifest.json");
    manifest["files"][0]["name"] = name;
    write_json(trained.folder() / "manifest.json", manifest);
    write_text(trained.folder() / "COMPLETE",
               hex64(hash_file(trained.folder() / "manifest.json")) + "\n");
    expect_error<CheckpointError>([&] { trainer::verify_checkpoint(trained.folder()); },
                                  ExitCode::kBadData, {name});
  }
}

TEST(Checkpoint, TheNewestUndamagedOneIsFound) {
  const Trained trained(kFull);
  const fs::path later = trained.checkpoints() / trainer::checkpoint_name(3);
  const fs::path unfinished = trained.checkpoints() / trainer::checkpoint_name(4);
  fs::copy(trained.folder(), later, fs::copy_options::recursive);
  fs::create_directory(unfinished);
  std::vector<std::string> warnings;
  const auto warn = [&](const std::string &line) { warnings.push_back(line); };
  EXPECT_EQ(trainer::newest_checkpoint(trained.checkpoints(), warn), later);
  EXPECT_EQ(warnings.size(), 1U);
  write_text(later / "state.json", "{}");
  warnings.clear();
  EXPECT_EQ(trainer::newest_checkpoint(trained.checkpoints(), warn), trained.folder());
  ASSERT_EQ(warnings.size(), 2U);
  EXPECT_NE(warnings[1].find("state.json"), std::string::npos);
  EXPECT_EQ(trainer::newest_checkpoint(trained.output / "nowhere", warn), std::nullopt);
}

TEST(Checkpoint, PruningKeepsTheNewestAndTheNamedAndRemovesLeftovers) {
  const Trained trained(kFull);
  for (std::int64_t step = 3; step <= 7; ++step)
    fs::copy(trained.folder(), trained.checkpoints() / trainer::checkpoint_name(step),
             fs::copy_options::recursive);
  fs::create_directory(trained.checkpoints() / trainer::checkpoint_name(8));  // no COMPLETE
  fs::create_directory(trained.checkpoints() / ".tmp-step_00000009-1");
  write_text(trained.checkpoints() / "note.txt", "mine");
  trainer::prune_checkpoints(trained.checkpoints(), 2, {trainer::checkpoint_name(3)});
  std::vector<std::string> left;
  for (const auto &entry : fs::directory_iterator(trained.checkpoints()))
    left.push_back(entry.path().filename().string());
  std::sort(left.begin(), left.end());
  EXPECT_EQ(left, (std::vector<std::string>{"best", "note.txt", "step_00000003", "step_00000006",
                                            "step_00000007"}));
}

TEST(Checkpoint, OfAnotherModelIsRefusedWithTheDifferences) {
  const Trained full(kFull);
  const Trained peft(kPeft);
  const auto refuses = [](const fs::path &folder, models::TwoTower model,
                          std::initializer_list<std::string> words) {
    expect_error<CheckpointError>(
        [&] { trainer::read_checkpoint(folder, model, nullptr, nullptr); }, ExitCode::kBadData,
        words);
  };
  refuses(full.folder(), models::TwoTower(models::model_preset("merlin_small")),
          {"another model", "merlin_tiny", "merlin_small"});
  models::TwoTower adapted = trainer::build_base_model(peft.config);
  models::apply_adapters(adapted, models::plan_adapters(adapted, peft.config.adapt), 1);
  refuses(full.folder(), adapted, {"another model", "lora_A"});
  // A peft checkpoint over other base weights: same names, same shapes, other
  // numbers.
  RunConfig other = peft.config;
  other.run.seed = 8;
  refuses(peft.folder(), trainer::build_base_model(other), {"another model", "frozen weights"});
  // ... and with another rank.
  models::TwoTower wider = trainer::build_base_model(peft.config);
  models::AdaptOptions options = peft.config.adapt;
  options.image.rank = 3;
  models::apply_adapters(wider, models::plan_adapters(wider, options), 1);
  refuses(peft.folder(), wider, {"another model", "lora_A.weight"});
}

TEST(Checkpoint, ServesAsWeightsOfAnotherRun) {
  const Trained full(kFull);
  const auto base_of = [](const fs::path &weights) {
    const TemporaryFolder output;
    models::TwoTower model = trainer::build_base_model(tiny_run(
        output.path(), {{"model.weights", "\"" + weights.string() + "\""}, {"run.seed", "99"}}));
    return copy_weights(model);
  };
  const fs::path run_dir = full.config.run_dir();
  for (const fs::path &weights :
       {full.folder(), full.folder() / "model.safetensors", run_dir, full.checkpoints() / "best"})
    expect_same(base_of(weights), full.record.weights);

  // Adapters are merged, so that the model is bare again and gives the same
  // embeddings.
  const Trained peft(kPeft);
  RunConfig from_peft =
      tiny_run(peft.output.path(), {{"model.weights", "\"" + peft.config.run_dir() + "\""}});
  models::TwoTower merged = trainer::build_base_model(from_peft);
  EXPECT_TRUE(models::adapter_state(merged).empty());
  models::TwoTower adapted = trainer::build_base_model(peft.config);
  trainer::read_checkpoint(peft.folder(), adapted, nullptr, nullptr);
  merged->eval();
  adapted->eval();
  const at::NoGradGuard no_grad;
  const at::Tensor volumes = at::rand({2, 1, 16, 16, 12});
  EXPECT_TRUE(at::allclose(merged->encode_image_volumes(volumes).embedding,
                           adapted->encode_image_volumes(volumes).embedding, 1e-4, 1e-5));
  expect_error<CheckpointError>([&] { static_cast<void>(base_of(full.output / "nowhere")); },
                                ExitCode::kMissingInput, {"nowhere"});
}

TEST(Checkpoint, ReplacesOneOfTheSameStep) {
  const Trained trained(kFull);
  models::TwoTower model = trainer::build_base_model(trained.config);
  const trainer::Optimizer optimizer(models::trainable_parameters(model), trained.config.optimizer);
  trainer::TrainState state;
  state.step = 2;
  state.pairs_seen = 77;
  trainer::write_checkpoint(trained.checkpoints(), model, optimizer.state(), state, trained.config);
  trainer::TrainState read;
  trainer::read_checkpoint(trained.folder(), model, nullptr, &read);
  EXPECT_EQ(read.pairs_seen, 77);
  for (const auto &entry : fs::directory_iterator(trained.checkpoints()))
    EXPECT_FALSE(entry.path().filename().string().starts_with(".tmp")) << entry.path();
}

}  // namespace
}  // namespace triphase::test
