// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "data/phantom_anatomy.hpp"

namespace triphase::data {

/// Where this patient's liver lies, so that lesions can be put into it.
struct LiverFrame {
  Point right_center{};
  Point right_semi{};
  Point left_center{};
  Point left_semi{};
  double hu = 0;
  // What may hide a lesion. Only x and y count: both reach through the whole box.
  Point cavity_center{};
  Point cavity_semi{};  ///< nothing of the liver shows outside
  Point cava{};         ///< painted over the liver
};

/// Draws what the patient has. `liver.hu` is not looked at.
[[nodiscard]] Findings draw_findings(const PhantomOptions& options, const PhantomSite& site,
                                     const LiverFrame& liver, std::int64_t patient, bool has_hcc);

/// Adds the liver, its vessels and its lesions.
void add_liver(const PhantomOptions& options, const Findings& findings, const LiverFrame& liver,
               KeyedRandom& random, std::vector<Shape>& shapes);

}  // namespace triphase::data
