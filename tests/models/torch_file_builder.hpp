// SPDX-License-Identifier: Apache-2.0
// Archives and pickles as torch.save writes them, and, field by field, as it never would.
#pragma once

#include "models/files/weights_file.hpp"

#include <cstdint>
#include <filesystem>
#include <optional>
#include <ostream>
#include <string>
#include <string_view>
#include <vector>

namespace triphase::models::test {

/// What may be said otherwise than it is.
struct ZipLies {
  std::uint16_t flags = 0x0808;  ///< sizes follow the data, names are UTF-8: torch's own
  std::uint16_t method = 0;
  std::optional<std::string> local_name{};
  std::optional<std::uint32_t> crc32{};
  std::optional<std::uint64_t> size{};          ///< in the directory, both sizes
  std::optional<std::uint64_t> stored_size{};   ///< in the directory, over `size`
  std::optional<std::uint64_t> header_begin{};  ///< in the directory
};

/// Writes a zip archive member by member.
class ZipWriter {
 public:
  struct Style {
    bool wide_end = true;       ///< a 64-bit end record, as torch writes always
    bool wide_entries = false;  ///< sizes and places in 64-bit extra fields
    std::string comment{};
  };
  ZipWriter(std::ostream& out, Style style) : out_(out), style_(std::move(style)) {}
  void add(const std::string& name, std::string_view bytes, const ZipLies& lies = {});
  void finish();

 private:
  void write(std::string_view bytes);

  std::ostream& out_;
  Style style_;
  std::string directory_;
  std::uint64_t at_ = 0;
  std::uint64_t count_ = 0;
};

/// A little-endian number.
template <class T>
std::string le(T value) {
  return {reinterpret_cast<const char*>(&value), sizeof value};
}

/// Puts a pickle together, opcode by opcode.
class Pickle {
 public:
  std::string bytes = std::string("\x80\x02", 2);
  Pickle& op(std::string_view raw) { return bytes += raw, *this; }
  Pickle& text(std::string_view value);
  Pickle& integer(std::int64_t value);  ///< the shortest of BININT1, BININT and LONG1
  Pickle& global(const std::string& module, const std::string& name);
  Pickle& integers(const std::vector<std::int64_t>& values);  ///< one tuple
};

struct TensorSpec {
  std::string name = "a";
  std::string type = "FloatStorage";
  std::string key = "0";
  std::int64_t elements = 2;
  std::int64_t offset = 0;
  std::vector<std::int64_t> sizes{2};
  std::vector<std::int64_t> strides{1};
};
/// The opcodes that push one tensor.
[[nodiscard]] std::string pushed(const TensorSpec& tensor);
/// An OrderedDict of these, as state_dict() without _metadata is pickled.
[[nodiscard]] std::string pickle_of(const std::vector<TensorSpec>& tensors);

struct Member {
  std::string name;
  std::string bytes;
  ZipLies lies{};
};
[[nodiscard]] std::string zip_of(const std::vector<Member>& members,
                                 const ZipWriter::Style& style = {});
/// A whole torch.save file: this pickle and these storages, data/0, data/1, ...
[[nodiscard]] std::string torch_file_of(const std::string& pickle,
                                        const std::vector<std::string>& storages,
                                        const std::string& byte_order = "little");
/// Contiguous tensors of float32 and int64 as torch.save writes a state_dict, each name after
/// `prefix`.
void write_torch_file(const std::filesystem::path& path, const NamedTensors& tensors,
                      const std::string& prefix = "");

}  // namespace triphase::models::test
