// SPDX-License-Identifier: Apache-2.0
#include "trainer/optim/gradient_norm.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "base/error.hpp"
#include "base/torch_threads.hpp"

namespace triphase::trainer {
namespace {

constexpr std::int64_t kPiece = std::int64_t{1} << 16;

template <class T>
double piece_square_sum(const T* values, std::int64_t count) {
  std::array<double, 8> lanes{};  // independent sums, so that the compiler may use vectors
  std::int64_t i = 0;
  for (; i + 8 <= count; i += 8) {
    for (std::size_t lane = 0; lane < 8; ++lane) {
      const auto value = static_cast<double>(values[i + static_cast<std::int64_t>(lane)]);
      lanes[lane] += value * value;
    }
  }
  double sum = 0;
  for (const double lane : lanes) sum += lane;
  for (; i < count; ++i) sum += static_cast<double>(values[i]) * static_cast<double>(values[i]);
  return sum;
}

template <class T>
double square_sum(const T* values, std::int64_t count) {
  const std::int64_t num_pieces = (count + kPiece - 1) / kPiece;
  std::vector<double> pieces(static_cast<std::size_t>(num_pieces));
  on_torch_threads(num_pieces, [&](std::int64_t piece) {
    pieces[static_cast<std::size_t>(piece)] =
        piece_square_sum(values + piece * kPiece, std::min(kPiece, count - piece * kPiece));
  });
  double sum = 0;
  for (const double piece : pieces) sum += piece;
  return sum;
}

/// One look at the device for all of them.
double square_sum_on_device(const std::vector<at::Tensor>& tensors) {
  const std::vector<at::Tensor> norms = at::_foreach_norm(tensors, 2, at::kDouble);
  return at::stack(norms).square().sum().item<double>();
}

}  // namespace

double global_square_sum(const std::vector<at::Tensor>& tensors) {
  if (!tensors.empty() && !tensors[0].is_cpu()) return square_sum_on_device(tensors);
  double sum = 0;
  for (const at::Tensor& tensor : tensors) {
    TRIPHASE_CHECK(InternalError, tensor.is_non_overlapping_and_dense(),
                   "a gradient has gaps in memory");
    if (tensor.scalar_type() == at::kDouble) {
      sum += square_sum(tensor.const_data_ptr<double>(), tensor.numel());
      continue;
    }
    TRIPHASE_CHECK(InternalError, tensor.scalar_type() == at::kFloat, "a gradient is of dtype ",
                   tensor.scalar_type());
    sum += square_sum(tensor.const_data_ptr<float>(), tensor.numel());
  }
  return sum;
}

double global_norm(const std::vector<at::Tensor>& tensors) {
  return std::sqrt(global_square_sum(tensors));
}

}  // namespace triphase::trainer
