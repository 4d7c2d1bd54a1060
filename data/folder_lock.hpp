// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>

#include "base/descriptor.hpp"

namespace triphase::data {

// Note [Build lock]
// A build holds a lock of the operating system on `.build.lock` in the cache's folder: rank 0 (kLead)
// alone, and every other rank (kFollow) beside the others, until the build's end. The system takes
// it back when a process dies, however it dies; so a lead waits for those that outlive a killed
// build. The file's text says who holds it. Works over NFS where its locks do (NFS 4, or lockd); a
// file system without locks is told by is_effective(), and then nothing keeps two builds apart.
class FolderLock {
 public:
  enum class Role { kLead, kFollow };
  /// Followers come after the lead has its lock. Purely local.
  /// @throws IoError (73) naming host and process of the other build when it does not end within
  ///         patience_seconds; IoError otherwise
  FolderLock(const std::filesystem::path& folder, Role role, double patience_seconds = 5);
  /// The lead deletes the file.
  ~FolderLock();
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;
  [[nodiscard]] bool is_effective() const { return is_effective_; }

 private:
  std::filesystem::path path_;
  Role role_;
  bool is_effective_ = true;
  Descriptor file_;
};

}  // namespace triphase::data
