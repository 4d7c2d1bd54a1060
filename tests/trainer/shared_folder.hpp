// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "dist/runtime.hpp"
#include "tests/trainer/run_fixture.hpp"

namespace triphase::test {

/// A folder that all ranks know, made and removed by rank 0.
class SharedFolder {
 public:
  explicit SharedFolder(dist::ProcessGroup& world) : world_(world) {
    if (world.rank() == 0) own_ = std::make_unique<TemporaryFolder>();
    path_ = dist::broadcast_text(world, own_ ? own_->path().string() : "");
  }
  ~SharedFolder() { world_.barrier(); }
  [[nodiscard]] std::filesystem::path path() const { return path_; }

 private:
  dist::ProcessGroup& world_;
  std::unique_ptr<TemporaryFolder> own_;
  std::filesystem::path path_;
};

/// One cache for all ranks, made by rank 0: a run's configuration names it.
inline const TinyCache& shared_cache(dist::ProcessGroup& world) {
  static std::unique_ptr<TinyCache> cache;
  if (!cache && world.rank() == 0) cache = std::make_unique<TinyCache>();
  const std::string path = dist::broadcast_text(world, cache ? cache->path("").string() : "");
  if (!cache) cache = std::make_unique<TinyCache>(std::filesystem::path(path));
  return *cache;
}

}  // namespace triphase::test
