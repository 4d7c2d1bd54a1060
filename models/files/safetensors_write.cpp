// SPDX-License-Identifier: Apache-2.0
#include "models/files/weights_file.hpp"

#include "base/error.hpp"
#include "base/file.hpp"
#include "base/hash.hpp"
#include "base/json.hpp"
#include "models/files/safetensors_header.hpp"

#include <ATen/ATen.h>

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <numeric>
#include <optional>

namespace triphase::models {
namespace {

/// A new file under a temporary name that takes its final name in commit() and vanishes without it.
class PartFile {
 public:
  explicit PartFile(const std::filesystem::path& path)
      : path_(path), part_(path.string() + ".part") {
    descriptor_ = ::open(part_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (descriptor_ < 0) throw io_error(str("cannot create '", part_.string(), "'"), errno, true);
  }
  ~PartFile() {
    if (descriptor_ >= 0) ::close(descriptor_);
    if (!committed_) ::unlink(part_.c_str());
  }
  PartFile(const PartFile&) = delete;
  PartFile& operator=(const PartFile&) = delete;

  void write(const void* data, std::size_t bytes) {
    const auto* next = static_cast<const char*>(data);
    while (bytes > 0) {
      const ssize_t written = ::write(descriptor_, next, bytes);
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) throw io_error(str("cannot write '", part_.string(), "'"), errno);
      next += written;
      bytes -= static_cast<std::size_t>(written);
    }
  }

  /// Overwrites bytes that were written.
  void replace(std::int64_t at, std::string_view text) {
    if (::lseek(descriptor_, at, SEEK_SET) != at)
      throw io_error(str("cannot write '", part_.string(), "'"), errno);
    write(text.data(), text.size());
  }

  void commit() {
    if (::fsync(descriptor_) != 0)
      throw io_error(str("cannot write '", part_.string(), "'"), errno);
    const int closed = ::close(descriptor_);
    descriptor_ = -1;
    if (closed != 0) throw io_error(str("cannot write '", part_.string(), "'"), errno);
    if (::rename(part_.c_str(), path_.c_str()) != 0)
      throw io_error(str("cannot create '", path_.string(), "'"), errno, true);
    committed_ = true;
    fsync_path(path_.has_parent_path() ? path_.parent_path() : std::filesystem::path("."));
  }

 private:
  std::filesystem::path path_;
  std::filesystem::path part_;
  int descriptor_ = -1;
  bool committed_ = false;
};

/// Absent: every tensor as it is.
using FloatDtype = std::optional<at::ScalarType>;

at::ScalarType written_dtype(const at::Tensor& tensor, FloatDtype float_dtype) {
  return tensor.is_floating_point() ? float_dtype.value_or(tensor.scalar_type())
                                    : tensor.scalar_type();
}

std::size_t written_bytes(const at::Tensor& tensor, FloatDtype float_dtype) {
  return static_cast<std::size_t>(tensor.numel()) *
         c10::elementSize(written_dtype(tensor, float_dtype));
}

/// The values as they are written.
at::Tensor plain_tensor(const std::pair<std::string, at::Tensor>& item, FloatDtype float_dtype) {
  const at::Tensor given = item.second.detach().cpu();
  const at::Tensor plain = given.to(written_dtype(given, float_dtype)).contiguous();
  const bool is_narrower = given.is_floating_point() && plain.element_size() < given.element_size();
  TRIPHASE_CHECK(CheckpointError,
                 !is_narrower || at::isinf(plain).sum().item<std::int64_t>() ==
                                     at::isinf(given).sum().item<std::int64_t>(),
                 "'", item.first, "' has numbers beyond the range of ",
                 c10::toString(plain.scalar_type()), ". Choose bfloat16 or float32.");
  return plain;
}

/// The order in which data is laid out: wide elements first, so that every tensor is aligned to its
/// element (Python's reader needs that), then as given.
std::vector<std::size_t> layout_order(const NamedTensors& tensors, FloatDtype float_dtype) {
  const auto width = [&](std::size_t i) {
    return c10::elementSize(written_dtype(tensors[i].second, float_dtype));
  };
  std::vector<std::size_t> order(tensors.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return width(a) > width(b); });
  return order;
}

std::string header_text(const NamedTensors& tensors, const std::vector<std::size_t>& order,
                        std::map<std::string, std::string> metadata, FloatDtype float_dtype) {
  std::vector<std::int64_t> begins(tensors.size());
  std::int64_t offset = 0;
  for (const std::size_t i : order) {
    begins[i] = offset;
    offset += static_cast<std::int64_t>(written_bytes(tensors[i].second, float_dtype));
  }
  Json header = Json::object();
  metadata[kHashKey] = std::string(16, '0');
  header["__metadata__"] = metadata;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const auto& [name, tensor] = tensors[i];
    TRIPHASE_CHECK(CheckpointError, !header.contains(name), "'", name,
                   "' is the name of two tensors: a weights file holds each name once");
    TRIPHASE_CHECK(CheckpointError, tensor.numel() > 0, "'", name, "' has no elements to write");
    const std::int64_t end =
        begins[i] + static_cast<std::int64_t>(written_bytes(tensor, float_dtype));
    header[name] = {{"dtype", safetensors_dtype(written_dtype(tensor, float_dtype))},
                    {"shape", tensor.sizes().vec()},
                    {"data_offsets", {begins[i], end}}};
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');  // data begins at a multiple of 8
  return text;
}

}  // namespace

void write_safetensors(const std::filesystem::path& path, const NamedTensors& tensors,
                       const std::map<std::string, std::string>& metadata, FloatDtype float_dtype) {
  const std::vector<std::size_t> order = layout_order(tensors, float_dtype);
  const std::string header = header_text(tensors, order, metadata, float_dtype);
  PartFile file(path);
  StreamingHash hash;
  const auto write = [&](const void* data, std::size_t bytes) {
    file.write(data, bytes);
    hash.update(std::string_view(static_cast<const char*>(data), bytes));
  };
  const std::uint64_t length = header.size();
  write(&length, sizeof length);
  write(header.data(), header.size());
  for (const std::size_t i : order) {
    // One tensor at a time: never a second copy of the whole model.
    const at::Tensor plain = plain_tensor(tensors[i], float_dtype);
    write(plain.const_data_ptr(), plain.nbytes());
  }
  file.replace(static_cast<std::int64_t>(sizeof length + find_hash_digits(header)),
               hex64(hash.digest()));
  file.commit();
}

}  // namespace triphase::models
