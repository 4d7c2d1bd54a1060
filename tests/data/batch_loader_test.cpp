// SPDX-License-Identifier: Apache-2.0
#include "data/batch_loader.hpp"

#include <ATen/ops/equal.h>

#include <chrono>
#include <fstream>
#include <numeric>
#include <set>
#include <thread>

#include "data/nifti.hpp"
#include "data/tokenizer.hpp"
#include "tests/support/test_support.hpp"

namespace triphase::data {
namespace {

constexpr std::int64_t kSamples = 11;
constexpr std::int64_t kVoxels = 8 * 6 * 4;

/// Stored exactly as float32, and found again in the shard's bytes.
float value_of(std::int64_t sample) { return 0.25F + static_cast<float>(sample) / 64; }

/// A cache of eleven small volumes, each of one value, with reports of growing length.
class BatchLoaderTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string manifest = "id,patient_id,site,split,image,report,label:hcc,label:cyst\n";
    std::vector<std::string> reports;
    for (std::int64_t i = 0; i < kSamples; ++i) {
      Volume volume;
      volume.shape = {8, 6, 4};
      volume.voxels.assign(kVoxels, 64 * value_of(i));
      for (std::size_t a = 0; a < 4; ++a) volume.affine[a][a] = 1;
      const std::string name = str("v", i, ".nii.gz");
      write_nifti(folder_ / name, volume);
      std::string report = "liver normal .";
      for (std::int64_t k = 0; k < i; ++k) report += str(" cyst ", k, " .");
      reports.push_back(report);
      manifest += str("s", i, ",p", i, ",here,train,", name, ",", report, ",", i % 2, ",",
                      i % 3 == 0 ? -1 : 0, "\n");
    }
    test::write_text(folder_ / "manifest.csv", manifest);
    train_tokenizer(reports, 270, folder_ / "tokenizer");
    std::filesystem::create_directory(folder_ / "cache");
    CacheBuildOptions build;
    build.manifest = folder_ / "manifest.csv";
    build.out_dir = folder_ / "cache";
    build.tokenizer_dir = folder_ / "tokenizer";
    build.preprocess.spacing_mm = {1, 1, 1};
    build.preprocess.volume_shape = {8, 6, 4};
    build.preprocess.window_hu = {0, 64};
    build.preprocess.storage = Storage::kFloat32;
    const CachePlan plan = plan_cache_build(build, 1);
    build_cache_shards(plan, 0, 1, [] {});
    finish_cache(plan);
    period_ = Tokenizer(folder_ / "tokenizer").encode(" .", 9).at(1);
  }

  [[nodiscard]] Cache open() const { return Cache(folder_ / "cache"); }

  [[nodiscard]] BatchLoaderOptions options(std::int64_t batch_size, int workers = 1) const {
    BatchLoaderOptions o;
    o.sample_indices.resize(kSamples);
    std::iota(o.sample_indices.rbegin(), o.sample_indices.rend(),
              0);  // backwards: not the cache's order
    o.batch_size = batch_size;
    o.num_workers = workers;
    return o;
  }

  /// Damages one sample's voxels on the disk.
  void damage(std::int64_t sample) const {
    const std::filesystem::path shard = folder_ / "cache" / "shard-00000.h5";
    const std::string bytes = test::read_text(shard);
    const std::vector<float> voxels(kVoxels, value_of(sample));
    const std::string pattern(reinterpret_cast<const char*>(voxels.data()),
                              kVoxels * sizeof(float));
    const std::size_t at = bytes.find(pattern);
    ASSERT_NE(at, std::string::npos);
    // In place, so that no other sample is touched while workers may be reading.
    std::fstream file(shard, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(static_cast<std::streamoff>(at) + 100);
    file.put(static_cast<char>(bytes[at + 100] ^ 1));
  }

  test::TemporaryFolder folder_;
  std::int64_t period_ = -1;
};

std::vector<Batch> read_all(const Cache& cache, const BatchLoaderOptions& options) {
  BatchLoader loader(cache, options);
  std::vector<Batch> batches;
  while (auto batch = loader.next()) batches.push_back(std::move(*batch));
  EXPECT_FALSE(loader.next().has_value());
  return batches;
}

void expect_equal(const std::vector<Batch>& a, const std::vector<Batch>& b) {
  ASSERT_EQ(a.size(), b.size());
  for (std::size_t i = 0; i < a.size(); ++i) {
    EXPECT_TRUE(at::equal(a[i].volumes, b[i].volumes)) << "batch " << i;
    EXPECT_TRUE(at::equal(a[i].tokens, b[i].tokens)) << "batch " << i;
    EXPECT_TRUE(at::equal(a[i].mask, b[i].mask)) << "batch " << i;
    EXPECT_TRUE(at::equal(a[i].labels, b[i].labels)) << "batch " << i;
    EXPECT_TRUE(at::equal(a[i].index, b[i].index)) << "batch " << i;
  }
}

TEST_F(BatchLoaderTest, EverySampleComesOnceInTheGivenOrderWithItsOwnFacts) {
  const Cache cache = open();
  for (const std::int64_t batch_size : {1, 2, 3, 11, 50}) {
    std::int64_t expected = kSamples - 1;
    for (const Batch& batch : read_all(cache, options(batch_size))) {
      const std::int64_t size = batch.index.size(0);
      EXPECT_LE(size, batch_size);
      EXPECT_EQ(batch.volumes.sizes(), (std::vector<std::int64_t>{size, 1, 8, 6, 4}));
      std::int64_t longest = 0;
      for (std::int64_t b = 0; b < size; ++b, --expected) {
        EXPECT_EQ(batch.index.const_data_ptr<std::int64_t>()[b], expected);
        const CacheEntry& entry = cache.entries()[static_cast<std::size_t>(expected)];
        const float* voxels = batch.volumes.const_data_ptr<float>() + b * kVoxels;
        for (std::int64_t v = 0; v < kVoxels; ++v) EXPECT_EQ(voxels[v], value_of(expected));
        const std::int64_t length = batch.tokens.size(1);
        longest = std::max(longest, static_cast<std::int64_t>(entry.tokens.size()));
        for (std::int64_t t = 0; t < length; ++t) {
          const bool real = t < static_cast<std::int64_t>(entry.tokens.size());
          EXPECT_EQ(batch.tokens.const_data_ptr<std::int64_t>()[b * length + t],
                    real ? entry.tokens[static_cast<std::size_t>(t)] : 1);
          EXPECT_EQ(batch.mask.const_data_ptr<std::int64_t>()[b * length + t], real ? 1 : 0);
        }
        for (std::int64_t f = 0; f < 2; ++f)
          EXPECT_EQ(batch.labels.const_data_ptr<std::int8_t>()[b * 2 + f],
                    entry.labels[static_cast<std::size_t>(f)]);
      }
      EXPECT_EQ(batch.tokens.size(1), longest);  // padded to the longest, no further
    }
    EXPECT_EQ(expected, -1);
  }
}

TEST_F(BatchLoaderTest, WorkersAndPrefetchingChangeNothing) {
  const Cache cache = open();
  BatchLoaderOptions o = options(2);
  o.augment = {.shift_voxels = 1,
               .intensity_scale = 0.1,
               .intensity_offset = 0.1,
               .noise_sigma = 0.1,
               .text_drop = 0.7};
  o.period_token_id = period_;
  o.seed = 4;
  const auto expected = read_all(cache, o);
  for (const int workers : {2, 3, 8})
    for (const std::int64_t prefetch : {1, 2, 5, 100}) {
      o.num_workers = workers;
      o.read_ahead_bytes = prefetch * 2 * kVoxels * 4;
      expect_equal(read_all(cache, o), expected);
    }
}

TEST_F(BatchLoaderTest, AugmentationBelongsToTheSampleAndNotToItsPlace) {
  const Cache cache = open();
  BatchLoaderOptions o = options(1);
  o.augment = {.intensity_offset = 0.1, .noise_sigma = 0.1, .text_drop = 0.9};
  o.period_token_id = period_;
  const auto whole = read_all(cache, o);
  // As another rank would read it: other samples around, another place in the order.
  o.sample_indices = {7, 2};
  const auto part = read_all(cache, o);
  const std::size_t place_of_7 = kSamples - 1 - 7;
  EXPECT_TRUE(at::equal(part[0].volumes, whole[place_of_7].volumes));
  EXPECT_TRUE(at::equal(part[0].tokens, whole[place_of_7].tokens));
  BatchLoaderOptions other = o;
  other.epoch = 1;
  EXPECT_FALSE(at::equal(read_all(cache, other)[0].volumes, part[0].volumes));
  other = o;
  other.seed = 1;
  EXPECT_FALSE(at::equal(read_all(cache, other)[0].volumes, part[0].volumes));
}

TEST_F(BatchLoaderTest, MemoryIsUsedAgainOnlyWhenNobodyHoldsIt) {
  const Cache cache = open();
  const auto expected = read_all(cache, options(2));  // every batch is held
  BatchLoaderOptions o = options(2, 2);
  o.read_ahead_bytes = 2 * kVoxels * 4;  // one batch
  BatchLoader loader(cache, o);
  std::set<const void*> places;
  at::Tensor held_row;
  std::size_t number = 0;
  while (auto batch = loader.next()) {
    if (number == 1) held_row = batch->volumes[1];  // a view of the second batch
    if (batch->volumes.size(0) == 2) places.insert(batch->volumes.const_data_ptr());
    EXPECT_TRUE(at::equal(batch->volumes, expected[number++].volumes));
  }
  EXPECT_TRUE(at::equal(held_row, expected[1].volumes[1]));
  EXPECT_LE(places.size(), 4U) << "the one in use, the one in the making, the one that is held";
}

TEST_F(BatchLoaderTest, Bfloat16IsTheFloatsRoundedAfterAugmentation) {
  const Cache cache = open();
  for (const double noise : {0.0, 0.1}) {
    BatchLoaderOptions o = options(3, 2);
    o.augment.noise_sigma = noise;
    const auto wide = read_all(cache, o);
    o.as_bfloat16 = true;
    const auto narrow = read_all(cache, o);
    for (std::size_t i = 0; i < wide.size(); ++i) {
      EXPECT_EQ(narrow[i].volumes.scalar_type(), at::kBFloat16);
      EXPECT_TRUE(at::equal(narrow[i].volumes, wide[i].volumes.to(at::kBFloat16)));
    }
  }
}

TEST_F(BatchLoaderTest, AnErrorComesAtItsOwnBatchAndTheOthersAreStillRead) {
  damage(6);  // the fifth in reading order: batch 2 of two samples each
  const Cache cache = open();
  for (const int workers : {1, 3}) {
    BatchLoader loader(cache, options(2, workers));
    for (int number = 0; number < 6; ++number) {
      if (number == 2) {
        test::expect_error<DataError>([&] { static_cast<void>(loader.next()); }, ExitCode::kBadData,
                                      {"s6"});
      } else {
        ASSERT_TRUE(loader.next().has_value()) << number;
      }
    }
    EXPECT_FALSE(loader.next().has_value());
  }
}

TEST_F(BatchLoaderTest, EndsAtAnyMoment) {
  const Cache cache = open();
  for (int taken = 0; taken < 6; ++taken) {
    BatchLoader loader(cache, options(2, 3));
    for (int i = 0; i < taken; ++i) EXPECT_TRUE(loader.next().has_value());
  }
  BatchLoader unread(cache, options(1, 2));
  std::this_thread::sleep_for(std::chrono::milliseconds(5));  // lets the workers fill up and wait
}

TEST_F(BatchLoaderTest, ReadsNoFurtherAheadThanAsked) {
  const Cache cache = open();
  BatchLoaderOptions o = options(1, 4);
  o.read_ahead_bytes = 3 * kVoxels * 4 - 1;  // room for two
  BatchLoader loader(cache, o);
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  damage(8);  // third in order: only a loader that had read it too early would not notice
  EXPECT_TRUE(loader.next().has_value());
  EXPECT_TRUE(loader.next().has_value());
  EXPECT_GE(loader.waited_seconds(), 0);
  EXPECT_THROW(static_cast<void>(loader.next()), DataError);
}

TEST_F(BatchLoaderTest, NoSamplesGiveNoBatches) {
  const Cache cache = open();
  BatchLoaderOptions o = options(2);
  o.sample_indices.clear();
  EXPECT_TRUE(read_all(cache, o).empty());
}

TEST_F(BatchLoaderTest, RefusesOptionsOutOfRange) {
  const Cache cache = open();
  const auto refused = [&](auto change, const std::string& word) {
    BatchLoaderOptions o = options(2);
    change(o);
    test::expect_error<ConfigError>([&] { BatchLoader loader(cache, o); }, ExitCode::kUsage,
                                    {word});
  };
  refused([](BatchLoaderOptions& o) { o.batch_size = 0; }, "batch size is 0");
  refused([](BatchLoaderOptions& o) { o.num_workers = 0; }, "data.workers is 0");
  refused([](BatchLoaderOptions& o) { o.read_ahead_bytes = 0; }, "data.read_ahead_bytes is 0");
  BatchLoaderOptions o = options(2);
  o.sample_indices.push_back(kSamples);
  test::expect_error<InternalError>([&] { BatchLoader loader(cache, o); }, ExitCode::kInternal,
                                    {"11"});
}

}  // namespace
}  // namespace triphase::data
