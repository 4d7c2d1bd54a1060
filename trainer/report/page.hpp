// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/json.hpp"

#include <string>

namespace triphase::trainer {

/// The page: one HTML document in XML form, no script, nothing fetched. Made from report_figures()
/// and, where CSV files lie beside the page, the name of their folder as `folder`.
[[nodiscard]] std::string report_page(const Json& figures);

/// Style of the page: light and dark, print, focus, narrow screens.
[[nodiscard]] const char* page_style();

/// @name Parts of the page; each "" when it has nothing to show.
/// @{
[[nodiscard]] std::string result_section(const Json& figures);
[[nodiscard]] std::string shape_section(const Json& figures);
[[nodiscard]] std::string training_section(const Json& figures);
[[nodiscard]] std::string temperature_section(const Json& figures);
[[nodiscard]] std::string cost_section(const Json& figures);
[[nodiscard]] std::string place_section(const Json& figures);
[[nodiscard]] std::string retrieval_section(const Json& figures);
[[nodiscard]] std::string cohort_section(const Json& figures);
[[nodiscard]] std::string settings_section(const Json& figures);
[[nodiscard]] std::string origins_section(const Json& figures);
[[nodiscard]] std::string missing_section(const Json& figures);
[[nodiscard]] std::string limits_section(const Json& figures);
/// @}

}  // namespace triphase::trainer
