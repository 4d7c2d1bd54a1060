// SPDX-License-Identifier: Apache-2.0
#include "trainer/prompts.hpp"

#include "base/config_reader.hpp"
#include "trainer/compute_scope.hpp"

#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <set>

namespace triphase::trainer {
namespace {

void read_texts(ConfigReader& reader, const std::string& path, std::vector<std::string>& texts) {
  reader.read(path, texts);
  if (texts.empty())
    throw reader.error(path, "holds no prompt; give one text at least on either side.");
  for (const std::string& text : texts)
    if (data::sanitize_report(text).empty()) throw reader.error(path, "holds an empty prompt.");
}

/// Mean over the texts of the cosine to each image; both are unit rows.
at::Tensor mean_cosine(const at::Tensor& image, const at::Tensor& texts) {
  return at::matmul(image.to(at::kDouble), texts.to(at::kDouble).transpose(0, 1)).mean(1);
}

}  // namespace

std::vector<FindingPrompts> read_prompts(const std::string& path) {
  ConfigReader reader(ConfigSources{.files = {path}, .environment = {}, .sets = {}});
  std::vector<FindingPrompts> findings;
  std::set<std::string> names;
  const std::int64_t count = reader.array_size("finding");
  if (count == 0)
    throw ConfigError(str(path,
                          ": holds no [[finding]]. Each has a name, positive = [...] and "
                          "negative = [...]."));
  for (std::int64_t i = 0; i < count; ++i) {
    const std::string table = str("finding[", i, "].");
    FindingPrompts finding;
    reader.read(table + "name", finding.name);
    if (finding.name.empty())
      throw reader.error(table + "name", "is empty; name the label column that it is about.");
    if (!names.insert(finding.name).second)
      throw reader.error(table + "name", str("'", finding.name, "' stands twice."));
    read_texts(reader, table + "positive", finding.positive);
    read_texts(reader, table + "negative", finding.negative);
    findings.push_back(std::move(finding));
  }
  reader.finish();
  return findings;
}

data::Tokenizer open_tokenizer(const RunConfig& config, const data::Cache& cache) {
  TRIPHASE_CHECK(ConfigError, !config.model.tokenizer.empty(),
                 "model.tokenizer is not set, and prompts need it. Give the folder with vocab.json "
                 "and merges.txt that the cache was built with.");
  data::Tokenizer tokenizer(config.model.tokenizer);
  const std::string& wanted = cache.spec().tokenizer_hash;
  TRIPHASE_CHECK(DataError, tokenizer.hash() == wanted, "the tokenizer in '",
                 config.model.tokenizer, "' has hash ", tokenizer.hash(), ", the cache '",
                 cache.folder().string(), "' was built with ", wanted,
                 ". Set model.tokenizer to that one, or build the cache again.");
  return tokenizer;
}

at::Tensor embed_texts(models::TwoTower& model, const std::vector<std::string>& texts,
                       const data::Tokenizer& tokenizer, const RunConfig& config) {
  std::vector<std::vector<std::int64_t>> ids;
  std::size_t longest = 0;
  for (const std::string& text : texts) {
    ids.push_back(tokenizer.encode(data::prepare_report(text, config.model.text_preparation),
                                   config.model.max_text_tokens));
    longest = std::max(longest, ids.back().size());
  }
  const auto rows = static_cast<std::int64_t>(texts.size());
  const auto length = static_cast<std::int64_t>(longest);
  const at::Tensor tokens = at::full({rows, length}, tokenizer.pad_id(), at::kLong);
  const at::Tensor mask = at::zeros({rows, length}, at::kLong);
  for (std::size_t i = 0; i < ids.size(); ++i) {
    const auto first = static_cast<std::ptrdiff_t>(i * longest);
    std::copy(ids[i].begin(), ids[i].end(), tokens.mutable_data_ptr<std::int64_t>() + first);
    std::fill_n(mask.mutable_data_ptr<std::int64_t>() + first, ids[i].size(), std::int64_t{1});
  }
  const at::NoGradGuard no_gradients;
  const at::Device device = model->device();
  const ComputeScope scope(config.precision, device.type());
  const bool was_training = model->is_training();
  model->eval();
  const at::Tensor embedded = model->encode_text_tokens(tokens.to(device), mask.to(device))
                                  .to(at::kCPU, at::kFloat);
  model->train(was_training);
  return embedded;
}

std::vector<double> prompt_scores(models::TwoTower& model, const at::Tensor& image,
                                  const FindingPrompts& prompts, const data::Tokenizer& tokenizer,
                                  const RunConfig& config) {
  const at::Tensor positive = embed_texts(model, prompts.positive, tokenizer, config);
  const at::Tensor negative = embed_texts(model, prompts.negative, tokenizer, config);
  const at::Tensor scores =
      (mean_cosine(image, positive) - mean_cosine(image, negative)).contiguous();
  const double* values = scores.const_data_ptr<double>();
  return {values, values + scores.numel()};
}

std::vector<double> prompt_scores(models::TwoTower& model, const EmbeddingTable& table,
                                  const FindingPrompts& prompts, const RunConfig& config,
                                  const std::string& tokenizer_dir) {
  const data::Tokenizer tokenizer(tokenizer_dir);
  return prompt_scores(model, table.image, prompts, tokenizer, config);
}

}  // namespace triphase::trainer
