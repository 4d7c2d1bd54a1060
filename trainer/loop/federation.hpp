// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/json.hpp"
#include "data/batch_loader.hpp"
#include "dist/process_group.hpp"
#include "trainer/loop/train_data.hpp"
#include "trainer/loop/train_step.hpp"

namespace triphase::trainer {

/// Which ranks work for which sites: the ranks form as many groups of equal size as they can without
/// there being more groups than sites, and the sites go to the groups in turn.
struct SiteGroups {
  int num_groups = 1;
  int group_of_rank = 0;
  std::vector<std::size_t> sites;  ///< of this rank's group, rising
};
/// @param num_sites above 0. Purely local.
[[nodiscard]] SiteGroups group_sites(std::size_t num_sites, int rank, int num_ranks);

/// Federated rounds. In each, every site takes H local updates from the same weights and moments, on
/// batches of its own pairs alone; then weights and moments of what trains become the sites' mean, by
/// their shares of the training pairs. The numbers do not depend on how the ranks are grouped. A round is
/// what the loop counts as one step. This measures what federated training does to a model; it keeps
/// nobody's data private by itself. Source: McMahan et al., Communication-Efficient Learning, AISTATS
/// 2017, algorithm 1 (FedAvg), with AdamW's moments averaged like the weights.
class Federation {
 public:
  /// The data must outlive it. Collective over world.
  /// @throws AgreedError: of kind ConfigError when a site cannot fill a batch, or its ranks cannot share one
  Federation(const TrainData& data, const RunConfig& config, dist::ProcessGroup& world);

  /// The ranks that work for this rank's sites: those of its TrainStep.
  [[nodiscard]] dist::ProcessGroup& group() const { return *group_; }
  /// Until the site with the most pairs has seen each once; smaller ones go round.
  [[nodiscard]] std::int64_t rounds_per_epoch() const { return rounds_per_epoch_; }
  /// Over all sites.
  [[nodiscard]] std::int64_t pairs_per_round() const;
  /// This rank's batches of rounds [first, first + count), in the order in which run_round() takes them.
  /// Purely local.
  [[nodiscard]] std::unique_ptr<data::BatchLoader> open_rounds(std::int64_t first, std::int64_t count,
                                                               std::int64_t epoch) const;
  /// @param parameters what trains; @param step, @param optimizer over group() and these
  /// @return losses and norms are means over sites and updates; skipped when any update was
  /// Collective over world; a failure of one rank is thrown on all.
  [[nodiscard]] StepReport run_round(
      data::BatchLoader& loader, TrainStep& step, Optimizer& optimizer,
      const std::vector<std::pair<std::string, at::Tensor>>& parameters, double lr_factor,
      std::int64_t round) const;
  /// {local_steps, groups, sites: [{site, pairs, share}]}, for environment.json.
  [[nodiscard]] Json json() const;

 private:
  void run_site(data::BatchLoader& loader, TrainStep& step, double lr_factor, std::int64_t round,
                double share, StepReport& report) const;

  const TrainData& data_;
  const RunConfig& config_;
  dist::ProcessGroup& world_;
  std::vector<SiteSamples> sites_;
  std::vector<double> shares_;
  SiteGroups layout_;
  std::unique_ptr<dist::ProcessGroup> group_;
  std::int64_t rounds_per_epoch_ = 0;
};

}  // namespace triphase::trainer
