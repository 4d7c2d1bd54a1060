// SPDX-License-Identifier: Apache-2.0
#include "tests/models/torch_file_builder.hpp"

#include <ATen/core/Tensor.h>
#include <zlib.h>

#include <algorithm>
#include <fstream>
#include <sstream>

namespace triphase::models::test {
namespace {

using u16 = std::uint16_t;
using u32 = std::uint32_t;
using u64 = std::uint64_t;

u32 checksum(std::string_view bytes) {
  return static_cast<u32>(crc32_z(0, reinterpret_cast<const Bytef*>(bytes.data()), bytes.size()));
}

u32 narrow(u64 value) { return static_cast<u32>(std::min<u64>(value, 0xFFFFFFFF)); }

}  // namespace

void ZipWriter::write(std::string_view bytes) {
  out_.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  at_ += bytes.size();
}

void ZipWriter::add(const std::string& name, std::string_view bytes, const ZipLies& lies) {
  const u64 header_begin = at_;
  const bool follows = (lies.flags & 8U) != 0;
  const u32 crc = checksum(bytes);
  const std::string local_name = lies.local_name.value_or(name);
  // torch fills the space up to the next multiple of 64 with an extra field of this name.
  const std::size_t fixed = 30 + local_name.size() + 4;
  const std::string padding((64 - (at_ + fixed) % 64) % 64, 'Z');
  write("PK\3\4" + le<u16>(0) + le<u16>(lies.flags) + le<u16>(lies.method) + le<u32>(0) +
        le<u32>(follows ? 0 : crc) + le<u32>(follows ? 0 : narrow(bytes.size())) +
        le<u32>(follows ? 0 : narrow(bytes.size())) + le<u16>(static_cast<u16>(local_name.size())) +
        le<u16>(static_cast<u16>(padding.size() + 4)) + local_name + "FB" +
        le<u16>(static_cast<u16>(padding.size())) + padding);
  write(bytes);
  if (follows)
    write("PK\7\10" + le<u32>(crc) + le<u32>(narrow(bytes.size())) + le<u32>(narrow(bytes.size())));
  const u64 size = lies.size.value_or(bytes.size());
  const u64 stored = lies.stored_size.value_or(size);
  const u64 begin = lies.header_begin.value_or(header_begin);
  const bool wide =
      style_.wide_entries || size > 0xFFFFFFFE || stored > 0xFFFFFFFE || begin > 0xFFFFFFFE;
  const std::string extra =
      wide ? le<u16>(1) + le<u16>(24) + le<u64>(size) + le<u64>(stored) + le<u64>(begin) : "";
  const auto shown = [wide](u64 value) { return le<u32>(wide ? 0xFFFFFFFF : narrow(value)); };
  directory_ += "PK\1\2" + le<u16>(0) + le<u16>(0) + le<u16>(lies.flags) + le<u16>(lies.method) +
                le<u32>(0) + le<u32>(lies.crc32.value_or(crc)) + shown(stored) + shown(size) +
                le<u16>(static_cast<u16>(name.size())) + le<u16>(static_cast<u16>(extra.size())) +
                le<u16>(0) + le<u16>(0) + le<u16>(0) + le<u32>(0) + shown(begin) + name + extra;
  ++count_;
}

void ZipWriter::finish() {
  const u64 begin = at_;
  const u64 size = directory_.size();
  write(directory_);
  if (style_.wide_end) {
    const u64 record = at_;
    write("PK\6\6" + le<u64>(44) + le<u16>(0x031e) + le<u16>(45) + le<u32>(0) + le<u32>(0) +
          le<u64>(count_) + le<u64>(count_) + le<u64>(size) + le<u64>(begin));
    write("PK\6\7" + le<u32>(0) + le<u64>(record) + le<u32>(1));
  }
  const auto count = static_cast<u16>(std::min<u64>(count_, 0xFFFF));
  write("PK\5\6" + le<u16>(0) + le<u16>(0) + le<u16>(count) + le<u16>(count) +
        le<u32>(narrow(size)) + le<u32>(narrow(begin)) +
        le<u16>(static_cast<u16>(style_.comment.size())) + style_.comment);
}

Pickle& Pickle::text(std::string_view value) {
  return op("X").op(le<u32>(static_cast<u32>(value.size()))).op(value);
}

Pickle& Pickle::integer(std::int64_t value) {
  if (value >= 0 && value < 256)
    return op("K").op(le<std::uint8_t>(static_cast<std::uint8_t>(value)));
  if (value == static_cast<std::int32_t>(value))
    return op("J").op(le<std::int32_t>(static_cast<std::int32_t>(value)));
  return op("\x8a\x08").op(le<std::int64_t>(value));
}

Pickle& Pickle::global(const std::string& module, const std::string& name) {
  return op("c" + module + "\n" + name + "\n");
}

Pickle& Pickle::integers(const std::vector<std::int64_t>& values) {
  op("(");
  for (const std::int64_t value : values) integer(value);
  return op("t");
}

std::string pushed(const TensorSpec& tensor) {
  Pickle pickle;
  pickle.bytes.clear();
  pickle.global("torch._utils", "_rebuild_tensor_v2")
      .op("((")
      .text("storage")
      .global("torch", tensor.type);
  pickle.text(tensor.key).text("cpu").integer(tensor.elements).op("tQ").integer(tensor.offset);
  pickle.integers(tensor.sizes).integers(tensor.strides).op("\x89");
  return pickle.global("collections", "OrderedDict").op(")RtR").bytes;
}

std::string pickle_of(const std::vector<TensorSpec>& tensors) {
  constexpr std::size_t kBatch = 1000;  // as Python's pickler
  Pickle pickle;
  pickle.global("collections", "OrderedDict").op(")R");
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    if (i % kBatch == 0) pickle.op("(");
    pickle.text(tensors[i].name).op(pushed(tensors[i]));
    if ((i + 1) % kBatch == 0 || i + 1 == tensors.size()) pickle.op("u");
  }
  return pickle.op(".").bytes;
}

std::string zip_of(const std::vector<Member>& members, const ZipWriter::Style& style) {
  std::ostringstream out;
  ZipWriter writer(out, style);
  for (const Member& member : members) writer.add(member.name, member.bytes, member.lies);
  writer.finish();
  return out.str();
}

std::string torch_file_of(const std::string& pickle, const std::vector<std::string>& storages,
                          const std::string& byte_order) {
  std::vector<Member> members{{"m/data.pkl", pickle}, {"m/byteorder", byte_order}};
  for (std::size_t i = 0; i < storages.size(); ++i)
    members.push_back({"m/data/" + std::to_string(i), storages[i]});
  members.push_back({"m/version", "3\n"});
  return zip_of(members);
}

void write_torch_file(const std::filesystem::path& path, const NamedTensors& tensors,
                      const std::string& prefix) {
  std::ofstream out(path, std::ios::binary);
  ZipWriter writer(out, {});
  std::vector<TensorSpec> specs;
  for (const auto& [name, tensor] : tensors)
    specs.push_back({.name = prefix + name,
                     .type = tensor.is_floating_point() ? "FloatStorage" : "LongStorage",
                     .key = std::to_string(specs.size()),
                     .elements = tensor.numel(),
                     .sizes = tensor.sizes().vec(),
                     .strides = tensor.strides().vec()});
  writer.add("merlin/data.pkl", pickle_of(specs));
  writer.add("merlin/byteorder", "little");
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const at::Tensor& tensor = tensors[i].second;
    writer.add("merlin/data/" + specs[i].key,
               {static_cast<const char*>(tensor.const_data_ptr()), tensor.nbytes()});
  }
  writer.finish();
}

}  // namespace triphase::models::test
