// SPDX-License-Identifier: Apache-2.0
#include "models/weights.hpp"

#include "base/error.hpp"
#include "base/file.hpp"
#include "base/json.hpp"
#include "models/safetensors_header.hpp"

#include <c10/core/ScalarType.h>

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <numeric>

namespace triphase::models {
namespace {

/// A new file under a temporary name that takes its final name in commit() and vanishes without it.
class PartFile {
 public:
  explicit PartFile(const std::filesystem::path& path) : path_(path), part_(path.string() + ".part") {
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

  void commit() {
    if (::fsync(descriptor_) != 0) throw io_error(str("cannot write '", part_.string(), "'"), errno);
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

/// The order in which data is laid out: wide elements first, so that every tensor is aligned to its
/// element (Python's reader needs that), then as given.
std::vector<std::size_t> layout_order(const NamedTensors& tensors) {
  std::vector<std::size_t> order(tensors.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return tensors[a].second.element_size() > tensors[b].second.element_size();
  });
  return order;
}

std::string header_text(const NamedTensors& tensors, const std::vector<std::size_t>& order,
                        const std::map<std::string, std::string>& metadata) {
  std::vector<std::int64_t> begins(tensors.size());
  std::int64_t offset = 0;
  for (const std::size_t i : order) {
    begins[i] = offset;
    offset += static_cast<std::int64_t>(tensors[i].second.nbytes());
  }
  Json header = Json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const auto& [name, tensor] = tensors[i];
    TRIPHASE_CHECK(CheckpointError, !header.contains(name), "'", name,
                   "' is the name of two tensors: a weights file holds each name once");
    TRIPHASE_CHECK(CheckpointError, tensor.numel() > 0, "'", name, "' has no elements to write");
    const std::int64_t end = begins[i] + static_cast<std::int64_t>(tensor.nbytes());
    header[name] = {{"dtype", safetensors_dtype(tensor.scalar_type())},
                    {"shape", tensor.sizes().vec()},
                    {"data_offsets", {begins[i], end}}};
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');  // data begins at a multiple of 8
  return text;
}

}  // namespace

void write_safetensors(const std::filesystem::path& path, const NamedTensors& tensors,
                       const std::map<std::string, std::string>& metadata) {
  const std::vector<std::size_t> order = layout_order(tensors);
  const std::string header = header_text(tensors, order, metadata);
  PartFile file(path);
  const std::uint64_t length = header.size();
  file.write(&length, sizeof length);
  file.write(header.data(), header.size());
  for (const std::size_t i : order) {
    // One tensor at a time: never a second copy of the whole model.
    const at::Tensor plain = tensors[i].second.detach().cpu().contiguous();
    file.write(plain.const_data_ptr(), plain.nbytes());
  }
  file.commit();
}

}  // namespace triphase::models
