// SPDX-License-Identifier: Apache-2.0
// A run on several ranks is the run on one rank: losses, gradient norms and weights.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <mpi.h>

#include <algorithm>
#include <cmath>

#include "dist/runtime.hpp"
#include "models/weights.hpp"
#include "tests/trainer/run_fixture.hpp"
#include "tests/trainer/shared_folder.hpp"
#include "tests/trainer/step_gradients.hpp"
#include "trainer/build_model.hpp"

namespace triphase::test {
namespace {

struct Case {
  std::string name;
  Settings settings;
  double tolerance = 0;
};

/// 20 steps add rounding errors of sums in another order: some 1e-16 a step in float64, 1e-7 in
/// float32, times what Adam makes of them. Adam divides a gradient by its own size, so one that is
/// zero but for rounding moves a weight by rounding over eps: hence the larger eps in float32.
std::vector<Case> cases() {
  const Settings full{{"adapt.method", "\"full\""}};
  const Settings full_phenotype{{"adapt.method", "\"full\""}, {"loss.phenotype_weight", "2.0"}};
  const Settings peft{{"adapt.method", "\"peft\""},
                      {"adapt.image.rank", "2"},
                      {"adapt.text.rank", "2"},
                      {"adapt.train_heads", "true"},
                      {"optimizer.lora_plus_ratio", "4"}};
  const Settings recompute{{"adapt.method", "\"peft\""}, {"precision.recompute", "\"blocks\""}};
  const Settings dropout{{"adapt.method", "\"peft\""},
                         {"adapt.image.rank", "2"},
                         {"adapt.image.dropout", "0.3"},
                         {"adapt.text.rank", "2"},
                         {"adapt.text.dropout", "0.3"}};
  Settings dropout_cached = dropout;
  dropout_cached["batch.micro_pairs"] = "1";
  dropout_cached["precision.recompute"] = "\"blocks\"";
  const Settings augment{{"adapt.method", "\"full\""},
                         {"data.augment.shift_voxels", "2"},
                         {"data.augment.noise_sigma", "0.05"},
                         {"data.augment.text_drop", "0.5"}};
  // A batch of six 1-voxel maps has steep statistics: torch's own BatchNorm in one process is as
  // far from one rank's "sync" after 20 steps of 1e-3 (5e-10) as three ranks are. Hence the smaller
  // rate.
  const Settings sync{
      {"adapt.method", "\"full\""}, {"model.batch_norm", "\"sync\""}, {"optimizer.lr", "1e-4"}};
  const Settings sync_stages{{"adapt.method", "\"peft\""},
                             {"optimizer.lr", "1e-4"},
                             {"adapt.train_batch_norms", "true"},
                             {"model.batch_norm", "\"sync\""},
                             {"precision.recompute", "\"stages\""}};
  const auto with = [](Settings settings, const Settings& more) {
    settings.insert(more.begin(), more.end());
    return settings;
  };
  const Settings overlap{{"distributed.overlap", "\"on\""}, {"distributed.bucket_bytes", "16384"}};
  const Settings shards{{"distributed.shard_optimizer", "true"}};
  std::vector<Case> all{{"full", full, 0},
                        {"full_overlap", with(full, overlap), 0},
                        {"full_shards", with(full, shards), 0},
                        {"peft_overlap_shards", with(with(peft, overlap), shards), 0},
                        {"full_cached_overlap", with(with(full, overlap), {{"batch.micro_pairs", "1"}}), 0},
                        {"sync_overlap", with(sync, overlap), 0},
                        {"full_sync", sync, 0},
                        {"peft_sync_stages", sync_stages, 0},
                        {"full_phenotype", full_phenotype, 0},
                        {"peft", peft, 0},
                        {"peft_recompute", recompute, 0},
                        {"peft_dropout", dropout, 0},
                        {"peft_dropout_cached", dropout_cached, 0},
                        {"full_augment", augment, 0},
                        {"peft_federated",
                         with(peft, {{"adapt.federated_steps", "2"}, {"batch.global_pairs", "3"}}), 0}};
  std::vector<Case> result;
  for (const Case& each : all) {
    Case wide = each;
    wide.settings["precision.compute"] = "\"float64\"";
    wide.tolerance = 1e-10;
    result.push_back(wide);
    if (each.name != "full" && each.name != "peft") continue;
    Case narrow = each;
    narrow.name += "_float32";
    narrow.settings["optimizer.eps"] = "1e-5";
    narrow.settings["optimizer.lr"] = "3e-4";
    narrow.tolerance = 1e-4;
    result.push_back(narrow);
  }
  return result;
}

class Equality : public ::testing::TestWithParam<Case> {};

TEST_P(Equality, SeveralRanksGiveTheLossesAndWeightsOfOne) {
  dist::Runtime runtime({.backend = "mpi", .timeout_seconds = 60});
  const SharedFolder shared(runtime.world());
  const TemporaryFolder alone;
  const TinyCache& cache = shared_cache(runtime.world());
  Settings settings = GetParam().settings;
  settings["schedule.max_steps"] = "20";
  settings["evaluate.every_epochs"] = "3";
  const RunRecord joint = run_once(tiny_run(shared.path(), settings, cache), runtime.world());
  const auto self = dist::make_self_group();
  const RunRecord single = run_once(tiny_run(alone.path(), settings, cache), *self);

  EXPECT_EQ(joint.losses.size(), 20U);
  EXPECT_EQ(single.losses.size(), 20U);
  for (std::size_t i = 0; i < std::min(joint.losses.size(), single.losses.size()); ++i) {
    EXPECT_NEAR(joint.losses[i], single.losses[i],
                GetParam().tolerance * std::abs(single.losses[i]))
        << "step " << i + 1;
    // Relative to the first: a norm that has become a hundredth of it is a difference of parts
    // that have not.
    EXPECT_NEAR(joint.grad_norms[i], single.grad_norms[i],
                10 * GetParam().tolerance * single.grad_norms[0])
        << "step " << i + 1;
  }
  expect_near(joint.weights, single.weights, GetParam().tolerance);
  EXPECT_NE(joint.losses.front(), joint.losses.back());
}

INSTANTIATE_TEST_SUITE_P(Runs, Equality, ::testing::ValuesIn(cases()),
                         [](const auto& test) { return test.param.name; });

// Float32, where the order of a sum shows.
TEST(Reduction, OverlapChangesNoBit) {
  dist::Runtime runtime({.backend = "mpi", .timeout_seconds = 60});
  const TinyCache& cache = shared_cache(runtime.world());
  const auto run = [&](const Settings& kind, const std::string& overlap) {
    const SharedFolder shared(runtime.world());
    Settings settings{{"distributed.overlap", overlap}, {"distributed.bucket_bytes", "16384"}};
    settings.insert(kind.begin(), kind.end());
    return run_once(tiny_run(shared.path(), settings, cache), runtime.world());
  };
  for (const Settings& kind :
       {Settings{{"adapt.method", "\"full\""}, {"precision.memory_format", "\"channels_last_3d\""}},
        Settings{{"adapt.method", "\"full\""}, {"batch.micro_pairs", "1"}},
        Settings{{"adapt.method", "\"peft\""}, {"distributed.shard_optimizer", "true"}}}) {
    const RunRecord after = run(kind, "\"off\"");
    const RunRecord during = run(kind, "\"on\"");
    EXPECT_EQ(during.losses, after.losses);
    EXPECT_EQ(during.grad_norms, after.grad_norms);
    expect_same(during.weights, after.weights);
  }
}

/// Each step's gradients are off by at most r (2 + r) = 0.8 % of the sum of their sizes, which Adam
/// turns into a fraction of its step (lr 1e-3 at the most) for weights that stand near 0 to 1.
TEST(Reduction, Bfloat16OnTheWireChangesLittleAndTheSameOnAllRanks) {
  dist::Runtime runtime({.backend = "mpi", .timeout_seconds = 60});
  const auto run = [&](const std::string& wire) {
    const SharedFolder shared(runtime.world());
    return run_once(tiny_run(shared.path(),
                             {{"adapt.method", "\"peft\""},
                              {"optimizer.eps", "1e-5"},
                              {"distributed.wire_dtype", wire}},
                             shared_cache(runtime.world())),
                    runtime.world());
  };
  const RunRecord plain = run("\"gradient\"");
  const RunRecord narrow = run("\"bfloat16\"");
  EXPECT_EQ(narrow.losses == plain.losses, runtime.num_ranks() == 1);
  for (std::size_t i = 0; i < plain.losses.size(); ++i)
    EXPECT_NEAR(narrow.losses[i], plain.losses[i], 1e-2 * plain.losses[i]) << i;
}

/// What a tower makes of the batches of a group's ranks, 2, 3, 4 ... volumes each: this rank's
/// gradients summed over them all, and its buffers.
std::map<std::string, at::Tensor> tower_pass(dist::ProcessGroup& group, const at::Tensor& volumes,
                                             const std::string& batch_norm,
                                             const std::string& recompute) {
  models::TwoTower model(models::model_preset("merlin_tiny"));
  models::initialise_weights(model, 3);
  model->to(at::kDouble);
  model->train();
  trainer::set_execution(model, batch_norm, recompute, &group);
  const std::int64_t rank = group.rank();
  const auto share = [&](const at::Tensor& joined) {
    return group.num_ranks() == 1 ? joined
                                  : joined.slice(0, rank * (rank + 3) / 2).slice(0, 0, rank + 2);
  };
  const at::Tensor rows = model->image_tower()->forward(share(volumes), false).projection;
  const at::Tensor weights =
      at::arange(volumes.size(0) * rows.size(1), rows.options()).cos().view({-1, rows.size(1)});
  (rows * share(weights)).sum().backward();
  std::map<std::string, at::Tensor> found;
  for (const auto& item : model->named_parameters())
    if (item.value().grad().defined())
      found["d " + item.key()] =
          group.all_reduce(item.value().grad().clone(), dist::ReduceOp::kSum)->wait();
  for (const auto& item : model->named_buffers()) found[item.key()] = item.value();
  return found;
}

/// 1e-12 of a tensor's largest value: float64, some thousand summands.
void expect_ragged_equality(dist::ProcessGroup& group) {
  const std::int64_t total = std::int64_t{group.num_ranks()} * (group.num_ranks() + 3) / 2;
  const at::Tensor volumes =
      at::arange(total * 24 * 20 * 16, at::kDouble).square().sin().view({total, 1, 24, 20, 16});
  const auto self = dist::make_self_group();
  const auto expected = tower_pass(*self, volumes, "local", "none");
  for (const std::string recompute : {"none", "blocks", "stages"}) {
    const auto found = tower_pass(group, volumes, "sync", recompute);
    EXPECT_EQ(found.size(), expected.size());
    for (const auto& [name, tensor] : expected) {
      const at::Tensor wanted = tensor.to(at::kDouble);
      const double distance = (found.at(name).to(at::kDouble) - wanted).abs().max().item<double>();
      EXPECT_LE(distance, 1e-12 * std::max(1.0, wanted.abs().max().item<double>()))
          << name << " " << recompute;
      if (name.ends_with("num_batches_tracked")) {
        EXPECT_EQ(found.at(name).item<std::int64_t>(), 1) << name;
      }
    }
  }
}

TEST(SyncBatchNorm, RaggedSharesOfABatchAreTheBatchOnThreadsAndMpi) {
  at::set_num_threads(1);
  dist::Runtime runtime({.backend = "mpi", .timeout_seconds = 60});
  expect_ragged_equality(runtime.world());
  on_thread_ranks(runtime.num_ranks(), expect_ragged_equality);
}

/// On every rank the same bits as the run that was not stopped, with everything on that draws
/// numbers.
void expect_same_bits_wherever_stopped(const Settings& loss_settings, dist::Runtime& runtime) {
  const TinyCache& cache = shared_cache(runtime.world());
  Settings settings{{"adapt.method", "\"peft\""},
                    {"adapt.image.dropout", "0.3"},
                          {"adapt.text.dropout", "0.3"},
                          {"adapt.train_heads", "true"},
                          {"model.batch_norm", "\"local\""},
                          {"data.augment.shift_voxels", "2"},
                          {"data.augment.noise_sigma", "0.1"},
                          {"data.augment.text_drop", "0.5"},
                          {"optimizer.lr", "1e-2"}};
  for (const auto& [key, value] : loss_settings) settings[key] = value;
  const SharedFolder whole(runtime.world());
  const RunRecord undisturbed = run_once(tiny_run(whole.path(), settings, cache), runtime.world());
  for (const std::int64_t stop : {2, 3, 7}) {  // an epoch has 3 steps
    const SharedFolder parts(runtime.world());
    const trainer::RunConfig config = tiny_run(parts.path(), settings, cache);
    std::int64_t done = 0;
    trainer::TrainLoopOptions options;
    options.on_step = [&](std::int64_t step, const trainer::StepReport&) { done = step; };
    options.stop_requested = [&] { return done >= stop; };
    const RunRecord first = run_once(config, runtime.world(), options);
    EXPECT_TRUE(first.result.stopped_on_request);
    EXPECT_EQ(first.result.steps, stop);
    const RunRecord second = run_once(config, runtime.world(), {.resume = "auto"});
    std::vector<double> losses = first.losses;
    losses.insert(losses.end(), second.losses.begin(), second.losses.end());
    EXPECT_EQ(losses, undisturbed.losses) << "stopped after step " << stop;
    expect_same(second.weights, undisturbed.weights);
  }
}

// Sharded on all ranks, then whole on one, then sharded again: the checkpoints know no shards.
TEST(ResumeOnRanks, ShardedMomentsGoOnAnyNumberOfRanks) {
  dist::Runtime runtime({.backend = "mpi", .timeout_seconds = 60});
  const TinyCache& cache = shared_cache(runtime.world());
  const SharedFolder shared(runtime.world());
  const auto run = [&](dist::ProcessGroup& group, const std::string& shards, std::int64_t stop) {
    std::int64_t done = 0;
    trainer::TrainLoopOptions options;
    options.resume = "auto";
    options.on_step = [&](std::int64_t step, const trainer::StepReport&) { done = step; };
    options.stop_requested = [&] { return done >= stop; };
    return run_once(tiny_run(shared.path(),
                             {{"adapt.method", "\"full\""},
                              {"precision.compute", "\"float64\""},
                              {"precision.memory_format", "\"channels_last_3d\""},
                              {"distributed.shard_optimizer", shards}},
                             cache),
                    group, options);
  };
  const auto self = dist::make_self_group();
  const TemporaryFolder alone;
  const RunRecord whole = run_once(tiny_run(alone.path(),
                                            {{"adapt.method", "\"full\""},
                                             {"precision.compute", "\"float64\""},
                                             {"precision.memory_format", "\"channels_last_3d\""}},
                                            cache),
                                   *self);
  std::vector<double> losses = run(runtime.world(), "true", 3).losses;
  std::vector<double> middle;
  if (runtime.rank() == 0) middle = run(*self, "false", 5).losses;
  runtime.world().barrier();
  const RunRecord last = run(runtime.world(), "true", 100);
  EXPECT_EQ(last.losses.size(), 3U);
  if (runtime.rank() == 0) {
    losses.insert(losses.end(), middle.begin(), middle.end());
    losses.insert(losses.end(), last.losses.begin(), last.losses.end());
    EXPECT_EQ(losses.size(), whole.losses.size());
    for (std::size_t i = 0; i < std::min(losses.size(), whole.losses.size()); ++i)
      EXPECT_NEAR(losses[i], whole.losses[i], 1e-10 * whole.losses[i]) << i;
  }
  expect_near(last.weights, whole.weights, 1e-10);
}

TEST(ResumeOnRanks, GivesTheSameBitsWhereverTheRunStopped) {
  dist::Runtime runtime({.backend = "mpi", .timeout_seconds = 60});
  expect_same_bits_wherever_stopped({}, runtime);
}

TEST(ResumeOnRanks, GivesTheSameBitsOfACachedRun) {
  dist::Runtime runtime({.backend = "mpi", .timeout_seconds = 60});
  expect_same_bits_wherever_stopped({{"batch.micro_pairs", "1"},
                                     {"model.batch_norm", "\"frozen\""},
                                     {"precision.recompute", "\"blocks\""},
                                     {"loss.kind", "\"siglip\""},
                                     {"loss.positives", "\"text\""},
                                     {"loss.transport", "\"ring\""}},
                                    runtime);
}

TEST(StepGradients, OnMpiRanksAreThoseOfOneProcess) {
  at::set_num_threads(1);
  dist::Runtime runtime({.backend = "mpi", .timeout_seconds = 60});
  EXPECT_EQ(expect_one_process_gradients(runtime.world()), 48);
}

TEST(Replicas, HoldTheSameBitsOnEveryRank) {
  dist::Runtime runtime({.backend = "mpi", .timeout_seconds = 60});
  for (const std::string batch_norm : {"\"local\"", "\"sync\""}) {
    const SharedFolder shared(runtime.world());
    const RunRecord record = run_once(tiny_run(shared.path(),
                                               {{"model.batch_norm", batch_norm},
                                                {"adapt.image.dropout", "0.2"},
                                                {"distributed.wire_dtype", "\"bfloat16\""},
                                                {"distributed.shard_optimizer", "true"},
                                                {"adapt.method", "\"peft\""}},
                                               shared_cache(runtime.world())),
                                      runtime.world());
    for (const auto& [name, tensor] : record.weights) {
      const at::Tensor gathered =
          runtime.world().all_gather(tensor.to(at::kDouble).reshape({1, -1}))->wait();
      for (std::int64_t rank = 1; rank < gathered.size(0); ++rank)
        EXPECT_TRUE(at::equal(gathered[0], gathered[rank])) << name << " " << batch_norm;
    }
  }
}

}  // namespace
}  // namespace triphase::test
