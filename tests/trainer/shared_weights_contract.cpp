// SPDX-License-Identifier: Apache-2.0
// One rank of each node reads the weights and the others receive them, on every backend.
#include <ATen/ATen.h>

#include "base/json.hpp"
#include "dist/node_group.hpp"
#include "dist/runtime.hpp"
#include "models/adapter_plan.hpp"
#include "models/weights.hpp"
#include "tests/dist/backends.hpp"
#include "tests/support/test_support.hpp"
#include "trainer/checkpoint.hpp"
#include "trainer/loop/trainable_model.hpp"
#include "trainer/optim/optimizer.hpp"
#include "trainer/shared_weights.hpp"

namespace triphase::test {
namespace {

TRIPHASE_CONTRACT(SharedWeights);

/// Weights of merlin_tiny in a folder that rank 0 makes and removes.
class SharedFile {
 public:
  explicit SharedFile(dist::ProcessGroup& group) : group_(group) {
    if (group.rank() == 0) {
      own_ = std::make_unique<TemporaryFolder>();
      models::TwoTower model(models::model_preset("merlin_tiny"));
      models::initialise_weights(model, 5);
      models::write_safetensors(*own_ / "model.safetensors", models::base_state(model));
    }
    folder_ = dist::broadcast_text(group, own_ ? own_->path().string() : "");
  }
  ~SharedFile() { group_.barrier(); }
  SharedFile(const SharedFile&) = delete;
  SharedFile& operator=(const SharedFile&) = delete;
  [[nodiscard]] std::string path() const { return folder_ + "/model.safetensors"; }

 private:
  dist::ProcessGroup& group_;
  std::unique_ptr<TemporaryFolder> own_;
  std::string folder_;
};

trainer::RunConfig config_of(const std::string& weights) {
  trainer::RunConfig config;
  config.model.preset = "merlin_tiny";
  config.model.weights = weights;
  config.run.seed = 7;
  return config;
}

std::int64_t sum_over(dist::ProcessGroup& group, std::int64_t value) {
  return group.all_reduce(at::full({1}, value, at::kLong), dist::ReduceOp::kSum)
      ->wait()
      .item<std::int64_t>();
}

TEST_P(SharedWeights, OneRankOfANodeReadsAndAllHaveTheSameBits) {
  GetParam().run([](dist::ProcessGroup& group) {
    const SharedFile file(group);
    const trainer::RunConfig config = config_of(file.path());
    models::TwoTower expected = trainer::build_base_model(config);
    const int n = group.num_ranks();
    // All on one node, two nodes whose ranks alternate, and every rank on its own.
    for (const int num_nodes : {1, 2, n}) {
      const auto node =
          dist::make_node_group(group, "node" + std::to_string(group.rank() % num_nodes));
      std::int64_t reads = 0;
      models::TwoTower model = trainer::build_base_model_on_nodes(
          config, group, *node, [&](const trainer::RunConfig& given) {
            ++reads;
            return trainer::build_base_model(given);
          });
      EXPECT_EQ(trainer::hash_weights(model), trainer::hash_weights(expected));
      EXPECT_EQ(reads, group.rank() < num_nodes ? 1 : 0);
      EXPECT_EQ(sum_over(group, reads), std::min(num_nodes, n));
      for (const at::Tensor& parameter : model->parameters())
        EXPECT_TRUE(parameter.requires_grad());
    }
  });
}

TEST_P(SharedWeights, RandomWeightsAreDrawnByEachRank) {
  GetParam().run([](dist::ProcessGroup& group) {
    const auto node = dist::make_node_group(group);
    const trainer::RunConfig config = config_of("random");
    models::TwoTower model = trainer::build_base_model_on_nodes(config, group, *node);
    models::TwoTower expected = trainer::build_base_model(config);
    EXPECT_EQ(trainer::hash_weights(model), trainer::hash_weights(expected));
  });
}

TEST_P(SharedWeights, TheReadersErrorIsEveryRanksErrorAndTheGroupGoesOn) {
  GetParam().run([](dist::ProcessGroup& group) {
    const SharedFile file(group);
    if (group.rank() == 0) write_text(file.path() + ".cut", read_text(file.path()).substr(0, 5000));
    group.barrier();
    const auto node = dist::make_node_group(group);
    const auto refused = [&](const std::string& weights, ExitCode code, const std::string& word) {
      std::int64_t refusals = 0;
      try {
        static_cast<void>(trainer::build_base_model_on_nodes(config_of(weights), group, *node));
      } catch (const dist::AgreedError& error) {
        ++refusals;
        EXPECT_EQ(error.kind(), "CheckpointError");
        EXPECT_EQ(error.exit_code(), code);
        EXPECT_EQ(error.failing_rank(), 0);
        EXPECT_NE(std::string(error.what()).find(word), std::string::npos) << error.what();
      }
      EXPECT_EQ(sum_over(group, refusals), group.num_ranks());
    };
    refused(file.path() + ".cut", ExitCode::kBadData, "cut short");
    refused(file.path() + ".none", ExitCode::kMissingInput, "is not there");
  });
}

TEST_P(SharedWeights, PiecesOfAnySizeGiveTheSameBits) {
  GetParam().run([](dist::ProcessGroup& group) {
    models::TwoTower expected(models::model_preset("merlin_tiny"));
    models::initialise_weights(expected, 0);
    for (const std::int64_t piece_bytes : {1009, 4096, 1 << 30}) {
      models::TwoTower model(models::model_preset("merlin_tiny"));
      models::initialise_weights(model, static_cast<std::uint64_t>(group.rank()));
      trainer::broadcast_weights(model, group, piece_bytes);
      EXPECT_EQ(trainer::hash_weights(model), trainer::hash_weights(expected));
    }
  });
}

/// A checkpoint after two updates of a run, in a folder that rank 0 makes and removes.
class SharedCheckpoint {
 public:
  SharedCheckpoint(dist::ProcessGroup& group, const std::string& method, const std::string& format)
      : file_(group) {
    const std::filesystem::path root = std::filesystem::path(file_.path()).parent_path();
    folder_ = root / "checkpoints" / trainer::checkpoint_name(2);
    const std::string settings = str("[model]\npreset = 'merlin_tiny'\nweights = '", file_.path(),
                                     "'\n[adapt]\nmethod = '", method,
                                     "'\n[adapt.image]\nrank = 2\nrank_pattern = ['layer1\\..*=3']\n"
                                     "[loss]\nkind = 'siglip'\n[schedule]\nmax_steps = 4\n"
                                     "[batch]\nglobal_pairs = 6\n[precision]\nmemory_format = '",
                                     format, "'\n[data]\ncache = 'none'\n");
    if (group.rank() == 0) write_text(root / "run.toml", settings);
    group.barrier();
    config_ = trainer::load_run_config({.files = {root / "run.toml"}, .environment = {}, .sets = {}});
    if (group.rank() == 0) write(root);
    group.barrier();
  }
  [[nodiscard]] const trainer::RunConfig& config() const { return config_; }
  [[nodiscard]] const std::filesystem::path& folder() const { return folder_; }

 private:
  void write(const std::filesystem::path& root) {
    trainer::TrainableModel built = trainer::build_trainable_model(config_);
    const auto parameters = models::trainable_parameters(built.model);
    trainer::Optimizer optimizer(parameters, config_.optimizer);
    for (int step = 0; step < 2; ++step) {
      for (const auto& [name, tensor] : parameters)
        tensor.mutable_grad() = at::cos(tensor.detach() + 0.1 * step);
      static_cast<void>(optimizer.update(1));
    }
    trainer::TrainState state;
    state.step = 2;
    state.pairs_seen = 12;
    state.data_hash = "of the data";
    static_cast<void>(trainer::write_checkpoint(root / "checkpoints", built.model,
                                                optimizer.state(), state, config_));
  }

  SharedFile file_;
  std::filesystem::path folder_;
  trainer::RunConfig config_;
};

/// Every file of weights in the folder is damaged for as long as this stands.
class Damage {
 public:
  explicit Damage(const std::filesystem::path& folder) {
    for (const char* name : {"model.safetensors", "optimizer.safetensors"}) {
      files_.emplace_back(folder / name, read_text(folder / name));
      write_text(folder / name, "no weights");
    }
  }
  ~Damage() {
    for (const auto& [file, text] : files_) write_text(file, text);
  }
  Damage(const Damage&) = delete;
  Damage& operator=(const Damage&) = delete;

 private:
  std::vector<std::pair<std::filesystem::path, std::string>> files_;
};

const std::vector<std::pair<std::string, std::string>> kKinds{
    {"full", "contiguous"}, {"peft", "contiguous"}, {"peft", "channels_last_3d"}};

TEST_P(SharedWeights, ACheckpointIsReadOnceANodeForAnEvaluation) {
  GetParam().run([](dist::ProcessGroup& group) {
    for (const auto& [method, format] : kKinds) {
      const SharedCheckpoint shared(group, method, format);
      const std::string folder = shared.folder().string();
      // A run checkpoint, a peft folder and the weights file under them.
      for (const std::string& what : {folder, folder + "/adapter", std::string()}) {
        if (what.ends_with("adapter") && method == "full") continue;
        trainer::LoadedModel expected = trainer::load_model_for_evaluation(shared.config(), what);
        const auto node = dist::make_node_group(group, "node" + std::to_string(group.rank() % 2));
        std::int64_t reads = 0;
        trainer::LoadedModel loaded = trainer::load_model_on_nodes(
            shared.config(), what, at::kCPU, group, *node,
            [&](const trainer::RunConfig& config, const std::string& checkpoint) {
              ++reads;
              return trainer::read_model(config, checkpoint);
            });
        EXPECT_EQ(trainer::hash_weights(loaded.model), trainer::hash_weights(expected.model))
            << method << " " << what;
        EXPECT_EQ(models::adapted_modules(loaded.model).size(),
                  models::adapted_modules(expected.model).size());
        EXPECT_EQ(loaded.model->logit_bias().defined(), expected.model->logit_bias().defined());
        EXPECT_EQ(loaded.checkpoint, expected.checkpoint);
        EXPECT_EQ(loaded.adapt_method, expected.adapt_method);
        EXPECT_EQ(loaded.step, expected.step);
        EXPECT_FALSE(loaded.model->is_training());
        EXPECT_EQ(reads, group.rank() < 2 ? 1 : 0);
        // The adapters' scale is no weight: only a pass shows it.
        const at::Tensor volumes = at::linspace(-1, 1, 2 * 24 * 24 * 16).view({2, 1, 24, 24, 16});
        const at::NoGradGuard no_grad;
        EXPECT_TRUE(at::equal(loaded.model->encode_image_volumes(volumes).embedding,
                              expected.model->encode_image_volumes(volumes).embedding));
      }
    }
  });
}

TEST_P(SharedWeights, ACheckpointIsReadOnceANodeToGoOn) {
  GetParam().run([](dist::ProcessGroup& group) {
    for (const auto& [method, format] : kKinds) {
      const SharedCheckpoint shared(group, method, format);
      const auto fresh = [&] { return trainer::build_trainable_model(shared.config()); };
      trainer::TrainableModel expected = fresh();
      trainer::Optimizer expected_optimizer(models::trainable_parameters(expected.model),
                                            shared.config().optimizer);
      trainer::TrainState expected_state;
      trainer::read_checkpoint(shared.folder(), expected.model, &expected_optimizer,
                               &expected_state);
      trainer::TrainableModel model = fresh();
      trainer::Optimizer optimizer(models::trainable_parameters(model.model),
                                   shared.config().optimizer);
      trainer::TrainState state;
      const auto node = dist::make_node_group(group, "one");
      trainer::read_checkpoint_on_nodes(shared.folder(), model.model, optimizer, state, group,
                                        *node);
      EXPECT_EQ(trainer::hash_weights(model.model), trainer::hash_weights(expected.model));
      EXPECT_EQ(state.step, 2);
      EXPECT_EQ(state.pairs_seen, 12);
      EXPECT_EQ(state.data_hash, "of the data");
      EXPECT_EQ(optimizer.num_updates(), 2);
      const models::NamedTensors moments = optimizer.state();
      const models::NamedTensors expected_moments = expected_optimizer.state();
      ASSERT_EQ(moments.size(), expected_moments.size());
      for (std::size_t i = 0; i < moments.size(); ++i)
        EXPECT_TRUE(at::equal(moments[i].second, expected_moments[i].second)) << moments[i].first;
    }
  });
}

TEST_P(SharedWeights, ADamagedCheckpointIsEveryRanksError) {
  GetParam().run([](dist::ProcessGroup& group) {
    const SharedCheckpoint shared(group, "peft", "contiguous");
    const auto node = dist::make_node_group(group, "one");
    trainer::TrainableModel model = trainer::build_trainable_model(shared.config());
    trainer::Optimizer optimizer(models::trainable_parameters(model.model),
                                 shared.config().optimizer);
    trainer::TrainState state;
    group.barrier();
    const auto damage = group.rank() == 0 ? std::make_unique<Damage>(shared.folder()) : nullptr;
    group.barrier();
    const auto refused = [&](const std::function<void()>& body) {
      try {
        body();
        ADD_FAILURE() << "nothing was thrown";
      } catch (const dist::AgreedError& error) {
        EXPECT_EQ(error.exit_code(), ExitCode::kBadData);
        EXPECT_EQ(error.failing_rank(), 0);
        EXPECT_NE(std::string(error.what()).find("safetensors"), std::string::npos) << error.what();
      }
    };
    refused([&] {
      static_cast<void>(trainer::load_model_on_nodes(shared.config(), shared.folder().string(),
                                                     at::kCPU, group, *node));
    });
    refused([&] {
      trainer::read_checkpoint_on_nodes(shared.folder(), model.model, optimizer, state, group,
                                        *node);
    });
    group.barrier();
  });
}

}  // namespace
}  // namespace triphase::test
