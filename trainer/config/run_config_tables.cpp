// SPDX-License-Identifier: Apache-2.0
#include "trainer/config/run_config_tables.hpp"

#include <algorithm>
#include <charconv>
#include <limits>
#include <type_traits>

#include "base/text_pattern.hpp"

#include "models/weights.hpp"

namespace triphase::trainer {
namespace {

constexpr std::int64_t kMaxCount = std::int64_t{1} << 40;
constexpr std::int64_t kMaxRank = 4096;
constexpr double kMinAlpha = 1e-6;
constexpr double kMaxAlpha = 1e6;

template <class T>
void check_range(const ConfigReader& reader, const std::string& path, T value, T low, T high) {
  if (value >= low && value <= high) return;  // false for NaN
  throw reader.error(path, str("must be in [", low, ", ", high, "], is ", value, "."));
}

/// Reads a number and checks 0 < value <= high.
void read_positive(ConfigReader& reader, const std::string& path, double& value, double high) {
  reader.read(path, value);
  if (!(value > 0 && value <= high))
    throw reader.error(path, str("must be in (0, ", high, "], is ", value, "."));
}

/// Reads a number and checks 0 <= value < 1.
void read_fraction(ConfigReader& reader, const std::string& path, double& value) {
  reader.read(path, value);
  if (!(value >= 0 && value < 1))
    throw reader.error(path, str("must be in [0, 1), is ", value, "."));
}

void check_expression(const ConfigReader& reader, const std::string& path,
                      const std::string& target) {
  try {
    const TextPattern expression(target, PatternOrigin::kGiven);
  } catch (const ConfigError& error) {
    throw reader.error(path, error.message());
  }
}

void read_targets(ConfigReader& reader, const std::string& path,
                  std::vector<std::string>& targets) {
  reader.read(path, targets);
  for (const std::string& target : targets) {
    if (target.empty())
      throw reader.error(path, "holds an empty name. Name a module or drop the entry.");
    check_expression(reader, path, target);
  }
}

/// Reads "pattern=value" entries. The last '=' divides: a pattern may hold others.
template <class Value>
void read_patterns(ConfigReader& reader, const std::string& path, Value low, Value high,
                   std::vector<std::pair<std::string, Value>>& patterns) {
  std::vector<std::string> entries;
  if (!reader.read(path, entries)) return;
  patterns.clear();
  for (const std::string& entry : entries) {
    const std::size_t divider = entry.rfind('=');
    const std::string pattern = entry.substr(0, std::min(divider, entry.size()));
    if (divider == std::string::npos || pattern.empty())
      throw reader.error(path, str("holds '", entry, "', expected \"pattern=value\"."));
    check_expression(reader, path, pattern);
    Value value{};
    const char* end = entry.data() + entry.size();
    const auto parsed = std::from_chars(entry.data() + divider + 1, end, value);
    if (parsed.ec != std::errc() || parsed.ptr != end || !(value >= low && value <= high))
      throw reader.error(path, str("holds '", entry, "', whose value is no ",
                                   std::is_integral_v<Value> ? "whole " : "", "number in [", low,
                                   ", ", high, "]."));
    patterns.emplace_back(pattern, value);
  }
}

void read_tower(ConfigReader& reader, const std::string& table,
                models::TowerAdapterOptions& tower) {
  read_range(reader, table + ".rank", tower.rank, 0, kMaxRank);
  read_positive(reader, table + ".alpha", tower.alpha, kMaxAlpha);
  read_fraction(reader, table + ".dropout", tower.dropout);
  reader.read(table + ".rslora", tower.rslora);
  read_targets(reader, table + ".targets", tower.targets);
  read_patterns(reader, table + ".rank_pattern", std::int64_t{1}, kMaxRank, tower.rank_pattern);
  read_patterns(reader, table + ".alpha_pattern", kMinAlpha, kMaxAlpha, tower.alpha_pattern);
  if (tower.rank > 0 && tower.targets.empty())
    throw reader.error(table + ".targets", str("is empty but ", table, ".rank is ", tower.rank,
                                               ". Name modules, or set the rank to 0."));
}

void read_augment(ConfigReader& reader, data::AugmentOptions& augment) {
  read_range(reader, "data.augment.shift_voxels", augment.shift_voxels, 0, 1024);
  read_fraction(reader, "data.augment.intensity_scale", augment.intensity_scale);
  read_range(reader, "data.augment.intensity_offset", augment.intensity_offset, 0, 10);
  read_range(reader, "data.augment.noise_sigma", augment.noise_sigma, 0, 10);
  read_range(reader, "data.augment.text_drop", augment.text_drop, 0, 1);
}

/// Not read where the loss has none, so that a resolved configuration does not hold it.
void read_bias(ConfigReader& reader, LossOptions& options) {
  if (has_logit_bias(options)) {
    read_range(reader, "loss.bias_init", options.bias_init, -1000, 1000);
    return;
  }
  if (reader.origin("loss.bias_init") != "default")
    throw reader.error("loss.bias_init",
                       str("is given, and loss.kind is '", options.kind,
                           "', which has no bias. Take it out, or set loss.kind to 'siglip'."));
}

void read_sampler(ConfigReader& reader, data::SamplerOptions& sampler) {
  std::string mode = "shuffle";
  read_word(reader, "data.sampler", mode, {"shuffle", "patient_distinct", "by_site"});
  using Mode = data::SamplerOptions::Mode;
  sampler.mode = mode == "shuffle"   ? Mode::kShuffle
                 : mode == "by_site" ? Mode::kBySite
                                     : Mode::kPatientDistinct;
  std::string quota = "proportional";
  read_word(reader, "data.site_quota", quota, {"proportional", "balanced", "temperature"});
  double temperature = 2;
  read_range(reader, "data.site_temperature", temperature, 1, 1000);
  sampler.site_power = quota == "proportional" ? 1 : quota == "balanced" ? 0 : 1 / temperature;
  if (quota != "proportional" && sampler.mode != Mode::kBySite)
    throw reader.error("data.site_quota", str("is '", quota, "', and data.sampler, '", mode,
                                              "', gives sites no shares. Set that to 'by_site', or "
                                              "take this out."));
}

}  // namespace

void read_range(ConfigReader& reader, const std::string& path, double& value, double low,
                double high) {
  reader.read(path, value);
  check_range(reader, path, value, low, high);
}

void read_range(ConfigReader& reader, const std::string& path, std::int64_t& value,
                std::int64_t low, std::int64_t high) {
  reader.read(path, value);
  check_range(reader, path, value, low, high);
}

void read_word(ConfigReader& reader, const std::string& path, std::string& value,
               const std::vector<std::string>& allowed, const std::vector<RefusedWord>& refused) {
  std::vector<std::string> known = allowed;
  for (const RefusedWord& each : refused) known.push_back(each.word);
  reader.read_choice(path, value, known);
  for (const RefusedWord& each : refused) {
    if (each.word != value) continue;
    std::string instead;
    for (const std::string& word : allowed) instead += (instead.empty() ? "'" : ", '") + word + "'";
    throw reader.error(path, str("is '", value, "', which this build does not have: ", each.reason,
                                 ". Use ", instead, "."));
  }
}

void read_run_table(ConfigReader& reader, RunOptions& options) {
  reader.read("run.name", options.name);
  const bool is_plain = !options.name.empty() && options.name != "." && options.name != ".." &&
                        options.name.find_first_of(std::string("/\\\0", 3)) == std::string::npos;
  if (!is_plain)
    throw reader.error("run.name",
                       str("must be a folder's name without '/', is '", options.name, "'."));
  reader.read("run.output_dir", options.output_dir);
  if (options.output_dir.empty())
    throw reader.error("run.output_dir", "is empty. Use '.' for this folder.");
  read_range(reader, "run.seed", options.seed, 0, std::numeric_limits<std::int64_t>::max());
  read_range(reader, "run.log_every_steps", options.log_every_steps, 1, kMaxCount);
  read_range(reader, "run.max_seconds", options.max_seconds, 0, 1e9);
}

void read_data_table(ConfigReader& reader, DataOptions& options) {
  reader.read("data.cache", options.cache);
  reader.read("data.train_split", options.train_split);
  if (options.train_split.empty())
    throw reader.error("data.train_split", "is empty. Name a split, or 'all'.");
  reader.read("data.validation_split", options.validation_split);
  reader.read("data.test_split", options.test_split);
  reader.read("data.sites", options.sites);
  read_word(reader, "data.report_sections", options.report_sections, {"full", "alternate"});
  read_word(reader, "data.pairs", options.pairs, {"own", "shuffled"});
  read_range(reader, "data.workers", options.workers, 1, 256);
  read_range(reader, "data.read_ahead_bytes", options.read_ahead_bytes, 1, kMaxCount);
  read_sampler(reader, options.sampler);
  reader.read("data.staging_dir", options.staging_dir);
  read_augment(reader, options.augment);
}

void read_cache_table(ConfigReader& reader, CacheOptions& options) {
  read_word(reader, "cache.compression", options.compression, {"none", "zstd"});
}

void read_model_table(ConfigReader& reader, ModelOptions& options) {
  reader.read("model.preset", options.preset);
  try {
    static_cast<void>(models::model_preset(options.preset));
  } catch (const ConfigError& error) {
    throw reader.error("model.preset", "is '" + options.preset + "': " + error.message());
  }
  reader.read("model.weights", options.weights);
  if (options.weights.empty())
    throw reader.error("model.weights", "is empty. Name a file or a folder, or write 'random'.");
  reader.read("model.allow_missing", options.allow_missing);
  try {
    models::check_expressions(options.allow_missing);
  } catch (const ConfigError& error) {
    throw reader.error("model.allow_missing", error.message());
  }
  reader.read("model.tokenizer", options.tokenizer);
  read_range(reader, "model.max_text_tokens", options.max_text_tokens, 2, 4096);
  std::string preparation = data::text_preparation_name(options.text_preparation);
  reader.read_choice("model.text_preparation", preparation, data::text_preparation_names());
  options.text_preparation = data::text_preparation_from_name(preparation);
  read_word(reader, "model.batch_norm", options.batch_norm, {"frozen", "local", "sync"});
}

void read_adapt_table(ConfigReader& reader, models::AdaptOptions& options) {
  read_word(reader, "adapt.method", options.method, {"full", "peft"});
  read_word(reader, "adapt.execution", options.execution, {"two_path", "merged"});
  reader.read("adapt.train_heads", options.train_heads);
  reader.read("adapt.train_layer_norms", options.train_layer_norms);
  reader.read("adapt.train_batch_norms", options.train_batch_norms);
  read_tower(reader, "adapt.image", options.image);
  read_tower(reader, "adapt.text", options.text);
}

void read_loss_table(ConfigReader& reader, LossOptions& options) {
  read_word(reader, "loss.kind", options.kind, {"infonce", "siglip"});
  if (options.kind == "siglip") options.temperature_init = 0.1;  // Zhai et al. 2023: a scale of 10
  reader.read("loss.temperature_init", options.temperature_init);
  read_word(reader, "loss.temperature_init_as", options.temperature_init_as,
            {"temperature", "scale", "log_scale"});
  reader.read("loss.temperature_learnable", options.temperature_learnable);
  read_range(reader, "loss.scale_max", options.scale_max, 1, 1e4);
  try {
    static_cast<void>(initial_log_scale(options));
  } catch (const ConfigError& error) {
    throw ConfigError(reader.origin("loss.temperature_init") + ": " + error.message());
  }
  read_bias(reader, options);
  read_word(reader, "loss.negatives", options.negatives, {"global", "local", "site"});
  read_word(reader, "loss.positives", options.positives, {"pair", "patient", "text"});
  read_word(reader, "loss.transport", options.transport, {"gather", "ring"});
  if (options.transport == "ring" && options.negatives == "local")
    throw reader.error("loss.transport",
                       "is 'ring', and loss.negatives is 'local': no text leaves its rank. Use "
                       "'gather', or other negatives.");
  read_range(reader, "loss.phenotype_weight", options.phenotype_weight, 0, 1e6);
}

void read_batch_table(ConfigReader& reader, BatchOptions& options) {
  read_range(reader, "batch.global_pairs", options.global_pairs, 2, std::int64_t{1} << 24);
  read_range(reader, "batch.micro_pairs", options.micro_pairs, 0, std::int64_t{1} << 24);
}

void read_optimizer_table(ConfigReader& reader, OptimizerOptions& options) {
  read_positive(reader, "optimizer.lr", options.lr, 10);
  read_range(reader, "optimizer.weight_decay", options.weight_decay, 0, 10);
  reader.read("optimizer.betas", options.betas);
  const auto is_beta = [](double beta) { return beta >= 0 && beta < 1; };
  if (options.betas.size() != 2 ||
      !std::all_of(options.betas.begin(), options.betas.end(), is_beta))
    throw reader.error("optimizer.betas", "must be two numbers in [0, 1).");
  read_positive(reader, "optimizer.eps", options.eps, 1);
  read_range(reader, "optimizer.grad_clip_norm", options.grad_clip_norm, 0, 1e9);
  read_positive(reader, "optimizer.lora_plus_ratio", options.lora_plus_ratio, 1e4);
  read_range(reader, "optimizer.lr_image", options.lr_image, 0, 10);
  read_range(reader, "optimizer.lr_text", options.lr_text, 0, 10);
  read_range(reader, "optimizer.lr_heads", options.lr_heads, 0, 10);
  read_range(reader, "optimizer.lr_scale", options.lr_scale, 0, 10);
}

void read_schedule_table(ConfigReader& reader, ScheduleOptions& options) {
  read_word(reader, "schedule.kind", options.kind, {"cosine", "constant", "linear"});
  read_range(reader, "schedule.warmup_steps", options.warmup_steps, 0, kMaxCount);
  read_range(reader, "schedule.max_steps", options.max_steps, 0, kMaxCount);
  read_range(reader, "schedule.max_epochs", options.max_epochs, 0, kMaxCount);
  if (options.max_steps > 0 && options.max_epochs > 0)
    throw reader.error("schedule.max_epochs",
                       str("and schedule.max_steps (", reader.origin("schedule.max_steps"),
                           ") are both given. Keep one, set the other to 0."));
  read_range(reader, "schedule.early_stop_patience", options.early_stop_patience, 0, kMaxCount);
}

void read_precision_table(ConfigReader& reader, PrecisionOptions& options) {
  read_word(reader, "precision.device", options.device, {"auto", "cpu", "cuda"});
  read_word(reader, "precision.compute", options.compute, {"float32", "bfloat16", "float64"});
  read_word(reader, "precision.memory_format", options.memory_format,
            {"contiguous", "channels_last_3d"});
  read_word(reader, "precision.recompute", options.recompute, {"none", "blocks", "stages"});
  reader.read("precision.tf32", options.tf32);
  reader.read("precision.deterministic", options.deterministic);
}

void read_distributed_table(ConfigReader& reader, DistributedOptions& options) {
  read_word(reader, "distributed.backend", options.backend, {"auto", "self", "mpi", "nccl"});
  read_word(reader, "distributed.overlap", options.overlap, {"auto", "on", "off"});
  read_range(reader, "distributed.bucket_bytes", options.bucket_bytes, 1024, std::int64_t{1} << 31);
  read_word(reader, "distributed.reduction", options.reduction, {"fast", "ordered"});
  read_word(reader, "distributed.wire_dtype", options.wire_dtype,
            {"gradient", "float32", "bfloat16"});
  reader.read("distributed.shard_optimizer", options.shard_optimizer);
  read_positive(reader, "distributed.timeout_seconds", options.timeout_seconds, 30.0 * 24 * 3600);
}

void read_federated(ConfigReader& reader, FederatedOptions& options) {
  read_range(reader, "adapt.federated_steps", options.local_steps, 0, kMaxCount);
}

void read_checkpoint_table(ConfigReader& reader, CheckpointOptions& options) {
  read_range(reader, "checkpoint.every_steps", options.every_steps, 0, kMaxCount);
  read_range(reader, "checkpoint.keep_last", options.keep_last, 1, kMaxCount);
  reader.read("checkpoint.keep_best", options.keep_best);
  const std::string& metric = options.keep_best;
  if (!metric.empty() && (!metric.starts_with("validation_") || metric == "validation_"))
    throw reader.error("checkpoint.keep_best",
                       str("is '", metric, "'. Give 'validation_loss', 'validation_auc', another number of the "
                           "validation by its name ('validation_hcc_auc', 'validation_recall_at_5'), or ''."));
}

void read_evaluate_table(ConfigReader& reader, EvaluateOptions& options) {
  reader.read("evaluate.prompts", options.prompts);
  read_range(reader, "evaluate.every_epochs", options.every_epochs, 0, kMaxCount);
  read_range(reader, "evaluate.every_steps", options.every_steps, 0, kMaxCount);
  read_word(reader, "evaluate.threshold", options.threshold, {"youden", "f1"});
  read_range(reader, "evaluate.bootstrap_samples", options.bootstrap_samples, 0, 1'000'000);
  read_word(reader, "evaluate.scoring", options.scoring, {"difference", "softmax"});
  reader.read("evaluate.linear_probe", options.linear_probe);
  reader.read("evaluate.report_probe", options.report_probe);
  reader.read("evaluate.k_shot", options.k_shot);
  for (std::size_t i = 0; i < options.k_shot.size(); ++i)
    if (options.k_shot[i] < 1 || (i > 0 && options.k_shot[i] <= options.k_shot[i - 1]))
      throw reader.error("evaluate.k_shot", "must hold numbers from 1 on, rising, e.g. [1, 4, 16].");
  read_range(reader, "evaluate.k_shot_repeats", options.k_shot_repeats, 1, 10'000);
  reader.read("evaluate.sites", options.sites);
  reader.read("evaluate.manifest", options.manifest);
  reader.read("evaluate.subgroups", options.subgroups);
  if (!options.subgroups.empty() && options.manifest.empty())
    throw reader.error("evaluate.subgroups",
                       "needs evaluate.manifest: the manifest that the cache was built from, which has the "
                       "columns.");
  read_range(reader, "evaluate.batch_size", options.batch_size, 1, 65536);
}

}  // namespace triphase::trainer
