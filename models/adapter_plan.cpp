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

/// Paths of the modules of one tower that get adapters.
void add_targets(const TowerTargets& tower, const std::vector<ModuleEntry>& modules,
                 std::set<std::string>& chosen) {
  check_options(tower);
  if (tower.options.rank == 0) return;
  for (const std::string& target : tower.options.targets) {
    const TargetPattern pattern(target);
    bool any = false;
    for (const ModuleEntry& module : modules) {
      if (!module.path.starts_with(tower.prefix) || !module.can_adapt() ||
          is_never_reached(module.path) || !pattern.fits(module.path))
        continue;
      chosen.insert(module.path);
      any = true;
    }
    if (!any) refuse_target(tower, target, modules);
  }
}

/// Whether a module's own parameters train as they are, adapters aside.
bool trains_itself(const ModuleEntry& module, const AdaptOptions& options) {
  const std::string& path = module.path;
  if (path.empty()) return options.train_log_scale;
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
  const std::vector<ModuleEntry> modules = list_modules(*model);
  std::map<std::string, std::int64_t> ranks;
  if (options.method == "peft")
    for (const TowerTargets& tower : towers(options)) {
      std::set<std::string> chosen;
      add_targets(tower, modules, chosen);
      for (const std::string& path : chosen) ranks[path] = tower.options.rank;
    }
  AdapterPlan plan;
  plan.options = options;
  for (const ModuleEntry& module : modules) {
    AdapterPlanRow row;
    row.module = module.path;
    row.part = "frozen";
    row.num_parameters = module.num_parameters();
    if (const auto found = ranks.find(module.path); found != ranks.end()) {
      TRIPHASE_CHECK(ConfigError, !trains_itself(module, options), "'", module.path,
                     "' would both train and get an adapter. Take it out of the targets, or "
                     "switch its training off.");
      row.part = "adapted";
      row.rank = found->second;
      row.num_trainable = row.rank * module.num_factors_per_rank();
    } else if (trains_itself(module, options)) {
      row.part = "trained";
      row.num_trainable = row.num_parameters;
    }
    plan.num_trainable += row.num_trainable;
    plan.num_base_parameters += row.num_parameters;
    plan.rows.push_back(row);
  }
  TRIPHASE_CHECK(ConfigError, plan.num_trainable > 0,
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
    if (row->part != "adapted") continue;
    const bool image = module.path.starts_with("encode_image.");
    const TowerAdapterOptions& tower = image ? plan.options.image : plan.options.text;
    module.adapt({row->rank, tower.alpha, tower.dropout, tower.rslora},
                 KeyedRandom{seed, xxh3(std::string_view(module.path))}.bits());
  }
}

void merge_adapters(TwoTower& model) {
  for (const ModuleEntry& module : list_modules(*model))
    if (module.is_adapted()) module.merge();
}

std::vector<std::pair<std::string, at::Tensor>> trainable_parameters(TwoTower& model) {
  std::vector<std::pair<std::string, at::Tensor>> found;
  for (const auto& item : model->named_parameters())
    if (item.value().requires_grad()) found.emplace_back(item.key(), item.value());
  return found;
}

}  // namespace triphase::models
