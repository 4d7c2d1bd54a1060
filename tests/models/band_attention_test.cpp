// SPDX-License-Identifier: Apache-2.0
#include "models/band_attention.hpp"

#include "models/dropout.hpp"

#include "tests/models/models_test_support.hpp"

#include <gtest/gtest.h>

namespace triphase::models {
namespace {

using test::equal_bits;
using test::max_error;
using test::normal;

/// The formula, element by element in float64: softmax over the visible keys.
at::Tensor by_formula(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                      const at::Tensor& mask, std::int64_t window) {
  const std::int64_t length = q.size(2);
  at::Tensor scores = at::matmul(q, k.transpose(2, 3)) / std::sqrt(static_cast<double>(q.size(3)));
  at::Tensor hidden = at::zeros({q.size(0), 1, length, length}, at::kBool);
  auto h = hidden.accessor<bool, 4>();
  const auto m = mask.accessor<bool, 2>();
  for (std::int64_t b = 0; b < q.size(0); ++b)
    for (std::int64_t i = 0; i < length; ++i)
      for (std::int64_t j = 0; j < length; ++j)
        h[b][0][i][j] = std::abs(i - j) > window / 2 || !m[b][j];
  scores = scores.masked_fill(hidden, -1e300);
  return at::matmul(at::softmax(scores, -1), v);
}

/// Rows of real tokens only; what padded tokens get means nothing.
at::Tensor valid(const at::Tensor& rows, const at::Tensor& mask) {
  return rows.masked_fill(mask.logical_not().unsqueeze(1).unsqueeze(3), 0.0);
}

struct Case {
  std::int64_t length;
  std::int64_t window;
  std::int64_t padding;  ///< of the second text
};

std::vector<Case> sweep() {
  std::vector<Case> cases;
  for (const std::int64_t length : {1, 2, 5, 8, 9, 16, 17, 33, 40})
    for (const std::int64_t window : {2, 4, 8, 16, 64})
      for (const std::int64_t padding : {0, 1, 7, 30})
        if (padding < length) cases.push_back({length, window, padding});
  return cases;
}

struct Rows {
  at::Tensor q, k, v, mask;
};

Rows rows_of(const Case& c) {
  const std::vector<std::int64_t> shape{2, 3, c.length, 4};
  Rows rows{normal(shape, 1, at::kDouble), normal(shape, 2, at::kDouble),
            normal(shape, 3, at::kDouble), at::ones({2, c.length}, at::kBool)};
  if (c.padding > 0) rows.mask[1].slice(0, c.length - c.padding).fill_(false);
  return rows;
}

std::string name_of(const Case& c) {
  return str("length ", c.length, " window ", c.window, " padding ", c.padding);
}

TEST(BandAttention, BothFormsEqualTheFormulaOverLengthsWindowsAndPaddings) {
  for (const Case& c : sweep()) {
    const Rows r = rows_of(c);
    const at::Tensor expected = valid(by_formula(r.q, r.k, r.v, r.mask, c.window), r.mask);
    for (const auto form : {BandAttention::Form::kDense, BandAttention::Form::kChunked}) {
      const BandAttention attention(r.mask, c.padding > 0, c.window, form);
      // Sums of at most 40 terms in float64.
      EXPECT_LT(max_error(valid(attention(r.q, r.k, r.v, 0), r.mask), expected), 1e-13)
          << name_of(c);
    }
  }
}

TEST(BandAttention, GradientsOfBothFormsAgree) {
  for (const Case& c : {Case{40, 8, 7}, Case{33, 4, 0}, Case{9, 16, 5}}) {
    std::vector<at::Tensor> dense;
    std::vector<at::Tensor> chunked;
    for (auto* result : {&dense, &chunked}) {
      Rows r = rows_of(c);
      for (at::Tensor* x : {&r.q, &r.k, &r.v}) x->requires_grad_();
      const auto form =
          result == &dense ? BandAttention::Form::kDense : BandAttention::Form::kChunked;
      const at::Tensor y = BandAttention(r.mask, c.padding > 0, c.window, form)(r.q, r.k, r.v, 0);
      (valid(y, r.mask) * normal(y.sizes(), 9, at::kDouble)).sum().backward();
      *result = {r.q.grad(), r.k.grad(), r.v.grad()};
    }
    for (std::size_t i = 0; i < 3; ++i)
      EXPECT_LT(max_error(dense[i], chunked[i]), 1e-13) << name_of(c) << " tensor " << i;
  }
}

TEST(BandAttention, BothFormsDropAlikeAndAlsoInLongerTexts) {
  for (const Case& c : {Case{40, 8, 7}, Case{33, 4, 0}, Case{9, 16, 5}}) {
    const Rows r = rows_of(c);
    const auto attended = [&](const Rows& rows, BandAttention::Form form) {
      const DropoutScope scope({11, 12});
      return valid(BandAttention(rows.mask, c.padding > 0, c.window, form)(rows.q, rows.k, rows.v, 0.4), rows.mask);
    };
    const at::Tensor dense = attended(r, BandAttention::Form::kDense);
    EXPECT_LT(max_error(dense, attended(r, BandAttention::Form::kChunked)), 1e-13) << name_of(c);
    EXPECT_GT(max_error(dense, valid(BandAttention(r.mask, true, c.window)(r.q, r.k, r.v, 0), r.mask)), 0.1);
    const auto longer = [](const at::Tensor& x) { return at::constant_pad_nd(x, {0, 0, 0, 5}); };
    const Rows padded{longer(r.q), longer(r.k), longer(r.v), at::constant_pad_nd(r.mask, {0, 5})};
    for (const auto form : {BandAttention::Form::kDense, BandAttention::Form::kChunked}) {
      const DropoutScope scope({11, 12});
      const at::Tensor rows = BandAttention(padded.mask, true, c.window, form)(padded.q, padded.k, padded.v, 0.4);
      EXPECT_LT(max_error(valid(rows.narrow(2, 0, c.length), r.mask), dense), 1e-13) << name_of(c);
    }
  }
}

TEST(BandAttention, PaddedRowsAreFinite) {
  const Rows r = rows_of({40, 4, 30});  // rows far in the padding see no real token at all
  for (const auto form : {BandAttention::Form::kDense, BandAttention::Form::kChunked})
    EXPECT_TRUE(
        BandAttention(r.mask, true, 4, form)(r.q, r.k, r.v, 0).isfinite().all().item<bool>());
}

TEST(BandAttention, LongTextsTakeChunksByThemselves) {
  const std::int64_t length = BandAttention::kDenseLength + 1;
  const at::Tensor q = normal({1, 1, length, 2}, 5);
  const at::Tensor mask = at::ones({1, length}, at::kBool);
  const at::Tensor by_itself = BandAttention(mask, false, 32)(q, q, q, 0);
  const at::Tensor chunked =
      BandAttention(mask, false, 32, BandAttention::Form::kChunked)(q, q, q, 0);
  const at::Tensor dense = BandAttention(mask, false, 32, BandAttention::Form::kDense)(q, q, q, 0);
  EXPECT_TRUE(equal_bits(by_itself, chunked));
  EXPECT_LT(max_error(by_itself, dense), 1e-5);  // float32, 33 keys
}

}  // namespace
}  // namespace triphase::models
