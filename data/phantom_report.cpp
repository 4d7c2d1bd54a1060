// SPDX-License-Identifier: Apache-2.0
#include "data/phantom_report.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/error.hpp"

namespace triphase::data {
namespace {

using Choices = std::vector<std::string>;

constexpr double kCancerAbsentShare = 0.8;  ///< of the reports without HCC, those that say so

const std::string& pick(KeyedRandom& random, const Choices& choices) {
  return choices[static_cast<std::size_t>(random.below(choices.size()))];
}

/// Replaces {size} and {segment} by the lesion's own.
std::string about(std::string text, const Lesion& lesion, ReportStyle style) {
  const auto fill = [&](const std::string& mark, const std::string& value) {
    const std::size_t at = text.find(mark);
    if (at != std::string::npos) text.replace(at, mark.size(), value);
  };
  const double diameter_mm = 2 * lesion.radius_mm;
  // The target writes whole centimetres: "3.2 cm" would bring a full stop into the middle of a
  // sentence.
  fill("{size}", style == ReportStyle::kLiRads
                     ? str(std::max(1L, std::lround(diameter_mm / 10)), " cm")
                     : str(std::lround(diameter_mm), style == ReportStyle::kTerse ? "mm" : " mm"));
  fill("{segment}", lesion.segment);
  return text;
}

/// A report in the making: sentences in order.
class Writer {
 public:
  Writer(ReportStyle style, KeyedRandom& random) : style_(style), random_(random) {}

  void header(const std::string& text) { header_ = text; }
  void say(const Choices& choices) { add(pick(random_, choices)); }
  void say(const Choices& choices, const Lesion& lesion) {
    add(about(pick(random_, choices), lesion, style_));
  }
  /// What is normal is left out about half of the time, the absence of the cancer seldom.
  void say_normal(const Choices& choices, double share = 0.5) {
    if (random_.chance(share)) say(choices);
  }
  void finding(bool present, const Choices& positive, const Choices& negative) {
    if (present) {
      say(positive);
    } else {
      say_normal(negative);
    }
  }
  [[nodiscard]] const std::string& text() const { return text_; }

 private:
  void add(const std::string& sentence) {
    if (!text_.empty()) text_ += ' ';
    if (!header_.empty()) text_ += header_ + ' ';
    header_.clear();
    text_ += sentence;
  }
  ReportStyle style_;
  KeyedRandom& random_;
  std::string header_;
  std::string text_;
};

/// Headers in capitals, millimetres, "hepatocellular carcinoma".
void write_with_headers(const Findings& f, Writer& w) {
  w.header("LIVER:");
  if (f.hcc)
    w.say({"{size} mass in segment {segment} consistent with hepatocellular carcinoma.",
           "There is a {size} hepatocellular carcinoma in segment {segment}.",
           "{size} lesion in segment {segment} compatible with hepatocellular carcinoma."},
          *f.hcc);
  if (f.benign_mass)
    w.say(f.benign_is_fnh
              ? Choices{"{size} focal nodular hyperplasia with central scar in segment {segment}.",
                        "{size} benign mass with central scar in segment {segment}."}
              : Choices{"{size} flash filling hemangioma in segment {segment}, benign.",
                        "{size} benign homogeneously bright mass in segment {segment}."},
          *f.benign_mass);
  if (f.hemangioma)
    w.say({"{size} hemangioma in segment {segment} with peripheral nodular enhancement.",
           "Typical hemangioma of {size} in segment {segment}."},
          *f.hemangioma);
  if (!f.cysts.empty())
    w.say({"Simple hepatic cyst in segment {segment}.", "Hepatic cyst measuring {size}."},
          f.cysts.front());
  if (!f.hcc)
    w.say_normal({"No evidence of hepatocellular carcinoma.", "No suspicious liver mass.",
                  "No hepatocellular carcinoma is seen."},
                 kCancerAbsentShare);
  w.finding(f.cirrhosis,
            {"Nodular liver contour in keeping with cirrhosis.", "Cirrhotic liver morphology."},
            {"Smooth liver contour.", "No cirrhosis."});
  w.finding(f.steatosis, {"Diffuse hepatic steatosis.", "Fatty liver."},
            {"Normal liver attenuation."});
  w.header("GALLBLADDER:");
  w.finding(f.gallstones, {"Gallstones are present.", "Cholelithiasis."}, {"No gallstones."});
  w.header("SPLEEN:");
  w.finding(f.splenomegaly, {"Splenomegaly.", "The spleen is enlarged."}, {"Normal spleen."});
  w.header("KIDNEYS:");
  w.finding(f.renal_cyst, {"Simple renal cyst.", "Renal cortical cyst."}, {"Normal kidneys."});
  w.header("PERITONEUM:");
  w.finding(f.ascites, {"Ascites is present.", "Perihepatic ascites."}, {"No ascites."});
  w.header("LOWER THORAX:");
  w.finding(f.effusion, {"Pleural effusion.", "Small pleural effusion."},
            {"Lung bases are clear."});
  w.header("");
}

/// Another order, whole centimetres, LI-RADS, no headers.
void write_li_rads(const Findings& f, Writer& w) {
  w.finding(f.effusion, {"Fluid in the pleural space.", "Pleural effusion noted."},
            {"Lung bases unremarkable."});
  w.finding(f.ascites, {"Free fluid around the liver.", "Ascites noted."}, {"No free fluid."});
  w.finding(f.splenomegaly, {"Enlarged spleen, portal hypertension.", "Spleen is big."},
            {"Spleen not enlarged."});
  w.finding(f.renal_cyst, {"Cyst of the kidney.", "Benign kidney cyst."},
            {"Kidneys unremarkable."});
  w.finding(f.gallstones, {"Stones in the gallbladder.", "Calculi in the gallbladder."},
            {"Gallbladder without stones."});
  w.finding(f.cirrhosis,
            {"Liver with cirrhosis and irregular surface.", "Known cirrhosis of the liver."},
            {"Liver surface regular."});
  w.finding(f.steatosis, {"Liver density reduced, steatosis.", "Steatosis of the liver."},
            {"Liver density preserved."});
  if (!f.cysts.empty())
    w.say({"Liver cyst in S {segment}.", "Cyst of {size} in S {segment}."}, f.cysts.front());
  if (f.hemangioma)
    w.say(
        {"Hemangioma of {size} in S {segment}, LI-RADS 1.", "LI-RADS 1 hemangioma in S {segment}."},
        *f.hemangioma);
  if (f.benign_mass)
    w.say(f.benign_is_fnh
              ? Choices{"FNH of {size} in S {segment} with scar, LI-RADS 2.",
                        "LI-RADS 2 observation of {size} in S {segment}, FNH."}
              : Choices{"Rapidly filling hemangioma of {size} in S {segment}, LI-RADS 1.",
                        "LI-RADS 1 observation of {size} in S {segment}, blood pool."},
          *f.benign_mass);
  if (f.hcc) {
    w.say({"LI-RADS 5 observation of {size} in S {segment}, hcc.",
           "Hcc of {size} in S {segment}, LI-RADS 5.",
           "Hypervascular nodule of {size} in S {segment}, LI-RADS 5, definite hcc."},
          *f.hcc);
  } else {
    w.say_normal({"No LI-RADS 5 observation.", "No hcc.", "Negative for hcc."}, kCancerAbsentShare);
  }
}

/// Catchwords.
void write_terse(const Findings& f, Writer& w) {
  if (f.hcc)
    w.say({"Hepatoma {size} seg {segment}, malignant.",
           "Malignant hepatic tumor {size} seg {segment}, hcc.",
           "Hcc {size} seg {segment}, hepatocellular carcinoma."},
          *f.hcc);
  if (f.benign_mass)
    w.say(f.benign_is_fnh ? Choices{"FNH {size} seg {segment}, scar, benign."}
                          : Choices{"Flash hemangioma {size} seg {segment}, benign."},
          *f.benign_mass);
  if (f.hemangioma) w.say({"Hemangioma {size} seg {segment}, nodular fill in."}, *f.hemangioma);
  if (!f.cysts.empty()) w.say({"Cyst {size} seg {segment}."}, f.cysts.front());
  if (!f.hcc)
    w.say_normal({"No hepatoma.", "No malignant hepatic tumor.", "Hcc not seen."},
                 kCancerAbsentShare);
  w.finding(f.cirrhosis, {"Cirrhosis, nodular."}, {"Liver margins smooth."});
  w.finding(f.steatosis, {"Fatty change of liver."}, {"No fatty change."});
  w.finding(f.splenomegaly, {"Spleen enlarged."}, {"Spleen ok."});
  w.finding(f.gallstones, {"Gallbladder stones."}, {"Gallbladder ok."});
  w.finding(f.renal_cyst, {"Kidney cyst."}, {"Kidneys ok."});
  w.finding(f.ascites, {"Ascites."}, {"No ascites."});
  w.finding(f.effusion, {"Effusion."}, {"Chest bases ok."});
}

}  // namespace

std::string write_phantom_report(const Findings& findings, ReportStyle style, KeyedRandom random) {
  Writer writer(style, random);
  switch (style) {
    case ReportStyle::kHeaders:
      write_with_headers(findings, writer);
      break;
    case ReportStyle::kLiRads:
      write_li_rads(findings, writer);
      break;
    case ReportStyle::kTerse:
      write_terse(findings, writer);
      break;
  }
  if (writer.text().empty()) return "Unremarkable study.";
  return writer.text();
}

std::string phantom_prompts_toml() {
  return R"toml(# Prompts for the phantom cohort, in the manner of its source and target reports.
# A score is the mean cosine to the positive prompts minus that to the negative ones.
[[finding]]
name = "hcc"
positive = [
  "LIVER: There is a 32 mm hepatocellular carcinoma in segment VIII.",
  "28 mm mass in segment VI consistent with hepatocellular carcinoma.",
  "LI-RADS 5 observation of 3 cm in S VII, hcc.",
  "Hcc of 4 cm in S V, LI-RADS 5.",
]
negative = [
  "LIVER: No evidence of hepatocellular carcinoma.",
  "No suspicious liver mass.",
  "No LI-RADS 5 observation.",
  "Negative for hcc.",
]

[[finding]]
name = "cirrhosis"
positive = [
  "Nodular liver contour in keeping with cirrhosis.",
  "Cirrhotic liver morphology.",
  "Liver with cirrhosis and irregular surface.",
  "Known cirrhosis of the liver.",
]
negative = ["Smooth liver contour.", "No cirrhosis.", "Liver surface regular."]

[[finding]]
name = "steatosis"
positive = [
  "Diffuse hepatic steatosis.",
  "Fatty liver.",
  "Liver density reduced, steatosis.",
  "Steatosis of the liver.",
]
negative = ["Normal liver attenuation.", "Liver density preserved."]
)toml";
}

}  // namespace triphase::data
