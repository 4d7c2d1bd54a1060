// SPDX-License-Identifier: Apache-2.0
#include "trainer/loop/federation.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <map>
#include <optional>

#include "data/epoch_plan.hpp"
#include "dist/runtime.hpp"

namespace triphase::trainer {
namespace {

data::EpochPlanOptions plan_options(const SiteSamples& site, const RunConfig& config, int rank,
                                    int num_ranks) {
  return {.num_samples = static_cast<std::int64_t>(site.train.size()),
          .global_pairs = config.batch.global_pairs,
          .rank = rank,
          .num_ranks = num_ranks,
          .seed = static_cast<std::uint64_t>(config.run.seed),
          .sampler = config.data.sampler,
          .groups = site.groups};
}

std::int64_t site_steps(const SiteSamples& site, const RunConfig& config) {
  try {
    return data::steps_per_epoch(plan_options(site, config, 0, 1));
  } catch (ConfigError& error) {
    error.add_context(str("site '", site.site, "' of a federated run"));
    throw;
  }
}

/// Weights and moments of what trains, in place.
std::vector<at::Tensor> state_tensors(
    const std::vector<std::pair<std::string, at::Tensor>>& parameters, Optimizer& optimizer) {
  std::vector<at::Tensor> tensors = optimizer.moments();
  for (const auto& [name, parameter] : parameters) tensors.push_back(parameter.detach());
  return tensors;
}

std::vector<at::Tensor> copies(const std::vector<at::Tensor>& tensors) {
  std::vector<at::Tensor> result;
  for (const at::Tensor& tensor : tensors) result.push_back(tensor.clone());
  return result;
}

void add(StepSeconds& sum, const StepSeconds& more) {
  sum.data += more.data;
  sum.forward += more.forward;
  sum.loss += more.loss;
  sum.backward += more.backward;
  sum.reduce += more.reduce;
  sum.reduce_exposed += more.reduce_exposed;
  sum.optimizer += more.optimizer;
}

}  // namespace

SiteGroups group_sites(std::size_t num_sites, int rank, int num_ranks) {
  SiteGroups layout;
  for (int n = 1; n <= num_ranks && n <= static_cast<int>(num_sites); ++n)
    if (num_ranks % n == 0) layout.num_groups = n;
  layout.group_of_rank = rank / (num_ranks / layout.num_groups);
  for (auto site = static_cast<std::size_t>(layout.group_of_rank); site < num_sites;
       site += static_cast<std::size_t>(layout.num_groups))
    layout.sites.push_back(site);
  return layout;
}

Federation::Federation(const TrainData& data, const RunConfig& config, dist::ProcessGroup& world)
    : data_(data), config_(config), world_(world), sites_(divide_by_site(data, config)) {
  layout_ = group_sites(sites_.size(), world.rank(), world.num_ranks());
  group_ = world.split(layout_.group_of_rank, world.rank());
  dist::agree_on(world, [&] {
    static_cast<void>(pairs_per_rank(config, group_->num_ranks()));
    std::int64_t num_pairs = 0;
    std::int64_t most_steps = 0;
    for (const SiteSamples& site : sites_) {
      num_pairs += std::ssize(site.train);
      most_steps = std::max(most_steps, site_steps(site, config));
    }
    for (const SiteSamples& site : sites_)
      shares_.push_back(static_cast<double>(site.train.size()) / static_cast<double>(num_pairs));
    rounds_per_epoch_ = std::max<std::int64_t>(1, most_steps / config.federated.local_steps);
  });
}

std::int64_t Federation::pairs_per_round() const {
  return std::ssize(sites_) * config_.federated.local_steps * config_.batch.global_pairs;
}

std::unique_ptr<data::BatchLoader> Federation::open_rounds(std::int64_t first, std::int64_t count,
                                                           std::int64_t epoch) const {
  const std::int64_t local_steps = config_.federated.local_steps;
  const std::int64_t pairs = pairs_per_rank(config_, group_->num_ranks());
  std::map<std::pair<std::size_t, std::int64_t>, std::vector<std::int64_t>> plans;
  std::vector<std::int64_t> samples;
  for (std::int64_t round = first; round < first + count; ++round) {
    for (const std::size_t s : layout_.sites) {
      const SiteSamples& site = sites_[s];
      const std::int64_t steps = site_steps(site, config_);
      for (std::int64_t number = round * local_steps; number < (round + 1) * local_steps; ++number) {
        std::vector<std::int64_t>& plan = plans[{s, number / steps}];
        if (plan.empty()) {
          data::EpochPlanOptions options =
              plan_options(site, config_, group_->rank(), group_->num_ranks());
          options.epoch = number / steps;
          plan = data::plan_epoch(options);
        }
        for (std::int64_t i = number % steps * pairs; i < (number % steps + 1) * pairs; ++i)
          samples.push_back(site.train[static_cast<std::size_t>(plan[static_cast<std::size_t>(i)])]);
      }
    }
  }
  const std::int64_t batches_per_round = std::ssize(layout_.sites) * local_steps;
  return open_batches(data_, config_, std::move(samples), pairs, epoch, [=](std::int64_t batch) {
    return (first + batch / batches_per_round) * local_steps + batch % local_steps;
  });
}

/// H updates of one site, whose part of the round's report is added.
void Federation::run_site(data::BatchLoader& loader, TrainStep& step, double lr_factor,
                          std::int64_t round, double share, StepReport& report) const {
  const std::int64_t local_steps = config_.federated.local_steps;
  const double weight = share / static_cast<double>(local_steps);
  for (std::int64_t i = 0; i < local_steps; ++i) {
    std::optional<data::Batch> batch;
    const double waited = loader.waited_seconds();
    dist::agree_on(*group_, [&] {
      batch = loader.next();
      TRIPHASE_CHECK(InternalError, batch.has_value(), "round ", round, " ran out of batches");
    });
    StepReport local = step.run(*batch, lr_factor, round * local_steps + i);
    local.seconds.data = loader.waited_seconds() - waited;
    local.own_seconds.data = local.seconds.data;
    report.loss += weight * local.loss;
    report.contrastive_loss += weight * local.contrastive_loss;
    report.phenotype_loss += weight * local.phenotype_loss;
    report.grad_norm += weight * local.grad_norm;
    report.is_skipped = report.is_skipped || local.is_skipped;
    report.bytes_reduced += local.bytes_reduced;
    add(report.seconds, local.seconds);
    report.own_seconds += local.own_seconds;
    if (i > 0) continue;
    report.temperature = local.temperature;  // the same at every site's first update
    report.logit_bias = local.logit_bias;
  }
}

StepReport Federation::run_round(
    data::BatchLoader& loader, TrainStep& step, Optimizer& optimizer,
    const std::vector<std::pair<std::string, at::Tensor>>& parameters, double lr_factor,
    std::int64_t round) const {
  const at::NoGradGuard no_grad;
  const std::vector<at::Tensor> state = state_tensors(parameters, optimizer);
  const std::vector<at::Tensor> before = copies(state);
  const std::int64_t updates_before = optimizer.num_updates();
  std::vector<at::Tensor> sums;
  for (const at::Tensor& tensor : state)
    sums.push_back(at::zeros_like(tensor, {}, at::MemoryFormat::Preserve));
  StepReport report;
  std::optional<Error> error;
  try {
    for (const std::size_t s : layout_.sites) {
      for (std::size_t k = 0; k < state.size(); ++k) state[k].copy_(before[k]);
      optimizer.set_num_updates(updates_before);
      {
        const at::AutoGradMode with_gradients(true);
        run_site(loader, step, lr_factor, round, shares_[s], report);
      }
      if (group_->rank() > 0) continue;  // its ranks have the same values: one of them counts
      for (std::size_t k = 0; k < state.size(); ++k) sums[k].add_(state[k], shares_[s]);
    }
  } catch (const std::exception& caught) {
    error = dist::error_of(caught);  // what one group knows, the others must hear
  }
  dist::agree(world_, error);
  for (std::size_t k = 0; k < state.size(); ++k) {
    at::Tensor row = sums[k].as_strided({sums[k].numel()}, {1});
    static_cast<void>(world_.all_reduce(row, dist::ReduceOp::kSum)->wait());
    state[k].copy_(sums[k]);
    report.bytes_exchanged += 2 * std::ssize(sites_) * static_cast<std::int64_t>(state[k].nbytes());
  }
  optimizer.set_num_updates(updates_before + config_.federated.local_steps);
  const double counts = group_->rank() == 0 ? 1 : 0;
  at::Tensor figures = at::tensor({counts * report.loss, counts * report.contrastive_loss,
                                   counts * report.phenotype_loss, counts * report.grad_norm,
                                   report.is_skipped ? 1.0 : 0.0},
                                  at::kDouble);
  figures = world_.all_reduce(figures, dist::ReduceOp::kSum)->wait();
  const double* values = figures.const_data_ptr<double>();
  report.loss = values[0];
  report.contrastive_loss = values[1];
  report.phenotype_loss = values[2];
  report.grad_norm = values[3];
  report.is_skipped = values[4] > 0;
  return report;
}

Json Federation::json() const {
  Json sites = Json::array();
  for (std::size_t s = 0; s < sites_.size(); ++s)
    sites.push_back(
        {{"site", sites_[s].site}, {"pairs", sites_[s].train.size()}, {"share", shares_[s]}});
  return {{"local_steps", config_.federated.local_steps},
          {"groups", layout_.num_groups},
          {"sites", std::move(sites)}};
}

}  // namespace triphase::trainer
