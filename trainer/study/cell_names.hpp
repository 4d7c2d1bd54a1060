// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "base/config_reader.hpp"

namespace triphase::trainer {

/// What a table calls each key: its last part, or as many as tell it from the other keys.
/// Order as given.
[[nodiscard]] std::vector<std::string> short_keys(const std::vector<std::string>& keys);

/// A folder's name for each cell, such as "peft_t0.07_s41": unique, of letters, digits and "._+-",
/// at most 120 of them, and decided by the cell's values and the keys of the study alone. Where that
/// cannot hold all of a value, eight digits of a hash follow.
/// @param cells each with a value at least
[[nodiscard]] std::vector<std::string> cell_names(
    const std::vector<std::vector<ConfigSetting>>& cells);

}  // namespace triphase::trainer
