// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/json.hpp"
#include "base/logging.hpp"
#include "data/cache.hpp"
#include "dist/runtime.hpp"
#include "trainer/run_config.hpp"

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

namespace triphase::models {
class TwoTower;
}

namespace triphase::trainer {

/// Prompts of one finding, as given (they are sanitised and tokenized like reports).
struct FindingPrompts {
  std::string name;
  std::vector<std::string> positive;
  std::vector<std::string> negative;
};
/// @throws DataError (66) or ConfigError with file:line
[[nodiscard]] std::vector<FindingPrompts> read_prompts(const std::string& path);

/// Embeddings of some samples, rows in the order of `indices`, equal on every rank.
struct EmbeddingTable {
  std::vector<std::int64_t> indices;  ///< into Cache::entries()
  at::Tensor image;                   ///< [N,E] float32 unit rows
  at::Tensor text;                    ///< [N,E]
  at::Tensor features;                ///< [N,F] pooled image features
};

/// Encodes the samples, each exactly once: ranks divide them and the rows are gathered. Evaluation
/// mode, no gradients, no augmentation. Collective over group.
[[nodiscard]] EmbeddingTable embed_samples(models::TwoTower& model, const data::Cache& cache,
                                           const std::vector<std::int64_t>& indices,
                                           const RunConfig& config, dist::ProcessGroup& group,
                                           bool show_progress);

/// [N] prompt scores of one finding: mean cosine to the positive prompts minus mean cosine to the
/// negative ones. Source: Merlin issue #7 and #34 (protocol); see docs/numerics.md.
[[nodiscard]] std::vector<double> prompt_scores(models::TwoTower& model,
                                                const EmbeddingTable& table,
                                                const FindingPrompts& prompts,
                                                const RunConfig& config,
                                                const std::string& tokenizer_dir);

/// An evaluation, and the scores behind it.
struct Evaluation {
  Json json;
  /// {data_hash, split, findings: {hcc: {index, label, prompt, linear_probe, report_probe}}}: index is the place in
  /// the cache, rising; labels 1 or 0; a probe that there is not is null. No ids.
  Json scores;
};

/// Scores a model on `split` of evaluate.sites, with the threshold (and the linear probes) from the validation (and
/// training) split of data.sites; the object of design §6: {split, n, findings: {...}, by_site, by_subgroup,
/// retrieval: {...}, ...}. Findings are those that have prompts and a label column; `not_scored` names the label
/// columns without prompts, `not_labelled` the prompts without a label column.
/// @throws DataError when there are label columns and none has prompts; as groups_by_column(), before anything is
/// embedded. Collective.
[[nodiscard]] Evaluation evaluate_with_scores(models::TwoTower& model, const data::Cache& cache,
                                              const RunConfig& config, const std::string& split,
                                              dist::ProcessGroup& group, bool show_progress);
/// Its json alone.
[[nodiscard]] Json evaluate_model(models::TwoTower& model, const data::Cache& cache,
                                  const RunConfig& config, const std::string& split,
                                  dist::ProcessGroup& group, bool show_progress);

/// `triphase evaluate`: builds the model, loads `checkpoint` (see load_model_for_evaluation),
/// evaluates, and writes `out` (default: <run_dir>/evaluation/<split>.json) and, beside it, <name>.scores.json. Warns of findings that
/// could not be scored. Collective over runtime.world().
Json evaluate_run(const RunConfig& config, const std::string& checkpoint, const std::string& split,
                  const std::string& out, dist::Runtime& runtime, Logger& log, bool show_progress);

/// `triphase embed`: writes the HDF5 file of design §6 through data::write_embeddings. Collective.
void embed_run(const RunConfig& config, const std::string& checkpoint, const std::string& split,
               const std::string& out, dist::Runtime& runtime, Logger& log, bool show_progress);

}  // namespace triphase::trainer
