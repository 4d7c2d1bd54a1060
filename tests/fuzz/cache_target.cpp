// SPDX-License-Identifier: Apache-2.0
// Input: cache.json, a zero byte, shard-00000.h5. What opens must give as many volumes as it lists,
// and be sound by its own account.
#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "base/hash.hpp"
#include "base/json.hpp"
#include "data/cache.hpp"
#include "data/cache_index.hpp"
#include "tests/fuzz/target.hpp"

namespace triphase::fuzz {
namespace {

/// The index with the hash that belongs to it, where it is JSON at all.
std::string mended(std::string_view index) {
  Json json = Json::parse(index, nullptr, false);
  if (!json.is_object()) return std::string(index);
  json.erase("index_hash");
  try {
    json["index_hash"] = hex64(xxh3(json.dump()));
    return json.dump();
  } catch (const nlohmann::json::exception&) {  // bytes that are not UTF-8
    return std::string(index);
  }
}

void read_cache(std::string_view index, std::string_view shard) {
  const auto folder = scratch_file(data::kCacheIndexName, index).parent_path();
  static_cast<void>(scratch_file("shard-00000.h5", shard));
  expect_clean_end([&] {
    const std::vector<std::string> damaged = data::verify_cache(folder, [] {});
    const data::Cache cache(folder);
    const data::Shape3& shape = cache.spec().preprocess.volume_shape;
    std::vector<float> voxels(static_cast<std::size_t>(shape[0] * shape[1] * shape[2]));
    for (std::size_t i = 0; i < cache.entries().size(); ++i)
      cache.read_volume(static_cast<std::int64_t>(i), voxels.data());
    require(damaged.empty(), "what verify finds damaged cannot be read");
  });
}

}  // namespace
}  // namespace triphase::fuzz

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace triphase;
  const std::string_view input = fuzz::text_of(data, size);
  const std::size_t zero = std::min(input.find('\0'), input.size());
  const std::string_view index = input.substr(0, zero);
  const std::string_view shard = input.substr(std::min(zero + 1, input.size()));
  fuzz::read_cache(index, shard);
  fuzz::read_cache(fuzz::mended(index), shard);  // its outcome counts: the hash alone must not do
  return 0;
}
