// SPDX-License-Identifier: Apache-2.0
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/random.hpp"
#include "tests/support/golden.hpp"
#include "tests/support/test_support.hpp"
#include "trainer/evaluate_retrieval.hpp"

namespace triphase::trainer {
namespace {

using namespace test;

TEST(Retrieval, AgreesWithScikitLearn) {
  const Json golden = load_golden_json("metrics");
  for (const auto& [name, sample] : golden.at("retrieval").items()) {
    const auto rows = [&](const char* key) {
      std::vector<at::Tensor> tensors;
      for (const Json& row : sample.at(key))
        tensors.push_back(at::tensor(row.get<std::vector<double>>(), at::kDouble));
      return at::stack(tensors);
    };
    const at::Tensor image = rows("image");
    const at::Tensor text = rows("text");
    const Json json = score_retrieval(image, text);
    for (const char* direction : {"image_to_text", "text_to_image"}) {
      const Json& expected = sample.at(direction);
      const bool by_image = std::string(direction) == "image_to_text";
      EXPECT_EQ(by_image ? partner_ranks(image, text) : partner_ranks(text, image),
                expected.at("ranks").get<std::vector<std::int64_t>>())
          << name;
      EXPECT_EQ(json.at(direction).at("median_rank"), expected.at("median_rank"));
      for (const auto& [k, value] : expected.at("recall").items())
        if (json.at(direction).contains("recall_at_" + k)) {
          EXPECT_NEAR(json.at(direction).at("recall_at_" + k).get<double>(), value.get<double>(), 1e-12);
        }
    }
  }
}

TEST(Retrieval, EqualRowsGoByIndex) {
  const at::Tensor same = at::ones({5, 3}) / std::sqrt(3.0);
  EXPECT_EQ(partner_ranks(same, same), (std::vector<std::int64_t>{1, 2, 3, 4, 5}));
  // More rows than are held at once: the partner of a unique row is the first, of a repeated one by
  // its turn.
  at::Tensor rows = at::eye(700);
  rows[600] = rows[3];
  const std::vector<std::int64_t> ranks = partner_ranks(rows, rows);
  EXPECT_EQ(ranks[3], 1);
  EXPECT_EQ(ranks[600], 2);
  EXPECT_EQ(std::count(ranks.begin(), ranks.end(), 1), 699);
}

/// [n,8] unit rows, and partners some way off.
std::pair<at::Tensor, at::Tensor> drawn_pairs(std::int64_t n) {
  KeyedRandom random{5};
  const at::Tensor image = at::empty({n, 8}, at::kDouble);
  const at::Tensor noise = at::empty({n, 8}, at::kDouble);
  for (std::int64_t i = 0; i < 8 * n; ++i) {
    image.mutable_data_ptr<double>()[i] = random.normal(0, 1);
    noise.mutable_data_ptr<double>()[i] = random.normal(0, 1);
  }
  const at::Tensor text = image + noise;
  return {image / image.norm(2, 1, true), text / text.norm(2, 1, true)};
}

TEST(Retrieval, PoolsAreDisjointAndTheirRanksAreTakenWithin) {
  const std::int64_t n = 150;
  const auto [image, text] = drawn_pairs(n);
  const Json json = score_retrieval(image, text, /*seed=*/3);
  ASSERT_EQ(json.at("pools").size(), 3u);
  for (std::size_t p = 0; p < 3; ++p) {
    const Json& pool = json.at("pools")[p];
    const std::int64_t size = 32 << p;
    EXPECT_EQ(pool.at("size"), size);
    EXPECT_EQ(pool.at("num_pools"), n / size);
    // Written out: of each member, how many others of its pool are nearer.
    const std::vector<std::int64_t> order = keyed_permutation(n, KeyedRandom{3, 0x9001});
    const at::Tensor similarity = at::matmul(image, text.transpose(0, 1));
    std::int64_t found = 0;
    for (std::int64_t i = 0; i < n / size * size; ++i) {
      const std::int64_t first = i / size * size;
      int nearer = 0;
      for (std::int64_t j = first; j < first + size; ++j)
        nearer += similarity[order[static_cast<std::size_t>(i)]][order[static_cast<std::size_t>(j)]].item<double>() >
                  similarity[order[static_cast<std::size_t>(i)]][order[static_cast<std::size_t>(i)]].item<double>();
      found += nearer < 5;
    }
    EXPECT_NEAR(pool.at("image_to_text").at("recall_at_5").get<double>(),
                static_cast<double>(found) / static_cast<double>(n / size * size), 1e-12);
  }
  // A larger pool is harder, another seed's pools are others.
  EXPECT_GT(json.at("pools")[0].at("text_to_image").at("recall_at_1").get<double>(),
            json.at("pools")[2].at("text_to_image").at("recall_at_1").get<double>());
  EXPECT_NE(score_retrieval(image, text, 4).at("pools"), json.at("pools"));
  EXPECT_EQ(score_retrieval(image, text, 4).at("image_to_text"), json.at("image_to_text"));
}

TEST(Retrieval, HasThePoolsThatFit) {
  for (const auto& [n, num_sizes] : {std::pair{31, 0}, std::pair{32, 1}, std::pair{127, 2}}) {
    const auto [image, text] = drawn_pairs(n);
    EXPECT_EQ(score_retrieval(image, text).at("pools").size(), static_cast<std::size_t>(num_sizes)) << n;
  }
}

}  // namespace
}  // namespace triphase::trainer
