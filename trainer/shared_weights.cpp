// SPDX-License-Identifier: Apache-2.0
#include "trainer/shared_weights.hpp"

#include <ATen/ATen.h>

#include <algorithm>

#include "dist/runtime.hpp"
#include "models/weights.hpp"

namespace triphase::trainer {

models::TwoTower build_base_model_on_nodes(const RunConfig& config, dist::ProcessGroup& group,
                                           dist::ProcessGroup& node, const ReadModel& read) {
  const bool reads = node.rank() == 0 || config.model.weights == "random";
  models::TwoTower model{nullptr};
  dist::agree_on(group, [&] { model = reads ? read(config) : make_bare_model(config); });
  if (config.model.weights != "random") broadcast_weights(model, node);
  return model;
}

void broadcast_weights(models::TwoTower& model, dist::ProcessGroup& node,
                       std::int64_t piece_bytes) {
  const at::NoGradGuard no_grad;
  for (const auto& state : {models::base_state(model), models::adapter_state(model)})
    for (const auto& [name, tensor] : state) {
      TRIPHASE_CHECK(InternalError, tensor.is_contiguous(), "'", name, "' is not contiguous");
      const at::Tensor bytes = tensor.view({-1}).view(at::kByte);
      for (std::int64_t begin = 0; begin < bytes.numel(); begin += piece_bytes) {
        const std::int64_t end = std::min(begin + piece_bytes, bytes.numel());
        node.broadcast(bytes.slice(0, begin, end), /*root=*/0)->wait();
      }
    }
}

}  // namespace triphase::trainer
