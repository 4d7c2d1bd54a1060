// SPDX-License-Identifier: Apache-2.0
#include "models/adapter_plan.hpp"

#include "base/config_reader.hpp"
#include "base/error.hpp"
#include "base/hash.hpp"
#include "base/random.hpp"
#include "models/module_paths.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <map>
#include <set>

namespace triphase::models {
namespace {

/// What an adapter of one module is to be.
struct Adapter {
  std::int64_t rank;
  double alpha;
};
using Adapters = std::map<std::string, Adapter>;  // by module path

struct TowerTargets {
  const char* name;    ///< in messages and keys: adapt.image, adapt.text
  const char* prefix;  ///< of its modules' paths
  const TowerAdapterOptions& options;
};

std::vector<TowerTargets> towers(const AdaptOptions& options) {
  return {{"image", "encode_image.", options.image}, {"text", "encode_text.", options.text}};
}

void check_options(const TowerTargets& tower) {
  const TowerAdapterOptions& options = tower.options;
  const std::string key = str("adapt.", tower.name, ".");
  TRIPHASE_CHECK(ConfigError, options.rank >= 0, key, "rank must be 0 (no adapters) or more, is ",
                 options.rank);
  TRIPHASE_CHECK(ConfigError, options.alpha > 0, key, "alpha must be above 0, is ", options.alpha);
  TRIPHASE_CHECK(ConfigError, options.dropout >= 0 && options.dropout < 1, key,
                 "dropout must be in [0, 1), is ", options.dropout);
  TRIPHASE_CHECK(ConfigError, options.rank == 0 || !options.targets.empty(), key,
                 "targets is empty. Name modules, or set ", key, "rank = 0 for no adapters.");
  TRIPHASE_CHECK(
      ConfigError,
      options.rank > 0 || (options.rank_pattern.empty() && options.alpha_pattern.empty()), key,
      "rank is 0 (no adapters), but rank_pattern or alpha_pattern is given. Set a "
      "rank, or drop the patterns.");
  for (const auto& [pattern, rank] : options.rank_pattern)
    TRIPHASE_CHECK(ConfigError, rank >= 1, key, "rank_pattern: '", pattern, "' has rank ", rank,
                   ", expected 1 or more. Take a module that gets no adapter out of the targets.");
  for (const auto& [pattern, alpha] : options.alpha_pattern)
    TRIPHASE_CHECK(ConfigError, alpha > 0, key, "alpha_pattern: '", pattern, "' has alpha ", alpha,
                   ", expected a number above 0.");
}

/// What is said of a target that fits no module that can have an adapter.
[[noreturn]] void refuse_target(const TowerTargets& tower, const std::string& target,
                                const std::vector<ModuleEntry>& modules) {
  const TargetPattern pattern(target);
  std::vector<std::string> names;
  for (const ModuleEntry& module : modules) {
    if (!module.path.starts_with(tower.prefix)) continue;
    TRIPHASE_CHECK(ConfigError, !pattern.fits(module.path), "adapt.", tower.name, ".targets: '",
                   target, "' fits '", module.path, "', ",
                   module.can_adapt() ? "which the contrastive loss never reaches"
                                      : "which is no convolution and no linear layer",
                   ". Choose other targets.");
    if (module.can_adapt()) names.push_back(last_part(module.path));
  }
  std::sort(names.begin(), names.end());
  names.erase(std::unique(names.begin(), names.end()), names.end());
  std::string known;
  for (const std::string& name : names) known += (known.empty() ? "" : ", ") + name;
  const std::optional<std::string> near = nearest_word(last_part(target), names);
  throw ConfigError(str("adapt.", tower.name, ".targets: '", target, "' fits no module of the ",
                        tower.name, " tower.", near ? " Did you mean '" + *near + "'?" : "",
                        " Names that can have adapters: ", known, "."));
}

/// Puts the value of the first pattern that fits in the place of the tower's own, for every
/// adapter.
/// @param key of the patterns, e.g. "adapt.image.rank_pattern"
template <class Value>
void apply_patterns(const std::string& key,
                    const std::vector<std::pair<std::string, Value>>& patterns,
                    Value Adapter::*member, Adapters& adapters) {
  std::set<std::string> decided;
  for (const auto& [text, value] : patterns) {
    const TargetPattern pattern(text);
    bool fits = false;
    bool decides = false;
    for (auto& [path, adapter] : adapters) {
      if (!pattern.fits(path)) continue;
      fits = true;
      if (!decided.insert(path).second) continue;
      adapter.*member = value;
      decides = true;
    }
    TRIPHASE_CHECK(ConfigError, decides, key, ": '", text, "' fits ",
                   fits
                       ? "only targets for which an earlier pattern decides. Put it before that one"
                       : "none of the tower's targets. Correct it",
                   ", or drop it.");
  }
}

/// The modules of one tower that get adapters.
Adapters tower_adapters(const TowerTargets& tower, const std::vector<ModuleEntry>& modules) {
  check_options(tower);
  const TowerAdapterOptions& options = tower.options;
  Adapters adapters;
  if (options.rank == 0) return adapters;
  for (const std::string& target : options.targets) {
    const TargetPattern pattern(target);
    bool any = false;
    for (const ModuleEntry& module : modules) {
      if (!module.path.starts_with(tower.prefix) || !module.can_adapt() ||
          is_never_reached(module.path) || !pattern.fits(module.path))
        continue;
      adapters[module.path] = {options.rank, options.alpha};
      any = true;
    }
    if (!any) refuse_target(tower, target, modules);
  }
  const std::string key = str("adapt.", tower.name, ".");
  apply_patterns(key + "rank_pattern", options.rank_pattern, &Adapter::rank, adapters);
  apply_patterns(key + "alpha_pattern", options.alpha_pattern, &Adapter::alpha, adapters);
  return adapters;
}

/// Of the whole network, whose own parameters are the log-scale and sometimes the bias.
bool has_logit_bias(const ModuleEntry& network) { return network.num_parameters() > 1; }

/// Whether a module's own parameters train as they are, adapters aside.
bool trains_itself(const ModuleEntry& module, const AdaptOptions& options) {
  const std::string& path = module.path;
  if (path.empty()) return options.train_log_scale || has_logit_bias(module);
  if (last_part(path) == "classifier") return options.train_phenotype_head;
  if (is_never_reached(path)) return false;
  if (options.method == "full") return true;
  const std::string name = last_part(path);
  if (name == "contrastive_head" || name == "linear_layer") return options.train_heads;
  if (name == "LayerNorm") return options.train_layer_norms;
  return module.is_batch_norm() && options.train_batch_norms;
}

const AdapterPlanRow* find_row(const AdapterPlan& plan, const std::string& path) {
  for (const AdapterPlanRow& row : plan.rows)
    if (row.module == path) return &row;
  return nullptr;
}

}  // namespace

double AdapterPlan::trainable_percent() const {
  return 100.0 * static_cast<double>(num_trainable) / static_cast<double>(num_base_parameters);
}

AdapterPlan plan_adapters(TwoTower& model, const AdaptOptions& options) {
  TRIPHASE_CHECK(ConfigError, options.method == "full" || options.method == "peft",
                 "adapt.method must be 'full' or 'peft', is '", options.method, "'");
  TRIPHASE_CHECK(ConfigError, options.execution == "two_path" || options.execution == "merged",
                 "adapt.execution must be 'two_path' or 'merged', is '", options.execution, "'");
  const std::vector<ModuleEntry> modules = list_modules(*model);
  Adapters adapters;
  if (options.method == "peft")
    for (const TowerTargets& tower : towers(options))
      adapters.merge(tower_adapters(tower, modules));
  AdapterPlan plan;
  plan.options = options;
  for (const ModuleEntry& module : modules) {
    AdapterPlanRow row;
    row.module = module.path;
    row.part = "frozen";
    row.num_parameters = module.num_parameters();
    if (const auto found = adapters.find(module.path); found != adapters.end()) {
      TRIPHASE_CHECK(ConfigError, !trains_itself(module, options), "'", module.path,
                     "' would both train and get an adapter. Take it out of the targets, or "
                     "switch its training off.");
      row.part = "adapted";
      row.rank = found->second.rank;
      row.alpha = found->second.alpha;
      row.num_trainable = row.rank * module.num_factors_per_rank();
    } else if (trains_itself(module, options)) {
      row.part = "trained";
      row.num_trainable = row.num_parameters;
      if (module.path.empty() && !options.train_log_scale) row.num_trainable -= 1;
    }
    plan.num_trainable += row.num_trainable;
    plan.num_base_parameters += row.num_parameters;
    plan.rows.push_back(row);
  }
  TRIPHASE_CHECK(
      ConfigError, plan.num_trainable > 0,
      "nothing would train: both towers have adapt.*.rank = 0 and every adapt.train_* is "
      "false. Give one of them a rank.");
  return plan;
}

void apply_adapters(TwoTower& model, const AdapterPlan& plan, std::uint64_t seed) {
  const std::vector<ModuleEntry> modules = list_modules(*model);
  for (const ModuleEntry& module : modules) {
    TRIPHASE_CHECK(ConfigError, !module.is_adapted(), "'", module.path,
                   "' has an adapter already. Merge the adapters first.");
    const AdapterPlanRow* row = find_row(plan, module.path);
    TRIPHASE_CHECK(InternalError, row != nullptr, "the plan does not name '", module.path,
                   "': it was made for another model");
    for (at::Tensor& parameter : module.parameters())
      parameter.set_requires_grad(row->part == "trained");
    if (module.path.empty()) model->log_scale().set_requires_grad(plan.options.train_log_scale);
    if (row->part != "adapted") continue;
    const bool image = module.path.starts_with("encode_image.");
    const TowerAdapterOptions& tower = image ? plan.options.image : plan.options.text;
    const AdapterExecution execution = plan.options.execution == "merged"
                                           ? AdapterExecution::kMerged
                                           : AdapterExecution::kTwoPath;
    module.adapt({row->rank, row->alpha, tower.dropout, tower.rslora, execution},
                 KeyedRandom{seed, xxh3(std::string_view(module.path))}.bits());
  }
}

std::vector<std::pair<std::string, LowRankOptions>> adapted_modules(TwoTower& model) {
  std::vector<std::pair<std::string, LowRankOptions>> adapted;
  for (const ModuleEntry& module : list_modules(*model))
    if (module.is_adapted()) adapted.emplace_back(module.path, module.low_rank());
  return adapted;
}

void adapt_modules(TwoTower& model,
                   const std::vector<std::pair<std::string, LowRankOptions>>& modules) {
  const std::vector<ModuleEntry> all = list_modules(*model);
  for (const auto& [path, options] : modules) {
    const auto found = std::find_if(all.begin(), all.end(),
                                    [&](const ModuleEntry& each) { return each.path == path; });
    TRIPHASE_CHECK(InternalError, found != all.end(), "the model has no module '", path, "'");
    found->adapt(options, /*seed=*/0);
  }
}

void merge_adapters(TwoTower& model) {
  for (const ModuleEntry& module : list_modules(*model))
    if (module.is_adapted()) module.merge();
}

void merge_adapters_keeping_factors(TwoTower& model) {
  for (const ModuleEntry& module : list_modules(*model))
    if (module.is_adapted()) module.merge_keeping_factors();
}

void unmerge_adapters(TwoTower& model) {
  for (const ModuleEntry& module : list_modules(*model))
    if (module.is_adapted()) module.unmerge();
}

std::vector<std::pair<std::string, at::Tensor>> trainable_parameters(TwoTower& model) {
  std::vector<std::pair<std::string, at::Tensor>> found;
  for (const auto& item : model->named_parameters())
    if (item.value().requires_grad()) found.emplace_back(item.key(), item.value());
  return found;
}

}  // namespace triphase::models
