// SPDX-License-Identifier: Apache-2.0
#include "base/config_reader.hpp"

#include <algorithm>
#include <utility>

namespace triphase {
namespace {

/// Fewest insertions, removals, replacements and swaps of neighbours that turn a into b.
/// Source: optimal string alignment distance, Damerau 1964.
std::size_t edit_distance(const std::string& a, const std::string& b) {
  const std::size_t width = b.size() + 1;
  std::vector<std::size_t> distance((a.size() + 1) * width);
  const auto at = [&](std::size_t i, std::size_t j) -> std::size_t& {
    return distance[i * width + j];
  };
  for (std::size_t i = 0; i <= a.size(); ++i) at(i, 0) = i;
  for (std::size_t j = 0; j <= b.size(); ++j) at(0, j) = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t replaced = at(i - 1, j - 1) + (a[i - 1] == b[j - 1] ? 0 : 1);
      at(i, j) = std::min({at(i - 1, j) + 1, at(i, j - 1) + 1, replaced});
      const bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
      if (swapped) at(i, j) = std::min(at(i, j), at(i - 2, j - 2) + 1);
    }
  }
  return distance.back();
}

}  // namespace

std::optional<std::string> nearest_word(const std::string& word,
                                        const std::vector<std::string>& candidates) {
  // A third of the letters may be wrong; and one letter of a word of one letter is all of it.
  const std::size_t farthest = std::max<std::size_t>(1, word.size() / 3);
  constexpr std::size_t kLongestWord = 256;  // bounds the work for a key from a file
  if (word.size() < 2 || word.size() > kLongestWord) return std::nullopt;
  std::optional<std::string> nearest;
  std::size_t smallest = farthest + 1;
  for (const std::string& candidate : candidates) {
    if (candidate.size() > word.size() + farthest) continue;
    const std::size_t distance = edit_distance(word, candidate);
    if (distance >= smallest) continue;
    smallest = distance;
    nearest = candidate;
  }
  return nearest;
}

}  // namespace triphase
