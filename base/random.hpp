// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <cstdint>
#include <initializer_list>
#include <numbers>
#include <utility>
#include <vector>

namespace triphase {

/// SplitMix64's output function: a bijection on 64 bits that passes BigCrush when fed a counter.
/// Source: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
[[nodiscard]] constexpr std::uint64_t mix64(std::uint64_t x) {
  x += 0x9e3779b97f4a7c15ULL;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
  return x ^ (x >> 31);
}

/// Random numbers keyed by what they are for, e.g. {seed, epoch, sample index}: never by thread,
/// time or order of arrival. The same key gives the same numbers on every machine; the standard
/// library's distributions do not promise that, so ours are written out here.
class KeyedRandom {
 public:
  KeyedRandom(std::initializer_list<std::uint64_t> key) {
    for (const std::uint64_t part : key) state_ = mix64(state_ ^ mix64(part));
  }
  /// Uniform over all 64-bit values.
  [[nodiscard]] std::uint64_t bits() {
    state_ += 0x9e3779b97f4a7c15ULL;
    std::uint64_t x = state_;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
    return x ^ (x >> 31);
  }
  /// Uniform in [0, 1) with 53 random bits.
  [[nodiscard]] double uniform() { return static_cast<double>(bits() >> 11) * 0x1.0p-53; }
  [[nodiscard]] double uniform(double low, double high) { return low + (high - low) * uniform(); }
  /// Uniform in [0, n), n > 0, without modulo bias (rejection).
  [[nodiscard]] std::uint64_t below(std::uint64_t n) {
    const std::uint64_t limit = ~std::uint64_t{0} - (~std::uint64_t{0} % n + 1) % n;
    std::uint64_t x = bits();
    while (x > limit) x = bits();
    return x % n;
  }
  [[nodiscard]] bool chance(double probability) { return uniform() < probability; }
  /// Standard normal by Box-Muller; both values of a pair are used.
  [[nodiscard]] double normal() {
    if (has_spare_) {
      has_spare_ = false;
      return spare_;
    }
    const double radius = std::sqrt(-2.0 * std::log(1.0 - uniform()));
    const double angle = 2.0 * std::numbers::pi * uniform();
    spare_ = radius * std::sin(angle);
    has_spare_ = true;
    return radius * std::cos(angle);
  }
  [[nodiscard]] double normal(double mean, double sigma) { return mean + sigma * normal(); }

 private:
  std::uint64_t state_ = 0x243f6a8885a308d3ULL;  // first 64 fractional bits of pi
  double spare_ = 0;
  bool has_spare_ = false;
};

/// 0..n-1 in an order that depends on the key alone (Fisher-Yates from the end).
[[nodiscard]] inline std::vector<std::int64_t> keyed_permutation(std::int64_t n,
                                                                 KeyedRandom random) {
  std::vector<std::int64_t> order(static_cast<std::size_t>(n));
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = static_cast<std::int64_t>(i);
  for (std::size_t i = order.size(); i > 1; --i)
    std::swap(order[i - 1], order[static_cast<std::size_t>(random.below(i))]);
  return order;
}

}  // namespace triphase
