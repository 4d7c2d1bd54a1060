// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace triphase::test {

/// While it lives, the files of this process can grow by so many bytes and no more: write() and pwrite() then
/// write what fits, and afterwards fail with ENOSPC, as on a disk that is full. Standard output and error are
/// left alone. One at a time.
class FullDisk {
 public:
  explicit FullDisk(std::int64_t bytes_left);
  ~FullDisk();
  FullDisk(const FullDisk&) = delete;
  FullDisk& operator=(const FullDisk&) = delete;
  [[nodiscard]] std::int64_t num_written() const;  ///< since it was made
};

}  // namespace triphase::test
