// SPDX-License-Identifier: Apache-2.0
// Under mpirun with 1, 2 and 3 ranks: the ranks together find what one process finds, bit for bit.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "dist/runtime.hpp"
#include "tests/trainer/evaluation_fixture.hpp"

namespace triphase::trainer {
namespace {

using test::all_samples;
using test::evaluation_subject;
using test::EvaluationSubject;
using test::TemporaryFolder;

TEST(EvaluationOnRanks, EmbeddingsHaveTheBitsOfOneProcess) {
  dist::Runtime runtime({.backend = "mpi", .timeout_seconds = 60});
  const TemporaryFolder folder;
  EvaluationSubject subject = evaluation_subject(folder.path());
  const std::unique_ptr<dist::ProcessGroup> self = dist::make_self_group();
  const std::vector<std::int64_t> all = all_samples(*subject.cache);
  // Counts that fill the batches of 3, that do not, and that leave ranks without work.
  for (const std::size_t count :
       {std::size_t{30}, std::size_t{29}, std::size_t{7}, std::size_t{3}, std::size_t{1}}) {
    std::vector<std::int64_t> indices(all.rbegin(),
                                      all.rbegin() + static_cast<std::ptrdiff_t>(count));
    const EmbeddingTable together = embed_samples(subject.model, *subject.cache, indices,
                                                  subject.config, runtime.world(), false);
    const EmbeddingTable alone =
        embed_samples(subject.model, *subject.cache, indices, subject.config, *self, false);
    EXPECT_EQ(together.indices, indices);
    EXPECT_TRUE(at::equal(together.image, alone.image)) << count;
    EXPECT_TRUE(at::equal(together.text, alone.text)) << count;
    EXPECT_TRUE(at::equal(together.features, alone.features)) << count;
    EXPECT_EQ(together.image.size(0), static_cast<std::int64_t>(count));
  }
}

TEST(EvaluationOnRanks, ResultIsThatOfOneProcess) {
  dist::Runtime runtime({.backend = "mpi", .timeout_seconds = 60});
  const TemporaryFolder folder;
  EvaluationSubject subject = evaluation_subject(folder.path());
  const std::unique_ptr<dist::ProcessGroup> self = dist::make_self_group();
  const auto evaluate = [&](dist::ProcessGroup& group) {
    return evaluate_with_scores(subject.model, *subject.cache, subject.config, "test", group, false);
  };
  const Evaluation together = evaluate(runtime.world());
  const Evaluation alone = evaluate(*self);
  EXPECT_EQ(together.json.dump(), alone.json.dump());
  EXPECT_EQ(together.scores.dump(), alone.scores.dump());
}

TEST(EvaluationOnRanks, ASampleThatOneRankCannotReadEndsAllRanks) {
  dist::Runtime runtime({.backend = "mpi", .timeout_seconds = 60});
  const TemporaryFolder folder;
  EvaluationSubject subject = evaluation_subject(folder.path());
  std::vector<std::int64_t> indices = all_samples(*subject.cache);
  indices.back() = 1000;  // no such sample; only the last rank meets it
  EXPECT_THROW((void)embed_samples(subject.model, *subject.cache, indices, subject.config,
                                   runtime.world(), false),
               Error);
}

}  // namespace
}  // namespace triphase::trainer
