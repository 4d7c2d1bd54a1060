// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "models/target_pattern.hpp"
#include "models/two_tower.hpp"

#include <memory>
#include <string>
#include <vector>

namespace triphase::models {

/// A module with parameters of its own, by its path in the model ("" for the model itself, which owns the
/// log-scale). Adapters' factors are no entries: they belong to the module they adapt.
struct ModuleEntry {
  std::string path;
  std::shared_ptr<torch::nn::Module> module;

  [[nodiscard]] bool can_adapt() const;
  [[nodiscard]] bool is_adapted() const;
  [[nodiscard]] bool is_batch_norm() const;
  [[nodiscard]] std::vector<at::Tensor> parameters() const;  ///< its own, without factors
  [[nodiscard]] std::int64_t num_parameters() const;
  /// Elements of both factors at rank 1.
  [[nodiscard]] std::int64_t num_factors_per_rank() const;
  void adapt(const LowRankOptions& options, std::uint64_t seed) const;
  void merge() const;
  void merge_keeping_factors() const;
  void unmerge() const;
  [[nodiscard]] bool is_merged() const;
  [[nodiscard]] LowRankOptions low_rank() const;
  [[nodiscard]] at::Tensor lora_a() const;
  [[nodiscard]] at::Tensor lora_b() const;
};

/// In the model's order, which is the same on every rank.
[[nodiscard]] std::vector<ModuleEntry> list_modules(TwoTowerImpl& model);

/// The path's last part: "conv2" of "encode_image.i3_resnet.layer3.5.conv2".
[[nodiscard]] std::string last_part(const std::string& path);

/// Whether the contrastive loss leaves this module without a gradient: the *_global projections, the
/// pooler and the phenotype head.
[[nodiscard]] bool is_never_reached(const std::string& path);

}  // namespace triphase::models
