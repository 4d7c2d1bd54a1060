// SPDX-License-Identifier: Apache-2.0
#include "trainer/loop/trainable_model.hpp"

#include <ATen/ATen.h>

#include <utility>

#include "trainer/build_model.hpp"

namespace triphase::trainer {

TrainableModel build_trainable_model(const RunConfig& config) {
  return make_trainable(config, build_base_model(config));
}

TrainableModel make_trainable(const RunConfig& config, models::TwoTower base,
                              const at::Device& device) {
  TrainableModel built;
  built.model = std::move(base);
  built.model->set_logit_bias(has_logit_bias(config.loss));
  built.plan = models::plan_adapters(built.model, config.adapt);
  models::apply_adapters(built.model, built.plan, static_cast<std::uint64_t>(config.run.seed));
  apply_precision(built.model, config, device);
  const at::NoGradGuard no_grad;
  built.model->log_scale().fill_(initial_log_scale(config.loss));
  if (has_logit_bias(config.loss)) built.model->logit_bias().fill_(config.loss.bias_init);
  built.model->train();
  return built;
}

}  // namespace triphase::trainer
