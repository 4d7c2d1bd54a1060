// SPDX-License-Identifier: Apache-2.0
// Whole runs on a GPU beside runs on the CPU.
#include "tests/gpu/gpu_test_support.hpp"
#include "tests/trainer/run_fixture.hpp"
#include "trainer/checkpoint_files.hpp"
#include "trainer/evaluate.hpp"
#include "trainer/evaluate_model.hpp"
#include "trainer/optim/gradient_norm.hpp"

namespace triphase::test {
namespace {

RunRecord run_on(const at::Device& device, const std::filesystem::path& folder,
                 const Settings& settings, const std::string& resume = "never") {
  const trainer::RunConfig config = tiny_run(folder, settings);
  const auto group = dist::make_self_group();
  RunRecord record = run_once(config, *group, {.resume = resume, .device = device});
  for (auto& [name, tensor] : record.weights) tensor = tensor.cpu();
  return record;
}

Settings with(Settings settings, const Settings& more) {
  for (const auto& [key, value] : more) settings[key] = value;
  return settings;
}

const Settings kFull{{"adapt.method", "\"full\""}};
const Settings kPeft{{"adapt.method", "\"peft\""},     {"adapt.image.rank", "2"},
                     {"adapt.text.rank", "2"},         {"adapt.image.dropout", "0.2"},
                     {"adapt.text.dropout", "0.2"}};

TEST(GpuRun, LossesAndWeightsAreThoseOfTheCpuInFloat64) {
  TRIPHASE_NEEDS_GPU();
  const Deterministic deterministic;
  const Settings precise{{"precision.compute", "\"float64\""}};
  for (const Settings& kind :
       {kFull, kPeft, with(kFull, {{"model.batch_norm", "\"local\""}, {"precision.recompute", "\"blocks\""}}),
        with(kPeft, {{"batch.micro_pairs", "2"}, {"precision.memory_format", "\"channels_last_3d\""}}),
        with(kFull, {{"loss.kind", "\"siglip\""}, {"loss.phenotype_weight", "0.5"}}),
        with(kPeft, {{"distributed.reduction", "\"ordered\""}, {"batch.global_pairs", "4"}, {"batch.micro_pairs", "2"}})}) {
    const TemporaryFolder cpu_folder, gpu_folder;
    const RunRecord cpu = run_on(at::kCPU, cpu_folder.path(), with(kind, precise));
    const RunRecord gpu = run_on(kGpu, gpu_folder.path(), with(kind, precise));
    ASSERT_EQ(cpu.losses.size(), gpu.losses.size());
    for (std::size_t i = 0; i < cpu.losses.size(); ++i) {
      EXPECT_NEAR(gpu.losses[i], cpu.losses[i], 1e-9) << i;
      EXPECT_NEAR(gpu.grad_norms[i], cpu.grad_norms[i], 1e-8 * cpu.grad_norms[i]) << i;
    }
    expect_near(gpu.weights, cpu.weights, 1e-7);
  }
}

TEST(GpuRun, RepeatsToTheBitAndGoesOnToTheBit) {
  TRIPHASE_NEEDS_GPU();
  const Deterministic deterministic;
  for (const Settings& kind : {kFull, kPeft, with(kFull, {{"precision.compute", "\"bfloat16\""}})}) {
    const TemporaryFolder first_folder, second_folder, stopped_folder;
    const RunRecord first = run_on(kGpu, first_folder.path(), kind);
    const RunRecord second = run_on(kGpu, second_folder.path(), kind);
    EXPECT_EQ(first.losses, second.losses);
    expect_same(first.weights, second.weights);

    const Settings saves = with(kind, {{"checkpoint.every_steps", "3"}, {"checkpoint.keep_last", "9"}});
    static_cast<void>(run_on(kGpu, stopped_folder.path(), saves));
    const auto checkpoints = stopped_folder.path() / "run" / "checkpoints";
    for (const std::int64_t later : {6, 8})
      std::filesystem::remove_all(checkpoints / trainer::checkpoint_name(later));
    const RunRecord resumed = run_on(kGpu, stopped_folder.path(), saves, "auto");
    EXPECT_EQ(resumed.losses, std::vector<double>(first.losses.begin() + 3, first.losses.end()));
    expect_same(resumed.weights, first.weights);
  }
}

TEST(GpuRun, ACheckpointOfOneDeviceGoesOnOnTheOther) {
  TRIPHASE_NEEDS_GPU();
  const Deterministic deterministic;
  const Settings settings = with(kPeft, {{"precision.compute", "\"float64\""},
                                         {"checkpoint.every_steps", "3"},
                                         {"checkpoint.keep_last", "9"}});
  const TemporaryFolder whole_folder;
  const RunRecord whole = run_on(at::kCPU, whole_folder.path(), settings);
  for (const auto& [before, after] :
       {std::pair{kGpu, at::Device(at::kCPU)}, std::pair{at::Device(at::kCPU), kGpu}}) {
    const TemporaryFolder folder;
    static_cast<void>(run_on(before, folder.path(), settings));
    for (const std::int64_t later : {6, 8})
      std::filesystem::remove_all(folder.path() / "run" / "checkpoints" / trainer::checkpoint_name(later));
    const RunRecord resumed = run_on(after, folder.path(), settings, "auto");
    ASSERT_EQ(resumed.losses.size(), whole.losses.size() - 3);
    for (std::size_t i = 0; i < resumed.losses.size(); ++i)
      EXPECT_NEAR(resumed.losses[i], whole.losses[i + 3], 1e-9) << i;
  }
}

TEST(GpuRun, EvaluatesAsTheCpuDoes) {
  TRIPHASE_NEEDS_GPU();
  const Deterministic deterministic;
  const TemporaryFolder folder;
  const trainer::RunConfig config = tiny_run(folder.path(), with(kFull, {{"precision.compute", "\"float64\""}}));
  const auto group = dist::make_self_group();
  const data::Cache cache(tiny_cache().cache());
  const auto evaluate = [&](const at::Device& device) {
    trainer::LoadedModel loaded = trainer::load_model_for_evaluation(config, "", device);
    EXPECT_EQ(loaded.model->device(), device);
    return trainer::evaluate_model(loaded.model, cache, config, "validation", *group, false);
  };
  EXPECT_EQ(evaluate(kGpu).dump(), evaluate(at::kCPU).dump());
}

TEST(GpuRun, GradientNormsAreSummedInFloat64) {
  TRIPHASE_NEEDS_GPU();
  for (const auto dtype : {at::kFloat, at::kDouble}) {
    const std::vector<at::Tensor> cpu{at::randn({1000, 33}).to(dtype), at::randn({7}).to(dtype) * 1e-4,
                                      at::full({1 << 20}, 1e-3).to(dtype)};
    std::vector<at::Tensor> gpu;
    for (const at::Tensor& tensor : cpu) gpu.push_back(tensor.to(kGpu));
    const double expected = trainer::global_norm(cpu);
    EXPECT_NEAR(trainer::global_norm(gpu), expected, 1e-12 * expected);
  }
}

}  // namespace
}  // namespace triphase::test
