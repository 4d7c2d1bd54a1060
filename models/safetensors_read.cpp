// SPDX-License-Identifier: Apache-2.0
#include "models/weights.hpp"

#include "base/error.hpp"
#include "base/file.hpp"
#include "models/safetensors_header.hpp"

#include <ATen/Functions.h>

#include <algorithm>
#include <memory>

namespace triphase::models {
namespace {

std::shared_ptr<const MappedFile> map_file(const std::filesystem::path& path) {
  try {
    return std::make_shared<const MappedFile>(path);
  } catch (const DataError& error) {  // not there
    throw CheckpointError(error.message(), error.exit_code());
  }
}

/// A bool of another value than 0 and 1 is undefined behaviour wherever it is used.
void check_bools(const std::byte* data, const TensorEntry& entry, const std::string& source) {
  const bool sane = std::all_of(data, data + (entry.end - entry.begin), [](std::byte value) {
    return value == std::byte{0} || value == std::byte{1};
  });
  TRIPHASE_CHECK(CheckpointError, sane, "'", source, "': '", entry.name,
                 "' is BOOL and holds bytes other than 0 and 1");
}

}  // namespace

Safetensors read_safetensors(const std::filesystem::path& path) {
  const std::shared_ptr<const MappedFile> file = map_file(path);
  SafetensorsHeader header = parse_safetensors_header(file->bytes(), path.string());
  Safetensors result;
  result.metadata = std::move(header.metadata);
  result.tensors.reserve(header.entries.size());
  for (const TensorEntry& entry : header.entries) {
    const std::byte* data = file->bytes().data() + header.data_offset + entry.begin;
    if (entry.dtype == at::kBool) check_bools(data, entry, path.string());
    // from_blob wants a pointer to non-const; the mapping is read-only, so a write would end the program.
    auto* bytes = const_cast<std::byte*>(data);  // NOLINT(cppcoreguidelines-pro-type-const-cast)
    // `file` is kept alive by every tensor, hence shared_ptr.
    result.tensors.emplace_back(
        entry.name, at::from_blob(bytes, entry.shape, [file](void*) {}, at::TensorOptions(entry.dtype)));
  }
  return result;
}

}  // namespace triphase::models
