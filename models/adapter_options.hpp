// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace triphase::models {

/// Where adapters go in one tower.
struct TowerAdapterOptions {
  std::int64_t rank = 8;  ///< 0: no adapters in this tower
  double alpha = 16;
  double dropout = 0;
  bool rslora = false;
  /// Each a regular expression (see TextPattern) searched in the module's path, e.g.
  /// "layer[1-4]\\..*conv2$", or a plain name: a path or its end at a dot, e.g. "query".
  std::vector<std::string> targets;
  /// Written like a target: modules that get another rank or alpha than the tower's. The first that fits decides.
  /// Each must decide for one of the targets at least.
  std::vector<std::pair<std::string, std::int64_t>> rank_pattern{};
  std::vector<std::pair<std::string, double>> alpha_pattern{};
};

/// Which parameters train. "full": all that contrastive training can reach. "peft": adapters, and what is
/// switched on here.
struct AdaptOptions {
  std::string method = "full";  ///< "full" or "peft"
  std::string execution = "two_path";  ///< of adapters; or "merged" (see AdapterExecution)
  TowerAdapterOptions image{.targets = {"conv2"}};
  TowerAdapterOptions text{.targets = {"query", "value"}};
  bool train_heads = false;        ///< contrastive_head and linear_layer (peft only)
  bool train_layer_norms = false;  ///< text LayerNorms (peft only)
  bool train_batch_norms = false;  ///< image BatchNorm weights and biases (peft only)
  bool train_log_scale = true;     ///< off: a fixed temperature. A model's logit bias trains in any case
  bool train_phenotype_head = false;  ///< the classifier, when the phenotype loss is on
};

}  // namespace triphase::models
