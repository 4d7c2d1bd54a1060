// SPDX-License-Identifier: Apache-2.0
#include "data/phantom.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <map>
#include <set>

#include "base/json.hpp"
#include "data/fast_normal.hpp"
#include "data/manifest.hpp"
#include "data/nifti.hpp"
#include "data/phantom_anatomy.hpp"
#include "data/phantom_render.hpp"
#include "data/phantom_report.hpp"
#include "data/preprocess.hpp"
#include "data/tokenizer.hpp"
#include "tests/support/test_support.hpp"

namespace triphase::data {
namespace {

const PhantomSampling kCoarse{{56, 40}, {313.6, 224, 192}, 1.5};

PhantomOptions tiny(const std::filesystem::path& folder) {
  PhantomOptions options;
  options.out_dir = folder;
  options.size = "tiny";
  options.num_patients = 20;
  options.seed = 3;
  return options;
}

std::map<std::string, std::string> all_files(const std::filesystem::path& folder) {
  std::map<std::string, std::string> files;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder))
    if (entry.is_regular_file())
      files[std::filesystem::relative(entry.path(), folder)] = test::read_text(entry.path());
  return files;
}

/// Mean HU in a ball, at a place given in millimetres.
double mean_around(const Volume& volume, const Point& center, double radius) {
  double sum = 0, count = 0;
  for (std::int64_t x = 0; x < volume.shape[0]; ++x)
    for (std::int64_t y = 0; y < volume.shape[1]; ++y)
      for (std::int64_t z = 0; z < volume.shape[2]; ++z) {
        double distance2 = 0;
        for (std::size_t a = 0; a < 3; ++a) {
          const auto& row = volume.affine[a];
          const double mm = row[0] * static_cast<double>(x) + row[1] * static_cast<double>(y) +
                            row[2] * static_cast<double>(z) + row[3];
          distance2 += (mm - center[a]) * (mm - center[a]);
        }
        if (distance2 > radius * radius) continue;
        sum += static_cast<double>(volume.at(x, y, z));
        count += 1;
      }
  return count > 0 ? sum / count : NAN;
}

/// A patient without bending, so that places are where the findings say.
Patient straight_patient(const PhantomSite& site, std::int64_t number, bool has_hcc,
                         double contrast = 1) {
  PhantomOptions options;
  options.lesion_contrast = contrast;
  Patient patient = make_patient(options, site, number, has_hcc);
  for (auto& node : patient.displacement.nodes) node = {};
  return patient;
}

Volume quiet_scan(const Patient& patient, const PhantomSite& site) {
  Scan scan = draw_scan(site, kCoarse, 0, 0);
  scan.noise_hu = 0;
  scan.hu_offset = 0;
  return render_patient(patient, scan, site, KeyedRandom{1});
}

TEST(Phantom, TheSameSeedGivesTheSameFilesOnAnyNumberOfThreads) {
  const test::TemporaryFolder first, second, third;
  PhantomOptions options = tiny(first.path());
  std::atomic<int> calls = 0;
  write_phantom_cohort(options, [&] { ++calls; });
  EXPECT_EQ(calls, phantom_num_patients(options));
  options.out_dir = second.path();
  options.num_threads = 3;
  write_phantom_cohort(options, {});
  EXPECT_EQ(all_files(first.path()), all_files(second.path()));
  options.out_dir = third.path();
  options.seed = 4;
  write_phantom_cohort(options, {});
  EXPECT_NE(all_files(first.path()), all_files(third.path()));
}

TEST(Phantom, EverySplitOfEverySiteHasBothClassesAndPatientsStayInTheirSplit) {
  const test::TemporaryFolder folder;
  const PhantomOptions options = tiny(folder.path());
  write_phantom_cohort(options, {});
  const Manifest manifest =
      read_manifest(folder / "manifest.csv");  // refuses a patient in two splits
  check_images_exist(manifest);
  EXPECT_EQ(static_cast<std::int64_t>(manifest.records.size()), phantom_num_patients(options));
  EXPECT_EQ(manifest.findings, phantom_findings());
  ASSERT_EQ(manifest.findings.front(), "hcc");
  std::map<std::string, std::set<int>> classes;
  for (const StudyRecord& record : manifest.records) {
    classes[record.site + "/" + record.split].insert(record.labels.front());
    EXPECT_TRUE(record.metadata.contains("phase"));
    EXPECT_GT(std::stod(record.metadata.at("slice_mm")), 0);
    EXPECT_EQ(std::stod(record.metadata.at("lesion_diameter_mm")) > 0, record.labels.front() == 1);
  }
  EXPECT_EQ(classes.size(), 9U);
  for (const auto& [name, found] : classes) EXPECT_EQ(found, (std::set<int>{0, 1})) << name;
}

TEST(Phantom, VolumesPrepareToOneOrientationWhateverTheSiteStores) {
  const test::TemporaryFolder folder;
  write_phantom_cohort(tiny(folder.path()), {});
  std::set<std::string> stored;
  std::map<std::string, std::pair<double, double>> sides;  // right and left
  for (const StudyRecord& record : read_manifest(folder / "manifest.csv").records) {
    const Volume scan = read_nifti(record.image);
    std::string signs;
    for (std::size_t s = 0; s < 3; ++s)
      for (std::size_t a = 0; a < 3; ++a)
        if (scan.affine[a][s] != 0) signs += str(scan.affine[a][s] < 0 ? '-' : '+', a);
    stored.insert(signs);
    const Volume ready = preprocess(scan, preprocess_preset("phantom"));
    // The liver lies on the right, low index being left; the spine behind the middle. Summed over
    // a site's patients: a fatty liver may be darker than what lies opposite.
    double& right = sides[record.site].first;
    double& left = sides[record.site].second;
    double front = 0, back = 0;
    for (std::int64_t z = 12; z < 20; ++z) {
      for (std::int64_t y = 16; y < 28; ++y) {
        for (std::int64_t x = 34; x < 44; ++x) right += static_cast<double>(ready.at(x, y, z));
        for (std::int64_t x = 12; x < 22; ++x) left += static_cast<double>(ready.at(x, y, z));
      }
      back += static_cast<double>(ready.at(28, 10, z));
      front += static_cast<double>(ready.at(28, 36, z));
    }
    EXPECT_GT(back, front) << record.id;
  }
  EXPECT_EQ(sides.size(), 3U);
  for (const auto& [site, sums] : sides) EXPECT_GT(sums.first, 1.1 * sums.second) << site;
  EXPECT_EQ(stored, (std::set<std::string>{"+0+1+2", "-0-1+2", "+2-0-1"}));
}

/// What the source's reports teach about cirrhosis does not hold at the target.
TEST(Phantom, CirrhosisGoesWithHccAtTheSourceAndNotAtTheTarget) {
  std::vector<double> difference;
  for (const PhantomSite& site : phantom_sites()) {
    std::array<double, 2> share{};
    for (std::int64_t number = 0; number < 2000; ++number)
      for (const bool has_hcc : {false, true})
        share[has_hcc ? 1 : 0] +=
            make_patient({}, site, number, has_hcc).findings.cirrhosis ? 1.0 / 2000 : 0;
    for (const std::size_t has_hcc : {0U, 1U})
      EXPECT_NEAR(share[has_hcc], site.cirrhosis_share[has_hcc], 0.045) << site.name;  // 4 errors
    difference.push_back(share[1] - share[0]);
  }
  EXPECT_GT(difference[0], 0.4);
  EXPECT_LT(difference[1], 0);
}

TEST(Phantom, OralContrastFillsMostOfTheBowelAndNothingElse) {
  PhantomSite with = phantom_sites()[1], without = with;
  with.oral_contrast_share = 1;
  without.oral_contrast_share = 0;
  int filled = 0;
  for (std::int64_t number = 0; number < 40; ++number) {
    const auto bright = make_patient({}, with, number, true).shapes;
    const auto plain = make_patient({}, without, number, true).shapes;
    ASSERT_EQ(bright.size(), plain.size()) << number;
    for (std::size_t i = 0; i < bright.size(); ++i) {
      EXPECT_EQ(bright[i].center, plain[i].center) << number;
      if (bright[i].hu == plain[i].hu) continue;
      ++filled;
      EXPECT_TRUE(bright[i].hu >= 150 && bright[i].hu <= 350) << bright[i].hu;
      EXPECT_LT(plain[i].hu, 80) << number;
    }
  }
  EXPECT_NEAR(filled / (40 * 22.0), 0.6, 0.07);  // 4 standard errors
}

TEST(Phantom, BenignBrightMassesAreRareAtTheSourceAndCommonAtTheTarget) {
  std::vector<double> share;
  for (const PhantomSite& site : phantom_sites()) {
    int found = 0, fnh = 0;
    for (std::int64_t number = 0; number < 2000; ++number) {
      const Findings f = make_patient({}, site, number, number % 2 == 0).findings;
      found += f.benign_mass.has_value();
      fnh += f.benign_mass && f.benign_is_fnh;
    }
    share.push_back(found / 2000.0);
    EXPECT_NEAR(share.back(), site.benign_mass_share, 0.04) << site.name;  // 4 standard errors
    EXPECT_NEAR(fnh, 0.5 * found, 2 * std::sqrt(found)) << site.name;
  }
  EXPECT_GT(share[1], 4 * share[0]);
}

TEST(Phantom, HccIsBrightEarlyAndDarkLateAndTheBenignMassIsNeverDark) {
  int arterial = 0, portal = 0, benign = 0;
  for (std::int64_t number = 0; number < 400; ++number) {
    PhantomSite site = phantom_sites()[0];
    site.portal_share = 0.5;
    site.benign_mass_share = 0.2;
    const Patient with = straight_patient(site, number, true, 1);
    const Findings& f = with.findings;
    const double half = 0.5 * f.hcc->radius_mm;
    const bool late = f.phase == Phase::kPortal;
    if (late ? portal < 4 : arterial < 4) {
      const double change = mean_around(quiet_scan(with, site), f.hcc->center, half) -
                            mean_around(quiet_scan(straight_patient(site, number, true, 0), site),
                                        f.hcc->center, half);
      if (late) {
        EXPECT_LT(change, -20) << number;
      } else {
        EXPECT_GT(change, 30) << number;
      }
      ++(late ? portal : arterial);
    }
    if (f.benign_mass && !f.benign_is_fnh && !f.steatosis && benign < 4) {
      const double mass = mean_around(quiet_scan(with, site), f.benign_mass->center, 6);
      EXPECT_GT(mass, late ? 120 : 160) << number;
      ++benign;
    }
  }
  EXPECT_EQ(arterial, 4);
  EXPECT_EQ(portal, 4);
  EXPECT_EQ(benign, 4);
}

/// What report and label say must be there to see: not outside the cavity, not behind a vessel.
TEST(Phantom, EveryHccShowsInItsScan) {
  const PhantomSite& site = phantom_sites()[0];
  for (std::int64_t number = 0; number < 130; ++number) {
    const Patient with = straight_patient(site, number, true, 1);
    const Lesion& lesion = *with.findings.hcc;
    const auto mean = [&](const Patient& patient) {
      return mean_around(quiet_scan(patient, site), lesion.center, 0.5 * lesion.radius_mm);
    };
    EXPECT_GT(std::abs(mean(with) - mean(straight_patient(site, number, true, 0))), 10) << number;
  }
}

/// The gallbladder is painted over the liver. Where there is no other place left, one may hide.
TEST(Phantom, HardlyALesionLiesBehindTheGallbladder) {
  const Point gallbladder{34, 30, -42};
  int hidden = 0;
  for (std::int64_t number = 0; number < 2000; ++number) {
    const Lesion hcc = *make_patient({}, phantom_sites()[0], number, true).findings.hcc;
    double distance2 = 0;
    for (std::size_t a = 0; a < 3; ++a)
      distance2 += (hcc.center[a] - gallbladder[a]) * (hcc.center[a] - gallbladder[a]);
    hidden += std::sqrt(distance2) < hcc.radius_mm + 22 ? 1 : 0;
  }
  EXPECT_LT(hidden, 20);
}

TEST(Phantom, ALesionChangesNothingFarFromIt) {
  const PhantomSite& site = phantom_sites()[1];
  const Patient with = straight_patient(site, 5, true, 1);
  const Volume a = quiet_scan(with, site), b = quiet_scan(straight_patient(site, 5, true, 0), site);
  const Lesion& lesion = *with.findings.hcc;
  double inside = 0, outside = 0;
  for (std::int64_t x = 0; x < a.shape[0]; ++x)
    for (std::int64_t y = 0; y < a.shape[1]; ++y)
      for (std::int64_t z = 0; z < a.shape[2]; ++z) {
        double distance2 = 0;
        for (std::size_t r = 0; r < 3; ++r) {
          const double mm = a.affine[r][0] * static_cast<double>(x) +
                            a.affine[r][1] * static_cast<double>(y) +
                            a.affine[r][2] * static_cast<double>(z) + a.affine[r][3];
          distance2 += std::pow(mm - lesion.center[r], 2);
        }
        const double change = std::abs(static_cast<double>(a.at(x, y, z) - b.at(x, y, z)));
        (std::sqrt(distance2) < 1.15 * lesion.radius_mm + 16 ? inside : outside) += change;
      }
  EXPECT_GT(inside, 0);
  EXPECT_EQ(outside, 0);
}

TEST(Phantom, NoiseIsAsStrongAsTheScanSays) {
  const PhantomSite& site = phantom_sites()[1];
  const Patient patient = straight_patient(site, 2, false);
  Scan scan = draw_scan(site, kCoarse, 0, 2);
  scan.hu_offset = 0;
  scan.noise_hu = 0;
  const Volume quiet = render_patient(patient, scan, site, KeyedRandom{1});
  scan.noise_hu = 12;
  const Volume noisy = render_patient(patient, scan, site, KeyedRandom{1});
  double sum = 0, squares = 0, count = 0;
  for (std::size_t i = 0; i < quiet.voxels.size(); ++i) {
    if (quiet.voxels[i] < 0) continue;
    const double d = static_cast<double>(noisy.voxels[i] - quiet.voxels[i]);
    sum += d;
    squares += d * d;
    count += 1;
  }
  EXPECT_NEAR(sum / count, 0, 0.5);
  EXPECT_NEAR(std::sqrt(squares / count), 12, 0.5);
}

/// Whether a report claims HCC, once everything that denies it is taken away.
bool claims_hcc(std::string text) {
  for (const std::string denial :
       {"no evidence of hepatocellular carcinoma", "no hepatocellular carcinoma is seen", "no hcc",
        "no li - rads 5 observation", "negative for hcc", "no hepatoma",
        "no malignant hepatic tumor", "hcc not seen"})
    if (const std::size_t at = text.find(denial); at != std::string::npos)
      text.erase(at, denial.size());
  for (const std::string word :
       {"hepatocellular carcinoma", "li - rads 5", "hcc", "hepatoma", "malignant"})
    if (text.find(word) != std::string::npos) return true;
  return false;
}

TEST(Phantom, ReportsSayWhatTheLabelsSay) {
  for (const PhantomSite& site : phantom_sites()) {
    double words = 0;
    for (std::int64_t number = 0; number < 300; ++number) {
      const bool has_hcc = number % 2 == 0;
      const Patient patient = make_patient(PhantomOptions{}, site, number, has_hcc);
      EXPECT_EQ(patient.findings.hcc.has_value(), has_hcc);
      EXPECT_EQ(phantom_labels(patient.findings).front(), has_hcc ? 1 : 0);
      const std::string report = write_phantom_report(patient.findings, site.style,
                                                      patient_random(0, number, Purpose::kReport));
      EXPECT_EQ(report.back(), '.');
      EXPECT_EQ(report.find('{'), std::string::npos) << report;
      const std::string text = sanitize_report(report);
      EXPECT_EQ(claims_hcc(text), has_hcc) << report;
      words += 1 + static_cast<double>(std::count(text.begin(), text.end(), ' '));
    }
    EXPECT_GT(words / 300, 15) << site.name;
    EXPECT_LT(words / 300, 65) << site.name;
  }
}

TEST(Phantom, ItsTokenizerHasOneTokenForTheEndOfASentence) {
  const test::TemporaryFolder folder;
  write_phantom_cohort(tiny(folder.path()), {});
  const Tokenizer tokenizer(folder / "tokenizer");
  const auto period = tokenizer.encode(" .", 9);
  ASSERT_EQ(period.size(), 3U);
  for (const StudyRecord& record : read_manifest(folder / "manifest.csv").records) {
    const auto ids = tokenizer.encode(sanitize_report(record.report), 1024);
    EXPECT_EQ(ids[ids.size() - 2], period[1]) << record.id;
    EXPECT_LT(ids.size(), 256U);  // what the configurations allow
  }
}

TEST(Phantom, DescribesItselfAsSynthetic) {
  const test::TemporaryFolder folder;
  PhantomOptions options = tiny(folder.path());
  write_phantom_cohort(options, {});
  const Json about = read_json(folder / "phantom.json");
  EXPECT_NE(about["notice"].get<std::string>().find("No clinical evidence"), std::string::npos);
  EXPECT_EQ(about["num_patients"].get<std::int64_t>(), phantom_num_patients(options));
  EXPECT_NE(test::read_text(folder / "prompts.toml").find("name = \"hcc\""), std::string::npos);
}

TEST(Phantom, CountsFollowTheNumberThatWasAskedFor) {
  PhantomOptions options;
  EXPECT_EQ(phantom_num_patients(options), 2950);
  options.size = "tiny";
  EXPECT_EQ(phantom_num_patients(options), 96);
  options.num_patients = 200;
  EXPECT_EQ(phantom_num_patients(options), 200);
  options.num_patients = 1;
  EXPECT_EQ(phantom_num_patients(options), 18);  // two in every split
}

TEST(Phantom, RefusesOptionsOutOfRange) {
  const auto refused = [](auto change, std::initializer_list<std::string> words) {
    const test::TemporaryFolder folder;
    PhantomOptions options = tiny(folder / "cohort");
    change(options);
    test::expect_error<ConfigError>([&] { write_phantom_cohort(options, {}); }, ExitCode::kUsage,
                                    words);
    EXPECT_FALSE(std::filesystem::exists(folder / "cohort"));
  };
  refused([](PhantomOptions& o) { o.size = "huge"; }, {"'huge'", "tiny, small or merlin"});
  refused([](PhantomOptions& o) { o.num_patients = -1; }, {"-1"});
  refused([](PhantomOptions& o) { o.num_threads = 0; }, {"threads is 0"});
  refused([](PhantomOptions& o) { o.lesion_diameter_min_mm = 65; }, {"65 to 64 mm"});
  refused([](PhantomOptions& o) { o.lesion_contrast = NAN; }, {"contrast"});
  refused([](PhantomOptions& o) { o.hcc_prevalence = 1.5; }, {"1.5"});
}

TEST(FastNormal, HasMeanZeroAndVarianceOne) {
  KeyedRandom random{8};
  double sum = 0, squares = 0;
  constexpr int kCount = 200000;
  for (int i = 0; i < kCount; ++i) {
    const auto x = static_cast<double>(fast_normal(random.bits()));
    sum += x;
    squares += x * x;
  }
  EXPECT_NEAR(sum / kCount, 0, 5 / std::sqrt(kCount));
  EXPECT_NEAR(squares / kCount, 1, 0.02);
}

}  // namespace
}  // namespace triphase::data
