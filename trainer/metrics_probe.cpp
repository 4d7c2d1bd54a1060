// SPDX-License-Identifier: Apache-2.0
#include "trainer/metrics.hpp"

#include "base/error.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

namespace triphase::trainer {
namespace {

constexpr int kMaxNewtonSteps = 100;
constexpr double kGradientTolerance = 1e-9;  // relative to the gradient at zero weights
constexpr double kSolveTolerance = 1e-10;    // of conjugate gradients, relative

/// In lanes, since a sum in one order waits for each of its additions.
double dot(const double* a, const double* b, std::size_t n) {
  constexpr std::size_t kLanes = 8;
  std::array<double, kLanes> sums{};
  std::size_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    for (std::size_t lane = 0; lane < kLanes; ++lane) sums[lane] += a[i + lane] * b[i + lane];
  double total = 0;
  for (const double sum : sums) total += sum;
  for (; i < n; ++i) total += a[i] * b[i];
  return total;
}

double dot(const std::vector<double>& a, const std::vector<double>& b) {
  return dot(a.data(), b.data(), a.size());
}

/// Rows with mean 0 and (population) variance 1 in each column; a constant column stays at 0.
struct Standardised {
  std::vector<double> rows;  ///< [n,d]
  std::vector<double> mean;
  std::vector<double> scale;
};

Standardised standardise(const std::vector<double>& features, std::size_t n, std::size_t d) {
  Standardised result{features, std::vector<double>(d, 0.0), std::vector<double>(d, 0.0)};
  for (std::size_t i = 0; i < n; ++i)
    for (std::size_t j = 0; j < d; ++j) result.mean[j] += features[i * d + j];
  for (double& value : result.mean) value /= static_cast<double>(n);
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t j = 0; j < d; ++j) {
      double& value = result.rows[i * d + j];
      value -= result.mean[j];
      result.scale[j] += value * value;
    }
  }
  for (std::size_t j = 0; j < d; ++j) {
    const double deviation = std::sqrt(result.scale[j] / static_cast<double>(n));
    // Below this the column's spread is the rounding of its mean (scikit-learn's StandardScaler
    // likewise).
    const bool constant = deviation <= 10 * 2.3e-16 * std::max(std::abs(result.mean[j]), 1e-300);
    result.scale[j] = constant ? 1.0 : deviation;
  }
  for (std::size_t i = 0; i < n; ++i)
    for (std::size_t j = 0; j < d; ++j) result.rows[i * d + j] /= result.scale[j];
  return result;
}

/// Penalised logistic regression in parameters (w, intercept), d+1 numbers.
class Problem {
 public:
  Problem(const std::vector<double>& rows, std::size_t d, const std::vector<std::int8_t>& labels,
          double c)
      : rows_(rows), d_(d), labels_(labels), penalty_(1 / c) {}

  [[nodiscard]] std::vector<double> margins(const std::vector<double>& parameters) const {
    std::vector<double> result(labels_.size(), parameters[d_]);
    for (std::size_t i = 0; i < result.size(); ++i)
      result[i] += dot(&rows_[i * d_], parameters.data(), d_);
    return result;
  }

  [[nodiscard]] double value(const std::vector<double>& parameters) const {
    double total = 0;
    const std::vector<double> f = margins(parameters);
    for (std::size_t i = 0; i < f.size(); ++i) {
      const double signed_margin = labels_[i] == 1 ? f[i] : -f[i];
      total += std::max(-signed_margin, 0.0) + std::log1p(std::exp(-std::abs(signed_margin)));
    }
    for (std::size_t j = 0; j < d_; ++j) total += 0.5 * penalty_ * parameters[j] * parameters[j];
    return total;
  }

  /// Gradient, and through `curvature` p(1-p) of each row.
  [[nodiscard]] std::vector<double> gradient(const std::vector<double>& parameters,
                                             std::vector<double>& curvature) const {
    const std::vector<double> f = margins(parameters);
    std::vector<double> residual(f.size());
    curvature.resize(f.size());
    for (std::size_t i = 0; i < f.size(); ++i) {
      const double p = 1 / (1 + std::exp(-f[i]));
      residual[i] = p - static_cast<double>(labels_[i]);
      curvature[i] = p * (1 - p);
    }
    std::vector<double> result = transposed_times(residual);
    for (std::size_t j = 0; j < d_; ++j) result[j] += penalty_ * parameters[j];
    return result;
  }

  [[nodiscard]] std::vector<double> hessian_times(const std::vector<double>& vector,
                                                  const std::vector<double>& curvature) const {
    std::vector<double> product = margins(vector);
    for (std::size_t i = 0; i < product.size(); ++i) product[i] *= curvature[i];
    std::vector<double> result = transposed_times(product);
    for (std::size_t j = 0; j < d_; ++j) result[j] += penalty_ * vector[j];
    return result;
  }

  [[nodiscard]] std::vector<double> hessian_diagonal(const std::vector<double>& curvature) const {
    std::vector<double> result(d_ + 1, penalty_);
    result[d_] = 0;
    for (std::size_t i = 0; i < curvature.size(); ++i) {
      for (std::size_t j = 0; j < d_; ++j)
        result[j] += curvature[i] * rows_[i * d_ + j] * rows_[i * d_ + j];
      result[d_] += curvature[i];
    }
    result[d_] = std::max(result[d_], 1e-300);
    return result;
  }

 private:
  [[nodiscard]] std::vector<double> transposed_times(const std::vector<double>& vector) const {
    std::vector<double> result(d_ + 1, 0.0);
    for (std::size_t i = 0; i < vector.size(); ++i) {
      for (std::size_t j = 0; j < d_; ++j) result[j] += rows_[i * d_ + j] * vector[i];
      result[d_] += vector[i];
    }
    return result;
  }

  const std::vector<double>& rows_;
  std::size_t d_;
  const std::vector<std::int8_t>& labels_;
  double penalty_;
};

/// Solves H x = -gradient by conjugate gradients with the diagonal as preconditioner. No d x d
/// matrix is formed: with 2048 features it would cost more than all the products.
std::vector<double> newton_direction(const Problem& problem, const std::vector<double>& gradient,
                                     const std::vector<double>& curvature) {
  const std::vector<double> diagonal = problem.hessian_diagonal(curvature);
  std::vector<double> x(gradient.size(), 0.0);
  std::vector<double> residual(gradient.size());
  std::vector<double> scaled(gradient.size());
  for (std::size_t i = 0; i < x.size(); ++i) {
    residual[i] = -gradient[i];
    scaled[i] = residual[i] / diagonal[i];
  }
  std::vector<double> direction = scaled;
  double energy = dot(residual, scaled);
  const double wanted = energy * kSolveTolerance * kSolveTolerance;
  for (std::size_t k = 0; k < 10 * x.size() + 100 && energy > wanted; ++k) {
    const std::vector<double> image = problem.hessian_times(direction, curvature);
    const double bend = dot(direction, image);
    if (!(bend > 0)) break;  // rounding has used up what the system holds
    const double length = energy / bend;
    for (std::size_t i = 0; i < x.size(); ++i) {
      x[i] += length * direction[i];
      residual[i] -= length * image[i];
      scaled[i] = residual[i] / diagonal[i];
    }
    const double next = dot(residual, scaled);
    for (std::size_t i = 0; i < x.size(); ++i)
      direction[i] = scaled[i] + next / energy * direction[i];
    energy = next;
  }
  return x;
}

double largest(const std::vector<double>& values) {
  double result = 0;
  for (const double value : values) result = std::max(result, std::abs(value));
  return result;
}

/// Newton's method with step halving; the objective is strictly convex, so the end is the minimum.
std::vector<double> minimise(const Problem& problem, std::size_t num_parameters) {
  std::vector<double> parameters(num_parameters, 0.0);
  std::vector<double> curvature;
  std::vector<double> gradient = problem.gradient(parameters, curvature);
  const double wanted = kGradientTolerance * std::max(largest(gradient), 1e-12);
  double value = problem.value(parameters);
  for (int step = 0; step < kMaxNewtonSteps && largest(gradient) > wanted; ++step) {
    const std::vector<double> direction = newton_direction(problem, gradient, curvature);
    const double slope = dot(direction, gradient);
    std::vector<double> next = parameters;
    double next_value = value;
    double length = 1;
    for (; length > 1e-10; length /= 2) {
      for (std::size_t i = 0; i < next.size(); ++i) next[i] = parameters[i] + length * direction[i];
      next_value = problem.value(next);
      if (next_value <= value + 1e-4 * length * slope) break;
    }
    if (length <= 1e-10) break;  // no descent left above rounding
    parameters = std::move(next);
    value = next_value;
    gradient = problem.gradient(parameters, curvature);
  }
  return parameters;
}

}  // namespace

LinearProbe fit_linear_probe(const std::vector<double>& features, std::int64_t d,
                             const std::vector<std::int8_t>& labels, double c) {
  const std::size_t n = labels.size();
  TRIPHASE_CHECK(InternalError, d > 0 && features.size() == n * static_cast<std::size_t>(d),
                 "the linear probe got ", features.size(), " numbers for ", n, " rows of ", d);
  TRIPHASE_CHECK(ConfigError, c > 0 && std::isfinite(c),
                 "the linear probe's C must be above 0, is ", c);
  const auto positives = std::count(labels.begin(), labels.end(), std::int8_t{1});
  TRIPHASE_CHECK(DataError, positives > 0 && positives < static_cast<std::int64_t>(n),
                 "a linear probe needs both classes; ", positives, " of ", n,
                 " training samples are positive");
  for (const double value : features)
    TRIPHASE_CHECK(NumericsError, std::isfinite(value), "a feature of the linear probe is ", value);
  const auto width = static_cast<std::size_t>(d);
  const Standardised standardised = standardise(features, n, width);
  const Problem problem(standardised.rows, width, labels, c);
  const std::vector<double> fitted = minimise(problem, width + 1);
  LinearProbe probe;
  probe.intercept = fitted[width];
  for (std::size_t j = 0; j < width; ++j) {
    probe.weights.push_back(fitted[j] / standardised.scale[j]);
    probe.intercept -= probe.weights[j] * standardised.mean[j];
  }
  return probe;
}

std::vector<double> probe_scores(const LinearProbe& probe, const std::vector<double>& features,
                                 std::int64_t d) {
  const auto width = static_cast<std::size_t>(d);
  TRIPHASE_CHECK(InternalError, probe.weights.size() == width && features.size() % width == 0,
                 "the linear probe has ", probe.weights.size(), " weights, the features ",
                 features.size(), " numbers in rows of ", d);
  std::vector<double> scores;
  for (std::size_t row = 0; row < features.size(); row += width) {
    double score = probe.intercept;
    for (std::size_t j = 0; j < width; ++j) score += features[row + j] * probe.weights[j];
    scores.push_back(score);
  }
  return scores;
}

}  // namespace triphase::trainer
