// SPDX-License-Identifier: Apache-2.0
#include "trainer/loop/contrast.hpp"

#include <ATen/ATen.h>

namespace triphase::trainer {
namespace {

dist::ContrastiveLossOptions contrastive_options(const LossOptions& loss) {
  dist::ContrastiveLossOptions options;
  if (has_logit_bias(loss)) options.kind = dist::ContrastiveLossKind::kSiglip;
  if (loss.negatives == "local") options.negatives = dist::Negatives::kLocal;
  if (loss.negatives == "site") options.negatives = dist::Negatives::kGroup;
  if (loss.transport == "ring") options.transport = dist::TextTransport::kRing;
  return options;
}

}  // namespace

at::Tensor contrast(models::TwoTower& model, const at::Tensor& image, const at::Tensor& text,
                    const PairIds& ids, const LossOptions& loss, dist::ProcessGroup& group) {
  const auto as_rows = [&](const at::Tensor& scalar) {
    return scalar.defined() ? scalar.to(image.options()) : scalar;
  };
  return dist::global_contrastive_loss({.image = image,
                                        .text = text,
                                        .log_scale = as_rows(model->log_scale()),
                                        .bias = as_rows(model->logit_bias()),
                                        .positive_ids = ids.positive,
                                        .negative_ids = ids.negative},
                                       group, contrastive_options(loss));
}

}  // namespace triphase::trainer
