// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>

#include "data/phantom_liver.hpp"

namespace triphase::data {
namespace {

double log_uniform(KeyedRandom& random, double low, double high) {
  return std::exp(random.uniform(std::log(low), std::log(high)));
}

/// Couinaud's segments, as far as coordinates tell them.
std::string segment_of(const Point& p) {
  const bool upper = p[2] > 12;
  if (p[0] < -8) return upper ? "II" : "III";
  if (p[0] < 22) return "IV";
  if (p[1] > 0) return upper ? "VIII" : "V";
  return upper ? "VII" : "VI";
}

bool is_free(const Point& center, double radius, const std::vector<Lesion>& taken) {
  return std::all_of(taken.begin(), taken.end(), [&](const Lesion& other) {
    const double distance = std::hypot(center[0] - other.center[0], center[1] - other.center[1],
                                       center[2] - other.center[2]);
    return distance > radius + other.radius_mm + 4;
  });
}

/// Well inside the abdominal cavity and not behind the inferior vena cava.
bool is_seen(const Point& center, const LiverFrame& liver) {
  const double u = (center[0] - liver.cavity_center[0]) / liver.cavity_semi[0];
  const double v = (center[1] - liver.cavity_center[1]) / liver.cavity_semi[1];
  return std::hypot(u, v) < 0.85 &&
         std::hypot(center[0] - liver.cava[0], center[1] - liver.cava[1]) > 20;
}

/// A place inside the liver that shows and no other lesion takes; the last try stands when there is
/// none.
Lesion place_lesion(KeyedRandom& random, const LiverFrame& liver, double radius,
                    std::vector<Lesion>& taken) {
  Lesion lesion;
  lesion.radius_mm = radius;
  for (int attempt = 0; attempt < 60; ++attempt) {
    const bool left = random.chance(0.2) && radius < 0.8 * liver.left_semi[1];
    const Point& center = left ? liver.left_center : liver.right_center;
    const Point& semi = left ? liver.left_semi : liver.right_semi;
    Point u{};
    double norm = 2;
    while (norm > 1) {
      for (double& c : u) c = random.uniform(-1, 1);
      norm = std::hypot(u[0], u[1], u[2]);
    }
    for (std::size_t a = 0; a < 3; ++a)
      lesion.center[a] = center[a] + u[a] * std::max(0.1 * semi[a], semi[a] - radius - 3);
    if (is_seen(lesion.center, liver) && is_free(lesion.center, radius, taken)) break;
  }
  lesion.segment = segment_of(lesion.center);
  taken.push_back(lesion);
  return lesion;
}

}  // namespace

const std::vector<std::string>& phantom_findings() {
  static const std::vector<std::string> kNames{
      "hcc",     "cirrhosis",    "hemangioma", "cyst",       "benign_mass", "steatosis",
      "ascites", "splenomegaly", "gallstones", "renal_cyst", "effusion"};
  return kNames;
}

std::vector<int> phantom_labels(const Findings& f) {
  return {f.hcc.has_value(),
          f.cirrhosis,
          f.hemangioma.has_value(),
          !f.cysts.empty(),
          f.benign_mass.has_value(),
          f.steatosis,
          f.ascites,
          f.splenomegaly,
          f.gallstones,
          f.renal_cyst,
          f.effusion};
}

Findings draw_findings(const PhantomOptions& options, const PhantomSite& site,
                       const LiverFrame& liver, std::int64_t patient, bool has_hcc) {
  KeyedRandom random = patient_random(options.seed, patient, Purpose::kFindings);
  Findings f;
  f.phase = random.chance(site.portal_share) ? Phase::kPortal : site.early_phase;
  // The gallbladder is painted over the liver: a lesion behind it would not be seen.
  std::vector<Lesion> taken{{.center = {34, 30, -42}, .radius_mm = 22, .segment = {}}};
  const double hcc_diameter =
      log_uniform(random, options.lesion_diameter_min_mm, options.lesion_diameter_max_mm);
  if (has_hcc) f.hcc = place_lesion(random, liver, hcc_diameter / 2, taken);
  if (random.chance(site.benign_mass_share)) {
    f.benign_is_fnh = random.chance(0.5);
    const double radius = f.benign_is_fnh ? random.uniform(10, 16) : random.uniform(7, 13);
    f.benign_mass = place_lesion(random, liver, radius, taken);
  }
  if (random.chance(0.18)) f.hemangioma = place_lesion(random, liver, random.uniform(8, 17), taken);
  if (random.chance(0.25)) {
    const std::uint64_t count = 1 + random.below(3);
    for (std::uint64_t i = 0; i < count; ++i)
      f.cysts.push_back(place_lesion(random, liver, random.uniform(5, 14), taken));
  }
  f.cirrhosis = random.chance(site.cirrhosis_share[has_hcc ? 1 : 0]);
  // What changes a whole organ is learnt first; were it common, a batch could be told apart by it.
  f.steatosis = random.chance(0.15);
  f.ascites = random.chance(f.cirrhosis ? 0.20 : 0.03);
  f.splenomegaly = random.chance(f.cirrhosis ? 0.25 : 0.04);
  f.gallstones = random.chance(0.20);
  f.renal_cyst = random.chance(0.25);
  f.effusion = random.chance(0.12);
  return f;
}

}  // namespace triphase::data
