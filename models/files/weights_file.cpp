// SPDX-License-Identifier: Apache-2.0
#include "models/files/weights_file.hpp"

#include "base/error.hpp"
#include "base/file.hpp"
#include "models/files/mapped_tensors.hpp"

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <string_view>

namespace triphase::models {
namespace {

namespace fs = std::filesystem;

/// What a torch.save file of PyTorch before 1.6 begins with: a pickle (protocol 2) of torch's magic
/// number. Source: torch/serialization.py, MAGIC_NUMBER.
constexpr std::string_view kLegacyMagic("\x80\x02\x8a\x0al\xfc\x9c\x46\xf9 j\xa8P\x19.", 15);
/// A tar archive, PyTorch before 0.1.10, says so at this byte.
constexpr std::size_t kTarMagicAt = 257;

fs::path file_of(const fs::path& path) {
  std::error_code ignored;
  if (!fs::is_directory(path, ignored)) return path;
  for (const char* name : {"model.safetensors", "adapter_model.safetensors"})
    if (fs::exists(path / name, ignored)) return path / name;
  throw CheckpointError(
      str("folder '", path.string(),
          "' holds neither model.safetensors nor adapter_model.safetensors. Give a run "
          "folder, a checkpoint folder, a peft folder or a file."),
      ExitCode::kMissingInput);
}

/// The first bytes of a file, as text.
std::string_view beginning(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), std::min<std::size_t>(bytes.size(), 512)};
}

}  // namespace

void WeightsFile::release(const at::Tensor& tensor) const {
  if (mapping == nullptr || tensor.numel() == 0) return;
  std::size_t elements = 1;
  for (std::int64_t i = 0; i < tensor.dim(); ++i)
    elements += static_cast<std::size_t>((tensor.size(i) - 1) * tensor.stride(i));
  const auto* first = static_cast<const std::byte*>(tensor.const_data_ptr());
  mapping->release({first, elements * c10::elementSize(tensor.scalar_type())});
}

WeightsFile read_weights(const fs::path& path) {
  const fs::path file = file_of(path);
  std::string begin;
  {
    const auto mapping = map_weights(file);
    begin = beginning(mapping->bytes());
  }
  if (begin.starts_with("PK")) return read_torch_file(file);
  const bool is_tar = begin.size() > kTarMagicAt && begin.compare(kTarMagicAt, 5, "ustar") == 0;
  TRIPHASE_CHECK(
      CheckpointError, !begin.starts_with(kLegacyMagic) && !is_tar, "'", file.string(),
      "' is a torch.save file in the old form (before PyTorch 1.6), which only Python can read. "
      "Load it "
      "and save it again there: torch.save(torch.load('old.pt', weights_only=True), 'new.pt').");
  return read_safetensors(file);
}

}  // namespace triphase::models
