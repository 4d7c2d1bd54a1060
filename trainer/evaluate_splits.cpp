// SPDX-License-Identifier: Apache-2.0
#include "trainer/evaluate_splits.hpp"

namespace triphase::trainer {

const EmbeddingTable& SplitEmbedder::of(const std::string& split, const std::vector<std::string>& sites) {
  const std::pair key{split, sites};
  const auto found = tables_.find(key);
  if (found != tables_.end()) return found->second;
  std::vector<std::int64_t> indices;
  dist::agree_on(group_, [&] { indices = cache_.select(split, sites); });
  return tables_.emplace(key, embed_samples(model_, cache_, indices, config_, group_, progress_)).first->second;
}

std::vector<std::string> scored_sites(const RunConfig& config) {
  const std::vector<std::string>& sites = config.evaluate.sites;
  if (sites.empty()) return config.data.sites;
  return sites == std::vector<std::string>{"*"} ? std::vector<std::string>{} : sites;
}

}  // namespace triphase::trainer
