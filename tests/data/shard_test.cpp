// SPDX-License-Identifier: Apache-2.0
// The parts of a cache one by one: shards, their bytes, the index, the specification; and HDF5.
#include "data/cache_shard.hpp"

#include <ATen/ops/arange.h>
#include <ATen/ops/zeros.h>

#include <cstring>
#include <functional>

#include "base/hash.hpp"
#include "base/json.hpp"
#include "data/cache_index.hpp"
#include "data/embeddings.hpp"
#include "data/h5.hpp"
#include "data/library_versions.hpp"
#include "tests/data/cache_cohort.hpp"

namespace triphase::data {
namespace {

using test::expect_error;
using test::read_text;
using test::TemporaryFolder;
using test::write_text;

/// Three volumes of one step each: 7x6x5 uint16.
constexpr std::int64_t kChunkBytes = 7 * 6 * 5 * 2;

std::vector<std::byte> chunk_of(std::int64_t volume) {
  std::vector<std::byte> bytes(kChunkBytes);
  for (std::size_t i = 0; i < bytes.size(); ++i)
    bytes[i] = static_cast<std::byte>(17 * static_cast<std::size_t>(volume) + i);
  return bytes;
}

ShardFacts three_records() {
  ShardFacts facts;
  facts.spec.preprocess = test::small_grid();
  facts.spec.tokenizer_hash = "0123456789abcdef";
  facts.spec.max_text_tokens = 16;
  facts.findings = {"hcc", "zyste"};
  facts.volumes_per_shard = 3;
  for (std::int64_t i = 0; i < 3; ++i) {
    ShardRecord record;
    record.entry = {.id = str("id", i),
                    .patient_id = str("p", i),
                    .site = "süd",
                    .split = i == 0 ? "test" : "train",
                    .tokens = std::vector<std::int64_t>(static_cast<std::size_t>(2 + i), 7 + i),
                    .labels = {static_cast<std::int8_t>(i - 1), 1},
                    .affine = {{{-1.5, 0, 0, 1}, {0, 1, 0.25, 2}, {0, 0, 3, 1e-9}, {0, 0, 0, 1}}}};
    record.report = i == 1 ? "" : "Größe: 3 cm.\n";
    record.source_hash = 0xfedcba9876543210U + static_cast<std::uint64_t>(i);
    record.source_bytes = (std::int64_t{1} << 40) + i;
    record.source_mtime_ns = 1'700'000'000'123'456'789 + i;
    record.chunk_hash = xxh3(chunk_of(i));
    facts.records.push_back(record);
  }
  return facts;
}

void write_shard(const std::filesystem::path& path, const std::vector<std::int64_t>& order) {
  const ShardFacts facts = three_records();
  ShardWriter writer(path, facts.spec, 3);
  for (const std::int64_t i : order) writer.write_volume(i, chunk_of(i));
  writer.finish(facts);
}

TEST(Shard, NamesHaveFiveDigitsOrMore) {
  EXPECT_EQ(shard_name(0), "shard-00000.h5");
  EXPECT_EQ(shard_name(7), "shard-00007.h5");
  EXPECT_EQ(shard_name(123456), "shard-123456.h5");
  for (const char* name : {"shard-00000.h5", "shard-123456.h5", "shard-00001.h5.part"})
    EXPECT_TRUE(is_shard_name(name)) << name;
  for (const char* name : {"shard-0001.h5", "shard-0000a.h5", "xshard-00001.h5", "shard-00001.h5x",
                           "../shard-00001.h5", "shard-00001.h5.part.part", "cache.json", ""})
    EXPECT_FALSE(is_shard_name(name)) << name;
}

TEST(Shard, WhatIsWrittenIsReadBack) {
  const TemporaryFolder folder;
  write_shard(folder / "shard-00000.h5", {0, 1, 2});
  const ShardFacts facts = read_shard(folder / "shard-00000.h5");
  const ShardFacts expected = three_records();
  EXPECT_EQ(facts.spec.text(), expected.spec.text());
  EXPECT_EQ(facts.findings, expected.findings);
  EXPECT_EQ(facts.volumes_per_shard, 3);
  EXPECT_EQ(volume_bytes(facts.spec), kChunkBytes);
  EXPECT_EQ(facts.hash(), expected.hash());
  ASSERT_EQ(facts.records.size(), 3U);
  const ShardBytes bytes(folder / "shard-00000.h5");
  for (std::size_t i = 0; i < 3; ++i) {
    const ShardRecord& found = facts.records[i];
    const ShardRecord& wanted = expected.records[i];
    EXPECT_EQ(found.entry.id, wanted.entry.id);
    EXPECT_EQ(found.entry.patient_id, wanted.entry.patient_id);
    EXPECT_EQ(found.entry.site, wanted.entry.site);
    EXPECT_EQ(found.entry.split, wanted.entry.split);
    EXPECT_EQ(found.entry.tokens, wanted.entry.tokens);
    EXPECT_EQ(found.entry.labels, wanted.entry.labels);
    EXPECT_EQ(found.entry.affine, wanted.entry.affine);
    EXPECT_EQ(found.report, wanted.report);
    EXPECT_EQ(found.source_hash, wanted.source_hash);
    EXPECT_EQ(found.source_bytes, wanted.source_bytes);
    EXPECT_EQ(found.source_mtime_ns, wanted.source_mtime_ns);
    EXPECT_EQ(found.chunk_hash, wanted.chunk_hash);
    std::vector<std::byte> chunk(kChunkBytes);
    bytes.read_at(facts.chunks[i].offset, chunk);
    EXPECT_EQ(chunk, chunk_of(static_cast<std::int64_t>(i)));
  }
}

/// Datasets that most shards do not have: they come back, and where no record has any, there is none.
TEST(Shard, CorrectionsAndReportGroupsComeBack) {
  const TemporaryFolder folder;
  ShardFacts facts = three_records();
  facts.records[1].entry.report_group = "g";
  facts.records[2].correction = {2, -1024, {0.5, 0, 1.25}};
  ShardWriter writer(folder / "a.h5", facts.spec, 3);
  for (std::int64_t i = 0; i < 3; ++i) writer.write_volume(i, chunk_of(i));
  writer.finish(facts);
  const ShardFacts read = read_shard(folder / "a.h5");
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(read.records[i].entry.report_group, facts.records[i].entry.report_group);
    EXPECT_EQ(read.records[i].correction, facts.records[i].correction);
  }
  write_shard(folder / "b.h5", {0, 1, 2});
  const auto held = h5::lock();
  const h5::Id file = h5::open_file(folder / "b.h5");
  for (const char* name : {"report_group", "correction"}) EXPECT_FALSE(h5::has_dataset(file, name));
  EXPECT_TRUE(h5::has_dataset(file, "report"));
}

TEST(Shard, TheOrderOfWritingLeavesNoTrace) {
  const TemporaryFolder folder;
  write_shard(folder / "a.h5", {0, 1, 2});
  for (const std::vector<std::int64_t>& order : {std::vector<std::int64_t>{2, 1, 0}, {1, 2, 0}}) {
    write_shard(folder / "b.h5", order);
    EXPECT_TRUE(read_text(folder / "a.h5") == read_text(folder / "b.h5"));
  }
}

TEST(Shard, OneThatWasNotFinishedLeavesTheOldOneAlone) {
  const TemporaryFolder folder;
  write_text(folder / "shard-00000.h5", "the old one");
  {
    ShardWriter writer(folder / "shard-00000.h5", three_records().spec, 3);
    writer.write_volume(0, chunk_of(1));
    EXPECT_TRUE(std::filesystem::exists(folder / "shard-00000.h5.part"));
  }
  EXPECT_FALSE(std::filesystem::exists(folder / "shard-00000.h5.part"));
  EXPECT_EQ(read_text(folder / "shard-00000.h5"), "the old one");
}

/// Whatever a sample is: when it is another, the hash is another.
TEST(Shard, EveryFactIsPartOfTheHash) {
  const std::uint64_t before = three_records().hash();
  const std::vector<std::function<void(ShardFacts&)>> changes{
      [](ShardFacts& f) { f.spec.max_text_tokens = 17; },
      [](ShardFacts& f) { f.findings[1] = "cyst"; },
      [](ShardFacts& f) { f.findings = {"hcczyste"}; },
      [](ShardFacts& f) { f.volumes_per_shard = 4; },
      [](ShardFacts& f) { f.records.pop_back(); },
      [](ShardFacts& f) { f.records[0].entry.id = "x"; },
      [](ShardFacts& f) { f.records[0].entry.patient_id = "x"; },
      [](ShardFacts& f) { f.records[0].entry.site = "x"; },
      [](ShardFacts& f) { f.records[0].entry.split = "x"; },
      [](ShardFacts& f) { f.records[0].report = "x"; },
      [](ShardFacts& f) { f.records[2].entry.tokens[3] = 8; },
      [](ShardFacts& f) { f.records[2].entry.tokens.push_back(9); },
      [](ShardFacts& f) { f.records[2].entry.labels[1] = 0; },
      [](ShardFacts& f) { f.records[2].entry.affine[2][3] = 0; },
      [](ShardFacts& f) { ++f.records[2].source_hash; },
      [](ShardFacts& f) { ++f.records[2].source_bytes; },
      [](ShardFacts& f) { ++f.records[2].source_mtime_ns; },
      [](ShardFacts& f) { ++f.records[2].chunk_hash; },
      [](ShardFacts& f) { f.records[1].entry.report_group = "g"; },
      [](ShardFacts& f) { f.records[1].correction.hu_slope = 2; },
      [](ShardFacts& f) { f.records[1].correction.hu_intercept = -1; },
      [](ShardFacts& f) { f.records[1].correction.spacing_mm[2] = 0.5; },
      [](ShardFacts& f) {  // the same letters, otherwise divided
        f.records[0].entry.id = "id";
        f.records[0].entry.patient_id = "0p0";
      }};
  for (std::size_t i = 0; i < changes.size(); ++i) {
    ShardFacts facts = three_records();
    changes[i](facts);
    EXPECT_NE(facts.hash(), before) << "change " << i;
  }
  ShardFacts facts = three_records();
  facts.pad_id = 5;
  facts.chunks = {{1, 2}, {3, 4}};
  EXPECT_EQ(facts.hash(), before) << "how it is stored";
}

TEST(ShardBytes, ReadsToTheLastByteAndNoFurther) {
  const TemporaryFolder folder;
  write_text(folder / "x", "0123456789");
  const ShardBytes bytes(folder / "x");
  EXPECT_EQ(bytes.size(), 10);
  std::vector<std::byte> out(4);
  bytes.read_at(6, out);
  EXPECT_EQ(out.back(), std::byte{'9'});
  expect_error<DataError>(
      [&] { bytes.read_at(7, out); }, ExitCode::kBadData,
      {"'" + (folder / "x").string() + "'", "ends at byte 10", "1 bytes early"});
}

TEST(ShardBytes, TheOutsideIsWhatLiesInNoVolume) {
  const TemporaryFolder folder;
  const std::string text = "aaXXXXbbYYYYc";
  const auto outside = [&](const std::string& content) {
    write_text(folder / "x", content);
    return ShardBytes(folder / "x").hash_outside({{8, 4}, {2, 4}});  // in any order
  };
  const std::uint64_t hash = outside(text);
  EXPECT_EQ(hash, xxh3("aabbc"));
  for (std::size_t i = 0; i < text.size(); ++i) {
    std::string changed = text;
    changed[i] = '!';
    const bool inside = text[i] == 'X' || text[i] == 'Y';
    EXPECT_EQ(outside(changed) == hash, inside) << i;
  }
  write_text(folder / "x", text);
  const ShardBytes bytes(folder / "x");
  constexpr std::int64_t kFar = std::int64_t{1} << 62;
  for (const std::vector<ChunkPlace>& chunks : {std::vector<ChunkPlace>{{2, 4}, {5, 4}},
                                                {{10, 4}},
                                                {{-1, 4}},
                                                {{kFar, 4}},
                                                {{0, kFar}},
                                                {{4, -1}}})
    EXPECT_THROW((void)bytes.hash_outside(chunks), DataError) << chunks[0].offset;
  EXPECT_EQ(bytes.hash_outside({{9, 4}}), xxh3("aaXXXXbbY"));  // up to the very end
}

TEST(CacheSpec, ItsTextIsReadBackAndNonsenseIsNot) {
  CacheSpec spec = three_records().spec;
  spec.preprocess.storage = Storage::kFloat16;
  spec.preprocess.window_hu = {-125.5, 275};
  EXPECT_EQ(parse_cache_spec(spec.text()).text(), spec.text());
  EXPECT_EQ(spec.hash().size(), 16U);
  EXPECT_EQ(spec.text().find("text_preparation"),
            std::string::npos);  // older caches keep their hash
  CacheSpec lower = spec;
  lower.text_preparation = TextPreparation::kLower;
  EXPECT_NE(lower.hash(), spec.hash());
  EXPECT_EQ(parse_cache_spec(lower.text()).text_preparation, TextPreparation::kLower);
  const auto refused = [&](auto change, const std::string& word) {
    Json json = Json::parse(spec.text());
    change(json);
    expect_error<DataError>([&] { (void)parse_cache_spec(json.dump()); }, ExitCode::kBadData,
                            {word, "Build the cache again"});
  };
  refused([](Json& j) { j["format_version"] = 2; }, "another version");
  refused([](Json& j) { j["more"] = 1; }, "another version");
  refused([](Json& j) { j["text_preparation"] = "wordpunct"; }, "another version");
  refused([](Json& j) { j["text_preparation"] = "upper"; }, "upper");
  refused([](Json& j) { j.erase("tokenizer_hash"); }, "tokenizer_hash");
  refused([](Json& j) { j["max_text_tokens"] = 1; }, "max_text_tokens");
  refused([](Json& j) { j["max_text_tokens"] = 1 << 20; }, "max_text_tokens");
  refused([](Json& j) { j["preprocess"]["storage"] = "int8"; }, "int8");
  refused([](Json& j) { j["preprocess"]["volume_shape"] = {0, 1, 1}; }, "volume_shape");
  refused([](Json& j) { j["preprocess"]["volume_shape"] = "large"; }, "cannot be read");
  refused([](Json& j) { j = Json::array(); }, "cannot be read");
}

/// A folder with one shard and its index.
struct IndexedShard {
  IndexedShard() {
    write_shard(folder / "shard-00000.h5", {0, 1, 2});
    const ShardFacts facts = read_shard(folder / "shard-00000.h5");
    index.spec = facts.spec;
    index.findings = facts.findings;
    index.volumes_per_shard = 3;
    index.num_patients = 3;
    index.volumes_per_site = {{"süd", 3}};
    index.volumes_per_split = {{"test", 1}, {"train", 2}};
    index.shards = {index_shard(folder / "shard-00000.h5", facts)};
  }
  void expect_refused(const ShardIndex& shard, const std::string& word) const {
    expect_error<DataError>([&] { (void)read_indexed_shard(folder.path(), index, shard); },
                            ExitCode::kBadData, {shard.file_name, word, "triphase cache build"});
  }
  TemporaryFolder folder;
  CacheIndex index;
};

TEST(CacheIndex, WhatIsWrittenIsReadBack) {
  const IndexedShard cache;
  write_cache_index(cache.folder.path(), cache.index);
  const CacheIndex index = read_cache_index(cache.folder.path());
  EXPECT_EQ(index.spec.text(), cache.index.spec.text());
  EXPECT_EQ(index.findings, cache.index.findings);
  EXPECT_EQ(index.volumes_per_shard, 3);
  EXPECT_EQ(index.num_patients, 3);
  EXPECT_EQ(index.volumes_per_site, cache.index.volumes_per_site);
  EXPECT_EQ(index.volumes_per_split, cache.index.volumes_per_split);
  ASSERT_EQ(index.shards.size(), 1U);
  const ShardIndex& found = index.shards[0];
  const ShardIndex& wanted = cache.index.shards[0];
  EXPECT_EQ(found.file_name, "shard-00000.h5");
  EXPECT_EQ(found.bytes,
            static_cast<std::int64_t>(std::filesystem::file_size(cache.folder / "shard-00000.h5")));
  EXPECT_EQ(found.facts_hash, wanted.facts_hash);
  EXPECT_EQ(found.outside_hash, wanted.outside_hash);
  EXPECT_EQ(found.chunks, wanted.chunks);
  EXPECT_EQ(read_indexed_shard(cache.folder.path(), index, found).records.size(), 3U);
}

TEST(CacheIndex, AShardThatIsNotTheListedOneIsRefused) {
  const IndexedShard cache;
  ShardIndex shard = cache.index.shards[0];
  shard.bytes += 1;
  cache.expect_refused(shard, str("expected ", shard.bytes));
  shard = cache.index.shards[0];
  shard.outside_hash ^= 1;
  cache.expect_refused(shard, "outside its volumes");
  shard = cache.index.shards[0];
  shard.facts_hash ^= 1;
  cache.expect_refused(shard, "other studies");
  shard = cache.index.shards[0];
  std::swap(shard.chunks[0], shard.chunks[1]);
  cache.expect_refused(shard, "volumes elsewhere");
  shard = cache.index.shards[0];
  shard.file_name = "shard-00001.h5";
  cache.expect_refused(shard, "is missing");
  IndexedShard other;
  other.index.spec.max_text_tokens = 20;
  other.expect_refused(other.index.shards[0], "specification");
}

TEST(CacheIndex, ADamagedOneIsRefused) {
  const IndexedShard cache;
  expect_error<DataError>([&] { (void)read_cache_index(cache.folder.path()); },
                          ExitCode::kMissingInput, {"cache.json", "triphase cache build"});
  write_cache_index(cache.folder.path(), cache.index);
  const std::string text = read_text(cache.folder / "cache.json");
  const auto refused = [&](const std::string& content, const std::string& word) {
    write_text(cache.folder / "cache.json", content);
    expect_error<DataError>([&] { (void)read_cache_index(cache.folder.path()); },
                            ExitCode::kBadData, {"cache.json", word});
  };
  std::string changed = text;
  changed.replace(changed.find("\"patients\": 3"), 13, "\"patients\": 4");
  refused(changed, "changed or damaged");
  refused("{}", "damaged");
  refused(text.substr(0, text.size() / 2), "cache.json");
  const auto rehashed = [&](auto change) {  // by someone who mends the hash as well
    Json json = Json::parse(text);
    json.erase("index_hash");
    change(json);
    json["index_hash"] = hex64(xxh3(json.dump()));
    return json.dump();
  };
  refused(rehashed([](Json& j) { j["format"] = "other"; }), "another format");
  refused(rehashed([](Json& j) { j["shards"][0]["file"] = "../../etc/passwd"; }), "no shard");
  refused(rehashed([](Json& j) { j["shards"][0]["facts_hash"] = "12"; }), "no hash");
  refused(rehashed([](Json& j) { j["shards"][0]["bytes"] = "many"; }), "damaged");
  refused(rehashed([](Json& j) { j.erase("counts"); }), "counts");
}

TEST(ModificationTime, OfAFileThatIsNotThereIsAnError) {
  EXPECT_THROW((void)modification_time_ns("/nowhere/at/all"), IoError);
}

TEST(H5, ArraysAndTextsComeBackAndNothingElseIsTakenForThem) {
  const TemporaryFolder folder;
  const auto held = h5::lock();
  const std::vector<std::uint64_t> large{0, ~std::uint64_t{0}, 1};
  const std::vector<std::string> texts{"", "a", "Größe\n"};
  {
    h5::Id file = h5::create_file(folder / "x.h5");
    h5::write_array(file, "u64", large, {3});
    h5::write_array<std::int8_t>(file, "i8", {-1, 0, 1, 127, -128, 5}, {2, 3});
    h5::write_array<std::int32_t>(file, "i32", {1 << 30}, {1});
    h5::write_array<float>(file, "f32", {0.1F}, {1});
    h5::write_array<double>(file, "none", {}, {0, 4});
    h5::write_strings(file, "texts", texts);
    h5::write_attribute(file, "word", std::string("größer"));
    h5::write_attribute(file, "words", texts);
    h5::write_attribute(file, "number", 0.1);
    h5::write_attribute(file, "count", std::int64_t{1} << 60);
    file.close();
  }
  const h5::Id file = h5::open_file(folder / "x.h5");
  EXPECT_EQ(h5::read_array<std::uint64_t>(file, "u64", {3}), large);
  EXPECT_EQ(h5::read_array<std::int8_t>(file, "i8", {2, 3}),
            (std::vector<std::int8_t>{-1, 0, 1, 127, -128, 5}));
  EXPECT_EQ(h5::read_array<std::int32_t>(file, "i32", {1}).front(), 1 << 30);
  EXPECT_EQ(h5::read_array<float>(file, "f32", {1}).front(), 0.1F);
  EXPECT_TRUE(h5::read_array<double>(file, "none", {0, 4}).empty());
  EXPECT_EQ(h5::shape_of(h5::open_dataset(file, "i8"), 2), (std::vector<std::int64_t>{2, 3}));
  EXPECT_EQ(h5::read_strings(file, "texts", 3), texts);
  EXPECT_EQ(h5::read_text_attribute(file, "word"), "größer");
  EXPECT_EQ(h5::read_strings_attribute(file, "words"), texts);
  EXPECT_EQ(h5::read_double_attribute(file, "number"), 0.1);
  EXPECT_EQ(h5::read_int_attribute(file, "count"), std::int64_t{1} << 60);

  const auto refused = [](auto action, const std::string& word) {
    expect_error<DataError>(action, ExitCode::kBadData, {word});
  };
  refused([&] { (void)h5::read_array<std::uint64_t>(file, "u64", {4}); }, "another shape");
  refused([&] { (void)h5::read_array<std::int64_t>(file, "u64", {3}); }, "another number type");
  refused([&] { (void)h5::read_array<double>(file, "f32", {1}); }, "another number type");
  refused([&] { (void)h5::read_array<std::int8_t>(file, "i8", {6}); }, "2 axes, expected 1");
  refused([&] { (void)h5::read_strings(file, "texts", 2); }, "another length");
  refused([&] { (void)h5::read_strings(file, "u64", 3); }, "strings of variable length");
  refused([&] { (void)h5::read_text_attribute(file, "words"); }, "not one text");
  refused([&] { (void)h5::read_text_attribute(file, "number"); }, "strings of variable length");
  refused([&] { (void)h5::read_double_attribute(file, "absent"); }, "H5Aopen");
  refused([&] { (void)h5::open_dataset(file, "absent"); }, "H5Dopen2");
}

TEST(H5, FilesThatAreNoneAndFoldersThatAreNotThereAreTheirOwnErrors) {
  const TemporaryFolder folder;
  write_text(folder / "x.h5", "not HDF5 at all");
  const auto held = h5::lock();
  expect_error<DataError>([&] { (void)h5::open_file(folder / "x.h5"); }, ExitCode::kBadData,
                          {"H5Fopen"});
  EXPECT_THROW((void)h5::create_file(folder / "none" / "x.h5"), IoError);
}

TEST(H5, HalfIsIeeesOwn) {
  const auto held = h5::lock();
  const h5::Id half = h5::half_type();
  ASSERT_EQ(H5Tget_size(half.get()), 2U);
  for (const int code : {0x3C00, 0xC000, 0x0001, 0x7BFF, 0x0000, 0x3555}) {
    const auto bits = static_cast<std::uint16_t>(code);
    std::array<std::byte, 4> value{};
    std::memcpy(value.data(), &bits, 2);
    ASSERT_GE(H5Tconvert(half.get(), H5T_NATIVE_FLOAT, 1, value.data(), nullptr, H5P_DEFAULT), 0);
    float found = 0;
    std::memcpy(&found, value.data(), 4);
    EXPECT_EQ(found, float_from_half(bits)) << bits;
  }
}

TEST(LibraryVersions, NameTheLibraryThatIsLoaded) {
  unsigned major = 0, minor = 0, release = 0;
  H5get_libversion(&major, &minor, &release);
  EXPECT_EQ(hdf5_version(), str(major, ".", minor, ".", release));
}

TEST(Embeddings, RowsNamesAndAttributesComeBack) {
  const TemporaryFolder folder;
  EmbeddingFile file{.ids = {"a", "ö"},
                     .image = at::arange(6, at::kFloat).view({2, 3}),
                     .text = -at::arange(6, at::kFloat).view({2, 3}),
                     .image_features = at::zeros({2, 1}),
                     .attributes = {{"checkpoint", "runs/a"}}};
  write_embeddings(folder / "new" / "e.h5", file);
  {
    const auto held = h5::lock();
    const h5::Id read = h5::open_file(folder / "new" / "e.h5");
    EXPECT_EQ(h5::read_strings(read, "id", 2), file.ids);
    EXPECT_EQ(h5::read_array<float>(read, "image", {2, 3}), (std::vector<float>{0, 1, 2, 3, 4, 5}));
    EXPECT_EQ(h5::read_array<float>(read, "text", {2, 3})[5], -5);
    EXPECT_EQ(h5::read_array<float>(read, "image_features", {2, 1}).size(), 2U);
    EXPECT_EQ(h5::read_text_attribute(read, "checkpoint"), "runs/a");
  }
  for (at::Tensor EmbeddingFile::*rows :
       {&EmbeddingFile::image, &EmbeddingFile::text, &EmbeddingFile::image_features}) {
    for (const at::Tensor& bad : {at::zeros({3, 3}), at::zeros({2}), at::zeros({2, 3}, at::kDouble),
                                  at::zeros({3, 2}).t()}) {
      EmbeddingFile wrong = file;
      wrong.*rows = bad;
      EXPECT_THROW(write_embeddings(folder / "bad.h5", wrong), InternalError);
    }
  }
  EXPECT_FALSE(std::filesystem::exists(folder / "bad.h5"));
  const auto left = std::filesystem::directory_iterator(folder / "new");
  EXPECT_EQ(std::distance(begin(left), end(left)), 1) << "a temporary file was left";
}

}  // namespace
}  // namespace triphase::data
