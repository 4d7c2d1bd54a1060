// SPDX-License-Identifier: Apache-2.0
#include "data/staging.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <optional>
#include <system_error>
#include <vector>

#include "base/error.hpp"
#include "base/file.hpp"
#include "base/hash.hpp"
#include "data/cache_index.hpp"
#include "data/folder_lock.hpp"

namespace triphase::data {
namespace {

namespace fs = std::filesystem;
constexpr std::int64_t kPieceBytes = 4 << 20;

/// An error of the disk that is copied to, which is no reason to stop.
struct CannotStage {
  std::string why;
};

void write_piece(int descriptor, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t count = ::write(descriptor, bytes.data(), bytes.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) throw CannotStage{std::generic_category().message(errno)};
    bytes = bytes.subspan(static_cast<std::size_t>(count));
  }
}

std::span<std::byte> read_piece(const ShardBytes& file, std::int64_t offset,
                                std::vector<std::byte>& buffer) {
  const auto count = std::min(kPieceBytes, file.size() - offset);
  const std::span<std::byte> piece(buffer.data(), static_cast<std::size_t>(count));
  file.read_at(offset, piece);
  return piece;
}

/// @return xxh3 of what was written
std::uint64_t copy_bytes(const ShardBytes& source, const fs::path& to,
                         const std::function<void()>& after_piece) {
  const Descriptor out(::open(to.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666));
  if (out.get() < 0) throw CannotStage{std::generic_category().message(errno)};
  std::vector<std::byte> buffer(kPieceBytes);
  StreamingHash hash;
  for (std::int64_t at = 0; at < source.size(); at += kPieceBytes) {
    const std::span<const std::byte> piece = read_piece(source, at, buffer);
    hash.update(piece);
    write_piece(out.get(), piece);
    after_piece();
  }
  if (::fsync(out.get()) != 0) throw CannotStage{std::generic_category().message(errno)};
  // What is read back then comes from the disk, as far as the system lets us ask for that.
  static_cast<void>(::posix_fadvise(out.get(), 0, 0, POSIX_FADV_DONTNEED));
  return hash.digest();
}

std::uint64_t hash_of(const fs::path& path, const std::function<void()>& after_piece) {
  const ShardBytes file(path);
  std::vector<std::byte> buffer(kPieceBytes);
  StreamingHash hash;
  for (std::int64_t at = 0; at < file.size(); at += kPieceBytes) {
    hash.update(std::span<const std::byte>(read_piece(file, at, buffer)));
    after_piece();
  }
  return hash.digest();
}

void stage_shard(const fs::path& cache, const fs::path& folder, const ShardIndex& shard,
                 const std::function<void()>& after_piece) {
  constexpr std::uintmax_t kKeepFree = 64 << 20;  // for whoever else writes there
  std::error_code error;
  const fs::space_info space = fs::space(folder, error);
  if (!error && space.available < static_cast<std::uintmax_t>(shard.bytes) + kKeepFree)
    throw CannotStage{str("there is no room for ", shard.bytes, " bytes")};
  check_outside(cache, shard);
  const fs::path temporary = folder / (shard.file_name + ".part");
  const std::uint64_t wanted = copy_bytes(ShardBytes(cache / shard.file_name), temporary, after_piece);
  std::optional<std::uint64_t> found;
  try {
    found = hash_of(temporary, after_piece);
  } catch (const DataError&) {  // the copy's, which is shorter than it should be or gone
  } catch (const IoError&) {
  }
  if (found != wanted) throw CannotStage{"it gives back other bytes than were written"};
  fs::rename(temporary, folder / shard.file_name, error);
  if (error) throw CannotStage{error.message()};
}

bool is_staged(const fs::path& folder, const ShardIndex& shard) {
  try {
    check_outside(folder, shard);
    return true;
  } catch (const Error&) {
    return false;
  }
}

void delete_parts(const fs::path& folder) {
  std::error_code ignored;
  std::vector<fs::path> parts;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, ignored))
    if (entry.path().extension() == ".part") parts.push_back(entry.path());
  for (const fs::path& part : parts) fs::remove(part, ignored);
}

void copy_missing(const fs::path& cache, const CacheIndex& index,
                  const std::function<void()>& after_piece, StagingReport& report) {
  std::optional<FolderLock> lock;
  try {
    make_output_directory(report.folder);
    lock.emplace(report.folder, FolderLock::Role::kLead);
  } catch (const IoError& error) {
    throw CannotStage{error.message()};
  }
  delete_parts(report.folder);
  for (const ShardIndex& shard : index.shards) {
    if (!is_staged(report.folder, shard)) {
      stage_shard(cache, report.folder, shard, after_piece);
      ++report.num_copied;
      report.bytes_copied += shard.bytes;
    }
    after_piece();
  }
}

}  // namespace

fs::path staging_folder(const fs::path& cache, const fs::path& staging_dir) {
  static_cast<void>(read_cache_index(cache));  // refuses one that is damaged
  return staging_dir / ("triphase-" + hex64(hash_file(cache / kCacheIndexName)));
}

StagingReport stage_shards(const fs::path& cache, const fs::path& staging_dir,
                           const std::function<void()>& after_piece) {
  const CacheIndex index = read_cache_index(cache);
  StagingReport report;
  report.folder = staging_folder(cache, staging_dir);
  report.num_shards = static_cast<std::int64_t>(index.shards.size());
  try {
    copy_missing(cache, index, after_piece, report);
  } catch (const CannotStage& reason) {
    report.warning = str("'", report.folder.string(), "': ", reason.why);
    delete_parts(report.folder);
  }
  std::error_code ignored;
  for (const ShardIndex& shard : index.shards)
    report.num_staged += fs::exists(report.folder / shard.file_name, ignored) ? 1 : 0;
  return report;
}

}  // namespace triphase::data
