// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/json.hpp"

#include <optional>

namespace triphase::trainer {

/// The member of an object; null where there is none, or no object. Files of another version than
/// this one may lack whatever this one writes.
[[nodiscard]] Json member(const Json& object, const char* key);
/// The member as a finite number.
[[nodiscard]] std::optional<double> number(const Json& object, const char* key);
/// The element of an array; null where there is none.
[[nodiscard]] Json element(const Json& array, std::size_t index);
/// Low and high end of an interval [low, high]; null where it is none.
[[nodiscard]] Json low_end(const Json& interval);
[[nodiscard]] Json high_end(const Json& interval);
/// A number as JSON; null for nothing and for what is not finite.
[[nodiscard]] Json json_of(std::optional<double> value);

}  // namespace triphase::trainer
