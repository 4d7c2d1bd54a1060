// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "models/adapted_layers.hpp"
#include "models/adapter_options.hpp"
#include "models/two_tower.hpp"

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace triphase::models {

/// One module's part in the plan.
struct AdapterPlanRow {
  std::string module;              ///< e.g. encode_image.i3_resnet.layer3.5.conv2
  std::string part;                ///< "adapted", "trained" or "frozen"
  std::int64_t rank = 0;           ///< 0 when not adapted
  double alpha = 0;                ///< 0 when not adapted
  std::int64_t num_trainable = 0;
  std::int64_t num_parameters = 0; ///< of the base module
};

struct AdapterPlan {
  AdaptOptions options;
  std::vector<AdapterPlanRow> rows;       ///< every module with own parameters, in the model's order
  std::int64_t num_trainable = 0;
  std::int64_t num_base_parameters = 0;   ///< the denominator: all parameters of the network without adapters
  [[nodiscard]] double trainable_percent() const;
  /// A table for people: rows of equal part joined, counts, and below them "adapters 2,975,744 of 270,935,389
  /// (1.098 %)", the same for weights that train as they are where there are any, and the log-scale on a line of
  /// its own. Unused parameters are named.
  [[nodiscard]] std::string table() const;
};

/// What apply_adapters() would do. @throws ConfigError for a target that fits nothing, naming near ones, and for
/// a rank or alpha pattern that decides for no target
[[nodiscard]] AdapterPlan plan_adapters(TwoTower& model, const AdaptOptions& options);

/// Adapts and freezes as planned: afterwards requires_grad is true exactly for what trains. Under "full" the
/// parameters that contrastive training never reaches (*_global, pooler, and the phenotype head unless it
/// trains) stay frozen. A factors are keyed by (seed, module path).
void apply_adapters(TwoTower& model, const AdapterPlan& plan, std::uint64_t seed);

/// Path and settings of every adapted module, in the model's order.
[[nodiscard]] std::vector<std::pair<std::string, LowRankOptions>> adapted_modules(TwoTower& model);

/// Gives a bare model adapters in these places, for values that come from elsewhere; nothing is frozen.
/// @throws InternalError for a path that the model has not
void adapt_modules(TwoTower& model,
                   const std::vector<std::pair<std::string, LowRankOptions>>& modules);

/// Adds every adapter to its base weight and removes it.
void merge_adapters(TwoTower& model);

/// Adds every adapter to its base weight and keeps the factors, for passes without training; unmerge_adapters()
/// takes them out again, which gives the weights back to the rounding of two sums.
/// @throws InternalError when they are merged (not merged) already
void merge_adapters_keeping_factors(TwoTower& model);
void unmerge_adapters(TwoTower& model);

/// Name and tensor of every parameter that trains, in the model's order (the same on every rank).
[[nodiscard]] std::vector<std::pair<std::string, at::Tensor>> trainable_parameters(TwoTower& model);

}  // namespace triphase::models
