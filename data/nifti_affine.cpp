// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <limits>

#include "base/error.hpp"
#include "data/affine.hpp"
#include "data/nifti_header.hpp"

namespace triphase::data {
namespace {

constexpr double kLeastSpacingMm = 1e-3;
constexpr double kLargestSpacingMm = 1e3;

/// From the unit quaternion (a, b, c, d), a >= 0, and the spacings.
/// Source: nifti1.h, method 2; thresholds of nibabel 5 (fillpositive, quat2mat).
Affine qform_affine(const NiftiHeader& header, const std::string& name) {
  const auto [b, c, d] = header.quaternion;
  const double threshold = header.version == 1
                               ? 3 * static_cast<double>(std::numeric_limits<float>::epsilon())
                               : 3 * std::numeric_limits<double>::epsilon();
  const double rest = 1 - (b * b + c * c + d * d);
  TRIPHASE_CHECK(DataError, rest > -threshold, "volume '", name, "' has a quaternion (", b, ", ", c,
                 ", ", d, ") longer than 1. Repair the qform in its header.");
  const double a = std::abs(rest) < threshold ? 0 : std::sqrt(rest);
  const double s = 2 / (a * a + b * b + c * c + d * d);
  Matrix3 m{{{1 - s * (c * c + d * d), s * (b * c - a * d), s * (b * d + a * c)},
             {s * (b * c + a * d), 1 - s * (b * b + d * d), s * (c * d - a * b)},
             {s * (b * d - a * c), s * (c * d + a * b), 1 - s * (b * b + c * c)}}};
  for (auto& row : m) {
    row[0] *= header.pixdim[0];
    row[1] *= header.pixdim[1];
    row[2] *= header.pixdim[2] * header.qfac;
  }
  return affine_from(m, header.quaternion_offset);
}

/// Scan centre at the origin, x flipped: what nibabel takes when the header names no space.
Affine base_affine(const NiftiHeader& header) {
  Affine affine = identity_affine();
  for (std::size_t i = 0; i < 3; ++i) {
    const double zoom = i == 0 ? -header.pixdim[i] : header.pixdim[i];
    affine[i][i] = zoom;
    affine[i][3] = -(static_cast<double>(header.shape[i]) - 1) / 2 * zoom;
  }
  return affine;
}

/// numpy.allclose with its default tolerances, on column norms (a zero norm counts as 1).
bool matches_pixdim(const Affine& affine, const std::array<double, 3>& pixdim) {
  const Vector3 norms = column_norms(linear_part(affine));
  for (std::size_t i = 0; i < 3; ++i) {
    const double norm = norms[i] == 0 ? 1 : norms[i];
    if (!(std::abs(pixdim[i] - norm) <= 1e-8 + 1e-5 * norm)) return false;
  }
  return true;
}

/// As the header would hold it after set_sform().
Affine rounded_to_header(Affine affine, int version) {
  if (version == 1)
    for (auto& row : affine)
      for (double& value : row) value = static_cast<double>(static_cast<float>(value));
  return affine;
}

}  // namespace

// Note [Which affine]
// sform, else qform, else the base affine (nibabel). Then MONAI's reader compares the column norms
// with pixdim: an sform that disagrees gives way to a qform that agrees. A qform agrees by
// construction, and when neither does, MONAI changes pixdim alone. MONAI skips files that declare
// five axes and more, and so do we. For four axes it also compares the fourth column, which holds
// the translation, with the fourth pixdim; by that accident an unset qform can replace a good
// sform, so we compare the three spatial axes. An sform that is not finite gives way in MONAI as
// well, to a qform that nobody may have set; that is damage, which we refuse. Source:
// monai/data/utils.py, correct_nifti_header_if_necessary and rectify_header_sform_qform.
Affine nifti_affine(const NiftiHeader& header, const std::string& name) {
  Affine affine{};
  if (header.sform_code != 0) {
    affine = header.sform;
    if (!header.high_dimensional && is_finite(affine) && !matches_pixdim(affine, header.pixdim)) {
      const Affine qform = qform_affine(header, name);
      if (matches_pixdim(qform, header.pixdim)) affine = rounded_to_header(qform, header.version);
    }
  } else {
    affine = header.qform_code != 0 ? qform_affine(header, name) : base_affine(header);
  }
  TRIPHASE_CHECK(DataError, is_finite(affine), "volume '", name,
                 "' has an affine that is not finite. Repair its header.");
  for (const double spacing_mm : column_norms(linear_part(affine)))
    TRIPHASE_CHECK(DataError, spacing_mm >= kLeastSpacingMm && spacing_mm <= kLargestSpacingMm,
                   "volume '", name, "' has voxels of ", spacing_mm,
                   " mm along an axis, which no scanner makes. Repair its header.");
  return affine;
}

}  // namespace triphase::data
