// SPDX-License-Identifier: Apache-2.0
#include "trainer/loop/train_data.hpp"

#include <algorithm>
#include <iterator>
#include <map>
#include <set>
#include <string>

#include "base/random.hpp"
#include "data/epoch_plan.hpp"
#include "data/tokenizer.hpp"

namespace triphase::trainer {
namespace {

/// The cache's own specification with what the run asks for put in its place.
void check_specification(const data::Cache& cache, const RunConfig& config,
                         const data::Tokenizer* tokenizer) {
  data::CacheSpec wanted = cache.spec();
  if (config.preprocess) wanted.preprocess = *config.preprocess;
  if (tokenizer != nullptr) wanted.tokenizer_hash = tokenizer->hash();
  wanted.text_preparation = config.model.text_preparation;
  data::check_cache_spec(cache, wanted);
}

/// Another limit of text length in cache and run is an error only where it makes a difference.
void check_reports(const data::Cache& cache, const RunConfig& config,
                   const models::TwoTowerOptions& model) {
  std::int64_t longest = 0;
  std::int64_t largest_id = 0;
  for (const data::CacheEntry& entry : cache.entries()) {
    longest = std::max(longest, static_cast<std::int64_t>(entry.tokens.size()));
    for (const std::int64_t id : entry.tokens) largest_id = std::max(largest_id, id);
  }
  const std::string folder = cache.folder().string();
  const std::int64_t wanted = config.model.max_text_tokens;
  const std::int64_t cut_at = cache.spec().max_text_tokens;
  TRIPHASE_CHECK(DataError, longest <= wanted && (cut_at >= wanted || longest < cut_at), "cache '",
                 folder, "' holds reports of up to ", longest, " tokens, cut at ", cut_at,
                 "; model.max_text_tokens is ", wanted, ". Set it to ", cut_at,
                 ", or build the cache again.");
  const std::int64_t limit = model.text.max_positions - 2;
  TRIPHASE_CHECK(DataError, longest <= limit, "cache '", folder, "' holds a report of ", longest,
                 " tokens; model '", model.preset, "' takes ", limit,
                 ". Build the cache again with model.max_text_tokens = ", limit,
                 ", or take a larger model.preset.");
  TRIPHASE_CHECK(DataError, largest_id < model.text.vocabulary_size, "cache '", folder,
                 "' holds token ", largest_id, "; model '", model.preset, "' knows ",
                 model.text.vocabulary_size,
                 " tokens. Build the cache with the model's tokenizer.");
}

void check_findings(const data::Cache& cache, const RunConfig& config,
                    const models::TwoTowerOptions& model) {
  if (config.loss.phenotype_weight == 0) return;
  const auto num_findings = static_cast<std::int64_t>(cache.findings().size());
  TRIPHASE_CHECK(ConfigError, num_findings > 0, "loss.phenotype_weight is ",
                 config.loss.phenotype_weight, ", but cache '", cache.folder().string(),
                 "' has no label columns. Set it to 0, or build the cache from a manifest with "
                 "label:<finding> columns.");
  TRIPHASE_CHECK(ConfigError, num_findings <= model.image.num_phenotypes, "cache '",
                 cache.folder().string(), "' has ", num_findings,
                 " label columns and the phenotype head of model '", model.preset, "' has ",
                 model.image.num_phenotypes,
                 " outputs. Set loss.phenotype_weight to 0, or label fewer findings.");
}

/// A number for each sample, equal exactly where the member is: by order of appearance, no hash.
template <class Member>
std::vector<std::int64_t> numbered(const data::Cache& cache, Member data::CacheEntry::* member) {
  std::map<Member, std::int64_t> numbers;
  std::vector<std::int64_t> ids;
  for (const data::CacheEntry& entry : cache.entries())
    ids.push_back(numbers.try_emplace(entry.*member, std::ssize(numbers)).first->second);
  return ids;
}

/// Samples that share their report are of one pair, and so no negatives of each other; empty where
/// none do.
std::vector<std::int64_t> report_groups(const data::Cache& cache) {
  std::map<std::string, std::int64_t> numbers;
  std::vector<std::int64_t> ids;
  for (const data::CacheEntry& entry : cache.entries()) {
    const auto next = static_cast<std::int64_t>(ids.size());  // its own, unless it shares
    ids.push_back(entry.report_group.empty()
                      ? next
                      : numbers.try_emplace(entry.report_group, next).first->second);
  }
  const bool is_shared = std::ssize(std::set(ids.begin(), ids.end())) < std::ssize(ids);
  return is_shared ? ids : std::vector<std::int64_t>();
}

/// The last token of a sentence as reports have it (words and signs apart, joined by spaces).
std::int64_t period_token(const data::Tokenizer& tokenizer) {
  const std::vector<std::int64_t> ids = tokenizer.encode("a .", 16);
  return ids[ids.size() - 2];  // before the end token
}

/// Patients or sites of the samples, numbered as they come; empty for a sampler that needs neither.
std::vector<std::int64_t> sample_groups(const data::Cache& cache,
                                        const std::vector<std::int64_t>& samples,
                                        data::SamplerOptions::Mode mode) {
  using Mode = data::SamplerOptions::Mode;
  if (mode == Mode::kShuffle) return {};
  std::map<std::string, std::int64_t> numbers;
  std::vector<std::int64_t> groups;
  for (const std::int64_t sample : samples) {
    const data::CacheEntry& entry = cache.entries()[static_cast<std::size_t>(sample)];
    const std::string& name = mode == Mode::kBySite ? entry.site : entry.patient_id;
    groups.push_back(numbers.emplace(name, std::ssize(numbers)).first->second);
  }
  return groups;
}

/// Each training sample gets the report of the next in an order that the seed gives: never its own.
std::unique_ptr<data::TextSet> shuffled_texts(const TrainData& data, std::int64_t seed) {
  const auto n = std::ssize(data.train);
  const std::vector<std::int64_t> order =
      keyed_permutation(n, KeyedRandom{static_cast<std::uint64_t>(seed), /*what for: pairs*/ 0x5a});
  const auto sample = [&](std::int64_t place) {
    const std::int64_t at = order[static_cast<std::size_t>(place % n)];
    return static_cast<std::size_t>(data.train[static_cast<std::size_t>(at)]);
  };
  auto texts = std::make_unique<data::TextSet>();
  texts->tokens.resize(data.cache->entries().size());
  for (std::int64_t place = 0; place < n; ++place)
    texts->tokens[sample(place)] = data.cache->entries()[sample(place + 1)].tokens;
  return texts;
}

data::EpochPlanOptions plan_options(const TrainData& data, const RunConfig& config,
                                    const EpochPosition& position) {
  return {.num_samples = static_cast<std::int64_t>(data.train.size()),
          .global_pairs = config.batch.global_pairs,
          .rank = position.rank,
          .num_ranks = position.num_ranks,
          .seed = static_cast<std::uint64_t>(config.run.seed),
          .epoch = position.epoch,
          .sampler = config.data.sampler,
          .groups = data.groups};
}

}  // namespace

std::int64_t steps_per_epoch(const TrainData& data, const RunConfig& config) {
  return data::steps_per_epoch(plan_options(data, config, {}));
}

bool has_validation(const RunConfig& config) {
  return !config.data.validation_split.empty() &&
         (config.evaluate.every_epochs > 0 || config.evaluate.every_steps > 0);
}

TrainData open_train_data(const RunConfig& config, const models::TwoTowerOptions& model,
                          const std::filesystem::path& staging) {
  TRIPHASE_CHECK(ConfigError, !config.data.cache.empty(),
                 "data.cache is not given. Name the folder that triphase cache build wrote.");
  TrainData data;
  data.cache = std::make_unique<data::Cache>(config.data.cache, staging);
  std::unique_ptr<data::Tokenizer> tokenizer;
  if (!config.model.tokenizer.empty()) {
    tokenizer = std::make_unique<data::Tokenizer>(config.model.tokenizer);
    data.pad_id = tokenizer->pad_id();
    data.period_token_id = period_token(*tokenizer);
  }
  check_specification(*data.cache, config, tokenizer.get());
  check_reports(*data.cache, config, model);
  check_findings(*data.cache, config, model);
  if (config.loss.positives == "pair") data.positive_ids = report_groups(*data.cache);
  if (config.loss.positives == "patient")
    data.positive_ids = numbered(*data.cache, &data::CacheEntry::patient_id);
  if (config.loss.positives == "text")
    data.positive_ids = numbered(*data.cache, &data::CacheEntry::tokens);
  if (config.loss.negatives == "site")
    data.negative_ids = numbered(*data.cache, &data::CacheEntry::site);
  data.train = data.cache->select(config.data.train_split, config.data.sites);
  if (config.data.report_sections == "alternate")
    data.sections = std::make_unique<SectionTexts>(
        *data.cache, *tokenizer,
        config.loss.positives == "patient" ? data.positive_ids : std::vector<std::int64_t>());
  if (config.data.pairs == "shuffled") data.shuffled = shuffled_texts(data, config.run.seed);
  data.groups = sample_groups(*data.cache, data.train, config.data.sampler.mode);
  if (has_validation(config))
    data.validation = data.cache->select(config.data.validation_split, config.data.sites);
  return data;
}

std::unique_ptr<data::BatchLoader> open_epoch(const TrainData& data, const RunConfig& config,
                                              const EpochPosition& position) {
  const std::int64_t pairs = pairs_per_rank(config, position.num_ranks);
  const std::vector<std::int64_t> plan = data::plan_epoch(plan_options(data, config, position));
  std::vector<std::int64_t> samples;
  const std::int64_t num_done = position.step_in_epoch * pairs;
  for (std::size_t i = static_cast<std::size_t>(num_done); i < plan.size(); ++i)
    samples.push_back(data.train[static_cast<std::size_t>(plan[i])]);
  const std::int64_t first = position.epoch * steps_per_epoch(data, config) + position.step_in_epoch;
  return open_batches(data, config, std::move(samples), pairs, position.epoch,
                      [first](std::int64_t batch) { return first + batch; });
}

std::unique_ptr<data::BatchLoader> open_batches(
    const TrainData& data, const RunConfig& config, std::vector<std::int64_t> samples,
    std::int64_t batch_size, std::int64_t epoch,
    const std::function<std::int64_t(std::int64_t batch)>& step_of_batch) {
  data::BatchLoaderOptions options;
  options.sample_indices = std::move(samples);
  options.batch_size = batch_size;
  options.num_workers = static_cast<int>(config.data.workers);
  options.read_ahead_bytes = config.data.read_ahead_bytes;
  options.is_pinned = data.is_pinned;
  options.augment = config.data.augment;
  options.seed = static_cast<std::uint64_t>(config.run.seed);
  options.epoch = epoch;
  options.pad_id = data.pad_id;
  options.period_token_id = data.period_token_id;
  options.positive_ids = data.positive_ids;
  options.negative_ids = data.negative_ids;
  if (data.sections)
    options.text_set = [step_of_batch, sections = data.sections.get()](std::int64_t batch) {
      return sections->of_step(step_of_batch(batch));
    };
  if (data.shuffled)
    options.text_set = [texts = data.shuffled.get()](std::int64_t) { return texts; };
  return std::make_unique<data::BatchLoader>(*data.cache, std::move(options));
}

std::vector<SiteSamples> divide_by_site(const TrainData& data, const RunConfig& config) {
  std::map<std::string, SiteSamples> by_name;
  for (const std::int64_t sample : data.train) {
    const std::string& site = data.cache->entries()[static_cast<std::size_t>(sample)].site;
    by_name[site].train.push_back(sample);
  }
  std::vector<SiteSamples> sites;
  for (auto& [name, site] : by_name) {
    site.site = name;
    site.groups = sample_groups(*data.cache, site.train, config.data.sampler.mode);
    sites.push_back(std::move(site));
  }
  return sites;
}

}  // namespace triphase::trainer
