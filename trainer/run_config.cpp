// SPDX-License-Identifier: Apache-2.0
#include "trainer/run_config.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>

#include "trainer/config/run_config_tables.hpp"

namespace triphase::trainer {
namespace {

/// The smallest logit scale that a run may start with: a temperature of 100, flatter than any in
/// use.
constexpr double kScaleMin = 0.01;

template <std::size_t N>
void read_array(ConfigReader& reader, const std::string& path, std::array<double, N>& values) {
  std::vector<double> given(values.begin(), values.end());
  reader.read(path, given);
  if (given.size() != N)
    throw reader.error(path, str("must hold ", N, " numbers, holds ", given.size(), "."));
  for (const double value : given)
    if (!std::isfinite(value)) throw reader.error(path, "holds a number that is not finite.");
  std::copy(given.begin(), given.end(), values.begin());
}

void read_shape(ConfigReader& reader, const std::string& path, data::Shape3& shape) {
  std::vector<std::int64_t> given(shape.begin(), shape.end());
  reader.read(path, given);
  const auto is_size = [](std::int64_t size) { return size >= 1 && size <= 4096; };
  if (given.size() != 3 || !std::all_of(given.begin(), given.end(), is_size))
    throw reader.error(path, "must hold three sizes in [1, 4096]: X, Y, Z.");
  std::copy(given.begin(), given.end(), shape.begin());
}

/// Words of `key` that make the bits depend on the number of ranks.
void check_ordered(const ConfigReader& reader, const RunConfig& config) {
  if (config.distributed.reduction != "ordered") return;
  const auto refuse = [&](const std::string& key, const std::string& why) {
    throw reader.error("distributed.reduction", "is 'ordered', and " + key + " " + why);
  };
  if (config.batch.micro_pairs == 0)
    refuse("batch.micro_pairs", "is 0, so that a micro batch would be a rank's share. Set it.");
  if (config.model.batch_norm != "frozen")
    refuse("model.batch_norm", "is '" + config.model.batch_norm +
                                   "', whose statistics depend on the number of ranks. Use 'frozen'.");
  if (config.loss.negatives == "local")
    refuse("loss.negatives", "is 'local', which means other pairs at each number of ranks.");
  if (config.distributed.overlap == "on")
    refuse("distributed.overlap", "is 'on'; these sums begin after backward. Use 'auto'.");
  if (config.distributed.shard_optimizer)
    refuse("distributed.shard_optimizer", "is on, whose norm is summed rank by rank.");
  if (config.distributed.wire_dtype == "bfloat16")
    refuse("distributed.wire_dtype", "is 'bfloat16', which rounds at each number of ranks otherwise.");
}

/// See Federation: sites take turns with whole batches, and ranks hold whole states.
void check_federated(const ConfigReader& reader, const RunConfig& config) {
  if (config.federated.local_steps == 0) return;
  const auto refuse = [&](const char* key, const std::string& why) {
    throw reader.error(key, why + " Set it so, or adapt.federated_steps to 0.");
  };
  if (config.model.batch_norm != "frozen")
    refuse("model.batch_norm", "must be 'frozen' in federated rounds, which average no statistics.");
  if (config.distributed.shard_optimizer)
    refuse("distributed.shard_optimizer", "must be false in federated rounds.");
  if (config.distributed.reduction == "ordered")
    refuse("distributed.reduction", "must be 'fast' in federated rounds.");
  if (config.data.sampler.mode == data::SamplerOptions::Mode::kBySite)
    refuse("data.sampler", "must not be 'by_site': a federated batch is of one site.");
}

/// What concerns more than one table.
void check_together(const ConfigReader& reader, const RunConfig& config) {
  check_ordered(reader, config);
  check_federated(reader, config);
  if (config.batch.micro_pairs > config.batch.global_pairs)
    throw reader.error("batch.micro_pairs",
                       str("is ", config.batch.micro_pairs, ", more than batch.global_pairs (",
                           config.batch.global_pairs, ")."));
  if (config.data.report_sections == "alternate" && config.model.tokenizer.empty())
    throw reader.error("data.report_sections",
                       "is 'alternate', which tokenizes sections. Set model.tokenizer to the folder "
                       "that the cache was built with.");
  if (config.data.pairs == "shuffled" &&
      (config.data.report_sections != "full" || config.loss.positives != "pair"))
    throw reader.error("data.pairs",
                       "is 'shuffled', which goes with data.report_sections 'full' and "
                       "loss.positives 'pair' alone.");
  if (config.data.augment.text_drop > 0 && config.model.tokenizer.empty())
    throw reader.error("data.augment.text_drop",
                       "needs model.tokenizer (it tells which token ends a sentence). Give the "
                       "tokenizer's folder.");
  if (config.data.augment.text_drop > 0 &&
      config.model.text_preparation != data::TextPreparation::kWordPunct)
    throw reader.error(
        "data.augment.text_drop",
        "needs model.text_preparation 'wordpunct': without it the token of a full stop is that "
        "of a decimal point too, and sentences cannot be told apart.");
  const bool has_validation = !config.data.validation_split.empty() &&
                              (config.evaluate.every_epochs > 0 || config.evaluate.every_steps > 0);
  const std::string& keep_best = config.checkpoint.keep_best;
  const bool is_of_findings = keep_best.ends_with("_auc") || keep_best.ends_with("_average_precision");
  if ((!has_validation && !keep_best.empty() && keep_best != "validation_loss") ||
      (is_of_findings && config.evaluate.prompts.empty()))
    throw reader.error("checkpoint.keep_best",
                       str("is '", keep_best, "', which needs ", is_of_findings ? "evaluate.prompts, " : "",
                           "data.validation_split and evaluate.every_epochs or evaluate.every_steps."));
  if (config.schedule.early_stop_patience > 0 && !has_validation)
    throw reader.error("schedule.early_stop_patience",
                       "needs a validation: set data.validation_split and evaluate.every_epochs.");
  const ScheduleOptions& schedule = config.schedule;
  if (schedule.max_steps > 0 && schedule.warmup_steps > schedule.max_steps)
    throw reader.error("schedule.warmup_steps",
                       str("is ", schedule.warmup_steps, ", more than schedule.max_steps (",
                           schedule.max_steps, ")."));
  const auto drops = [](const models::TowerAdapterOptions& tower) {
    return tower.rank > 0 && tower.dropout > 0;
  };
  if (config.adapt.execution == "merged" && (drops(config.adapt.image) || drops(config.adapt.text)))
    throw reader.error("adapt.execution",
                       "is 'merged', and an adapter has a dropout, for which a merged one has no "
                       "place. Set adapt.image.dropout and adapt.text.dropout to 0, or "
                       "adapt.execution to 'two_path'.");
  if (config.adapt.execution == "merged" && config.precision.compute == "bfloat16")
    throw reader.error("adapt.execution",
                       "is 'merged', and precision.compute is 'bfloat16', which would round an "
                       "adapter's small change away together with the weight that it is added to. "
                       "Use 'two_path'.");
  if (config.distributed.wire_dtype == "float32" && config.precision.compute == "float64")
    throw reader.error("distributed.wire_dtype",
                       "is 'float32', and precision.compute is 'float64', whose gradients are not. "
                       "Use 'gradient'.");
  if (config.adapt.method == "peft" && config.adapt.image.rank == 0 &&
      config.adapt.text.rank == 0 && !config.adapt.train_heads && !config.adapt.train_layer_norms &&
      !config.adapt.train_batch_norms && config.loss.phenotype_weight == 0 &&
      !config.loss.temperature_learnable && !has_logit_bias(config.loss))
    throw reader.error("adapt.method", "is 'peft', but both ranks are 0 and nothing else trains.");
}

/// Of "ordered": see dist/tree_sum.hpp.
void check_tree(const RunConfig& config, int num_ranks) {
  const std::int64_t micro_pairs = config.batch.micro_pairs;
  const std::int64_t micro_batches = config.batch.global_pairs / micro_pairs;
  TRIPHASE_CHECK(ConfigError,
                 config.batch.global_pairs % micro_pairs == 0 &&
                     std::has_single_bit(static_cast<std::uint64_t>(micro_batches)) &&
                     std::has_single_bit(static_cast<unsigned>(num_ranks)) &&
                     num_ranks <= micro_batches,
                 "distributed.reduction is 'ordered', which sums over a complete binary tree: "
                 "batch.global_pairs (",
                 config.batch.global_pairs, ") must be batch.micro_pairs (", micro_pairs,
                 ") times a power of two, and the number of ranks (", num_ranks,
                 ") a power of two, at most as many as micro batches.");
}

}  // namespace

RunConfig load_run_config(const ConfigSources& sources) {
  ConfigReader reader(sources);
  RunConfig config;
  read_run_table(reader, config.run);
  read_data_table(reader, config.data);
  if (reader.has_table("preprocess")) config.preprocess = read_preprocess_table(reader, "merlin");
  read_cache_table(reader, config.cache);
  read_model_table(reader, config.model);
  read_adapt_table(reader, config.adapt);
  read_federated(reader, config.federated);
  read_loss_table(reader, config.loss);
  config.adapt.train_log_scale = config.loss.temperature_learnable;
  config.adapt.train_phenotype_head = config.loss.phenotype_weight > 0;
  read_batch_table(reader, config.batch);
  read_optimizer_table(reader, config.optimizer);
  read_schedule_table(reader, config.schedule);
  read_precision_table(reader, config.precision);
  read_distributed_table(reader, config.distributed);
  read_checkpoint_table(reader, config.checkpoint);
  read_evaluate_table(reader, config.evaluate);
  reader.finish();
  check_together(reader, config);
  config.resolved_toml = reader.resolved_toml(false);
  config.origins_toml = reader.resolved_toml(true);
  return config;
}

std::int64_t pairs_per_rank(const RunConfig& config, int num_ranks) {
  const std::int64_t global_pairs = config.batch.global_pairs;
  TRIPHASE_CHECK(ConfigError, num_ranks > 0 && global_pairs % num_ranks == 0,
                 "batch.global_pairs is ", global_pairs, ", which ", num_ranks,
                 " ranks cannot share evenly. Set it to a multiple of ", num_ranks,
                 ", or start another number of ranks.");
  const std::int64_t pairs = global_pairs / num_ranks;
  const bool is_cached = config.batch.micro_pairs > 0 && config.batch.micro_pairs < pairs;
  TRIPHASE_CHECK(ConfigError, !is_cached || config.model.batch_norm != "sync",
                 "model.batch_norm is 'sync', which normalises over the whole batch, and a rank's ",
                 pairs, " pairs go through the towers in micro batches of ", config.batch.micro_pairs,
                 " (batch.micro_pairs), so that the whole is never there. Set model.batch_norm to "
                 "'frozen' or 'local', or batch.micro_pairs to 0.");
  if (config.distributed.reduction == "ordered") check_tree(config, num_ranks);
  return pairs;
}

void check_backend(const RunConfig& config, int num_ranks) {
  TRIPHASE_CHECK(ConfigError, config.distributed.backend != "self" || num_ranks == 1,
                 "distributed.backend is 'self' but mpirun started ", num_ranks,
                 " ranks (they would train ", num_ranks,
                 " separate models into one folder). Set it to 'auto', or start one process.");
}

bool has_logit_bias(const LossOptions& loss) { return loss.kind == "siglip"; }

double initial_log_scale(const LossOptions& loss) {
  const double value = loss.temperature_init;
  const double log_scale_max = std::log(loss.scale_max);
  const double log_scale_min = std::log(kScaleMin);
  double log_scale = value;
  std::string range = str("[", log_scale_min, ", ", log_scale_max, "]");
  if (loss.temperature_init_as == "temperature") {
    log_scale = -std::log(value);
    range = str("[", 1 / loss.scale_max, ", ", 1 / kScaleMin, "]");
  }
  if (loss.temperature_init_as == "scale") {
    log_scale = std::log(value);
    range = str("[", kScaleMin, ", ", loss.scale_max, "]");
  }
  const double slack = 1e-9;  // -ln(1/x) is not ln(x) to the last bit
  const bool is_inside = log_scale >= log_scale_min - slack && log_scale <= log_scale_max + slack;
  TRIPHASE_CHECK(
      ConfigError, is_inside, "'loss.temperature_init' is ", value, ", read as a ",
      loss.temperature_init_as, ", and must be in ", range, " (loss.scale_max is ", loss.scale_max,
      "). Check loss.temperature_init_as: a temperature is 1/scale, a log_scale is ln(scale).");
  return std::clamp(log_scale, log_scale_min, log_scale_max);
}

data::PreprocessOptions read_preprocess_table(ConfigReader& reader, const std::string& preset) {
  std::string name = preset;
  reader.read("preprocess.preset", name);
  data::PreprocessOptions options;
  try {
    options = data::preprocess_preset(name);
  } catch (const ConfigError& error) {
    throw reader.error("preprocess.preset", "is '" + name + "': " + error.message());
  }
  read_array(reader, "preprocess.spacing_mm", options.spacing_mm);
  for (const double spacing : options.spacing_mm)
    if (!(spacing > 0 && spacing <= 100))
      throw reader.error("preprocess.spacing_mm",
                         str("must be in (0, 100] mm, holds ", spacing, "."));
  read_shape(reader, "preprocess.volume_shape", options.volume_shape);
  read_array(reader, "preprocess.window_hu", options.window_hu);
  if (options.window_hu[0] >= options.window_hu[1])
    throw reader.error("preprocess.window_hu", "must rise: [lowest HU, highest HU].");
  read_array(reader, "preprocess.output_range", options.output_range);
  if (options.output_range[0] >= options.output_range[1])
    throw reader.error("preprocess.output_range", "must rise: [lowest, highest].");
  reader.read("preprocess.padding", options.padding);
  if (!(options.padding >= options.output_range[0] && options.padding <= options.output_range[1]))
    throw reader.error("preprocess.padding", "must lie in preprocess.output_range.");
  std::string resampling = data::resampling_name(options.resampling);
  reader.read_choice("preprocess.resampling", resampling, {"monai_spacing", "torch_interpolate"});
  options.resampling = data::resampling_from_name(resampling);
  std::string orientation = data::orientation_name(options.orientation);
  reader.read_choice("preprocess.orientation", orientation, {"ras", "stored"});
  options.orientation = data::orientation_from_name(orientation);
  std::string storage = data::storage_name(options.storage);
  reader.read_choice("preprocess.storage", storage, {"uint16", "float16", "float32"});
  options.storage = data::storage_from_name(storage);
  return options;
}

}  // namespace triphase::trainer
