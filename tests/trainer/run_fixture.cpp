// SPDX-License-Identifier: Apache-2.0
#include "tests/trainer/run_fixture.hpp"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <exception>
#include <thread>

#include "base/random.hpp"
#include "data/cache.hpp"
#include "data/nifti.hpp"
#include "data/tokenizer.hpp"
#include "models/weights.hpp"

namespace triphase::test {
namespace {

constexpr std::int64_t kNumSamples = 30;

/// Noise with a bright block where hcc is 1, so that there is something to learn.
data::Volume random_volume(std::uint64_t sample, bool has_block) {
  data::Volume volume;
  volume.shape = {16, 16, 12};
  volume.affine = {{{1.5, 0, 0, 0}, {0, 1.5, 0, 0}, {0, 0, 3, 0}, {0, 0, 0, 1}}};
  KeyedRandom random{sample, 17};
  volume.voxels.resize(static_cast<std::size_t>(volume.size()));
  for (float& voxel : volume.voxels) voxel = static_cast<float>(random.normal(40, 200));
  if (has_block)
    for (std::int64_t x = 4; x < 9; ++x)
      for (std::int64_t y = 4; y < 9; ++y)
        for (std::int64_t z = 3; z < 8; ++z) volume.at(x, y, z) += 500;
  return volume;
}

std::string report_of(std::int64_t sample, bool has_hcc, bool has_cyst) {
  static const std::vector<std::string> words{"liver",  "spleen", "kidney",
                                              "smooth", "small",  "large"};
  KeyedRandom random{static_cast<std::uint64_t>(sample), 23};
  std::string text = has_hcc ? "Hepatocellular carcinoma." : "No hepatocellular carcinoma.";
  text += has_cyst ? " Renal cyst." : " No renal cyst.";
  for (int i = 0; i < 6; ++i)
    text += (i % 3 == 0 ? " The " : " ") + words[random.below(words.size())];
  return text + ".";
}

std::string split_of(std::int64_t sample) {
  if (sample < 18) return "train";
  return sample < 26 ? "validation" : "test";
}

std::string quoted(const std::filesystem::path& path) { return "\"" + path.string() + "\""; }

}  // namespace

TinyCache::TinyCache(std::int64_t num_shards, bool has_companions, bool has_groups, bool has_sections)
    : own_(std::make_unique<TemporaryFolder>()), folder_(own_->path()) {
  std::string manifest = "id,patient_id,site,split,image,report,report_group,label:hcc,label:cyst\n";
  std::vector<std::string> texts;
  for (std::int64_t i = 0; i < kNumSamples; ++i) {
    const bool has_hcc = i % 2 == 0;
    const bool has_cyst = i % 3 == 0;
    const std::string image = str("volume", i, ".nii");
    data::write_nifti(folder_ / image, random_volume(static_cast<std::uint64_t>(i), has_hcc));
    const bool repeats = has_companions && (i % 12 == 8 || i == 24);
    std::string report = report_of(repeats ? i - 6 : i, has_hcc, has_cyst);
    if (has_sections) report += has_hcc ? " Liver: Lesion." : " Liver: Normal.";
    if (has_sections && i % 3 != 0) report += " Spleen: Normal.";
    manifest += str("s", i, ",p", has_companions ? i / 2 : i, ",", i % 5 == 0 ? "north" : "south", ",",
                    split_of(i), ",", image, ",", report, ",",
                    has_groups && (i == 2 || i == 8) ? "g" : "", ",", has_hcc ? 1 : 0, ",",
                    i % 7 == 0 ? -1
                    : has_cyst ? 1
                               : 0,
                    "\n");
    texts.push_back(data::sanitize_report(report));
  }
  write_text(folder_ / "manifest.csv", manifest);
  write_text(prompts(),
             "[[finding]]\nname = \"hcc\"\npositive = [\"hepatocellular carcinoma\"]\n"
             "negative = [\"no hepatocellular carcinoma\"]\n"
             "[[finding]]\nname = \"cyst\"\npositive = [\"renal cyst\"]\nnegative = [\"no renal "
             "cyst\"]\n");
  data::train_tokenizer(texts, 320, tokenizer());
  data::CacheBuildOptions options;
  options.manifest = folder_ / "manifest.csv";
  options.out_dir = cache();
  options.tokenizer_dir = tokenizer();
  options.preprocess = data::preprocess_preset("merlin");
  options.preprocess.volume_shape = {16, 16, 12};
  options.max_text_tokens = 64;
  std::filesystem::create_directories(cache());
  const data::CachePlan plan = data::plan_cache_build(options, num_shards);
  data::build_cache_shards(plan, 0, 1, [] {});
  data::finish_cache(plan);
}

const TinyCache& tiny_cache() {
  static const TinyCache made;
  return made;
}

const TinyCache& companions_cache() {
  static const TinyCache made(2, /*has_companions=*/true);
  return made;
}

trainer::RunConfig tiny_run(const std::filesystem::path& output_dir, const Settings& changes,
                            const TinyCache& cache) {
  Settings values{{"run.output_dir", quoted(output_dir)},
                  {"run.seed", "7"},
                  {"run.log_every_steps", "1"},
                  {"data.cache", quoted(cache.cache())},
                  {"model.preset", "\"merlin_tiny\""},
                  {"model.tokenizer", quoted(cache.tokenizer())},
                  {"model.max_text_tokens", "64"},
                  {"batch.global_pairs", "6"},
                  {"optimizer.lr", "1e-3"},
                  {"schedule.kind", "\"cosine\""},
                  {"schedule.warmup_steps", "2"},
                  {"schedule.max_steps", "8"},
                  {"evaluate.prompts", quoted(cache.prompts())},
                  {"evaluate.batch_size", "3"}};
  for (const auto& [key, value] : changes) {
    if (value.empty())
      values.erase(key);
    else
      values[key] = value;
  }
  ConfigSources sources;
  for (const auto& [key, value] : values) sources.sets.push_back(key + "=" + value);
  return trainer::load_run_config(sources);
}

std::map<std::string, at::Tensor> copy_weights(models::TwoTower& model) {
  std::map<std::string, at::Tensor> weights;
  for (const auto& [name, tensor] : models::base_state(model)) weights[name] = tensor.clone();
  for (const auto& [name, tensor] : models::adapter_state(model)) weights[name] = tensor.clone();
  return weights;
}

RunRecord run_once(const trainer::RunConfig& config, dist::ProcessGroup& group,
                   trainer::TrainLoopOptions options) {
  at::set_num_threads(1);  // bits depend on it
  Logger log(LoggerOptions{
      .rank = group.rank(), .num_ranks = group.num_ranks(), .quiet = true, .file = {}});
  RunRecord record;
  const auto given = options.on_step;
  options.on_step = [&](std::int64_t step, const trainer::StepReport& report) {
    record.losses.push_back(report.loss);
    record.grad_norms.push_back(report.grad_norm);
    if (given) given(step, report);
  };
  trainer::TrainLoop loop(config, options, group, log);
  record.result = loop.run();
  record.weights = copy_weights(loop.model());
  return record;
}

void on_thread_ranks(int num_ranks, const std::function<void(dist::ProcessGroup&)>& body) {
  const auto groups = dist::make_thread_groups(num_ranks, 30);
  std::vector<std::exception_ptr> errors(groups.size());
  {
    std::vector<std::jthread> threads;
    for (std::size_t rank = 0; rank < groups.size(); ++rank) {
      threads.emplace_back([&, rank] {
        try {
          body(*groups[rank]);
        } catch (...) {
          errors[rank] = std::current_exception();
        }
      });
    }
  }
  for (const std::exception_ptr& error : errors)
    if (error) std::rethrow_exception(error);
}

void expect_near(const std::map<std::string, at::Tensor>& a,
                 const std::map<std::string, at::Tensor>& b, double tolerance) {
  ASSERT_EQ(a.size(), b.size());
  for (const auto& [name, tensor] : a) {
    ASSERT_TRUE(b.contains(name)) << name;
    const at::Tensor other = b.at(name).to(at::kDouble);
    const double distance = (tensor.to(at::kDouble) - other).norm().item<double>();
    EXPECT_LE(distance, tolerance * std::max(1.0, other.norm().item<double>())) << name;
  }
}

void expect_same(const std::map<std::string, at::Tensor>& a,
                 const std::map<std::string, at::Tensor>& b) {
  ASSERT_EQ(a.size(), b.size());
  for (const auto& [name, tensor] : a) {
    ASSERT_TRUE(b.contains(name)) << name;
    EXPECT_TRUE(at::equal(tensor, b.at(name))) << name;
  }
}

}  // namespace triphase::test
