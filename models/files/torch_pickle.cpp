// SPDX-License-Identifier: Apache-2.0
#include "models/files/torch_pickle.hpp"

#include "base/error.hpp"
#include "base/json.hpp"
#include "models/files/mapped_tensors.hpp"
#include "models/files/torch_unpickler.hpp"

#include <algorithm>
#include <array>
#include <optional>

namespace triphase::models {
namespace {

using Kind = PickleValue::Kind;

constexpr std::array<std::string_view, 2> kWrappers{"state_dict", "model"};

bool is_utf8(std::string_view text) {
  try {
    static_cast<void>(Json(std::string(text)).dump());
    return true;
  } catch (const Json::type_error&) {  // what the JSON library throws for any other encoding
    return false;
  }
}

/// The dict of tensors: the outermost one, or what it holds under one of the usual names.
std::int64_t dict_of_tensors(const TorchUnpickler& unpickler, const PickleValue& root) {
  if (root.kind != Kind::kDict) unpickler.refuse("holds no dict");
  std::optional<std::int64_t> inner;
  for (const auto& [dict, key, value] : unpickler.entries()) {
    if (dict != root.number || key.kind != Kind::kString || value.kind != Kind::kDict) continue;
    const std::string_view name = unpickler.text(key);
    if (std::find(kWrappers.begin(), kWrappers.end(), name) == kWrappers.end()) continue;
    if (inner) unpickler.refuse("holds both 'state_dict' and 'model', or one of them twice");
    inner = value.number;
  }
  return inner.value_or(root.number);
}

std::vector<std::int64_t> integers(const TorchUnpickler& unpickler, const PickleValue& tuple) {
  std::vector<std::int64_t> result;
  for (const PickleValue& member : unpickler.members(tuple)) result.push_back(member.number);
  return result;
}

void check_name(const TorchUnpickler& unpickler, std::string_view name) {
  if (name.empty() || name.size() > kMaxNameBytes || name.find('\0') != std::string_view::npos ||
      !is_utf8(name))
    unpickler.refuse(
        str("has a tensor whose name is empty, longer than ", kMaxNameBytes, " bytes or no UTF-8"));
}

void check_unique(const TorchUnpickler& unpickler, const std::vector<PickledTensor>& tensors) {
  std::vector<std::string_view> names;
  names.reserve(tensors.size());
  for (const PickledTensor& tensor : tensors) names.push_back(tensor.name);
  std::sort(names.begin(), names.end());
  const auto twice = std::adjacent_find(names.begin(), names.end());
  if (twice != names.end()) unpickler.refuse(str("holds '", *twice, "' twice"));
}

}  // namespace

std::vector<PickledTensor> read_torch_pickle(std::span<const std::byte> pickle,
                                             const std::string& source) {
  TorchUnpickler unpickler(pickle, source);
  const std::int64_t chosen = dict_of_tensors(unpickler, unpickler.run());
  std::vector<PickledTensor> tensors;
  for (const auto& [dict, key, value] : unpickler.entries()) {
    if (dict != chosen) continue;
    if (key.kind != Kind::kString)
      unpickler.refuse("has a dict of tensors with a key that is no text");
    const std::string_view name = unpickler.text(key);
    check_name(unpickler, name);
    if (value.kind != Kind::kTensor)
      unpickler.refuse(str("holds '", name, "', which is no tensor"));
    if (std::ssize(tensors) >= kMaxTensors)
      unpickler.refuse(str("has more than ", kMaxTensors, " tensors"));
    const TorchUnpickler::Tensor& tensor = unpickler.tensor(value);
    tensors.push_back({name, tensor.storage.dtype, unpickler.text(tensor.storage.key),
                       tensor.storage.elements, tensor.offset, integers(unpickler, tensor.sizes),
                       integers(unpickler, tensor.strides)});
  }
  check_unique(unpickler, tensors);
  return tensors;
}

}  // namespace triphase::models
