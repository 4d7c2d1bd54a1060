// SPDX-License-Identifier: Apache-2.0
#include "trainer/loop/tower_passes.hpp"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "base/random.hpp"
#include "models/dropout.hpp"
#include "trainer/compute_scope.hpp"

// Note [Gradient caching]
// A contrast needs the embeddings of all pairs at a time, the towers' activations only while a
// micro batch is differentiated. So: a first pass without graph over micro batches 0 .. k-1; the
// loss, once, over the embeddings, whose gradients are the cache; a second pass that runs a micro
// batch again with graph and hands it its rows of the cache. By the chain rule the sum is the
// gradient of the whole, exactly.
// - The last micro batch's graph is made in the first pass and used up before anything runs again:
//   k-1 micro batches run twice, and activations of two never meet. With k = 1 this is the usual
//   step.
// - Both runs of a micro batch draw the same random numbers, by keys of its samples, and so does one tower
//   that runs again without the other.
// - A tower without trained parameters runs in the first pass alone. It runs with gradients enabled
//   (it makes no graph), so that running statistics that move do so once for each micro batch.
// - The log-scale and the bias belong to the loss, which is formed once.
// Source: Gao et al. 2021, Scaling Deep Contrastive Learning Batch Size (GradCache).

namespace triphase::trainer {
namespace {

/// One key for each sample: what dropout leaves of it depends on neither rank nor micro batch.
std::vector<std::uint64_t> dropout_keys(std::int64_t seed, std::int64_t step, const at::Tensor& index) {
  const auto key = [](auto value) { return static_cast<std::uint64_t>(value); };
  std::vector<std::uint64_t> keys;
  for (std::int64_t i = 0; i < index.size(0); ++i)
    keys.push_back(KeyedRandom{key(seed), key(step), key(index.const_data_ptr<std::int64_t>()[i]),
                               /*what for: dropout*/ 0xd0}
                       .bits());
  return keys;
}

bool trains(const torch::nn::Module& tower) {
  const std::vector<at::Tensor> parameters = tower.parameters();
  return std::any_of(parameters.begin(), parameters.end(),
                     [](const at::Tensor& parameter) { return parameter.requires_grad(); });
}

constexpr at::Tensor models::Embeddings::*kOutputs[] = {
    &models::Embeddings::image, &models::Embeddings::text, &models::Embeddings::phenotype_logits};

/// The micro batches' rows below each other, without their graphs.
models::Embeddings joined_leaves(const std::vector<models::Embeddings>& micro_batches) {
  models::Embeddings leaves;
  for (const auto output : kOutputs) {
    const at::Tensor& last = micro_batches.back().*output;
    if (!last.defined()) continue;
    std::vector<at::Tensor> rows;
    for (const models::Embeddings& micro_batch : micro_batches)
      rows.push_back((micro_batch.*output).detach());
    leaves.*output = at::cat(rows).requires_grad_(last.requires_grad());
  }
  return leaves;
}

}  // namespace

TowerPasses::TowerPasses(models::TwoTower& model, TowerPassOptions options)
    : model_(model),
      options_(std::move(options)),
      trains_image_(trains(*model->image_tower())),
      trains_text_(trains(*model->text_tower())) {}

models::Embeddings TowerPasses::forward(std::int64_t micro_batch, bool is_replay) {
  const std::int64_t first = micro_batch * micro_pairs_;
  const std::int64_t count = std::min(micro_pairs_, batch_.tokens.size(0) - first);
  const bool has_graph = is_replay || micro_batch == num_micro_batches_ - 1;
  const at::Device device = model_->device();
  const ComputeScope scope(options_.precision, device.type());
  const models::DropoutScope dropout(
      dropout_keys(options_.seed, step_, batch_.index.narrow(0, first, count)));
  models::Embeddings outputs;
  if (trains_image_ || !is_replay) {
    const at::AutoGradMode grad(has_graph || !trains_image_);
    const models::ImageEncoding image = model_->encode_image_volumes(
        model_input(batch_.volumes.narrow(0, first, count), options_.precision, device),
        options_.with_phenotypes);
    outputs.image = image.embedding;
    outputs.phenotype_logits = image.phenotype_logits;
  }
  if (trains_text_ || !is_replay) {
    const at::AutoGradMode grad(has_graph || !trains_text_);
    const at::Tensor mask = batch_.mask.narrow(0, first, count);
    const std::int64_t longest = mask.sum(1).max().item<std::int64_t>();
    outputs.text = model_->encode_text_tokens(
        batch_.tokens.narrow(0, first, count).narrow(1, 0, longest).to(device),
        mask.narrow(1, 0, longest).to(device));
  }
  return outputs;
}

models::Embeddings TowerPasses::encode(const data::Batch& batch, std::int64_t step) {
  const std::int64_t pairs = batch.tokens.size(0);
  batch_ = batch;
  step_ = step;
  micro_pairs_ = options_.micro_pairs > 0 ? std::min(options_.micro_pairs, pairs) : pairs;
  num_micro_batches_ = (pairs + micro_pairs_ - 1) / micro_pairs_;
  std::vector<models::Embeddings> micro_batches;
  for (std::int64_t micro_batch = 0; micro_batch < num_micro_batches_; ++micro_batch)
    micro_batches.push_back(forward(micro_batch, /*is_replay=*/false));
  leaves_ = joined_leaves(micro_batches);
  kept_ = std::move(micro_batches.back());
  return leaves_;
}

void TowerPasses::backward_of(const models::Embeddings& outputs, std::int64_t micro_batch) const {
  std::vector<at::Tensor> roots;
  std::vector<at::Tensor> gradients;
  for (const auto output : kOutputs) {
    const at::Tensor& root = outputs.*output;
    if (!root.defined() || !root.requires_grad()) continue;
    const at::Tensor& gradient = (leaves_.*output).grad();
    if (!gradient.defined()) continue;
    roots.push_back(root);
    gradients.push_back(gradient.narrow(0, micro_batch * micro_pairs_, root.size(0)));
  }
  if (!roots.empty()) torch::autograd::backward(roots, gradients);
}

void TowerPasses::backward(const std::function<void()>& before_last,
                           const std::function<void()>& after_each) {
  for (std::int64_t micro_batch = num_micro_batches_ - 1; micro_batch >= 0; --micro_batch) {
    const bool is_kept = micro_batch == num_micro_batches_ - 1;
    const models::Embeddings outputs =
        is_kept ? std::exchange(kept_, {}) : forward(micro_batch, /*is_replay=*/true);
    if (micro_batch == 0 && before_last) before_last();
    backward_of(outputs, micro_batch);
    if (after_each) after_each();
  }
  leaves_ = {};
  batch_ = {};
}

}  // namespace triphase::trainer
