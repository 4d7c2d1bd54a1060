// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "base/random.hpp"
#include "data/volume.hpp"

namespace triphase::data {

/// Random changes of training volumes, keyed by (seed, epoch, sample index); all off by default.
struct AugmentOptions {
  double shift_voxels = 0;     ///< uniform whole-voxel shift in [-n, n] per axis, border repeated
  double intensity_scale = 0;  ///< factor uniform in [1-s, 1+s] about the middle of output_range
  double intensity_offset = 0; ///< added, uniform in [-o, o]
  double noise_sigma = 0;      ///< white noise
  double text_drop = 0;        ///< chance that a training report keeps a random subset of its sentences
};

/// Changes one volume as the options say: shift, scale, offset, noise, in this order. Values may
/// leave output_range, as they would if the scanner had been set otherwise.
/// @param volume shape product floats in output_range
/// The same bits for the same key on any thread. Purely local.
void augment_volume(const AugmentOptions& options, const Shape3& shape,
                    const std::array<double, 2>& output_range, KeyedRandom random, float* volume);

/// With the chance text_drop, keeps a random subset of the report's sentences, of a share that is
/// itself uniform in [0, 1): never none, and both specials.
[[nodiscard]] std::vector<std::int64_t> augment_tokens(const AugmentOptions& options,
                                                       const std::vector<std::int64_t>& tokens,
                                                       std::int64_t period_token_id,
                                                       KeyedRandom random);

}  // namespace triphase::data
