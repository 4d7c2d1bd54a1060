// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "data/tokenizer.hpp"
#include "models/two_tower.hpp"
#include "trainer/evaluate.hpp"

#include <string>
#include <vector>

namespace triphase::trainer {

/// [P,E] float32 unit rows of texts, prepared and tokenized like reports. Evaluation mode, no
/// gradients. Purely local.
[[nodiscard]] at::Tensor embed_texts(models::TwoTower& model, const std::vector<std::string>& texts,
                                     const data::Tokenizer& tokenizer, const RunConfig& config);

/// prompt_scores() with a tokenizer that is open already.
[[nodiscard]] std::vector<double> prompt_scores(models::TwoTower& model, const at::Tensor& image,
                                                const FindingPrompts& prompts,
                                                const data::Tokenizer& tokenizer,
                                                const RunConfig& config);

/// The tokenizer of model.tokenizer. @throws ConfigError when it is not given, DataError when the
/// cache's reports were tokenized by another one
[[nodiscard]] data::Tokenizer open_tokenizer(const RunConfig& config, const data::Cache& cache);

}  // namespace triphase::trainer
