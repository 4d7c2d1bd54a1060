// SPDX-License-Identifier: Apache-2.0
#include "data/phantom_anatomy.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "data/phantom_liver.hpp"

namespace triphase::data {
namespace {

constexpr double kEndless = 1e4;  // mm; a cylinder is an ellipsoid of this length

/// HU of what takes up contrast medium, in the order of Phase.
struct Enhancement {
  double liver, aorta, cava, spleen, kidney, heart;
};
constexpr std::array<Enhancement, 3> kEnhancement{
    {{20, 300, 90, 115, 150, 190}, {35, 225, 105, 118, 160, 170}, {55, 150, 140, 120, 170, 140}}};

/// The patient's frame: body size and fat.
struct Frame {
  double scale;       ///< of everything
  double half_width;  ///< of the body
  double half_depth;
  double fat_mm;
};

Frame draw_frame(KeyedRandom& random) {
  Frame frame{};
  frame.scale = std::clamp(random.normal(1, 0.05), 0.87, 1.13);
  frame.half_width = std::clamp(random.normal(145, 9), 122.0, 168.0) * frame.scale;
  frame.half_depth = 0.70 * frame.half_width;
  frame.fat_mm = random.uniform(12, 32);
  return frame;
}

constexpr double kCavityFront = 8;  ///< mm by which the cavity lies before the body's middle
double cavity_half_width(const Frame& frame) { return frame.half_width - frame.fat_mm - 11; }
double cavity_half_depth(const Frame& frame) { return frame.half_depth - 0.8 * frame.fat_mm - 16; }

/// Where the great vessels run: before the spine.
double vessels_front(const Frame& frame) { return -0.52 * frame.half_depth + 30 * frame.scale; }

LiverFrame draw_liver_frame(const Frame& frame, KeyedRandom& random) {
  const double s = frame.scale;
  const auto near = [&](double x, double y, double z) -> Point {
    return {s * x + random.normal(0, 3), s * y + random.normal(0, 3), s * z + random.normal(0, 4)};
  };
  const auto sized = [&](double x, double y, double z) -> Point {
    return {s * x * random.uniform(0.94, 1.06), s * y * random.uniform(0.94, 1.06),
            s * z * random.uniform(0.94, 1.06)};
  };
  LiverFrame liver;
  liver.right_center = near(52, 2, 8);
  liver.right_semi = sized(74, 63, 60);
  liver.left_center = near(-12, 34, 18);
  liver.left_semi = sized(52, 30, 36);
  liver.cavity_center = {0, kCavityFront, 0};
  liver.cavity_semi = {cavity_half_width(frame), cavity_half_depth(frame), kEndless};
  liver.cava = {20 * s, vessels_front(frame), 0};
  return liver;
}

/// Places organs given for a patient of scale 1.
class Painter {
 public:
  Painter(double scale, std::vector<Shape>& shapes) : scale_(scale), shapes_(shapes) {}

  void add(const Point& center, const Point& semi, double hu, bool in_cavity = true) {
    Shape shape{.hu = hu, .in_cavity = in_cavity};
    for (std::size_t a = 0; a < 3; ++a) {
      shape.center[a] = scale_ * center[a];
      shape.semi_mm[a] = scale_ * semi[a];
    }
    shapes_.push_back(shape);
  }

 private:
  double scale_;
  std::vector<Shape>& shapes_;
};

void add_trunk(const Frame& frame, const PhantomSite& site, KeyedRandom& random,
               std::vector<Shape>& shapes) {
  const double width = frame.half_width;
  const double depth = frame.half_depth;
  shapes.push_back({.center = {0, -depth - 9, 0},
                    .semi_mm = {190, 7, kEndless},
                    .hu = site.table_hu,
                    .is_table = true});
  shapes.push_back({.semi_mm = {width, depth, kEndless}, .hu = -100});
  shapes.push_back(
      {.semi_mm = {width - frame.fat_mm, depth - 0.8 * frame.fat_mm, kEndless}, .hu = 55});
  shapes.push_back({.center = {0, kCavityFront, 0},
                    .semi_mm = {cavity_half_width(frame), cavity_half_depth(frame), kEndless},
                    .hu = -90,
                    .is_cavity = true});
  const double bone = random.normal(220, 30);
  for (int rib = 0; rib < 10; ++rib) {
    const double side = rib % 2 == 0 ? 1 : -1;
    const double angle = random.uniform(-0.7, 0.5);
    shapes.push_back({.center = {side * (width - frame.fat_mm - 7) * std::cos(angle),
                                 (depth - 0.8 * frame.fat_mm - 7) * std::sin(angle),
                                 90.0 - 18.0 * rib + random.normal(0, 3)},
                      .semi_mm = {4.5, 22, 5},
                      .hu = bone + 40});
  }
  shapes.push_back({.center = {0, -0.52 * depth, 0}, .semi_mm = {21, 17, kEndless}, .hu = bone});
  shapes.push_back({.center = {0, -0.52 * depth - 24, 0}, .semi_mm = {9, 8, kEndless}, .hu = 30});
  shapes.push_back(
      {.center = {0, -0.52 * depth - 38, 0}, .semi_mm = {5, 9, kEndless}, .hu = bone + 30});
}

/// @param oral_contrast the patient drank contrast medium: most loops are as bright as a lesion
void add_bowel(bool oral_contrast, KeyedRandom& random, Painter& paint) {
  for (int loop = 0; loop < 22; ++loop) {
    const Point center{random.uniform(-95, 80), random.uniform(-15, 60), random.uniform(-110, -18)};
    const Point semi{random.uniform(9, 20), random.uniform(9, 16), random.uniform(9, 20)};
    const double plain = random.normal(35, 8);
    const double filled = random.uniform(150, 350);
    paint.add(center, semi, random.chance(0.6) && oral_contrast ? filled : plain);
    if (random.chance(0.35))
      paint.add({center[0], center[1] + 0.4 * semi[1], center[2]},
                {0.6 * semi[0], 0.4 * semi[1], 0.6 * semi[2]}, -800);
  }
}

void add_chest(const Findings& findings, const Enhancement& hu, KeyedRandom& random,
               Painter& paint) {
  for (const double side : {1.0, -1.0}) {
    const double base = random.normal(112, 5);
    paint.add({side * 70, -4, base}, {56, 66, 54}, -850);
    if (findings.effusion && (side > 0 || random.chance(0.5)))
      paint.add({side * 74, -48, base - 34}, {44, 26, 34}, 8);
  }
  paint.add({-22, 30, random.normal(116, 4)}, {52, 40, 42}, hu.heart);
}

void add_kidneys(const Findings& findings, const Enhancement& hu, KeyedRandom& random,
                 Painter& paint) {
  const double cyst_side = random.chance(0.5) ? 1.0 : -1.0;
  for (const double side : {1.0, -1.0}) {
    const Point center{side * random.normal(58, 3), random.normal(-42, 3), random.normal(-44, 6)};
    paint.add(center, {25, 24, 50}, hu.kidney);
    paint.add({center[0] - side * 6, center[1] + 4, center[2]}, {12, 11, 30}, hu.kidney - 60);
    paint.add({center[0] - side * 12, center[1] + 6, center[2]}, {9, 8, 18}, -60);
    if (findings.renal_cyst && side == cyst_side) {
      const double r = random.uniform(10, 20);
      paint.add({center[0] + side * 18, center[1] - 6, center[2] + random.uniform(-35, 25)},
                {r, r, r}, 5);
    }
  }
}

void add_left_side(const Findings& findings, const Enhancement& hu, KeyedRandom& random,
                   Painter& paint) {
  const double large =
      findings.splenomegaly ? random.uniform(1.32, 1.5) : random.uniform(0.9, 1.08);
  paint.add({-86, -30, 22}, {27 * large, 37 * large, 42 * large}, hu.spleen + random.normal(0, 5));
  const Point stomach{random.normal(-56, 5), random.normal(30, 4), random.normal(22, 6)};
  paint.add(stomach, {36, 26, 34}, 25 + random.normal(0, 8));
  if (random.chance(0.6)) paint.add({stomach[0], stomach[1] + 14, stomach[2]}, {22, 9, 20}, -800);
}

void add_gallbladder(const Findings& findings, KeyedRandom& random, Painter& paint) {
  const Point center{random.normal(34, 4), random.normal(30, 4), random.normal(-42, 4)};
  paint.add(center, {14, 17, 22}, 10);
  if (!findings.gallstones) return;
  const std::uint64_t count = 1 + random.below(3);
  for (std::uint64_t i = 0; i < count; ++i) {
    const double r = random.uniform(3, 6);
    paint.add({center[0] + random.uniform(-6, 6), center[1] - random.uniform(2, 9),
               center[2] + random.uniform(-12, 8)},
              {r, r, r}, random.uniform(250, 600));
  }
}

void add_great_vessels(const Frame& frame, const Enhancement& hu, KeyedRandom& random,
                       Painter& paint) {
  const double front = vessels_front(frame) / frame.scale;
  paint.add({-12 + random.normal(0, 2), front, 0}, {11, 11, kEndless},
            hu.aorta + random.normal(0, 15));
  paint.add({20 + random.normal(0, 2), front, 0}, {13, 10, kEndless},
            hu.cava + random.normal(0, 8));
}

Displacement draw_displacement(const Point& half_extent, KeyedRandom& random) {
  Displacement displacement;
  displacement.half_extent_mm = half_extent;
  for (auto& node : displacement.nodes)
    for (float& component : node)
      component = static_cast<float>(std::clamp(random.normal(0, 5), -12.0, 12.0));
  return displacement;
}

}  // namespace

const std::vector<PhantomSite>& phantom_sites() {
  static const std::vector<PhantomSite> kSites{{.name = "source",
                                                .early_phase = Phase::kArterial,
                                                .portal_share = 0.10,
                                                .benign_mass_share = 0,
                                                .oral_contrast_share = 0,
                                                .cirrhosis_share = {0.15, 0.70},
                                                .noise_hu = {5, 9},
                                                .noise_correlation_mm = 2.8,
                                                .blur_mm = 2.0,
                                                .slice_mm = {4, 7},
                                                .hu_offset = {0, 4},
                                                .fov = {0.96, 1.04},
                                                .table_hu = -150,
                                                .stored_axes = {1, 2, 3},
                                                .style = ReportStyle::kHeaders},
                                               {.name = "target",
                                                .early_phase = Phase::kLateArterial,
                                                .portal_share = 0,
                                                .benign_mass_share = 0.35,
                                                .oral_contrast_share = 0.6,
                                                .cirrhosis_share = {0.40, 0.30},
                                                .noise_hu = {9, 15},
                                                .noise_correlation_mm = 4.5,
                                                .blur_mm = 3.1,
                                                .slice_mm = {7, 10},
                                                .hu_offset = {16, 6},
                                                .fov = {1.00, 1.12},
                                                .table_hu = 60,
                                                .stored_axes = {-1, -2, 3},
                                                .style = ReportStyle::kLiRads},
                                               {.name = "north",
                                                .early_phase = Phase::kArterial,
                                                .portal_share = 0.25,
                                                .benign_mass_share = 0.12,
                                                .oral_contrast_share = 0.2,
                                                .cirrhosis_share = {0.26, 0.41},
                                                .noise_hu = {9, 14},
                                                .noise_correlation_mm = 1.4,
                                                .blur_mm = 1.2,
                                                .slice_mm = {3, 5},
                                                .hu_offset = {-5, 5},
                                                .fov = {0.98, 1.08},
                                                .table_hu = -60,
                                                .stored_axes = {3, -1, -2},
                                                .style = ReportStyle::kTerse}};
  return kSites;
}

Patient make_patient(const PhantomOptions& options, const PhantomSite& site, std::int64_t patient,
                     bool has_hcc) {
  KeyedRandom random = patient_random(options.seed, patient, Purpose::kAnatomy);
  Patient made;
  const Frame frame = draw_frame(random);
  LiverFrame liver = draw_liver_frame(frame, random);
  made.findings = draw_findings(options, site, liver, patient, has_hcc);
  const Findings& findings = made.findings;
  const Enhancement& hu = kEnhancement[static_cast<std::size_t>(findings.phase)];
  liver.hu = 58 + hu.liver + random.normal(0, 5);
  if (findings.steatosis) liver.hu -= random.uniform(35, 55);

  add_trunk(frame, site, random, made.shapes);
  Painter paint(frame.scale, made.shapes);
  add_bowel(random.chance(site.oral_contrast_share), random, paint);
  add_chest(findings, hu, random, paint);
  add_kidneys(findings, hu, random, paint);
  add_left_side(findings, hu, random, paint);
  add_liver(options, findings, liver, random, made.shapes);
  add_gallbladder(findings, random, paint);
  add_great_vessels(frame, hu, random, paint);
  made.displacement = draw_displacement({156.8, 112, 96}, random);
  return made;
}

}  // namespace triphase::data
