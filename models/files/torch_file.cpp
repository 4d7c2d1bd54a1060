// SPDX-License-Identifier: Apache-2.0
#include "models/files/weights_file.hpp"

#include "base/error.hpp"
#include "base/file.hpp"
#include "models/files/mapped_tensors.hpp"
#include "models/files/torch_pickle.hpp"
#include "models/files/torch_zip.hpp"

#include <c10/core/ScalarType.h>

#include <algorithm>

namespace triphase::models {
namespace {

using Bytes = std::span<const std::byte>;

/// The archive's files; torch.save puts all of them into one folder, whose name is free.
class Archive {
 public:
  Archive(const MappedFile& file, const std::string& source) : file_(file), source_(source) {
    entries_ = list_stored_zip(file.bytes(), source);
    std::sort(entries_.begin(), entries_.end(),
              [](const auto& a, const auto& b) { return a.name < b.name; });
    constexpr std::string_view kPickle = "/data.pkl";
    for (const ZipEntry& entry : entries_)
      if (entry.name.ends_with(kPickle) &&
          entry.name.find('/') == entry.name.size() - kPickle.size())
        folder_ = entry.name.substr(0, entry.name.size() - kPickle.size() + 1);
    TRIPHASE_CHECK(CheckpointError, !folder_.empty(), "'", source,
                   "' is a zip archive without data.pkl, so torch.save did not write it. Give the "
                   "weights file.");
    for (const ZipEntry& entry : entries_)
      TRIPHASE_CHECK(CheckpointError, entry.name.starts_with(folder_), "'", source,
                     "' is no sane torch.save archive: '", entry.name,
                     "' lies outside its folder '", folder_, "'. Fetch or write it again.");
  }

  /// Every byte of every file, once.
  void check_sums() const {
    for (const ZipEntry& entry : entries_) check_crc32(file_, entry, source_);
  }

  [[nodiscard]] const ZipEntry* find(const std::string& name) const {
    const std::string path = std::string(folder_) + name;
    const auto found = std::lower_bound(
        entries_.begin(), entries_.end(), path,
        [](const ZipEntry& entry, const std::string& n) { return entry.name < n; });
    return found != entries_.end() && found->name == path ? &*found : nullptr;
  }
  [[nodiscard]] Bytes bytes(const ZipEntry& entry) const {
    return file_.bytes().subspan(static_cast<std::size_t>(entry.begin),
                                 static_cast<std::size_t>(entry.size));
  }

 private:
  const MappedFile& file_;
  const std::string& source_;
  std::vector<ZipEntry> entries_;  ///< by name
  std::string_view folder_;        ///< ends in '/'
};

void check_byte_order(const Archive& archive, const std::string& source) {
  const ZipEntry* entry = archive.find("byteorder");
  if (entry == nullptr)
    return;  // PyTorch before 2.1 did not say, and only wrote on little-endian machines
  const Bytes bytes = archive.bytes(*entry);
  const std::string_view order(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  TRIPHASE_CHECK(CheckpointError, order == "little", "'", source, "' has the byte order '",
                 order.substr(0, 16),
                 "', expected 'little'. Load and save it again on a little-endian machine.");
}

/// Index of the last element in the storage, or -1 where there is none. @throws CheckpointError
/// beyond 63 bits
std::int64_t last_element(const PickledTensor& tensor, const std::string& source) {
  std::int64_t last = tensor.offset;
  bool overflows = false;
  for (std::size_t i = 0; i < tensor.sizes.size(); ++i) {
    if (tensor.sizes[i] == 0) return -1;
    std::int64_t reach = 0;
    overflows = overflows ||
                __builtin_mul_overflow(tensor.sizes[i] - 1, tensor.strides[i], &reach) ||
                __builtin_add_overflow(last, reach, &last);
  }
  TRIPHASE_CHECK(CheckpointError, !overflows, "'", source, "': the shape of '", tensor.name,
                 "' is beyond any file");
  return last;
}

/// A stride of 0 would let a few bytes stand for any number of elements, which then take memory
/// when copied.
void check_count(const PickledTensor& tensor, const std::string& source) {
  std::int64_t count = 1;
  bool is_beyond = false;
  bool is_empty = false;
  for (const std::int64_t size : tensor.sizes) {
    is_empty = is_empty || size == 0;
    is_beyond = is_beyond || (size > 0 && __builtin_mul_overflow(count, size, &count));
  }
  TRIPHASE_CHECK(CheckpointError, is_empty || (!is_beyond && count <= tensor.storage_elements), "'",
                 source, "': '", tensor.name, "' has more elements than its storage (",
                 tensor.storage_elements, "): they share memory. Save it with .contiguous().");
}

at::Tensor tensor_of(const PickledTensor& tensor, const Archive& archive,
                     const std::shared_ptr<const MappedFile>& file, const std::string& source) {
  const ZipEntry* entry = archive.find("data/" + std::string(tensor.storage));
  TRIPHASE_CHECK(CheckpointError, entry != nullptr, "'", source, "' has no storage '",
                 tensor.storage, "' for '", tensor.name, "'. Fetch or write it again.");
  const auto width = static_cast<std::int64_t>(c10::elementSize(tensor.dtype));
  TRIPHASE_CHECK(CheckpointError, tensor.storage_elements <= entry->size / width, "'", source,
                 "': '", tensor.name, "' has a storage of ", tensor.storage_elements,
                 " elements of ", width, " bytes, the file holds ", entry->size,
                 " bytes for it. Fetch or write it again.");
  const std::int64_t last = last_element(tensor, source);
  TRIPHASE_CHECK(CheckpointError, last < tensor.storage_elements, "'", source, "': '", tensor.name,
                 "' reaches to element ", last, " of a storage of ", tensor.storage_elements,
                 ". Fetch or write it again.");
  check_count(tensor, source);
  const Bytes bytes = archive.bytes(*entry);
  if (tensor.dtype == at::kBool) check_bools(bytes, std::string(tensor.name), source);
  const std::int64_t offset = last < 0 ? 0 : tensor.offset * width;
  return mapped_tensor(file, {tensor.dtype, tensor.sizes, tensor.strides, bytes.data() + offset});
}

}  // namespace

WeightsFile read_torch_file(const std::filesystem::path& path) {
  WeightsFile result;
  result.path = path;
  result.mapping = map_weights(path);
  const std::string source = path.string();
  const Archive archive(*result.mapping, source);
  archive.check_sums();
  check_byte_order(archive, source);
  const std::vector<PickledTensor> tensors =
      read_torch_pickle(archive.bytes(*archive.find("data.pkl")), source);
  result.tensors.reserve(tensors.size());
  for (const PickledTensor& tensor : tensors)
    result.tensors.emplace_back(std::string(tensor.name),
                                tensor_of(tensor, archive, result.mapping, source));
  return result;
}

}  // namespace triphase::models
