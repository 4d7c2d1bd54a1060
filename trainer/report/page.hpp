// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/json.hpp"

#include <string>

namespace triphase::trainer {

/// The page: one HTML document in XML form, no script, nothing fetched. Made from report_figures()
/// alone.
[[nodiscard]] std::string report_page(const Json& figures);

/// @name Parts of the page; each "" when it has nothing to show.
/// @{
[[nodiscard]] std::string result_section(const Json& figures);
[[nodiscard]] std::string retrieval_section(const Json& figures);
[[nodiscard]] std::string curves_section(const Json& figures);
[[nodiscard]] std::string methods_section(const Json& figures);
[[nodiscard]] std::string cohort_section(const Json& figures);
[[nodiscard]] std::string settings_section(const Json& figures);
[[nodiscard]] std::string environment_section(const Json& figures);
/// @}

}  // namespace triphase::trainer
