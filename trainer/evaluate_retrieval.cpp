// SPDX-License-Identifier: Apache-2.0
#include "trainer/evaluate_retrieval.hpp"

#include "base/error.hpp"
#include "base/random.hpp"

#include <ATen/Functions.h>

#include <algorithm>
#include <tuple>
#include <utility>

namespace triphase::trainer {
namespace {

constexpr std::int64_t kRowsAtOnce = 256;  // so that no N x N matrix is held

Json summary(std::vector<std::int64_t> ranks) {
  Json json;
  const auto n = static_cast<double>(ranks.size());
  for (const std::int64_t k : {1, 5, 10, 50}) {
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

Json score_retrieval(const at::Tensor& image, const at::Tensor& text, std::uint64_t seed) {
  const std::int64_t n = image.size(0);
  Json pools = Json::array();
  const at::Tensor order =
      at::tensor(keyed_permutation(n, KeyedRandom{seed, /*what for: pools*/ 0x9001}), at::kLong);
  for (const std::int64_t size : {32, 64, 128}) {
    if (size > n) break;
    std::vector<std::int64_t> by_image;
    std::vector<std::int64_t> by_text;
    for (std::int64_t first = 0; first + size <= n; first += size) {
      const at::Tensor rows = std::get<0>(order.narrow(0, first, size).sort());  // ties go by the cache's order
      const at::Tensor images = image.index_select(0, rows);
      const at::Tensor texts = text.index_select(0, rows);
      const auto append = [](std::vector<std::int64_t>& all, const std::vector<std::int64_t>& more) {
        all.insert(all.end(), more.begin(), more.end());
      };
      append(by_image, partner_ranks(images, texts));
      append(by_text, partner_ranks(texts, images));
    }
    pools.push_back({{"size", size},
                     {"num_pools", n / size},
                     {"image_to_text", summary(std::move(by_image))},
                     {"text_to_image", summary(std::move(by_text))}});
  }
  return {{"n", n},
          {"image_to_text", summary(partner_ranks(image, text))},
          {"text_to_image", summary(partner_ranks(text, image))},
          {"pools", pools}};
}

}  // namespace triphase::trainer
