// SPDX-License-Identifier: Apache-2.0
#include "trainer/evaluate_retrieval.hpp"

#include "base/error.hpp"

#include <ATen/Functions.h>

#include <algorithm>

namespace triphase::trainer {
namespace {

constexpr std::int64_t kRowsAtOnce = 256;  // so that no N x N matrix is held

Json summary(std::vector<std::int64_t> ranks) {
  Json json;
  const auto n = static_cast<double>(ranks.size());
  for (const std::int64_t k : {1, 5, 10}) {
    const auto found =
        std::count_if(ranks.begin(), ranks.end(), [k](std::int64_t rank) { return rank <= k; });
    json[str("recall_at_", k)] = static_cast<double>(found) / n;
  }
  std::sort(ranks.begin(), ranks.end());
  const std::size_t middle = ranks.size() / 2;
  json["median_rank"] = ranks.size() % 2 == 1
                            ? static_cast<double>(ranks[middle])
                            : static_cast<double>(ranks[middle - 1] + ranks[middle]) / 2;
  return json;
}

}  // namespace

std::vector<std::int64_t> partner_ranks(const at::Tensor& queries, const at::Tensor& keys) {
  TRIPHASE_CHECK(InternalError, queries.dim() == 2 && queries.sizes() == keys.sizes(),
                 "retrieval wants as many queries as keys");
  const std::int64_t n = queries.size(0);
  const at::Tensor columns = keys.to(at::kDouble).transpose(0, 1);
  std::vector<std::int64_t> ranks;
  for (std::int64_t first = 0; first < n; first += kRowsAtOnce) {
    const std::int64_t count = std::min(kRowsAtOnce, n - first);
    // Products in float64, compared in float32: equal rows then tie whatever the order of a sum
    // was.
    const at::Tensor similarity =
        at::matmul(queries.narrow(0, first, count).to(at::kDouble), columns)
            .to(at::kFloat)
            .contiguous();
    const float* values = similarity.const_data_ptr<float>();
    for (std::int64_t i = 0; i < count; ++i) {
      const float* row = values + i * n;
      const float own = row[first + i];
      std::int64_t rank = 1;
      for (std::int64_t j = 0; j < n; ++j)
        if (row[j] > own || (row[j] >= own && j < first + i)) ++rank;
      ranks.push_back(rank);
    }
  }
  return ranks;
}

Json score_retrieval(const at::Tensor& image, const at::Tensor& text) {
  return {{"n", image.size(0)},
          {"image_to_text", summary(partner_ranks(image, text))},
          {"text_to_image", summary(partner_ranks(text, image))}};
}

}  // namespace triphase::trainer
