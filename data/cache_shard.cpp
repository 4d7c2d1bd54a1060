// SPDX-License-Identifier: Apache-2.0
#include "data/cache_shard.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstdio>
#include <regex>

#include "base/error.hpp"
#include "base/hash.hpp"
#include "data/chunk_compression.hpp"
#include "data/h5.hpp"

namespace triphase::data {
namespace {

constexpr const char* kFormat = "triphase-cache";

void hash_number(StreamingHash& hash, std::uint64_t value) {
  hash.update(std::as_bytes(std::span(&value, 1)));
}
void hash_text(StreamingHash& hash, const std::string& text) {
  hash_number(hash, text.size());
  hash.update(text);
}

std::array<double, 5> numbers_of(const ScanCorrection& c) {
  return {c.hu_slope, c.hu_intercept, c.spacing_mm[0], c.spacing_mm[1], c.spacing_mm[2]};
}

void hash_record(StreamingHash& hash, const ShardRecord& record) {
  for (const std::string* text : {&record.entry.id, &record.entry.patient_id, &record.entry.site,
                                  &record.entry.split, &record.report})
    hash_text(hash, *text);
  hash_number(hash, record.entry.tokens.size());
  hash.update(std::as_bytes(std::span(record.entry.tokens)));
  hash.update(std::as_bytes(std::span(record.entry.labels)));
  hash.update(std::as_bytes(std::span(record.entry.affine)));
  hash_number(hash, record.source_hash);
  hash_number(hash, static_cast<std::uint64_t>(record.source_bytes));
  hash_number(hash, static_cast<std::uint64_t>(record.source_mtime_ns));
  hash_number(hash, record.chunk_hash);
  // What most caches do not have is hashed where it is, so that theirs stays as it was.
  if (!record.entry.report_group.empty()) {
    hash_text(hash, "report_group");
    hash_text(hash, record.entry.report_group);
  }
  if (!record.correction.is_none()) {
    hash_text(hash, "correction");
    for (const double number : numbers_of(record.correction))
      hash_number(hash, std::bit_cast<std::uint64_t>(number));
  }
}

/// What the type of /volumes must be.
bool has_type(const h5::Id& dataset, Storage storage) {
  const h5::Id type(H5_TRY(H5Dget_type(dataset.get())), H5Tclose);
  const h5::Id half = h5::half_type();
  const hid_t wanted = storage == Storage::kUint16    ? H5T_STD_U16LE
                       : storage == Storage::kFloat32 ? H5T_IEEE_F32LE
                                                      : half.get();
  return H5_TRY(H5Tequal(type.get(), wanted)) > 0;
}

/// One chunk a volume, and the filters of the specification's compression.
void check_layout(const h5::Id& volumes, const std::vector<std::int64_t>& shape,
                  Compression compression) {
  const h5::Id creation(H5_TRY(H5Dget_create_plist(volumes.get())), H5Pclose);
  std::array<hsize_t, 4> chunk{};
  bool is_right = H5_TRY(H5Pget_layout(creation.get())) == H5D_CHUNKED &&
                  H5_TRY(H5Pget_chunk(creation.get(), 4, chunk.data())) == 4 && chunk[0] == 1;
  for (std::size_t i = 1; i < 4; ++i)
    is_right = is_right && static_cast<std::int64_t>(chunk[i]) == shape[i];
  std::vector<H5Z_filter_t> filters;
  for (int i = 0; i < H5_TRY(H5Pget_nfilters(creation.get())); ++i) {
    unsigned flags = 0;
    std::size_t num_values = 0;
    filters.push_back(H5_TRY(H5Pget_filter2(creation.get(), static_cast<unsigned>(i), &flags,
                                            &num_values, nullptr, 0, nullptr, nullptr)));
  }
  const std::vector<H5Z_filter_t> wanted =
      compression == Compression::kZstd
          ? std::vector<H5Z_filter_t>{H5Z_FILTER_SHUFFLE, kZstdFilter}
          : std::vector<H5Z_filter_t>{};
  TRIPHASE_CHECK(DataError, is_right && filters == wanted,
                 "its volumes are not stored one chunk each, as the specification says");
}

/// Checks /volumes before anything is read from it, and finds where its chunks are.
std::vector<ChunkPlace> locate_chunks(const h5::Id& file, const ShardFacts& facts,
                                      std::int64_t file_bytes) {
  const h5::Id volumes = h5::open_dataset(file, "volumes");
  const std::vector<std::int64_t> shape = h5::shape_of(volumes, 4);
  const Shape3& grid = facts.spec.preprocess.volume_shape;
  TRIPHASE_CHECK(DataError, shape[1] == grid[0] && shape[2] == grid[1] && shape[3] == grid[2],
                 "its volumes are not of the specification's shape");
  const bool is_plain = facts.spec.compression == Compression::kNone;
  const std::int64_t fewest_bytes = is_plain ? volume_bytes(facts.spec) : 1;
  TRIPHASE_CHECK(DataError, shape[0] >= 1 && shape[0] <= file_bytes / fewest_bytes,
                 "it declares ", shape[0], " volumes, more than its ", file_bytes,
                 " bytes can hold");
  TRIPHASE_CHECK(DataError, has_type(volumes, facts.spec.preprocess.storage),
                 "its volumes are not of the specification's type");
  const VoxelCodec codec = codec_for(facts.spec.preprocess);
  TRIPHASE_CHECK(DataError,
                 h5::read_double_attribute(volumes, "scale") == codec.scale &&
                     h5::read_double_attribute(volumes, "offset") == codec.offset,
                 "its volumes have another scale than the specification says");

  check_layout(volumes, shape, facts.spec.compression);
  std::vector<ChunkPlace> chunks;
  for (std::int64_t i = 0; i < shape[0]; ++i) {
    const std::array<hsize_t, 4> coordinate{static_cast<hsize_t>(i), 0, 0, 0};
    unsigned filter_mask = 0;
    haddr_t address = HADDR_UNDEF;
    hsize_t bytes = 0;
    H5_TRY(H5Dget_chunk_info_by_coord(volumes.get(), coordinate.data(), &filter_mask, &address,
                                      &bytes));
    const auto length = static_cast<std::int64_t>(std::min<hsize_t>(bytes, hsize_t{1} << 62));
    TRIPHASE_CHECK(DataError,
                   address != HADDR_UNDEF && filter_mask == 0 && length <= file_bytes &&
                       can_be_chunk_size(facts.spec, length) &&
                       address <= static_cast<haddr_t>(file_bytes - length),
                   "its volume ", i, " is not inside the file");
    chunks.push_back({static_cast<std::int64_t>(address), length});
  }
  return chunks;
}

/// Rows of one number type, spread over the records.
void read_numbers(const h5::Id& file, ShardFacts& facts) {
  const auto n = static_cast<std::int64_t>(facts.records.size());
  const auto num_findings = static_cast<std::int64_t>(facts.findings.size());
  const std::int64_t width = h5::shape_of(h5::open_dataset(file, "tokens"), 2)[1];
  TRIPHASE_CHECK(DataError, width <= facts.spec.max_text_tokens,
                 "its token rows are longer than the specification allows");
  const auto counts = h5::read_array<std::int32_t>(file, "token_count", {n});
  const auto tokens = h5::read_array<std::int32_t>(file, "tokens", {n, width});
  const auto labels = h5::read_array<std::int8_t>(file, "labels", {n, num_findings});
  const auto affines = h5::read_array<double>(file, "affine", {n, 4, 4});
  const auto source_hashes = h5::read_array<std::uint64_t>(file, "source_hash", {n});
  const auto source_bytes = h5::read_array<std::int64_t>(file, "source_bytes", {n});
  const auto source_mtimes = h5::read_array<std::int64_t>(file, "source_mtime_ns", {n});
  const auto chunk_hashes = h5::read_array<std::uint64_t>(file, "chunk_hash", {n});
  for (std::int64_t i = 0; i < n; ++i) {
    const auto at = static_cast<std::size_t>(i);
    ShardRecord& record = facts.records[at];
    TRIPHASE_CHECK(DataError, counts[at] >= 0 && counts[at] <= width, "its report ", i, " has ",
                   counts[at], " tokens in a row of ", width);
    record.entry.tokens.assign(tokens.begin() + i * width, tokens.begin() + i * width + counts[at]);
    record.entry.labels.assign(labels.begin() + i * num_findings,
                               labels.begin() + (i + 1) * num_findings);
    for (std::size_t cell = 0; cell < 16; ++cell)
      record.entry.affine[cell / 4][cell % 4] = affines[16 * at + cell];
    record.source_hash = source_hashes[at];
    record.source_bytes = source_bytes[at];
    record.source_mtime_ns = source_mtimes[at];
    record.chunk_hash = chunk_hashes[at];
  }
  if (!h5::has_dataset(file, "correction")) return;
  const auto corrections = h5::read_array<double>(file, "correction", {n, 5});
  for (std::size_t i = 0; i < facts.records.size(); ++i) {
    const double* row = corrections.data() + 5 * i;
    facts.records[i].correction = {row[0], row[1], {row[2], row[3], row[4]}};
  }
}

void read_texts(const h5::Id& file, ShardFacts& facts) {
  const auto n = static_cast<std::int64_t>(facts.records.size());
  const auto fill = [&](const std::string& name, auto&& field) {
    std::vector<std::string> values = h5::read_strings(file, name, n);
    for (std::size_t i = 0; i < values.size(); ++i) field(facts.records[i]) = std::move(values[i]);
  };
  fill("id", [](ShardRecord& r) -> std::string& { return r.entry.id; });
  fill("patient_id", [](ShardRecord& r) -> std::string& { return r.entry.patient_id; });
  fill("site", [](ShardRecord& r) -> std::string& { return r.entry.site; });
  fill("split", [](ShardRecord& r) -> std::string& { return r.entry.split; });
  fill("report", [](ShardRecord& r) -> std::string& { return r.report; });
  if (h5::has_dataset(file, "report_group"))
    fill("report_group", [](ShardRecord& r) -> std::string& { return r.entry.report_group; });
}

ShardFacts read_facts(const std::filesystem::path& path) {
  const std::int64_t file_bytes = ShardBytes(path).size();
  const auto held = h5::lock();
  const h5::Id file = h5::open_file(path);
  TRIPHASE_CHECK(DataError, h5::read_text_attribute(file, "format") == kFormat,
                 "it is not a Triphase cache");
  ShardFacts facts;
  facts.spec = parse_cache_spec(h5::read_text_attribute(file, "spec"));
  TRIPHASE_CHECK(DataError, h5::read_text_attribute(file, "spec_hash") == facts.spec.hash(),
                 "its specification does not have the hash it should have");
  facts.volumes_per_shard = h5::read_int_attribute(file, "volumes_per_shard");
  facts.findings = h5::read_strings_attribute(h5::open_dataset(file, "labels"), "findings");
  facts.chunks = locate_chunks(file, facts, file_bytes);
  facts.records.resize(facts.chunks.size());
  read_texts(file, facts);
  read_numbers(file, facts);
  TRIPHASE_CHECK(DataError, h5::read_text_attribute(file, "facts_hash") == hex64(facts.hash()),
                 "its reports, labels or other facts do not have the hash they should have");
  return facts;
}

}  // namespace

std::uint64_t ShardFacts::hash() const {
  StreamingHash hash;
  hash_text(hash, spec.text());
  hash_number(hash, findings.size());
  for (const std::string& finding : findings) hash_text(hash, finding);
  hash_number(hash, static_cast<std::uint64_t>(volumes_per_shard));
  for (const ShardRecord& record : records) hash_record(hash, record);
  return hash.digest();
}

std::int64_t volume_bytes(const CacheSpec& spec) {
  const Shape3& grid = spec.preprocess.volume_shape;
  return grid[0] * grid[1] * grid[2] * bytes_per_voxel(spec.preprocess.storage);
}

bool can_be_chunk_size(const CacheSpec& spec, std::int64_t bytes) {
  if (spec.compression == Compression::kNone) return bytes == volume_bytes(spec);
  return bytes >= 1 && bytes <= compress_bound(volume_bytes(spec));
}

std::string shard_name(std::int64_t index) {
  const std::string digits = std::to_string(index);
  return str("shard-", std::string(digits.size() < 5 ? 5 - digits.size() : 0, '0'), digits, ".h5");
}

bool is_shard_name(const std::string& name) {
  static const std::regex pattern(R"(shard-\d{5,}\.h5(\.part)?)");
  return std::regex_match(name, pattern);
}

ShardFacts read_shard(const std::filesystem::path& path) {
  try {
    return read_facts(path);
  } catch (Error& error) {
    error.add_context(str("while reading cache shard '", path.string(),
                          "'. A damaged shard is rebuilt by triphase cache build."));
    throw;
  }
}

}  // namespace triphase::data
