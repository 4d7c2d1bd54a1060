// SPDX-License-Identifier: Apache-2.0
// The kernels in vectors of TRIPHASE_LANE_BYTES bytes: included by
// contrastive_kernel_<processor>.cpp, each compiled for its processor. Everything stands in an
// unnamed namespace and calls no function of another header, so that the linker cannot put one
// processor's code into another's place.
#include "dist/contrastive_kernel.hpp"

namespace triphase::dist {
namespace {

template <class T>
struct Lanes;

template <>
struct Lanes<float> {
  typedef float Vector __attribute__((vector_size(TRIPHASE_LANE_BYTES)));
  typedef std::int32_t Bits __attribute__((vector_size(TRIPHASE_LANE_BYTES)));
  static constexpr float kLog2E = 1.44269504088896341F;
  static constexpr float kLn2High = 0.693359375F;  // few bits: n * kLn2High is exact
  static constexpr float kLn2Low = -2.12194440054690583e-4F;
  static constexpr float kRounder = 12582912.0F;  // 1.5 * 2^23: adding it rounds to an integer
  static constexpr float kLowest = -87.3F;        // below, exp would not be a normal number
  static constexpr int kMantissaBits = 23, kExponentBias = 127;
  static constexpr int kExpTerms = 7;  // 0.347^8 / 8! = 5e-9
  static constexpr int kLogTerms = 8;  // (1/9)^9 / 19 = 1e-10
};

template <>
struct Lanes<double> {
  typedef double Vector __attribute__((vector_size(TRIPHASE_LANE_BYTES)));
  typedef std::int64_t Bits __attribute__((vector_size(TRIPHASE_LANE_BYTES)));
  static constexpr double kLog2E = 1.44269504088896340736;
  static constexpr double kLn2High = 6.93145751953125e-1;
  static constexpr double kLn2Low = 1.42860682030941723212e-6;
  static constexpr double kRounder = 6755399441055744.0;  // 1.5 * 2^52
  static constexpr double kLowest = -708.0;
  static constexpr int kMantissaBits = 52, kExponentBias = 1023;
  static constexpr int kExpTerms = 13;  // 0.347^14 / 14! = 4e-18
  static constexpr int kLogTerms = 17;  // (1/9)^18 / 37 = 2e-19
};

template <class T>
using Vector = typename Lanes<T>::Vector;
template <class T>
constexpr std::int64_t kLanes = TRIPHASE_LANE_BYTES / static_cast<std::int64_t>(sizeof(T));

template <class T>
inline Vector<T> load(const T* from) {
  Vector<T> values;
  __builtin_memcpy(&values, from, sizeof(values));
  return values;
}
template <class T>
inline void store(T* to, Vector<T> values) {
  __builtin_memcpy(to, &values, sizeof(values));
}

template <class T>
inline T sum_of_lanes(Vector<T> values) {
  T sum = 0;
  for (std::int64_t k = 0; k < kLanes<T>; ++k) sum += values[k];
  return sum;
}

/// exp(x) for x <= 0, to 2 units in the last place; exactly 1 at 0; 0 below kLowest; NaN of NaN.
/// x = n ln 2 + r with |r| <= ln 2 / 2: exp(r) by its series, 2^n by the bits of the exponent.
template <class T>
inline Vector<T> exp_of_negative(Vector<T> x) {
  using L = Lanes<T>;
  using Bits = typename L::Bits;
  const Vector<T> rounded = x * L::kLog2E + L::kRounder;
  const Vector<T> n = rounded - L::kRounder;
  Vector<T> r = x - n * L::kLn2High;
  r = r - n * L::kLn2Low;
  Vector<T> series = Vector<T>{} + T(1);
  for (int k = L::kExpTerms; k > 0; --k) series = series * r * (T(1) / static_cast<T>(k)) + T(1);
  // The low bits of `rounded` are n; those of kRounder itself leave on the left.
  const Bits exponent = (__builtin_bit_cast(Bits, rounded) + L::kExponentBias) << L::kMantissaBits;
  const Vector<T> result = series * __builtin_bit_cast(Vector<T>, exponent);
  return x < L::kLowest ? Vector<T>{} : result;
}

template <class T>
void maxima(const LogitRows<T>& slab, T* row_max, T* column_max) {
  for (std::int64_t i = 0; i < slab.num_rows; ++i) {
    const T* logits = slab.logits + i * slab.stride;
    Vector<T> most = Vector<T>{} + row_max[i];
    for (std::int64_t j = 0; j < slab.width; j += kLanes<T>) {
      const Vector<T> s = load(logits + j);
      const Vector<T> column = load(column_max + j);
      most = s > most ? s : most;
      store(column_max + j, s > column ? s : column);
    }
    for (std::int64_t k = 0; k < kLanes<T>; ++k)
      row_max[i] = most[k] > row_max[i] ? most[k] : row_max[i];
  }
}

template <class T>
void sums(const LogitRows<T>& slab, const T* row_max, const T* column_max, T* row_sum,
          T* column_sum) {
  for (std::int64_t j = 0; j < slab.width; ++j) column_sum[j] = 0;
  for (std::int64_t i = 0; i < slab.num_rows; ++i) {
    const T* logits = slab.logits + i * slab.stride;
    Vector<T> row{};
    for (std::int64_t j = 0; j < slab.width; j += kLanes<T>) {
      const Vector<T> s = load(logits + j);
      row += exp_of_negative<T>(s - row_max[i]);
      store(column_sum + j, load(column_sum + j) + exp_of_negative<T>(s - load(column_max + j)));
    }
    row_sum[i] = sum_of_lanes<T>(row);
  }
}

template <class T>
void gradient(const LogitRows<T>& slab, const T* row_max, const T* row_weight, const T* column_max,
              const T* column_weight, T* row_product) {
  for (std::int64_t i = 0; i < slab.num_rows; ++i) {
    T* logits = slab.logits + i * slab.stride;
    Vector<T> product{};
    for (std::int64_t j = 0; j < slab.width; j += kLanes<T>) {
      const Vector<T> s = load(logits + j);
      const Vector<T> g = exp_of_negative<T>(s - row_max[i]) * row_weight[i] +
                          exp_of_negative<T>(s - load(column_max + j)) * load(column_weight + j);
      product += g * s;
      store(logits + j, g);
    }
    row_product[i] = sum_of_lanes<T>(product);
  }
}

/// log(1 + e) for e in [0, 1], small ones to their own last places: 2 artanh(e / (2 + e)).
template <class T>
inline Vector<T> log_of_one_and(Vector<T> e) {
  const Vector<T> t = e / (e + T(2));
  const Vector<T> square = t * t;
  Vector<T> series{};
  for (int k = Lanes<T>::kLogTerms; k >= 0; --k)
    series = series * square + T(1) / static_cast<T>(2 * k + 1);
  return T(2) * t * series;
}

template <class T>
inline Vector<T> minus_absolute(Vector<T> x) {
  return x > T(0) ? -x : x;
}

template <class T>
void exclude_other_groups(const LogitRows<T>& slab, const T* row_group, const T* column_group) {
  for (std::int64_t i = 0; i < slab.num_rows; ++i) {
    T* logits = slab.logits + i * slab.stride;
    for (std::int64_t j = 0; j < slab.width; j += kLanes<T>) {
      const Vector<T> excluded = Vector<T>{} + T(kExcludedLogit);
      store<T>(logits + j, load(column_group + j) == row_group[i] ? load(logits + j) : excluded);
    }
  }
}

template <class T>
void softplus_sums(const LogitRows<T>& slab, T bias, T* row_sum) {
  for (std::int64_t i = 0; i < slab.num_rows; ++i) {
    const T* logits = slab.logits + i * slab.stride;
    Vector<T> sum{};
    for (std::int64_t j = 0; j < slab.width; j += kLanes<T>) {
      const Vector<T> x = load(logits + j) + bias;
      const Vector<T> positive_part = x < T(0) ? Vector<T>{} : x;
      sum += positive_part + log_of_one_and<T>(exp_of_negative<T>(minus_absolute<T>(x)));
    }
    row_sum[i] = sum_of_lanes<T>(sum);
  }
}

template <class T>
void sigmoid_gradient(const LogitRows<T>& slab, T bias, T weight, T* row_product, T* row_sum) {
  for (std::int64_t i = 0; i < slab.num_rows; ++i) {
    T* logits = slab.logits + i * slab.stride;
    Vector<T> product{};
    Vector<T> sum{};
    for (std::int64_t j = 0; j < slab.width; j += kLanes<T>) {
      const Vector<T> s = load(logits + j);
      const Vector<T> x = s + bias;
      const Vector<T> e = exp_of_negative<T>(minus_absolute<T>(x));
      const Vector<T> g = (x < T(0) ? e : Vector<T>{} + T(1)) / (e + T(1)) * weight;
      product += g * s;
      sum += g;
      store(logits + j, g);
    }
    row_product[i] = sum_of_lanes<T>(product);
    row_sum[i] = sum_of_lanes<T>(sum);
  }
}

/// All of the above as one kind of processor has them.
template <class T>
constexpr ContrastiveKernel<T> kernel_of(const char* name, bool (*is_usable)()) {
  return {name,
          is_usable,
          maxima<T>,
          sums<T>,
          gradient<T>,
          exclude_other_groups<T>,
          softplus_sums<T>,
          sigmoid_gradient<T>};
}

}  // namespace
}  // namespace triphase::dist
