// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cerrno>
#include <condition_variable>
#include <map>
#include <optional>
#include <system_error>
#include <utility>

#include "base/error.hpp"
#include "base/file.hpp"
#include "base/hash.hpp"
#include "data/cache_shard.hpp"
#include "data/chunk_compression.hpp"
#include "data/h5.hpp"

namespace triphase::data {
namespace {

namespace fs = std::filesystem;

/// One chunk per volume, placed when it is written, and never filled.
h5::Id create_volumes(const h5::Id& file, const CacheSpec& spec, std::int64_t num_volumes) {
  const Shape3& grid = spec.preprocess.volume_shape;
  const std::array<hsize_t, 4> shape{static_cast<hsize_t>(num_volumes),
                                     static_cast<hsize_t>(grid[0]), static_cast<hsize_t>(grid[1]),
                                     static_cast<hsize_t>(grid[2])};
  std::array<hsize_t, 4> chunk = shape;
  chunk[0] = 1;
  const h5::Id space(H5_TRY(H5Screate_simple(4, shape.data(), nullptr)), H5Sclose);
  const h5::Id creation(H5_TRY(H5Pcreate(H5P_DATASET_CREATE)), H5Pclose);
  H5_TRY(H5Pset_chunk(creation.get(), 4, chunk.data()));
  H5_TRY(H5Pset_alloc_time(creation.get(), H5D_ALLOC_TIME_INCR));
  H5_TRY(H5Pset_fill_time(creation.get(), H5D_FILL_TIME_NEVER));
  H5_TRY(H5Pset_obj_track_times(creation.get(), false));
  if (spec.compression == Compression::kZstd) {
    register_zstd_filter();
    const unsigned level = kZstdLevel;
    H5_TRY(H5Pset_shuffle(creation.get()));
    H5_TRY(H5Pset_filter(creation.get(), kZstdFilter, H5Z_FLAG_OPTIONAL, 1, &level));
  }
  const h5::Id half = h5::half_type();
  const Storage storage = spec.preprocess.storage;
  const hid_t type = storage == Storage::kUint16    ? H5T_STD_U16LE
                     : storage == Storage::kFloat32 ? H5T_IEEE_F32LE
                                                    : half.get();
  h5::Id volumes(H5_TRY(H5Dcreate2(file.get(), "volumes", type, space.get(), H5P_DEFAULT,
                                   creation.get(), H5P_DEFAULT)),
                 H5Dclose);
  const VoxelCodec codec = codec_for(spec.preprocess);
  h5::write_attribute(volumes, "scale", codec.scale);
  h5::write_attribute(volumes, "offset", codec.offset);
  return volumes;
}

template <class Field>
void write_texts(const h5::Id& file, const std::string& name, const ShardFacts& facts,
                 Field field) {
  std::vector<std::string> values;
  for (const ShardRecord& record : facts.records) values.push_back(field(record));
  h5::write_strings(file, name, values);
}

template <class T, class Field>
void write_column(const h5::Id& file, const std::string& name, const ShardFacts& facts,
                  Field field) {
  std::vector<T> values;
  for (const ShardRecord& record : facts.records) values.push_back(field(record));
  h5::write_array(file, name, values, {static_cast<std::int64_t>(values.size())});
}

/// Rows as long as the longest report, filled up with the padding token; /token_count says how far
/// each goes.
void write_tokens(const h5::Id& file, const ShardFacts& facts) {
  std::size_t width = 0;
  for (const ShardRecord& record : facts.records)
    width = std::max(width, record.entry.tokens.size());
  std::vector<std::int32_t> rows(facts.records.size() * width,
                                 static_cast<std::int32_t>(facts.pad_id));
  for (std::size_t i = 0; i < facts.records.size(); ++i)
    std::transform(facts.records[i].entry.tokens.begin(), facts.records[i].entry.tokens.end(),
                   rows.begin() + static_cast<std::ptrdiff_t>(i * width),
                   [](std::int64_t token) { return static_cast<std::int32_t>(token); });
  h5::write_array(
      file, "tokens", rows,
      {static_cast<std::int64_t>(facts.records.size()), static_cast<std::int64_t>(width)});
  write_column<std::int32_t>(file, "token_count", facts, [](const ShardRecord& r) {
    return static_cast<std::int32_t>(r.entry.tokens.size());
  });
}

void write_labels_and_affines(const h5::Id& file, const ShardFacts& facts) {
  std::vector<std::int8_t> labels;
  std::vector<double> affines;
  for (const ShardRecord& record : facts.records) {
    labels.insert(labels.end(), record.entry.labels.begin(), record.entry.labels.end());
    for (const auto& row : record.entry.affine)
      affines.insert(affines.end(), row.begin(), row.end());
  }
  const auto n = static_cast<std::int64_t>(facts.records.size());
  h5::write_array(file, "labels", labels, {n, static_cast<std::int64_t>(facts.findings.size())});
  h5::write_attribute(h5::open_dataset(file, "labels"), "findings", facts.findings);
  h5::write_array(file, "affine", affines, {n, 4, 4});
}

/// Left out where no record has any.
void write_what_few_have(const h5::Id& file, const ShardFacts& facts) {
  const auto any = [&](auto&& has) {
    return std::any_of(facts.records.begin(), facts.records.end(), has);
  };
  if (any([](const ShardRecord& r) { return !r.entry.report_group.empty(); }))
    write_texts(file, "report_group", facts,
                [](const ShardRecord& r) { return r.entry.report_group; });
  if (!any([](const ShardRecord& r) { return !r.correction.is_none(); })) return;
  std::vector<double> rows;
  for (const ShardRecord& record : facts.records) {
    const ScanCorrection& c = record.correction;
    rows.insert(rows.end(), {c.hu_slope, c.hu_intercept});
    rows.insert(rows.end(), c.spacing_mm.begin(), c.spacing_mm.end());
  }
  h5::write_array(file, "correction", rows, {static_cast<std::int64_t>(facts.records.size()), 5});
}

void write_facts(const h5::Id& file, const ShardFacts& facts) {
  h5::write_attribute(file, "format", std::string("triphase-cache"));
  h5::write_attribute(file, "spec", facts.spec.text());
  h5::write_attribute(file, "spec_hash", facts.spec.hash());
  h5::write_attribute(file, "volumes_per_shard", facts.volumes_per_shard);
  h5::write_attribute(file, "facts_hash", hex64(facts.hash()));
  write_texts(file, "id", facts, [](const ShardRecord& r) { return r.entry.id; });
  write_texts(file, "patient_id", facts, [](const ShardRecord& r) { return r.entry.patient_id; });
  write_texts(file, "site", facts, [](const ShardRecord& r) { return r.entry.site; });
  write_texts(file, "split", facts, [](const ShardRecord& r) { return r.entry.split; });
  write_texts(file, "report", facts, [](const ShardRecord& r) { return r.report; });
  write_tokens(file, facts);
  write_labels_and_affines(file, facts);
  write_column<std::uint64_t>(file, "source_hash", facts,
                              [](const ShardRecord& r) { return r.source_hash; });
  write_column<std::int64_t>(file, "source_bytes", facts,
                             [](const ShardRecord& r) { return r.source_bytes; });
  write_column<std::int64_t>(file, "source_mtime_ns", facts,
                             [](const ShardRecord& r) { return r.source_mtime_ns; });
  write_column<std::uint64_t>(file, "chunk_hash", facts,
                              [](const ShardRecord& r) { return r.chunk_hash; });
  write_what_few_have(file, facts);
}

}  // namespace

struct ShardWriter::State {
  fs::path path;
  fs::path temporary;
  std::int64_t num_volumes = 0;
  std::size_t max_waiting = 0;
  h5::Id file;     ///< these two under h5::lock()
  h5::Id volumes;
  bool finished = false;

  std::mutex mutex;  ///< guards what follows
  std::condition_variable changed;
  std::map<std::int64_t, std::optional<std::vector<std::byte>>> waiting;  ///< nothing: skipped
  std::int64_t next_index = 0;
  std::int64_t num_rows = 0;
  bool is_given_up = false;

  State() = default;
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  ~State();  // here, so that a constructor of ShardWriter that throws leaves no file
  void add(std::int64_t index, std::optional<std::vector<std::byte>> bytes);
  void write_row(const std::vector<std::byte>& bytes);
};

ShardWriter::State::~State() {
  const auto held = h5::lock();
  volumes.reset();
  file.reset();
  std::error_code ignored;
  if (!finished) fs::remove(temporary, ignored);
}

void ShardWriter::State::write_row(const std::vector<std::byte>& bytes) {
  const std::array<hsize_t, 4> coordinate{static_cast<hsize_t>(num_rows), 0, 0, 0};
  const auto held = h5::lock();
  H5_TRY(H5Dwrite_chunk(volumes.get(), H5P_DEFAULT, 0, coordinate.data(), bytes.size(),
                        bytes.data()));
  ++num_rows;
}

void ShardWriter::State::add(std::int64_t index, std::optional<std::vector<std::byte>> bytes) {
  std::unique_lock lock(mutex);
  changed.wait(lock, [&] {
    return is_given_up || index == next_index || waiting.size() < max_waiting;
  });
  if (is_given_up) return;
  waiting.emplace(index, std::move(bytes));
  for (auto next = waiting.find(next_index); next != waiting.end();
       next = waiting.find(next_index)) {
    if (next->second) write_row(*next->second);
    waiting.erase(next);
    ++next_index;
  }
  lock.unlock();
  changed.notify_all();
}

ShardWriter::ShardWriter(const fs::path& path, const CacheSpec& spec, std::int64_t num_volumes,
                         std::size_t max_waiting)
    : state_(std::make_unique<State>()) {
  state_->path = path;
  state_->temporary = path.string() + ".part";
  state_->num_volumes = num_volumes;
  state_->max_waiting = max_waiting;
  const auto held = h5::lock();
  state_->file = h5::create_file(state_->temporary);
  state_->volumes = create_volumes(state_->file, spec, num_volumes);
}

ShardWriter::~ShardWriter() = default;

void ShardWriter::write_volume(std::int64_t index, std::vector<std::byte> bytes) {
  state_->add(index, std::move(bytes));
}

void ShardWriter::skip_volume(std::int64_t index) { state_->add(index, std::nullopt); }

void ShardWriter::give_up() {
  {
    const std::scoped_lock lock(state_->mutex);
    state_->is_given_up = true;
  }
  state_->changed.notify_all();
}

void ShardWriter::finish(const ShardFacts& facts) {
  TRIPHASE_CHECK(InternalError,
                 !state_->is_given_up && state_->next_index == state_->num_volumes &&
                     std::cmp_equal(state_->num_rows, facts.records.size()) && state_->num_rows > 0,
                 "a shard of ", state_->num_rows, " volumes and ", facts.records.size(),
                 " records cannot be finished");
  {
    const auto held = h5::lock();
    const h5::Id space(H5_TRY(H5Dget_space(state_->volumes.get())), H5Sclose);
    std::array<hsize_t, 4> shape{};
    H5_TRY(H5Sget_simple_extent_dims(space.get(), shape.data(), nullptr));
    shape[0] = static_cast<hsize_t>(state_->num_rows);
    H5_TRY(H5Dset_extent(state_->volumes.get(), shape.data()));
    write_facts(state_->file, facts);
    state_->volumes.close();
    state_->file.close();
  }
  fsync_path(state_->temporary);
  if (::rename(state_->temporary.c_str(), state_->path.c_str()) != 0)
    throw io_error(str("cannot write '", state_->path.string(), "'"), errno, true);
  state_->finished = true;
  fsync_path(state_->path.parent_path());
}

}  // namespace triphase::data
