// SPDX-License-Identifier: Apache-2.0
#include "tests/data/cache_cohort.hpp"

#include <atomic>
#include <utility>

#include "base/random.hpp"
#include "data/nifti.hpp"
#include "data/tokenizer.hpp"

namespace triphase::test {

CacheCohort::CacheCohort(std::int64_t num_studies) {
  std::filesystem::create_directory(cache());
  for (std::int64_t i = 0; i < num_studies; ++i) {
    const std::int64_t patient = i % 3 == 2 ? i - 1 : i;
    rows_.push_back(str("p", patient, ",", i % 2 == 0 ? "north" : "südwest", ",",
                        patient % 4 == 0 ? "test" : "train", ",", image(i).filename().string(),
                        ",\"Study ", i, ": liver lesion, ", 3 * i, " mm.\",", i % 2, ",",
                        i % 3 == 0 ? "" : "0"));
    write_image(i, static_cast<std::uint64_t>(i));
  }
  write_manifest();
  std::filesystem::create_directory(folder_ / "tokenizer");
  data::train_tokenizer({"study : liver lesion , mm ."}, 262, folder_ / "tokenizer");
}

data::CacheBuildOptions CacheCohort::options() const {
  data::CacheBuildOptions options;
  options.manifest = folder_ / "manifest.csv";
  options.out_dir = cache();
  options.tokenizer_dir = folder_ / "tokenizer";
  options.preprocess = small_grid();
  options.max_text_tokens = 64;
  options.shard_bytes = 3 * 7 * 6 * 5 * 2;  // three volumes
  return options;
}

std::filesystem::path CacheCohort::image(std::int64_t study) const {
  return folder_ / str("scan", study, ".nii.gz");
}

void CacheCohort::write_manifest() const {
  std::string text = "id,patient_id,site,split,image,report,label:hcc,label:cyst\n";
  for (std::size_t i = 0; i < rows_.size(); ++i) text += str("id", i, ",", rows_[i], "\n");
  write_text(folder_ / "manifest.csv", text);
}

void CacheCohort::write_image(std::int64_t study, std::uint64_t seed) const {
  KeyedRandom random{41, seed};
  data::Volume volume;
  volume.shape = {12, 10, 8};
  volume.affine = {{{-1, 0, 0, 5}, {0, -1.2, 0, 6}, {0, 0, 2, 7}, {0, 0, 0, 1}}};
  for (std::int64_t i = 0; i < volume.size(); ++i)
    volume.voxels.push_back(static_cast<float>(random.uniform(-1100, 1100)));
  data::write_nifti(image(study), volume);
}

void CacheCohort::cut_image(std::int64_t study) const {
  const std::string bytes = read_text(image(study));
  write_text(image(study), bytes.substr(0, bytes.size() / 2));
}

void CacheCohort::empty_cache() const {
  std::filesystem::remove_all(cache());
  std::filesystem::create_directory(cache());
}

std::map<std::string, std::string> files_in(const std::filesystem::path& folder) {
  std::map<std::string, std::string> files;
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    files[entry.path().filename().string()] = read_text(entry.path());
  return files;
}

std::int64_t CacheCohort::build(const data::CacheBuildOptions& options, int num_ranks) const {
  const data::CachePlan plan = data::plan_cache_build(options, num_ranks);
  std::atomic<std::int64_t> built = 0;
  std::vector<data::FailedStudy> failed;
  for (int rank = 0; rank < num_ranks; ++rank)
    for (data::FailedStudy& study : data::build_cache_shards(plan, rank, num_ranks, [&] { ++built; }))
      failed.push_back(std::move(study));
  EXPECT_EQ(built, plan.num_stale_volumes());
  const auto num_failed = static_cast<std::int64_t>(failed.size());
  data::finish_cache(plan, std::move(failed));
  return built - num_failed;
}

data::PreprocessOptions small_grid(data::Storage storage) {
  data::PreprocessOptions options;
  options.spacing_mm = {1.5, 1.5, 3};
  options.volume_shape = {7, 6, 5};
  options.storage = storage;
  return options;
}

std::vector<float> read_volume(const data::Cache& cache, std::int64_t index) {
  const data::Shape3& shape = cache.spec().preprocess.volume_shape;
  std::vector<float> voxels(static_cast<std::size_t>(shape[0] * shape[1] * shape[2]));
  cache.read_volume(index, voxels.data());
  return voxels;
}

}  // namespace triphase::test
