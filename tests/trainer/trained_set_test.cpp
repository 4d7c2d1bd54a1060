// SPDX-License-Identifier: Apache-2.0
// What trains is what the adapter table says, no more and no less.
#include <ATen/ATen.h>

#include <set>

#include "base/json.hpp"
#include "models/weights.hpp"
#include "tests/trainer/run_fixture.hpp"
#include "trainer/build_model.hpp"
#include "trainer/loop/run_folder.hpp"

namespace triphase::test {
namespace {

/// The part of a parameter's name that names its module.
std::string module_of(const std::string& name) {
  for (const std::string factor : {".lora_A.weight", ".lora_B.weight"})
    if (name.ends_with(factor)) return name.substr(0, name.size() - factor.size());
  const std::size_t dot = name.rfind('.');
  return dot == std::string::npos ? "" : name.substr(0, dot);
}

const std::vector<Settings> kMethods{
    {{"adapt.method", "\"full\""}},
    {{"adapt.method", "\"full\""}, {"loss.temperature_learnable", "false"}},
    {{"adapt.method", "\"peft\""}},
    {{"adapt.method", "\"peft\""}, {"adapt.text.rank", "0"}, {"adapt.train_heads", "true"}},
    {{"adapt.method", "\"peft\""},
     {"adapt.image.rank", "0"},
     {"adapt.train_layer_norms", "true"},
     {"adapt.train_batch_norms", "true"}},
    {{"adapt.method", "\"peft\""},
     {"adapt.image.targets", "[\"layer[34]\\\\..*conv1$\"]"},
     {"adapt.text.targets", "[\"key\", \"dense\"]"},
     {"loss.temperature_learnable", "false"}}};

TEST(TrainedSet, ARunChangesExactlyTheModulesThatItsTableNames) {
  const auto self = dist::make_self_group();
  for (const Settings& method : kMethods) {
    Settings settings = method;
    settings["optimizer.lr"] = "1e-2";
    settings["optimizer.weight_decay"] = "0.3";
    settings["schedule.max_steps"] = "4";
    const TemporaryFolder folder;
    const trainer::RunConfig config = tiny_run(folder.path(), settings);
    SCOPED_TRACE(config.resolved_toml);
    trainer::TrainableModel start = trainer::build_trainable_model(config);
    const std::map<std::string, at::Tensor> before = copy_weights(start.model);
    std::set<std::string> planned;
    for (const models::AdapterPlanRow& row : start.plan.rows)
      if (row.num_trainable > 0) planned.insert(row.module);

    std::set<std::string> changed;
    std::int64_t num_changed = 0;
    for (const auto& [name, tensor] : run_once(config, *self).weights) {
      if (at::equal(tensor, before.at(name))) continue;
      changed.insert(module_of(name));
      num_changed += tensor.numel();
      const bool is_factor = name.find(".lora_") != std::string::npos;
      for (const models::AdapterPlanRow& row : start.plan.rows)
        if (row.module == module_of(name)) {
          EXPECT_EQ(row.part, is_factor ? "adapted" : "trained") << name;
        }
    }
    EXPECT_EQ(changed, planned);
    EXPECT_EQ(num_changed, start.plan.num_trainable);

    const Json environment = read_json(folder / "run/environment.json");
    std::set<std::string> told;
    for (const Json& row : environment.at("model").at("trained_modules"))
      told.insert(row.at("module").get<std::string>());
    EXPECT_EQ(told, planned);
  }
}

TEST(EstimateMemory, CountsTheBytesOfTheModelThatIsBuilt) {
  for (const Settings& method : kMethods) {
    for (const std::string compute : {"\"float32\"", "\"bfloat16\"", "\"float64\""}) {
      Settings settings = method;
      settings["precision.compute"] = compute;
      const trainer::RunConfig config = tiny_run("unused", settings);
      trainer::TrainableModel built = trainer::build_trainable_model(config);
      std::size_t weights = 0;
      std::size_t trained = 0;
      for (const at::Tensor& tensor : built.model->parameters()) {
        weights += tensor.nbytes();
        if (tensor.requires_grad()) trained += tensor.nbytes();
      }
      const trainer::MemoryEstimate estimate =
          trainer::estimate_memory(built.plan, config.precision);
      EXPECT_EQ(estimate.weights, static_cast<std::int64_t>(weights)) << compute;
      EXPECT_EQ(estimate.gradients, static_cast<std::int64_t>(trained)) << compute;
      EXPECT_EQ(estimate.moments, static_cast<std::int64_t>(2 * trained)) << compute;
      EXPECT_EQ(estimate.total(), static_cast<std::int64_t>(weights + 3 * trained)) << compute;
    }
  }
}

}  // namespace
}  // namespace triphase::test
