// SPDX-License-Identifier: Apache-2.0
#include "models/files/weights_file.hpp"

#include "base/error.hpp"
#include "base/file.hpp"
#include "base/hash.hpp"
#include "models/files/mapped_tensors.hpp"
#include "models/files/safetensors_header.hpp"

#include <algorithm>
#include <memory>

namespace triphase::models {
namespace {

std::vector<std::int64_t> contiguous_strides(const std::vector<std::int64_t>& sizes) {
  std::vector<std::int64_t> strides(sizes.size(), 1);
  for (std::size_t i = sizes.size(); i > 1; --i)
    strides[i - 2] = strides[i - 1] * std::max<std::int64_t>(sizes[i - 1], 1);
  return strides;
}

/// Compares the hash that Triphase's own files carry. A file of another program has none.
void check_hash(const MappedFile& file, const SafetensorsHeader& header,
                const std::string& source) {
  const auto given = header.metadata.find(kHashKey);
  if (given == header.metadata.end()) return;
  const auto data_offset = static_cast<std::size_t>(header.data_offset);
  std::string text(reinterpret_cast<const char*>(file.bytes().data()), data_offset);
  const std::size_t digits = find_hash_digits(text);
  std::string found = "none";
  if (digits != std::string::npos) {
    text.replace(digits, 16, 16, '0');
    StreamingHash hash;
    hash.update(text);
    visit_pieces(file, file.bytes().subspan(data_offset),
                 [&hash](auto piece) { hash.update(piece); });
    found = hex64(hash.digest());
  }
  TRIPHASE_CHECK(CheckpointError, found == given->second, "'", source,
                 "' is damaged, or another program changed it: its hash is ", found,
                 ", its metadata '", kHashKey, "' says ", given->second.substr(0, 16),
                 ". Fetch it again, or take that entry out of its metadata.");
}

}  // namespace

WeightsFile read_safetensors(const std::filesystem::path& path) {
  WeightsFile result;
  result.path = path;
  result.mapping = map_weights(path);
  const std::string source = path.string();
  const MappedFile& file = *result.mapping;
  SafetensorsHeader header = parse_safetensors_header(file.bytes(), source);
  check_hash(file, header, source);
  result.metadata = std::move(header.metadata);
  result.metadata.erase(kHashKey);  // it is about these bytes, not about the tensors
  result.tensors.reserve(header.entries.size());
  for (TensorEntry& entry : header.entries) {
    const auto bytes =
        file.bytes().subspan(static_cast<std::size_t>(header.data_offset + entry.begin),
                             static_cast<std::size_t>(entry.end - entry.begin));
    if (entry.dtype == at::kBool) check_bools(bytes, entry.name, source);
    std::vector<std::int64_t> strides = contiguous_strides(entry.shape);
    result.tensors.emplace_back(std::move(entry.name),
                                mapped_tensor(result.mapping, {entry.dtype, std::move(entry.shape),
                                                               std::move(strides), bytes.data()}));
  }
  return result;
}

}  // namespace triphase::models
