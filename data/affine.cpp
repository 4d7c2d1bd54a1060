// SPDX-License-Identifier: Apache-2.0
#include "data/affine.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

namespace triphase::data {
namespace {

template <std::size_t N>
using Square = std::array<std::array<double, N>, N>;

template <std::size_t N>
Square<N> product(const Square<N>& a, const Square<N>& b) {
  Square<N> c{};
  for (std::size_t i = 0; i < N; ++i)
    for (std::size_t j = 0; j < N; ++j) {
      double sum = 0;
      for (std::size_t k = 0; k < N; ++k) sum += a[i][k] * b[k][j];
      c[i][j] = sum;
    }
  return c;
}

template <std::size_t N>
bool eliminate(Square<N>& a, Square<N>& b) {
  for (std::size_t k = 0; k < N; ++k) {
    std::size_t pivot = k;
    for (std::size_t i = k + 1; i < N; ++i)
      if (std::abs(a[i][k]) > std::abs(a[pivot][k])) pivot = i;
    if (!(std::abs(a[pivot][k]) > 0) || !std::isfinite(a[pivot][k])) return false;
    std::swap(a[k], a[pivot]);
    std::swap(b[k], b[pivot]);
    const double reciprocal = 1.0 / a[k][k];
    for (std::size_t i = k + 1; i < N; ++i) {
      const double factor = a[i][k] * reciprocal;
      for (std::size_t j = k; j < N; ++j) a[i][j] -= factor * a[k][j];
      for (std::size_t j = 0; j < N; ++j) b[i][j] -= factor * b[k][j];
    }
  }
  return true;
}

template <std::size_t N>
std::optional<Square<N>> solve_square(Square<N> a, Square<N> b) {
  if (!eliminate<N>(a, b)) return std::nullopt;
  for (std::size_t row = N; row-- > 0;) {
    const double reciprocal = 1.0 / a[row][row];
    for (std::size_t j = 0; j < N; ++j) {
      double value = b[row][j];
      for (std::size_t k = row + 1; k < N; ++k) value -= a[row][k] * b[k][j];
      b[row][j] = value * reciprocal;
      if (!std::isfinite(b[row][j])) return std::nullopt;
    }
  }
  return b;
}

Matrix3 transpose(const Matrix3& a) {
  Matrix3 t{};
  for (std::size_t i = 0; i < 3; ++i)
    for (std::size_t j = 0; j < 3; ++j) t[i][j] = a[j][i];
  return t;
}

}  // namespace

Affine identity_affine() {
  Affine affine{};
  for (std::size_t i = 0; i < 4; ++i) affine[i][i] = 1;
  return affine;
}

bool is_finite(const Affine& affine) {
  for (const auto& row : affine)
    for (const double value : row)
      if (!std::isfinite(value)) return false;
  return true;
}

Matrix3 linear_part(const Affine& affine) {
  Matrix3 linear{};
  for (std::size_t i = 0; i < 3; ++i)
    for (std::size_t j = 0; j < 3; ++j) linear[i][j] = affine[i][j];
  return linear;
}

Affine affine_from(const Matrix3& linear, const Vector3& translation) {
  Affine affine = identity_affine();
  for (std::size_t i = 0; i < 3; ++i) {
    for (std::size_t j = 0; j < 3; ++j) affine[i][j] = linear[i][j];
    affine[i][3] = translation[i];
  }
  return affine;
}

Matrix3 multiply(const Matrix3& a, const Matrix3& b) { return product<3>(a, b); }
Affine multiply(const Affine& a, const Affine& b) { return product<4>(a, b); }

Vector3 apply(const Affine& affine, const Vector3& index) {
  Vector3 point{};
  for (std::size_t i = 0; i < 3; ++i) {
    double sum = 0;
    for (std::size_t j = 0; j < 3; ++j) sum += affine[i][j] * index[j];
    point[i] = sum + affine[i][3];
  }
  return point;
}

std::optional<Affine> solve(const Affine& a, const Affine& b) { return solve_square<4>(a, b); }

std::optional<Matrix3> inverse(const Matrix3& a) {
  return solve_square<3>(a, Matrix3{{{1, 0, 0}, {0, 1, 0}, {0, 0, 1}}});
}

Vector3 column_norms(const Matrix3& linear) {
  Vector3 norms{};
  for (std::size_t j = 0; j < 3; ++j) {
    double sum = 0;
    for (std::size_t i = 0; i < 3; ++i) sum += linear[i][j] * linear[i][j];
    norms[j] = std::sqrt(sum);
  }
  return norms;
}

std::optional<Matrix3> upper_cholesky_of_gram(const Matrix3& a) {
  const Matrix3 gram = multiply(transpose(a), a);
  Matrix3 upper{};
  for (std::size_t j = 0; j < 3; ++j) {
    for (std::size_t i = 0; i <= j; ++i) {
      double sum = gram[i][j];
      for (std::size_t k = 0; k < i; ++k) sum -= upper[k][i] * upper[k][j];
      if (i < j) {
        upper[i][j] = sum / upper[i][i];
      } else {
        if (!(sum > 0)) return std::nullopt;
        upper[j][j] = std::sqrt(sum);
      }
    }
  }
  return upper;
}

std::optional<Matrix3> polar_rotation(const Matrix3& a) {
  // Newton's iteration X <- (X + X^-T)/2. Source: Higham, "Computing the polar decomposition", SIAM
  // J. Sci. Stat. Comput. 7 (1986).
  Matrix3 x = a;
  for (int iteration = 0; iteration < 100; ++iteration) {
    const std::optional<Matrix3> inverted = inverse(x);
    if (!inverted) return std::nullopt;
    double change = 0;
    Matrix3 next{};
    for (std::size_t i = 0; i < 3; ++i)
      for (std::size_t j = 0; j < 3; ++j) {
        next[i][j] = 0.5 * (x[i][j] + (*inverted)[j][i]);
        change = std::max(change, std::abs(next[i][j] - x[i][j]));
      }
    x = next;
    if (!std::isfinite(change)) return std::nullopt;
    if (change <= 4 * std::numeric_limits<double>::epsilon()) break;
  }
  return x;
}

}  // namespace triphase::data
