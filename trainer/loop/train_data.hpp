// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "data/batch_loader.hpp"
#include "data/cache.hpp"
#include "models/two_tower.hpp"
#include "trainer/loop/section_texts.hpp"
#include "trainer/run_config.hpp"

namespace triphase::trainer {

/// The cache of a run and what of it trains and validates.
struct TrainData {
  std::unique_ptr<data::Cache> cache;
  std::vector<std::int64_t> train;       ///< into Cache::entries()
  std::vector<std::int64_t> validation;  ///< empty: no validation
  /// Of each of Cache::entries(): equal for those of one patient or one report (loss.positives), or
  /// of one site (loss.negatives); the same on every rank. Empty where the loss needs none.
  std::vector<std::int64_t> positive_ids;
  std::vector<std::int64_t> negative_ids;
  std::vector<std::int64_t> groups;  ///< of each training sample its patient or site, as the sampler wants
  std::unique_ptr<SectionTexts> sections;  ///< under data.report_sections = "alternate"
  std::unique_ptr<data::TextSet> shuffled;  ///< under data.pairs = "shuffled"
  bool is_pinned = false;  ///< volumes lie in pinned memory, for a GPU
  std::int64_t pad_id = 1;
  std::int64_t period_token_id = -1;
};

/// Opens the cache and checks it against the run: preprocessing, tokenizer, length of reports,
/// vocabulary, findings. @param staging see data::Cache. Purely local. @throws ConfigError, DataError
[[nodiscard]] TrainData open_train_data(const RunConfig& config,
                                        const models::TwoTowerOptions& model,
                                        const std::filesystem::path& staging = {});

/// Of the training split. @throws ConfigError when there is none. Purely local.
[[nodiscard]] std::int64_t steps_per_epoch(const TrainData& data, const RunConfig& config);

/// Where an epoch's loader starts and which part of it is this rank's.
struct EpochPosition {
  std::int64_t epoch = 0;
  std::int64_t step_in_epoch = 0;  ///< steps already done
  int rank = 0;
  int num_ranks = 1;
};

/// This rank's batches of the rest of an epoch. The data must outlive the loader. Purely local.
[[nodiscard]] std::unique_ptr<data::BatchLoader> open_epoch(const TrainData& data,
                                                            const RunConfig& config,
                                                            const EpochPosition& position);

/// Batches of these samples in their order, with what the configuration does to texts and volumes. The data
/// must outlive the loader. Purely local.
/// @param step_of_batch the run's step that the loader's n-th batch belongs to, for the sections of reports
[[nodiscard]] std::unique_ptr<data::BatchLoader> open_batches(
    const TrainData& data, const RunConfig& config, std::vector<std::int64_t> samples,
    std::int64_t batch_size, std::int64_t epoch,
    const std::function<std::int64_t(std::int64_t batch)>& step_of_batch);

/// One site's training samples.
struct SiteSamples {
  std::string site;
  std::vector<std::int64_t> train;   ///< into Cache::entries()
  std::vector<std::int64_t> groups;  ///< as TrainData::groups
};
/// The training samples by site, in the order of the sites' names. Purely local.
[[nodiscard]] std::vector<SiteSamples> divide_by_site(const TrainData& data, const RunConfig& config);

/// Whether a run validates at all.
[[nodiscard]] bool has_validation(const RunConfig& config);

}  // namespace triphase::trainer
