// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/random.hpp"
#include "data/phantom.hpp"

namespace triphase::data {

/// Millimetres, RAS+: x to the patient's right, y to the front, z to the head; the middle of the
/// box is 0.
using Point = std::array<double, 3>;

enum class Phase { kArterial, kLateArterial, kPortal };
enum class ReportStyle { kHeaders, kLiRads, kTerse };

/// How one institution scans and writes.
struct PhantomSite {
  std::string name;
  Phase early_phase;                ///< the phase of all studies that are not portal
  double portal_share;              ///< of the studies
  double benign_mass_share;         ///< of the patients: bright, benign liver masses
  double oral_contrast_share;       ///< of the patients: bowel filled with contrast medium
  std::array<double, 2> cirrhosis_share;  ///< of the patients without and with HCC
  std::array<double, 2> noise_hu;   ///< standard deviation, uniform between the two
  double noise_correlation_mm;      ///< Gaussian, in plane
  double blur_mm;                   ///< in-plane resolution (standard deviation)
  std::array<double, 2> slice_mm;   ///< thickness = spacing, uniform between the two
  std::array<double, 2> hu_offset;  ///< mean and standard deviation of the calibration error
  std::array<double, 2> fov;        ///< factor on the field of view, uniform between the two
  double table_hu;
  std::array<int, 3>
      stored_axes;  ///< storage axis s runs along |stored_axes[s]|-1, backwards when negative
  ReportStyle style;
};

/// "source", "target", "north", in this order.
[[nodiscard]] const std::vector<PhantomSite>& phantom_sites();

/// What random numbers are for: the last part of every key (seed, patient, purpose).
enum class Purpose : std::uint64_t { kStudy = 1, kFindings, kAnatomy, kScan, kNoise, kReport };

[[nodiscard]] inline KeyedRandom patient_random(std::uint64_t seed, std::int64_t patient,
                                                Purpose purpose) {
  return {seed, static_cast<std::uint64_t>(patient), static_cast<std::uint64_t>(purpose)};
}

/// One thing in the liver.
struct Lesion {
  Point center{};
  double radius_mm = 0;
  std::string segment;  ///< Couinaud's number, "II" to "VIII"
};

/// What is to be seen, and said.
struct Findings {
  Phase phase = Phase::kArterial;
  std::optional<Lesion> hcc;
  std::optional<Lesion> benign_mass;
  bool benign_is_fnh = false;  ///< focal nodular hyperplasia; otherwise a flash-filling hemangioma
  std::optional<Lesion> hemangioma;
  std::vector<Lesion> cysts;
  bool cirrhosis = false;
  bool steatosis = false;
  bool ascites = false;
  bool splenomegaly = false;
  bool gallstones = false;
  bool renal_cyst = false;
  bool effusion = false;
};

/// The <finding> of each label column, and the labels in the same order.
[[nodiscard]] const std::vector<std::string>& phantom_findings();
[[nodiscard]] std::vector<int> phantom_labels(const Findings& findings);

/// An ellipsoid, painted over what was there before. Two ends: the ellipsoid swept along a segment.
struct Shape {
  Point center{};
  Point semi_mm{};  ///< semi-axes
  double hu = 0;
  Point half_length{};     ///< not 0: a capsule from center - half_length to center + half_length
  bool in_cavity = false;  ///< nothing of it shows outside the abdominal cavity
  bool is_cavity = false;  ///< this shape bounds the cavity
  bool is_table = false;   ///< a flat slab as thick as semi_mm[1] says
  double bump = 0;         ///< greatest height of surface nodules as a part of the semi-axes
};

/// Bends the patient smoothly: displacements (mm) at nodes spread evenly over the box.
struct Displacement {
  static constexpr int kNodes = 4;
  std::array<std::array<float, 3>, kNodes * kNodes * kNodes> nodes{};  ///< index (z*4 + y)*4 + x
  Point half_extent_mm{};
};

struct Patient {
  Findings findings;
  std::vector<Shape> shapes;  ///< in painting order
  Displacement displacement;
};

/// Draws one patient. Purely local.
[[nodiscard]] Patient make_patient(const PhantomOptions& options, const PhantomSite& site,
                                   std::int64_t patient, bool has_hcc);

}  // namespace triphase::data
