// SPDX-License-Identifier: Apache-2.0
#include "models/files/safetensors_header.hpp"

#include "base/error.hpp"
#include "base/json.hpp"
#include "models/files/little_endian.hpp"
#include "models/files/mapped_tensors.hpp"

#include <c10/core/ScalarType.h>

#include <algorithm>
#include <array>
#include <limits>
#include <set>
#include <utility>

namespace triphase::models {
namespace {

constexpr std::size_t kMaxMetadata = 10'000;

constexpr std::array<std::pair<const char*, at::ScalarType>, 10> kDtypes{{
    {"F64", at::kDouble},
    {"F32", at::kFloat},
    {"F16", at::kHalf},
    {"BF16", at::kBFloat16},
    {"I64", at::kLong},
    {"I32", at::kInt},
    {"I16", at::kShort},
    {"I8", at::kChar},
    {"U8", at::kByte},
    {"BOOL", at::kBool},
}};

/// Reads {"__metadata__": {string: string}, name: {"dtype": string, "shape": [..], "data_offsets":
/// [b, e]}} event by event: whatever does not fit ends the parse at once, and no other tree is ever
/// built.
class HeaderReader final : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit HeaderReader(std::string source) : source_(std::move(source)) {}
  SafetensorsHeader take() { return std::move(header_); }

  bool null() override { return refuse("null where a value belongs"); }
  bool boolean(bool) override { return refuse("true or false where a value belongs"); }
  bool number_integer(number_integer_t) override { return refuse("a negative number"); }
  bool number_float(number_float_t, const string_t&) override { return refuse("a fraction"); }
  bool binary(binary_t&) override { return refuse("binary data"); }

  bool number_unsigned(number_unsigned_t value) override {
    const auto limit = static_cast<number_unsigned_t>(std::numeric_limits<std::int64_t>::max());
    if (place_ != Place::kShape && place_ != Place::kOffsets) return refuse("a number");
    if (value > limit) return refuse("a number beyond 63 bits");
    std::vector<std::int64_t>& list =
        place_ == Place::kShape ? header_.entries.back().shape : offsets_;
    if (list.size() >= kMaxDimensions) return refuse("a list that is too long");
    list.push_back(static_cast<std::int64_t>(value));
    return true;
  }

  bool string(string_t& value) override {
    if (place_ == Place::kMetadata) {
      header_.metadata[key_] = value;
      return true;
    }
    if (place_ != Place::kTensor || key_ != "dtype") return refuse("a string where none belongs");
    for (const auto& [name, dtype] : kDtypes)
      if (value == name) {
        header_.entries.back().dtype = dtype;
        return true;
      }
    return refuse(str("dtype '", value.substr(0, 32), "', which Triphase does not read"));
  }

  bool start_object(std::size_t) override {
    if (place_ == Place::kStart) return enter(Place::kTop);
    if (place_ != Place::kTop) return refuse("an object where none belongs");
    if (key_ == "__metadata__") {
      if (has_metadata_) return refuse("'__metadata__' twice");
      has_metadata_ = true;
      return enter(Place::kMetadata);
    }
    if (std::ssize(header_.entries) >= kMaxTensors)
      return refuse(str("more than ", kMaxTensors, " tensors"));
    header_.entries.emplace_back().name = key_;
    offsets_.clear();
    fields_.clear();
    return enter(Place::kTensor);
  }

  bool key(string_t& value) override {
    if (value.size() > kMaxNameBytes) return refuse("a name longer than 4096 bytes");
    key_ = value;
    if (place_ == Place::kTop) {
      if (value.empty()) return refuse("a tensor without a name");
      return true;
    }
    if (place_ == Place::kMetadata) {
      if (header_.metadata.size() >= kMaxMetadata) return refuse("too much metadata");
      return header_.metadata.emplace(value, "").second || refuse(str("'", value, "' twice"));
    }
    const bool known = value == "dtype" || value == "shape" || value == "data_offsets";
    if (!known) return refuse(str("the unknown field '", value, "'"));
    return fields_.insert(value).second || refuse(str("the field '", value, "' twice"));
  }

  bool end_object() override {
    if (place_ == Place::kTop) return enter(Place::kEnd);
    if (place_ == Place::kTensor) {
      if (fields_.size() != 3) return refuse("a tensor without dtype, shape or data_offsets");
      if (offsets_.size() != 2) return refuse("data_offsets that are not two numbers");
      header_.entries.back().begin = offsets_[0];
      header_.entries.back().end = offsets_[1];
    }
    return enter(Place::kTop);
  }

  bool start_array(std::size_t) override {
    if (place_ == Place::kTensor && key_ == "shape") return enter(Place::kShape);
    if (place_ == Place::kTensor && key_ == "data_offsets") return enter(Place::kOffsets);
    return refuse("a list where none belongs");
  }

  bool end_array() override { return enter(Place::kTensor); }

  bool parse_error(std::size_t position, const std::string&,
                   const nlohmann::detail::exception& error) override {
    throw CheckpointError(str("'", source_,
                              "' is no safetensors file: its header is no valid JSON at byte ",
                              position, " (", error.what(), "). Fetch or write it again."));
  }

 private:
  enum class Place { kStart, kTop, kMetadata, kTensor, kShape, kOffsets, kEnd };

  bool enter(Place place) {
    place_ = place;
    return true;
  }

  [[noreturn]] bool refuse(const std::string& what) const {
    const std::string where = header_.entries.empty() || place_ == Place::kTop
                                  ? std::string("its header")
                                  : str("the header's entry '", header_.entries.back().name, "'");
    throw CheckpointError(str("'", source_, "' is no safetensors file: ", where, " has ", what,
                              ". Fetch or write it again."));
  }

  std::string source_;
  SafetensorsHeader header_;
  Place place_ = Place::kStart;
  std::string key_;
  bool has_metadata_ = false;
  std::set<std::string> fields_;
  std::vector<std::int64_t> offsets_;
};

/// Compares names after the parse, so that none is kept a second time during it.
void check_unique(const SafetensorsHeader& header, const std::string& source) {
  std::vector<std::string_view> names;
  names.reserve(header.entries.size());
  for (const TensorEntry& entry : header.entries) names.push_back(entry.name);
  std::sort(names.begin(), names.end());
  const auto twice = std::adjacent_find(names.begin(), names.end());
  TRIPHASE_CHECK(CheckpointError, twice == names.end(), "'", source,
                 "' is no safetensors file: its header has '", *twice,
                 "' twice. Fetch or write it again.");
}

/// numel * element size. @throws CheckpointError beyond 63 bits
std::int64_t checked_bytes(const TensorEntry& entry, const std::string& source) {
  std::int64_t bytes = static_cast<std::int64_t>(c10::elementSize(entry.dtype));
  bool empty = false;
  for (const std::int64_t size : entry.shape) {
    empty = empty || size == 0;
    TRIPHASE_CHECK(CheckpointError, size == 0 || !__builtin_mul_overflow(bytes, size, &bytes), "'",
                   source, "': the shape of '", entry.name, "' is beyond any file");
  }
  return empty ? 0 : bytes;
}

/// Entries fill the data from its first byte to its last, each exactly as long as it must be.
void check_layout(const SafetensorsHeader& header, std::int64_t data_bytes,
                  const std::string& source) {
  std::vector<const TensorEntry*> order;
  for (const TensorEntry& entry : header.entries) order.push_back(&entry);
  std::sort(order.begin(), order.end(), [](const TensorEntry* a, const TensorEntry* b) {
    return std::pair(a->begin, a->end) < std::pair(b->begin, b->end);
  });
  std::int64_t reached = 0;
  bool after_empty = false;  // two tensors without elements must not share one offset
  for (const TensorEntry* entry : order) {
    TRIPHASE_CHECK(CheckpointError, entry->begin <= entry->end && entry->end <= data_bytes, "'",
                   source, "': '", entry->name, "' claims bytes ", entry->begin, " to ", entry->end,
                   ", the file has ", data_bytes, " (it is cut short or damaged). Fetch it again.");
    TRIPHASE_CHECK(CheckpointError, entry->begin == reached, "'", source, "': '", entry->name,
                   "' begins at byte ", entry->begin, ", expected ", reached,
                   " (tensors overlap or leave a gap). Write the file again.");
    const std::int64_t bytes = checked_bytes(*entry, source);
    TRIPHASE_CHECK(CheckpointError, entry->end - entry->begin == bytes, "'", source, "': '",
                   entry->name, "' has ", entry->end - entry->begin, " bytes, its shape asks for ",
                   bytes);
    TRIPHASE_CHECK(CheckpointError, bytes > 0 || !after_empty, "'", source, "': '", entry->name,
                   "' shares its place with another tensor without elements");
    after_empty = bytes == 0;
    reached = entry->end;
  }
  TRIPHASE_CHECK(CheckpointError, reached == data_bytes, "'", source, "' has ",
                 data_bytes - reached, " bytes that no tensor claims. Fetch or write it again.");
}

}  // namespace

SafetensorsHeader parse_safetensors_header(std::span<const std::byte> file,
                                           const std::string& source) {
  TRIPHASE_CHECK(CheckpointError, file.size() >= 8, "'", source, "' has ", file.size(),
                 " bytes: too short for a safetensors file. Fetch it again.");
  const auto length = load_little<std::uint64_t>(file, 0);
  TRIPHASE_CHECK(CheckpointError, length <= static_cast<std::uint64_t>(kMaxHeaderBytes), "'",
                 source, "' is no safetensors file, or not a sane one: its header would have ",
                 length, " bytes, allowed are ", kMaxHeaderBytes);
  TRIPHASE_CHECK(CheckpointError, length <= file.size() - 8, "'", source,
                 "' is cut short: a header of ", length, " bytes in a file of ", file.size(),
                 ". Fetch it again.");
  const auto* text = reinterpret_cast<const char*>(file.data() + 8);
  TRIPHASE_CHECK(CheckpointError, length > 0 && text[0] == '{', "'", source,
                 "' is no safetensors file: its header does not begin with '{'");
  HeaderReader reader(source);
  nlohmann::json::sax_parse(text, text + length, &reader);
  SafetensorsHeader header = reader.take();
  check_unique(header, source);
  header.data_offset = 8 + static_cast<std::int64_t>(length);
  check_layout(header, static_cast<std::int64_t>(file.size()) - header.data_offset, source);
  return header;
}

std::size_t find_hash_digits(std::string_view header) {
  // Inside a JSON string the quotes would be escaped, so this is the key.
  const std::string key = str("\"", kHashKey, "\":\"");
  const std::size_t found = header.find(key);
  const std::size_t digits = found + key.size();
  const bool fits =
      found != std::string_view::npos && digits + 17 <= header.size() && header[digits + 16] == '"';
  return fits ? digits : std::string_view::npos;
}

std::string safetensors_dtype(at::ScalarType dtype) {
  for (const auto& [name, known] : kDtypes)
    if (known == dtype) return name;
  throw CheckpointError(
      str("a tensor of dtype ", c10::toString(dtype), " cannot be written to a safetensors file"));
}

}  // namespace triphase::models
