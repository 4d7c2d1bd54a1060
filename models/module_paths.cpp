// SPDX-License-Identifier: Apache-2.0
#include "models/module_paths.hpp"

#include "base/error.hpp"
#include "models/batch_norm.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <cctype>

namespace triphase::models {
namespace {

/// Calls with_conv or with_linear, whichever the module is.
template <class Action>
auto on_layer(const ModuleEntry& entry, Action action) {
  if (auto* conv = entry.module->as<AdaptedConv3dImpl>()) return action(*conv);
  auto* linear = entry.module->as<AdaptedLinearImpl>();
  TRIPHASE_CHECK(InternalError, linear != nullptr, "'", entry.path, "' cannot have an adapter");
  return action(*linear);
}

bool is_factor(const std::string& path) {
  const std::string name = last_part(path);
  return name == "lora_A" || name == "lora_B";
}

}  // namespace

bool ModuleEntry::can_adapt() const {
  return module->as<AdaptedConv3dImpl>() != nullptr || module->as<AdaptedLinearImpl>() != nullptr;
}

bool ModuleEntry::is_adapted() const {
  return can_adapt() && on_layer(*this, [](auto& layer) { return layer.is_adapted(); });
}

bool ModuleEntry::is_batch_norm() const { return module->as<BatchNormImpl>() != nullptr; }

std::vector<at::Tensor> ModuleEntry::parameters() const {
  return module->parameters(/*recurse=*/false);
}

std::int64_t ModuleEntry::num_parameters() const {
  std::int64_t count = 0;
  for (const at::Tensor& parameter : parameters()) count += parameter.numel();
  return count;
}

std::int64_t ModuleEntry::num_factors_per_rank() const {
  return on_layer(*this, [](auto& layer) {
    const std::int64_t outputs = layer.weight.size(0);
    return layer.weight.numel() / outputs + outputs;
  });
}

void ModuleEntry::adapt(const LowRankOptions& options, std::uint64_t seed) const {
  on_layer(*this, [&](auto& layer) { layer.adapt(options, seed); });
}

void ModuleEntry::merge() const {
  on_layer(*this, [](auto& layer) { layer.merge(); });
}

void ModuleEntry::merge_keeping_factors() const {
  on_layer(*this, [](auto& layer) { layer.merge_keeping_factors(); });
}

void ModuleEntry::unmerge() const {
  on_layer(*this, [](auto& layer) { layer.unmerge(); });
}

bool ModuleEntry::is_merged() const {
  return can_adapt() && on_layer(*this, [](auto& layer) { return layer.is_merged(); });
}

LowRankOptions ModuleEntry::low_rank() const {
  return on_layer(*this, [](auto& layer) { return layer.low_rank(); });
}

at::Tensor ModuleEntry::lora_a() const {
  return on_layer(*this, [](auto& layer) { return layer.lora_A; });
}

at::Tensor ModuleEntry::lora_b() const {
  return on_layer(*this, [](auto& layer) { return layer.lora_B; });
}

std::vector<ModuleEntry> list_modules(TwoTowerImpl& model) {
  std::vector<ModuleEntry> entries;
  for (const auto& item : model.named_modules("", /*include_self=*/true))
    if (!is_factor(item.key()) && !item.value()->parameters(/*recurse=*/false).empty())
      entries.push_back({item.key(), item.value()});
  return entries;
}

std::string last_part(const std::string& path) { return path.substr(path.rfind('.') + 1); }

bool is_never_reached(const std::string& path) {
  const std::string name = last_part(path);
  return name.ends_with("_global") || name == "classifier" ||
         path.find(".pooler.") != std::string::npos;
}

}  // namespace triphase::models
