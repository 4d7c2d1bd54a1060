// SPDX-License-Identifier: Apache-2.0
// One rank of each node reads the weights and the others receive them, on every backend.
#include <ATen/ATen.h>

#include "base/json.hpp"
#include "dist/node_group.hpp"
#include "dist/runtime.hpp"
#include "models/weights.hpp"
#include "tests/dist/backends.hpp"
#include "tests/support/test_support.hpp"
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

}  // namespace
}  // namespace triphase::test
