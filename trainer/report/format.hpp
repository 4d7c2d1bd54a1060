// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/json.hpp"

#include <cstdint>
#include <string>
#include <string_view>

namespace triphase::trainer {

/// Text that HTML and SVG take as text and nothing else, in elements and in quoted attributes.
/// Control characters that XML forbids become '?'.
[[nodiscard]] std::string escape_html(std::string_view text);

/// Fixed decimals; "–" for a number that is not finite.
[[nodiscard]] std::string decimal(double value, int digits);
/// "0.847", three decimals; "–" for null.
[[nodiscard]] std::string score_text(const Json& value);
/// "[0.801, 0.889]"; "" for null.
[[nodiscard]] std::string interval_text(const Json& interval);
/// 270,935,389; "–" for null.
[[nodiscard]] std::string count_text(const Json& value);
[[nodiscard]] std::string count_text(std::int64_t value);
/// "17.6 MiB"; "–" for null.
[[nodiscard]] std::string bytes_text(const Json& value);
/// "0.332 s" or "41 ms"; "–" for null.
[[nodiscard]] std::string seconds_text(const Json& value);
/// Up to four significant digits, for settings such as a temperature; "–" for null.
[[nodiscard]] std::string number_text(const Json& value);

}  // namespace triphase::trainer
