// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/config_reader.hpp"
#include "data/augment.hpp"
#include "data/epoch_plan.hpp"
#include "data/preprocess.hpp"
#include "data/report_text.hpp"
#include "models/adapter_options.hpp"

namespace triphase::trainer {

struct RunOptions {
  std::string name = "run";
  std::string output_dir = "runs";  ///< the run folder is output_dir/name
  std::int64_t seed = 0;
  std::int64_t log_every_steps = 10;
  /// Wall-time limit, in seconds since the program's start: the run then stops at a step, saves and
  /// ends with 75, as after SIGUSR1. 0: none. Leave room for one step and one checkpoint.
  double max_seconds = 0;
};

struct DataOptions {
  std::string cache;  ///< folder that `triphase cache build` wrote
  std::string train_split = "train";
  std::string validation_split = "validation";  ///< "": no validation during training
  std::string test_split = "test";
  std::vector<std::string> sites;  ///< empty: all
  std::string report_sections = "full";  ///< or "alternate": see SectionTexts
  /// "own", or "shuffled": a control in which each training image gets the report of another, keyed by
  /// run.seed. Nothing can be learnt then, and what is scored above chance is a leak.
  std::string pairs = "own";
  std::int64_t workers = 1;      ///< background reading threads per rank
  std::int64_t read_ahead_bytes = std::int64_t{1} << 30;  ///< of batches read before they are asked for, per rank
  data::SamplerOptions sampler;  ///< data.sampler, data.site_quota, data.site_temperature
  std::string staging_dir;       ///< on each node's own disk: shards are copied there first; "": none
  data::AugmentOptions augment;  ///< [data.augment]
};

struct CacheOptions {
  std::string compression = "none";  ///< or "zstd"; for `triphase cache build`
};

struct ModelOptions {
  std::string preset = "merlin";
  std::string weights = "random";  ///< file, folder, run checkpoint, or "random"
  /// Regular expressions over tensor names that the weights file may lack; those are drawn from run.seed.
  std::vector<std::string> allow_missing;
  std::string tokenizer;           ///< folder with vocab.json and merges.txt
  std::int64_t max_text_tokens = 1024;
  /// Of reports and prompts: "wordpunct" or "lower".
  data::TextPreparation text_preparation = data::TextPreparation::kWordPunct;
  std::string batch_norm = "frozen";  ///< "frozen", "local" or "sync"
};

/// Federated rounds: see Federation.
struct FederatedOptions {
  std::int64_t local_steps = 0;  ///< adapt.federated_steps: updates of a site between averages; 0: off
};

struct LossOptions {
  std::string kind = "infonce";  ///< "infonce" or "siglip"
  double temperature_init = 0.07;  ///< siglip: 0.1 when not given
  std::string temperature_init_as = "temperature";  ///< "temperature", "scale" or "log_scale"
  bool temperature_learnable = true;
  double scale_max = 100;  ///< the log-scale is clamped at ln(scale_max)
  double bias_init = -10;           ///< siglip's, which is added to every logit and learns
  std::string negatives = "global";  ///< "global", "local" (of the same rank) or "site"
  std::string positives = "pair";    ///< "pair" (or report group), "patient" or "text" (the same tokens)
  std::string transport = "gather";  ///< of the texts' embeddings: "gather" or "ring"
  double phenotype_weight = 0;  ///< weight of the BCE on the label columns; 0: off
};

struct BatchOptions {
  std::int64_t global_pairs = 32;  ///< over all ranks; a multiple of the number of ranks
  /// Pairs of a micro batch, which a rank's towers take at a time; fewer than its share: gradient
  /// caching. 0: all of them.
  std::int64_t micro_pairs = 0;
};

struct OptimizerOptions {
  double lr = 1e-4;
  double weight_decay = 0.01;  ///< not on biases, norms, factors' 1-d tensors or the log-scale
  std::vector<double> betas{0.9, 0.999};
  double eps = 1e-8;
  double grad_clip_norm = 1;   ///< over all trained parameters of all groups; 0: off
  double lora_plus_ratio = 1;  ///< lr of the B factors over lr of the A factors
  double lr_image = 0;         ///< 0: lr
  double lr_text = 0;
  double lr_heads = 0;
  double lr_scale = 0;
};

struct ScheduleOptions {
  std::string kind = "cosine";  ///< "cosine", "constant" or "linear"
  std::int64_t warmup_steps = 0;
  std::int64_t max_steps = 0;  ///< one of max_steps and max_epochs is given
  std::int64_t max_epochs = 0;
  std::int64_t early_stop_patience = 0;  ///< validations without a better keep_best value; 0: off
};

/// Where and how numbers are computed.
struct PrecisionOptions {
  std::string device = "auto";      ///< "auto" (a GPU where there is one), "cpu" or "cuda"
  std::string compute = "float32";  ///< "float32", "bfloat16", or "float64" (tests of equality)
  std::string memory_format = "contiguous";  ///< or "channels_last_3d"
  std::string recompute = "none";            ///< "none", "blocks" or "stages"
  bool tf32 = false;  ///< float32 products on a GPU rounded to TensorFloat-32 (10 bits of mantissa)
  bool deterministic = true;
};

struct DistributedOptions {
  std::string backend = "auto";  ///< "auto", "self", "mpi" or "nccl"
  /// Whether gradients are reduced during backward, on a thread: "auto" (where every rank has a
  /// hardware thread to spare), "on", "off". The numbers are the same.
  std::string overlap = "auto";
  std::int64_t bucket_bytes = std::int64_t{16} << 20;
  /// "fast", or "ordered": gradients are summed over one tree of micro batches, with the same bits on
  /// 1, 2, 4 ... ranks of as many threads.
  std::string reduction = "fast";
  /// What gradients travel as: "gradient" (as they are), "float32" (the same, in words), "bfloat16".
  std::string wire_dtype = "gradient";
  /// Each rank keeps the moments of its part of the parameters only, and updates that.
  bool shard_optimizer = false;
  double timeout_seconds = 600;
};

struct CheckpointOptions {
  std::int64_t every_steps = 0;  ///< 0: at the end of each epoch
  std::int64_t keep_last = 2;
  /// "validation_" and a field of a validation's record: "validation_loss", "validation_auc" (the mean over
  /// findings), "validation_hcc_auc", "validation_recall_at_5" ...; "": none. Lower is better of loss and
  /// median_rank, higher of the others.
  std::string keep_best = "validation_loss";
};

struct EvaluateOptions {
  std::string prompts;               ///< prompts.toml; needed when there are labels to score
  std::int64_t every_epochs = 1;     ///< validation during training; 0: never
  std::int64_t every_steps = 0;      ///< in steps instead, when > 0
  std::string threshold = "youden";  ///< or "f1"; chosen on the validation split
  std::int64_t bootstrap_samples = 1000;
  std::string scoring = "difference";  ///< of mean cosines, or "softmax" of the two at the learned scale
  bool linear_probe = true;
  bool report_probe = true;  ///< the linear probe's twin on the text embedding: what reports alone give
  std::vector<std::int64_t> k_shot{1, 2, 4, 8, 16, 32};  ///< of each class, for the probes; {}: none
  std::int64_t k_shot_repeats = 10;
  std::vector<std::string> sites;      ///< whose samples are scored; {}: data.sites; {"*"}: every site
  std::string manifest;                ///< that the cache was built from; for subgroups
  std::vector<std::string> subgroups;  ///< columns of the manifest
  std::int64_t batch_size = 16;        ///< samples per pass and rank
};

/// Everything a run is made of: one member for each table of the TOML file (design §5).
struct RunConfig {
  RunOptions run;
  DataOptions data;
  std::optional<data::PreprocessOptions>
      preprocess;  ///< what the cache must hold; absent: what it holds
  CacheOptions cache;
  ModelOptions model;
  models::AdaptOptions adapt;
  FederatedOptions federated;
  LossOptions loss;
  BatchOptions batch;
  OptimizerOptions optimizer;
  ScheduleOptions schedule;
  PrecisionOptions precision;
  DistributedOptions distributed;
  CheckpointOptions checkpoint;
  EvaluateOptions evaluate;

  std::string resolved_toml;  ///< loadable again
  std::string origins_toml;   ///< the same with a comment on where each value came from
  [[nodiscard]] std::string run_dir() const { return run.output_dir + "/" + run.name; }
};

/// Reads and checks everything that can be checked without data. Keys of the agreed design whose
/// feature is not in this build (for example data.report_sections = "alternate") are known and refused by name,
/// never ignored.
/// @throws ConfigError with file:line:column
[[nodiscard]] RunConfig load_run_config(const ConfigSources& sources);

/// Pairs of one rank. @throws ConfigError when global_pairs is not a multiple of num_ranks, when
/// micro_pairs asks for several micro batches and batch_norm is 'sync', or when reduction is 'ordered'
/// and ranks or micro batches do not make a tree
[[nodiscard]] std::int64_t pairs_per_rank(const RunConfig& config, int num_ranks);

/// @throws ConfigError when distributed.backend is 'self' and there are several ranks
void check_backend(const RunConfig& config, int num_ranks);

/// Whether the loss has a bias, and so the model: siglip's.
[[nodiscard]] bool has_logit_bias(const LossOptions& loss);

/// The log-scale's first value from temperature_init and its declared meaning. Natural logarithm.
[[nodiscard]] double initial_log_scale(const LossOptions& loss);

/// The [preprocess] table alone, for `triphase cache build --config/--set`, over a preset's values.
[[nodiscard]] data::PreprocessOptions read_preprocess_table(ConfigReader& reader,
                                                            const std::string& preset);

}  // namespace triphase::trainer
