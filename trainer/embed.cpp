// SPDX-License-Identifier: Apache-2.0
#include "base/progress.hpp"
#include "data/batch_loader.hpp"
#include "models/two_tower.hpp"
#include "trainer/compute_scope.hpp"
#include "trainer/evaluate.hpp"

#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <memory>

namespace triphase::trainer {
namespace {

/// Samples of one rank: a run of whole batches, in order.
struct Share {
  std::int64_t first = 0;
  std::int64_t count = 0;
};

/// Ranks divide the list batch by batch, never within one, so that each sample meets the same
/// companions (and padding) on any number of ranks: the rows have the same bits.
Share share_of(std::int64_t num_samples, std::int64_t batch_size, int rank, int num_ranks) {
  const std::int64_t batches = (num_samples + batch_size - 1) / batch_size;
  const auto bound = [&](std::int64_t r) {
    return std::min(batches * r / num_ranks * batch_size, num_samples);
  };
  return {bound(rank), bound(rank + 1) - bound(rank)};
}

/// Rows of this rank, padded with zeros to the longest share, as collectives want equal shapes.
struct Rows {
  at::Tensor image;
  at::Tensor text;
  at::Tensor features;
};

void check_finite(const at::Tensor& rows, const data::Cache& cache, const data::Batch& batch,
                  const char* what) {
  const at::Tensor sums = rows.sum(1).isfinite().to(at::kCPU);
  if (sums.all().item<bool>()) return;
  for (std::int64_t i = 0; i < rows.size(0); ++i)
    TRIPHASE_CHECK(
        NumericsError, sums[i].item<bool>(), "the ", what, " embedding of sample '",
        cache.entries().at(static_cast<std::size_t>(batch.index[i].item<std::int64_t>())).id,
        "' is not finite. Look at the checkpoint's metrics.jsonl for a run that diverged.");
}

void encode_share(models::TwoTower& model, const data::Cache& cache,
                  const std::vector<std::int64_t>& indices, const RunConfig& config,
                  bool show_progress, const Rows& rows) {
  Progress progress("embed", static_cast<std::int64_t>(indices.size()), {.enabled = show_progress});
  data::BatchLoaderOptions options;
  options.sample_indices = indices;
  options.batch_size = config.evaluate.batch_size;
  options.num_workers = static_cast<int>(std::max<std::int64_t>(config.data.workers, 1));
  const at::Device device = model->device();
  options.is_pinned = device.is_cuda();
  data::BatchLoader loader(cache, options);
  const at::NoGradGuard no_gradients;
  std::int64_t done = 0;
  while (const std::optional<data::Batch> batch = loader.next()) {
    const ComputeScope scope(config.precision, device.type());
    const models::ImageEncoding image =
        model->encode_image_volumes(model_input(batch->volumes, config.precision, device));
    const at::Tensor text = model->encode_text_tokens(
        batch->tokens.to(device, /*non_blocking=*/true), batch->mask.to(device, true));
    check_finite(image.embedding, cache, *batch, "image");
    check_finite(text, cache, *batch, "text");
    const std::int64_t count = batch->index.size(0);
    rows.image.narrow(0, done, count).copy_(image.embedding);
    rows.text.narrow(0, done, count).copy_(text);
    rows.features.narrow(0, done, count).copy_(image.features);
    done += count;
    progress.advance(count);
  }
  progress.finish();
}

/// The padded rows of all ranks, padding left out, in the order of the list.
at::Tensor gather(const at::Tensor& padded, std::int64_t num_samples, std::int64_t batch_size,
                  dist::ProcessGroup& group) {
  const at::Tensor all = group.all_gather(padded)->wait();
  std::vector<at::Tensor> parts;
  for (int rank = 0; rank < group.num_ranks(); ++rank) {
    const Share share = share_of(num_samples, batch_size, rank, group.num_ranks());
    parts.push_back(all.narrow(0, rank * padded.size(0), share.count));
  }
  return at::cat(parts);
}

}  // namespace

EmbeddingTable embed_samples(models::TwoTower& model, const data::Cache& cache,
                             const std::vector<std::int64_t>& indices, const RunConfig& config,
                             dist::ProcessGroup& group, bool show_progress) {
  const auto num_samples = static_cast<std::int64_t>(indices.size());
  const std::int64_t batch_size = config.evaluate.batch_size;
  std::int64_t longest = 0;
  for (int rank = 0; rank < group.num_ranks(); ++rank)
    longest = std::max(longest, share_of(num_samples, batch_size, rank, group.num_ranks()).count);
  const Share share = share_of(num_samples, batch_size, group.rank(), group.num_ranks());
  const std::vector<std::int64_t> own(indices.begin() + share.first,
                                      indices.begin() + share.first + share.count);
  const std::int64_t width = model->options().embedding_size;
  const Rows rows{at::zeros({longest, width}), at::zeros({longest, width}),
                  at::zeros({longest, model->image_tower()->num_features()})};
  const bool was_training = model->is_training();
  dist::agree_on(group, [&] {
    model->eval();
    if (!own.empty())
      encode_share(model, cache, own, config, show_progress && group.rank() == 0, rows);
  });
  model->train(was_training);
  return {indices, gather(rows.image, num_samples, batch_size, group),
          gather(rows.text, num_samples, batch_size, group),
          gather(rows.features, num_samples, batch_size, group)};
}

}  // namespace triphase::trainer
