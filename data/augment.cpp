// SPDX-License-Identifier: Apache-2.0
#include "data/augment.hpp"

#include <algorithm>
#include <cmath>

#include "data/fast_normal.hpp"

namespace triphase::data {
namespace {

using Shift3 = std::array<std::int64_t, 3>;

/// Moves the content by whole voxels; what comes in at the border repeats the border.
void shift_volume(const Shape3& shape, const Shift3& shift, float* volume) {
  const std::vector<float> source(volume, volume + shape[0] * shape[1] * shape[2]);
  const auto from = [&](std::size_t axis, std::int64_t index) {
    return std::clamp<std::int64_t>(index - shift[axis], 0, shape[axis] - 1);
  };
  for (std::int64_t x = 0; x < shape[0]; ++x)
    for (std::int64_t y = 0; y < shape[1]; ++y) {
      const float* row = source.data() + (from(0, x) * shape[1] + from(1, y)) * shape[2];
      for (std::int64_t z = 0; z < shape[2]; ++z) *volume++ = row[from(2, z)];
    }
}

}  // namespace

void augment_volume(const AugmentOptions& options, const Shape3& shape,
                    const std::array<double, 2>& output_range, KeyedRandom random, float* volume) {
  const auto reach = static_cast<std::int64_t>(std::floor(options.shift_voxels));
  Shift3 shift{};
  for (std::int64_t& s : shift)
    s = static_cast<std::int64_t>(random.below(static_cast<std::uint64_t>(2 * reach + 1))) - reach;
  if (shift != Shift3{}) shift_volume(shape, shift, volume);

  const double middle = (output_range[0] + output_range[1]) / 2;
  const double scale = 1 + options.intensity_scale * random.uniform(-1, 1);
  const double offset = options.intensity_offset * random.uniform(-1, 1);
  const auto factor = static_cast<float>(scale);
  const auto added = static_cast<float>(middle - scale * middle + offset);
  const auto sigma = static_cast<float>(options.noise_sigma);
  const std::int64_t size = shape[0] * shape[1] * shape[2];
  if (factor != 1 || added != 0)
    for (std::int64_t i = 0; i < size; ++i) volume[i] = volume[i] * factor + added;
  if (sigma > 0)
    for (std::int64_t i = 0; i < size; ++i) volume[i] += sigma * fast_normal(random.bits());
}

std::vector<std::int64_t> augment_tokens(const AugmentOptions& options,
                                         const std::vector<std::int64_t>& tokens,
                                         std::int64_t period_token_id, KeyedRandom random) {
  if (period_token_id < 0 || tokens.size() < 3 || !random.chance(options.text_drop)) return tokens;
  const auto first = tokens.begin() + 1, last = tokens.end() - 1;
  std::vector<std::pair<decltype(first), decltype(first)>> sentences;
  for (auto at = first; at != last;) {
    auto end = std::find(at, last, period_token_id);
    if (end != last) ++end;
    sentences.emplace_back(at, end);
    at = end;
  }
  // A share for each report, so that single sentences, which prompts are, come up as often as
  // nearly whole reports. One sentence stays whatever is drawn for the others.
  const double kept_share = random.uniform(0, 1);
  const std::uint64_t kept_anyway = random.below(sentences.size());
  std::vector<std::int64_t> kept{tokens.front()};
  for (std::size_t i = 0; i < sentences.size(); ++i) {
    const bool keep = random.chance(kept_share);
    if (keep || i == kept_anyway) kept.insert(kept.end(), sentences[i].first, sentences[i].second);
  }
  kept.push_back(tokens.back());
  return kept;
}

}  // namespace triphase::data
