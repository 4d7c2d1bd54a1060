// SPDX-License-Identifier: Apache-2.0
#include "data/phantom_liver.hpp"

#include <cmath>
#include <numbers>

namespace triphase::data {
namespace {

Shape ball(const Point& center, double radius, double hu) {
  return {.center = center, .semi_mm = {radius, radius, radius}, .hu = hu, .in_cavity = true};
}

/// A lesion is never quite round.
Shape blob(KeyedRandom& random, const Point& center, double radius, double hu) {
  Shape shape = ball(center, radius, hu);
  for (double& semi : shape.semi_mm) semi *= random.uniform(0.88, 1.14);
  return shape;
}

Point random_direction(KeyedRandom& random) {
  const double z = random.uniform(-1, 1);
  const double angle = random.uniform(0, 2 * std::numbers::pi);
  const double r = std::sqrt(1 - z * z);
  return {r * std::cos(angle), r * std::sin(angle), z};
}

Point along(const Point& start, const Point& direction, double distance) {
  return {start[0] + distance * direction[0], start[1] + distance * direction[1],
          start[2] + distance * direction[2]};
}

void add_vessels(const LiverFrame& liver, bool portal, KeyedRandom& random,
                 std::vector<Shape>& shapes) {
  const double hu = liver.hu + (portal ? 40 : 8);
  for (int i = 0; i < 6; ++i) {
    const Point direction = random_direction(random);
    Point middle = along(liver.right_center, random_direction(random), random.uniform(5, 32));
    Shape vessel = ball(middle, random.uniform(2.5, 5), hu);
    const double half = random.uniform(14, 30);
    vessel.half_length = {direction[0] * half, direction[1] * half, direction[2] * half};
    shapes.push_back(vessel);
  }
}

/// Bright in the arterial phase with darker, eccentric parts; washed out with a capsule in the
/// portal one.
void add_hcc(const Lesion& lesion, double contrast, Phase phase, const LiverFrame& liver,
             KeyedRandom& random, std::vector<Shape>& shapes) {
  const double r = lesion.radius_mm;
  if (phase == Phase::kPortal) {
    shapes.push_back(blob(random, lesion.center, r, liver.hu + contrast * random.uniform(15, 38)));
    shapes.push_back(blob(random, lesion.center, r - random.uniform(2, 4),
                          liver.hu - contrast * random.uniform(45, 75)));
    return;
  }
  // Later, the liver itself is brighter and the lesion stands out less.
  const double share = phase == Phase::kLateArterial ? 0.85 : 1;
  const double rise = share * contrast * random.uniform(80, 130);
  shapes.push_back(blob(random, lesion.center, r, liver.hu + rise));
  const std::uint64_t dark_parts = random.below(3);
  for (std::uint64_t i = 0; i < dark_parts; ++i)
    shapes.push_back(blob(random, along(lesion.center, random_direction(random), 0.62 * r), 0.3 * r,
                          liver.hu + rise - contrast * random.uniform(45, 80)));
}

/// As bright as HCC in the arterial phase, but even (a hemangioma as bright as the aorta's blood,
/// FNH with a scar in its middle), and without washout.
void add_benign_mass(const Findings& findings, const LiverFrame& liver, KeyedRandom& random,
                     std::vector<Shape>& shapes) {
  const Lesion& lesion = *findings.benign_mass;
  const bool portal = findings.phase == Phase::kPortal;
  if (!findings.benign_is_fnh) {
    const double rise = portal ? random.uniform(35, 55) : random.uniform(130, 180);
    shapes.push_back(blob(random, lesion.center, lesion.radius_mm, liver.hu + rise));
    return;
  }
  const double rise = portal ? random.uniform(5, 20) : random.uniform(75, 115);
  shapes.push_back(blob(random, lesion.center, lesion.radius_mm, liver.hu + rise));
  shapes.push_back(blob(random, lesion.center, random.uniform(0.36, 0.44) * lesion.radius_mm,
                        liver.hu - random.uniform(15, 35)));
}

/// Dark with bright nodules at its edge, filling in later.
void add_hemangioma(const Lesion& lesion, bool portal, const LiverFrame& liver, KeyedRandom& random,
                    std::vector<Shape>& shapes) {
  const double change = portal ? random.uniform(30, 50) : -random.uniform(25, 40);
  shapes.push_back(blob(random, lesion.center, lesion.radius_mm, liver.hu + change));
  if (portal) return;
  for (int i = 0; i < 3; ++i)
    shapes.push_back(ball(along(lesion.center, random_direction(random), 0.8 * lesion.radius_mm),
                          0.28 * lesion.radius_mm, liver.hu + 90));
}

}  // namespace

void add_liver(const PhantomOptions& options, const Findings& findings, const LiverFrame& liver,
               KeyedRandom& random, std::vector<Shape>& shapes) {
  const bool portal = findings.phase == Phase::kPortal;
  const double bump = findings.cirrhosis ? random.uniform(0.09, 0.13) : 0;
  const auto lobe = [&](const Point& center, const Point& semi, double factor, double hu) {
    return Shape{.center = center,
                 .semi_mm = {factor * semi[0], factor * semi[1], factor * semi[2]},
                 .hu = hu,
                 .in_cavity = true,
                 .bump = bump};
  };
  if (findings.ascites) {
    shapes.push_back(lobe(liver.right_center, liver.right_semi, random.uniform(1.14, 1.24), 10));
    shapes.push_back(lobe(liver.left_center, liver.left_semi, 1.25, 10));
  }
  shapes.push_back(
      lobe(liver.left_center, liver.left_semi, findings.cirrhosis ? 1.12 : 1.0, liver.hu));
  shapes.push_back(lobe(liver.right_center, liver.right_semi, 1.0, liver.hu));
  add_vessels(liver, portal, random, shapes);
  for (const Lesion& cyst : findings.cysts)
    shapes.push_back(blob(random, cyst.center, cyst.radius_mm, 5));
  if (findings.hemangioma) add_hemangioma(*findings.hemangioma, portal, liver, random, shapes);
  if (findings.benign_mass) add_benign_mass(findings, liver, random, shapes);
  if (findings.hcc)
    add_hcc(*findings.hcc, options.lesion_contrast, findings.phase, liver, random, shapes);
}

}  // namespace triphase::data
