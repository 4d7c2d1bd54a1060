// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "models/two_tower.hpp"
#include "tests/support/test_support.hpp"
#include "trainer/loop/train_loop.hpp"
#include "trainer/run_config.hpp"

namespace triphase::test {

/// A cache of 30 random volumes with short reports and two labelled findings, beside its tokenizer
/// and prompts: 18 to train on, 8 to validate, 4 to test.
class TinyCache {
 public:
  /// @param num_shards at least so many
  /// @param has_companions two samples a patient, and some reports that two samples share
  /// @param has_groups the training samples that share a report are of one report group
  /// @param has_sections reports end with "Liver: ..." and, but for every third, "Spleen: ..."
  explicit TinyCache(std::int64_t num_shards = 2, bool has_companions = false,
                     bool has_groups = false, bool has_sections = false);
  /// The cache that another rank has made and keeps.
  explicit TinyCache(std::filesystem::path of_another_rank) : folder_(std::move(of_another_rank)) {}
  [[nodiscard]] std::filesystem::path cache() const { return folder_ / "cache"; }
  [[nodiscard]] std::filesystem::path tokenizer() const { return folder_ / "tokenizer"; }
  [[nodiscard]] std::filesystem::path prompts() const { return folder_ / "prompts.toml"; }
  [[nodiscard]] std::filesystem::path path(const std::string& name) const { return folder_ / name; }

 private:
  std::unique_ptr<TemporaryFolder> own_;
  std::filesystem::path folder_;
};

/// The same cache for every test of a process that does not change it.
[[nodiscard]] const TinyCache& tiny_cache();
/// Likewise one with companions.
[[nodiscard]] const TinyCache& companions_cache();

using Settings = std::map<std::string, std::string>;  ///< "table.key" to a TOML value

/// A run of merlin_tiny on the cache into `output_dir`/run; `changes` win over the defaults here.
[[nodiscard]] trainer::RunConfig tiny_run(const std::filesystem::path& output_dir,
                                          const Settings& changes = {},
                                          const TinyCache& cache = tiny_cache());

/// What a run did, as the tests compare it.
struct RunRecord {
  std::vector<double> losses;
  std::vector<double> grad_norms;
  std::map<std::string, at::Tensor> weights;  ///< all of them, adapters too
  trainer::TrainResult result;
};
/// One run in this process (or this rank of a group), from options.resume on.
RunRecord run_once(const trainer::RunConfig& config, dist::ProcessGroup& group,
                   trainer::TrainLoopOptions options = {});

/// Every base weight and factor, copied.
[[nodiscard]] std::map<std::string, at::Tensor> copy_weights(models::TwoTower& model);

/// Calls body(group) on `num_ranks` threads, one group each, and re-throws rank 0's exception.
void on_thread_ranks(int num_ranks, const std::function<void(dist::ProcessGroup&)>& body);

/// Expects |a - b| <= tolerance * max(1, |b|) tensor by tensor in the Euclidean norm. Not relative
/// to small norms: a bias whose exact gradient is zero holds rounding errors alone.
void expect_near(const std::map<std::string, at::Tensor>& a,
                 const std::map<std::string, at::Tensor>& b, double tolerance);
/// Expects the same bits.
void expect_same(const std::map<std::string, at::Tensor>& a,
                 const std::map<std::string, at::Tensor>& b);

}  // namespace triphase::test
