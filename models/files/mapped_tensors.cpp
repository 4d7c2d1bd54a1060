// SPDX-License-Identifier: Apache-2.0
#include "models/files/mapped_tensors.hpp"

#include "base/error.hpp"

#include <ATen/Functions.h>

#include <algorithm>

namespace triphase::models {

std::shared_ptr<const MappedFile> map_weights(const std::filesystem::path& path) {
  try {
    return std::make_shared<const MappedFile>(path);
  } catch (const DataError& error) {  // not there
    throw CheckpointError(error.message(), error.exit_code());
  }
}

void visit_pieces(const MappedFile& file, std::span<const std::byte> part,
                  const std::function<void(std::span<const std::byte>)>& visit) {
  constexpr std::size_t kPieceBytes = 8 << 20;
  while (!part.empty()) {
    const auto piece = part.first(std::min(kPieceBytes, part.size()));
    visit(piece);
    file.release(piece);
    part = part.subspan(piece.size());
  }
}

at::Tensor mapped_tensor(const std::shared_ptr<const MappedFile>& file, const TensorPlace& place) {
  // from_blob wants a pointer to non-const; the mapping is read-only, so a write would end the
  // program.
  auto* bytes =
      const_cast<std::byte*>(place.first_element);  // NOLINT(cppcoreguidelines-pro-type-const-cast)
  return at::from_blob(
      bytes, place.sizes, place.strides, [file](void*) {}, at::TensorOptions(place.dtype));
}

void check_bools(std::span<const std::byte> bytes, const std::string& name,
                 const std::string& source) {
  const bool is_sane = std::all_of(bytes.begin(), bytes.end(), [](std::byte value) {
    return value == std::byte{0} || value == std::byte{1};
  });
  TRIPHASE_CHECK(CheckpointError, is_sane, "'", source, "': '", name,
                 "' is BOOL and holds bytes other than 0 and 1. Fetch or write the file again.");
}

}  // namespace triphase::models
