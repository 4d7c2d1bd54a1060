// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "data/phantom_anatomy.hpp"
#include "data/volume.hpp"

namespace triphase::data {

/// The grid and the blemishes of one scan.
struct Scan {
  Shape3 shape{};  ///< voxels along R, A, S
  Point spacing_mm{};
  Point center_mm{};   ///< the grid's middle in the patient's coordinates
  double blur_mm = 0;  ///< in-plane resolution, standard deviation
  double noise_hu = 0;
  double noise_correlation_mm = 0;
  double hu_offset = 0;
};

/// How finely each cohort size is sampled.
struct PhantomSampling {
  std::array<std::int64_t, 2> matrix;  ///< voxels in plane
  Point extent_mm;                     ///< at field-of-view factor 1
  double slice_factor;                 ///< on the site's slice thickness
};

[[nodiscard]] Scan draw_scan(const PhantomSite& site, const PhantomSampling& sampling,
                             std::uint64_t seed, std::int64_t patient);

/// Voxels in HU, stored along the site's axes, with the affine that says so.
/// The same bits for the same arguments, whatever else runs.
[[nodiscard]] Volume render_patient(const Patient& patient, const Scan& scan,
                                    const PhantomSite& site, KeyedRandom noise);

}  // namespace triphase::data
