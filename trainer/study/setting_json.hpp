// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/config_reader.hpp"
#include "base/json.hpp"

namespace triphase::trainer {

/// The value with its type. TOML as toml_text() writes it is JSON, but for inf and nan: they become text.
[[nodiscard]] inline Json setting_json(const ConfigSetting& setting) {
  Json value = Json::parse(setting.value, nullptr, /*allow_exceptions=*/false);
  return value.is_discarded() ? Json(setting.value) : value;
}

}  // namespace triphase::trainer
