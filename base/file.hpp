// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/error.hpp"

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

namespace triphase {

/// IoError for the current errno: 73 when `creating` an output was refused, 77 for permission, 74
/// for I/O and a full disk, 66 when an input is missing. `what` is a phrase such as "cannot write
/// 'a.h5'".
[[nodiscard]] IoError io_error(std::string_view what, int errno_value, bool creating = false);

/// Reads a whole file of at most `max_bytes` (checked before memory is taken).
/// @throws DataError (66) when it is not there, (65) when it is larger; IoError otherwise
[[nodiscard]] std::string read_file(const std::filesystem::path& path, std::int64_t max_bytes);

/// Writes to a temporary name in the same folder, fsyncs, renames over `path`, fsyncs the folder.
/// A reader sees the old content or the new one, never a part.
/// @throws IoError; the temporary file is gone then
void write_file_atomically(const std::filesystem::path& path, std::string_view bytes);

/// Flushes a file's or a folder's content to the disk. @throws IoError
void fsync_path(const std::filesystem::path& path);

/// Makes the folder and its parents; fine when it is there already.
/// @throws IoError (73, 77 or 74) naming the folder, also when it is there and cannot be written
void make_output_directory(const std::filesystem::path& path);

/// A file mapped read-only into memory. Movable; unmaps at the end of its life.
class MappedFile {
 public:
  /// @throws DataError (66) when it is not there; IoError
  explicit MappedFile(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  [[nodiscard]] std::span<const std::byte> bytes() const noexcept { return {data_, size_}; }
  /// Gives back the memory in which a part of the file lies, for what has been read and is not needed
  /// soon: the bytes stay valid and are fetched from the file again when they are asked for.
  void release(std::span<const std::byte> part) const noexcept;

 private:
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace triphase
