// SPDX-License-Identifier: Apache-2.0
#include "trainer/report/fields.hpp"

#include <cmath>

namespace triphase::trainer {

Json member(const Json& object, const char* key) {
  return object.is_object() && object.contains(key) ? object.at(key) : Json();
}

std::optional<double> number(const Json& object, const char* key) {
  const Json value = member(object, key);
  if (!value.is_number() || !std::isfinite(value.get<double>())) return std::nullopt;
  return value.get<double>();
}

Json element(const Json& array, std::size_t index) {
  return array.is_array() && index < array.size() ? array[index] : Json();
}

Json low_end(const Json& interval) {
  return interval.is_array() && interval.size() == 2 ? interval[0] : Json();
}

Json high_end(const Json& interval) {
  return interval.is_array() && interval.size() == 2 ? interval[1] : Json();
}

Json json_of(std::optional<double> value) {
  return value && std::isfinite(*value) ? Json(*value) : Json();
}

}  // namespace triphase::trainer
