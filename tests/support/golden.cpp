// SPDX-License-Identifier: Apache-2.0
#include "tests/support/golden.hpp"

#include <bit>
#include <cstring>
#include <stdexcept>

#include "tests/support/test_support.hpp"

namespace triphase::test {
namespace {

template <class T>
std::vector<double> widen(const std::string& bytes) {
  std::vector<double> values(bytes.size() / sizeof(T));
  for (std::size_t i = 0; i < values.size(); ++i) {
    T value;
    std::memcpy(&value, bytes.data() + i * sizeof(T), sizeof(T));
    values[i] = static_cast<double>(value);
  }
  return values;
}

/// bfloat16 is the upper half of a float32.
std::vector<double> widen_bfloat16(const std::string& bytes) {
  std::vector<double> values;
  for (const double half : widen<std::uint16_t>(bytes))
    values.push_back(std::bit_cast<float>(static_cast<std::uint32_t>(half) << 16));
  return values;
}

std::vector<double> values_of(const std::string& dtype, const std::string& bytes) {
  if (dtype == "F64") return widen<double>(bytes);
  if (dtype == "F32") return widen<float>(bytes);
  if (dtype == "BF16") return widen_bfloat16(bytes);
  if (dtype == "I64") return widen<std::int64_t>(bytes);
  if (dtype == "I32") return widen<std::int32_t>(bytes);
  if (dtype == "I16") return widen<std::int16_t>(bytes);
  if (dtype == "I8") return widen<std::int8_t>(bytes);
  if (dtype == "U8" || dtype == "BOOL") return widen<std::uint8_t>(bytes);
  throw std::runtime_error("golden tensors of type " + dtype + " are not read");
}

}  // namespace

const GoldenTensor& Golden::at(const std::string& name) const {
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) throw std::runtime_error("no golden tensor '" + name + "'");
  return found->second;
}

Golden load_golden(const std::string& name) {
  const std::filesystem::path path = golden_folder() / (name + ".safetensors");
  const std::string file = read_text(path);
  std::uint64_t header_bytes = 0;
  if (file.size() < sizeof(header_bytes))
    throw std::runtime_error("no golden file '" + path.string() + "'");
  std::memcpy(&header_bytes, file.data(), sizeof(header_bytes));
  const Json header = Json::parse(file.substr(sizeof(header_bytes), header_bytes));
  const std::size_t start = sizeof(header_bytes) + header_bytes;
  std::map<std::string, GoldenTensor> tensors;
  for (const auto& [tensor_name, entry] : header.items()) {
    if (tensor_name == "__metadata__") continue;
    GoldenTensor tensor;
    tensor.dtype = entry.at("dtype").get<std::string>();
    tensor.shape = entry.at("shape").get<std::vector<std::int64_t>>();
    const auto [from, to] = entry.at("data_offsets").get<std::pair<std::size_t, std::size_t>>();
    tensor.values = values_of(tensor.dtype, file.substr(start + from, to - from));
    tensors.emplace(tensor_name, std::move(tensor));
  }
  return Golden(std::move(tensors));
}

Json load_golden_json(const std::string& name) {
  return read_json(golden_folder() / (name + ".json"));
}

}  // namespace triphase::test
