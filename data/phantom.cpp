// SPDX-License-Identifier: Apache-2.0
#include "data/phantom.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>
#include <vector>

#include "base/error.hpp"
#include "base/file.hpp"
#include "base/json.hpp"
#include "base/parallel.hpp"
#include "data/manifest.hpp"
#include "data/nifti.hpp"
#include "data/phantom_anatomy.hpp"
#include "data/phantom_render.hpp"
#include "data/phantom_report.hpp"
#include "data/tokenizer.hpp"

namespace triphase::data {
namespace {

constexpr std::int64_t kVocabularySize = 600;
constexpr int kFormatVersion = 1;
const std::array<std::string, 3> kSplits{"train", "validation", "test"};

/// One --size.
struct CohortSize {
  PhantomSampling sampling;
  std::array<std::array<std::int64_t, 3>, 3> patients;  ///< [site][split]
};

const CohortSize& cohort_size(const std::string& name) {
  static const std::map<std::string, CohortSize> kSizes{
      {"tiny", {{{56, 40}, {313.6, 224, 192}, 1.5}, {{{24, 8, 8}, {24, 8, 8}, {8, 4, 4}}}}},
      {"small",
       {{{112, 80}, {313.6, 224, 192}, 1.0},
        {{{1300, 100, 300}, {500, 200, 300}, {100, 50, 100}}}}},
      {"merlin", {{{256, 256}, {350, 350, 240}, 0.5}, {{{4, 2, 2}, {4, 2, 2}, {2, 2, 2}}}}}};
  const auto found = kSizes.find(name);
  TRIPHASE_CHECK(ConfigError, found != kSizes.end(), "phantom size is '", name,
                 "', expected tiny, small or merlin.");
  return found->second;
}

void check_options(const PhantomOptions& options) {
  const auto& o = options;
  TRIPHASE_CHECK(ConfigError, o.num_patients >= 0 && o.num_patients <= kPhantomPatientsMax,
                 "phantom patients is ", o.num_patients, ", expected 0 (the size's own number) to ",
                 kPhantomPatientsMax, ".");
  TRIPHASE_CHECK(ConfigError, o.num_threads >= 1, "phantom threads is ", o.num_threads,
                 ", expected at least 1.");
  TRIPHASE_CHECK(ConfigError,
                 o.lesion_diameter_min_mm >= kPhantomLesionMinMm &&
                     o.lesion_diameter_max_mm >= o.lesion_diameter_min_mm &&
                     o.lesion_diameter_max_mm <= kPhantomLesionMaxMm,
                 "phantom lesion diameters are ", o.lesion_diameter_min_mm, " to ",
                 o.lesion_diameter_max_mm, " mm, expected ", kPhantomLesionMinMm,
                 " <= smallest <= largest <= ", kPhantomLesionMaxMm, ".");
  TRIPHASE_CHECK(ConfigError,
                 o.lesion_contrast >= 0 && o.lesion_contrast <= kPhantomLesionContrastMax,
                 "phantom lesion contrast is ", o.lesion_contrast, ", expected 0 to ",
                 kPhantomLesionContrastMax, ".");
  TRIPHASE_CHECK(ConfigError, o.hcc_prevalence >= 0 && o.hcc_prevalence <= 1,
                 "phantom HCC prevalence is ", o.hcc_prevalence, ", expected 0 to 1.");
}

/// The size's counts, scaled to num_patients; at least two in every split, so that both classes
/// fit.
std::array<std::array<std::int64_t, 3>, 3> split_counts(const PhantomOptions& options) {
  auto counts = cohort_size(options.size).patients;
  if (options.num_patients == 0) return counts;
  std::int64_t total = 0;
  for (const auto& site : counts)
    for (const std::int64_t count : site) total += count;
  const double factor = static_cast<double>(options.num_patients) / static_cast<double>(total);
  std::int64_t sum = 0;
  for (auto& site : counts)
    for (std::int64_t& count : site) {
      count = std::max<std::int64_t>(2, std::llround(static_cast<double>(count) * factor));
      sum += count;
    }
  // Rounding's remainder goes to the largest split, as far as it has patients to give.
  counts[0][0] = std::max<std::int64_t>(2, counts[0][0] + options.num_patients - sum);
  return counts;
}

/// One patient's place in the cohort.
struct Study {
  std::int64_t patient = 0;
  std::size_t site = 0;
  std::size_t split = 0;
  bool has_hcc = false;
  std::string id;
};

/// The share of HCC is the same in every split of every site, up to rounding, and neither class is
/// missing.
std::vector<Study> list_studies(const PhantomOptions& options) {
  const auto counts = split_counts(options);
  std::vector<Study> studies;
  for (std::size_t site = 0; site < counts.size(); ++site)
    for (std::size_t split = 0; split < kSplits.size(); ++split) {
      const std::int64_t count = counts[site][split];
      std::int64_t positive = std::llround(options.hcc_prevalence * static_cast<double>(count));
      if (options.hcc_prevalence > 0 && options.hcc_prevalence < 1)
        positive = std::clamp<std::int64_t>(positive, 1, count - 1);
      const auto order = keyed_permutation(
          count,
          KeyedRandom{options.seed, static_cast<std::uint64_t>(Purpose::kStudy), site, split});
      for (std::int64_t i = 0; i < count; ++i) {
        Study study;
        study.patient = static_cast<std::int64_t>(studies.size());
        study.site = site;
        study.split = split;
        study.has_hcc = order[static_cast<std::size_t>(i)] < positive;
        std::array<char, 32> number{};
        std::snprintf(number.data(), number.size(), "-%05lld",
                      static_cast<long long>(study.patient));
        study.id = phantom_sites()[site].name + number.data();
        studies.push_back(study);
      }
    }
  return studies;
}

std::string phase_name(Phase phase) {
  switch (phase) {
    case Phase::kArterial:
      return "arterial";
    case Phase::kLateArterial:
      return "late_arterial";
    case Phase::kPortal:
      return "portal";
  }
  throw InternalError("unknown phase");
}

struct WrittenStudy {
  std::string report;
  std::string manifest_line;
};

WrittenStudy write_study(const PhantomOptions& options, const Study& study) {
  const PhantomSite& site = phantom_sites()[study.site];
  const Patient patient = make_patient(options, site, study.patient, study.has_hcc);
  const Scan scan =
      draw_scan(site, cohort_size(options.size).sampling, options.seed, study.patient);
  const std::string image = "volumes/" + study.id + ".nii.gz";
  write_nifti(options.out_dir / image,
              render_patient(patient, scan, site,
                             patient_random(options.seed, study.patient, Purpose::kNoise)));
  WrittenStudy written;
  written.report = write_phantom_report(
      patient.findings, site.style, patient_random(options.seed, study.patient, Purpose::kReport));
  std::string line = str(study.id, ",patient-", study.id, ",", site.name, ",", kSplits[study.split],
                         ",", image, ",", csv_field(written.report));
  for (const int label : phantom_labels(patient.findings)) line += str(",", label);
  const double diameter = patient.findings.hcc ? 2 * patient.findings.hcc->radius_mm : 0;
  line += str(",", phase_name(patient.findings.phase), ",", scan.spacing_mm[2], ",",
              std::round(10 * diameter) / 10, "\n");
  written.manifest_line = line;
  return written;
}

void write_manifest(const PhantomOptions& options, const std::vector<WrittenStudy>& written) {
  std::string text = "id,patient_id,site,split,image,report";
  for (const std::string& finding : phantom_findings()) text += ",label:" + finding;
  text += ",phase,slice_mm,lesion_diameter_mm\n";
  for (const WrittenStudy& study : written) text += study.manifest_line;
  write_file_atomically(options.out_dir / "manifest.csv", text);
}

void write_description(const PhantomOptions& options, const std::vector<Study>& studies) {
  Json counts = Json::object();
  for (const Study& study : studies) {
    Json& split = counts[phantom_sites()[study.site].name][kSplits[study.split]];
    if (split.is_null()) split = {{"patients", 0}, {"hcc", 0}};
    split["patients"] = split["patients"].get<std::int64_t>() + 1;
    split["hcc"] = split["hcc"].get<std::int64_t>() + (study.has_hcc ? 1 : 0);
  }
  write_json(
      options.out_dir / "phantom.json",
      {{"notice",
        "Synthetic phantom data. No clinical evidence follows from any number made with it."},
       {"format_version", kFormatVersion},
       {"size", options.size},
       {"seed", options.seed},
       {"num_patients", studies.size()},
       {"hcc_prevalence", options.hcc_prevalence},
       {"lesion_diameter_mm", {options.lesion_diameter_min_mm, options.lesion_diameter_max_mm}},
       {"lesion_contrast", options.lesion_contrast},
       {"findings", phantom_findings()},
       {"counts", counts}});
}

}  // namespace

std::int64_t phantom_num_patients(const PhantomOptions& options) {
  std::int64_t total = 0;
  for (const auto& site : split_counts(options))
    for (const std::int64_t count : site) total += count;
  return total;
}

void write_phantom_cohort(const PhantomOptions& options, const std::function<void()>& on_patient) {
  check_options(options);
  const std::vector<Study> studies = list_studies(options);
  make_output_directory(options.out_dir / "volumes");
  std::vector<WrittenStudy> written(studies.size());
  parallel_for(static_cast<std::int64_t>(studies.size()), options.num_threads, [&](std::int64_t i) {
    const auto at = static_cast<std::size_t>(i);
    written[at] = write_study(options, studies[at]);
    if (on_patient) on_patient();
  });
  std::vector<std::string> training_texts;
  for (std::size_t i = 0; i < studies.size(); ++i)
    if (studies[i].split == 0) training_texts.push_back(sanitize_report(written[i].report));
  make_output_directory(options.out_dir / "tokenizer");
  train_tokenizer(training_texts, kVocabularySize, options.out_dir / "tokenizer");
  write_file_atomically(options.out_dir / "prompts.toml", phantom_prompts_toml());
  write_description(options, studies);
  // Last, so that a manifest stands for a whole cohort.
  write_manifest(options, written);
}

}  // namespace triphase::data
