// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

namespace triphase::data {

/// What PhantomOptions may hold; every bound is allowed.
inline constexpr std::int64_t kPhantomPatientsMax = 1'000'000;
inline constexpr double kPhantomLesionMinMm = 2;   ///< an HCC's diameter
inline constexpr double kPhantomLesionMaxMm = 90;  ///< larger ones leave the liver
inline constexpr double kPhantomLesionContrastMax = 4;

/// The synthetic cohort of design §9. Deterministic from the seed, whatever the number of threads.
struct PhantomOptions {
  std::filesystem::path out_dir;
  std::string size = "small";  ///< "tiny" (tests), "small" (quick start), "merlin" (full grid)
  std::int64_t num_patients = 0;  ///< 0: the size's own; otherwise every split is scaled to it
  std::uint64_t seed = 0;
  int num_threads = 1;
  double lesion_diameter_min_mm = 26;  ///< HCC diameter, log-uniform
  double lesion_diameter_max_mm = 64;
  double lesion_contrast = 1;  ///< factor on every HCC contrast
  double hcc_prevalence = 0.4;
};

/// Writes volumes/<id>.nii.gz, manifest.csv, prompts.toml, tokenizer/{vocab.json,merges.txt} and
/// phantom.json (options, counts, versions: "phantom, no clinical evidence").
/// Sites: "source", "target" and a third, "north"; splits: train, validation, test, by patient.
/// `on_patient` is called after each patient, from any thread.
/// @throws ConfigError for an unknown size or an option out of range; IoError
void write_phantom_cohort(const PhantomOptions& options, const std::function<void()>& on_patient);

/// Patients that the options stand for (the size's own number, or num_patients).
[[nodiscard]] std::int64_t phantom_num_patients(const PhantomOptions& options);

}  // namespace triphase::data
