// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/json.hpp"
#include "trainer/report/data_table.hpp"

#include <string>
#include <vector>

namespace triphase::trainer {

/// The page's tables (see DataTable), in its order; those without rows are left out. What a file
/// lacks is null.
/// @param figures of report_figures(), all but `tables`
[[nodiscard]] Json report_tables(const Json& figures);

/// Of every table that there may be.
[[nodiscard]] std::vector<std::string> table_names();

/// One way of scoring one finding in one evaluation of one run. The pointers are into `figures`.
struct Scored {
  const Json* run = nullptr;
  const Json* evaluation = nullptr;
  const Json* scores = nullptr;
  std::string finding;
  std::string scored_by;  ///< "prompts", "linear probe" or "report probe"
  bool is_main = false;   ///< of the run's main evaluation and the page's finding
  [[nodiscard]] std::string name() const { return run->at("name"); }
};
[[nodiscard]] std::vector<Scored> all_scored(const Json& figures);
/// The main ones of that way of scoring, in the order of runs.
[[nodiscard]] std::vector<Scored> main_scored(const Json& figures, const std::string& scored_by);

/// @name Parts of report_tables().
/// @{
[[nodiscard]] std::vector<DataTable> result_tables(const Json& figures);
[[nodiscard]] std::vector<DataTable> curve_tables(const Json& figures);
[[nodiscard]] std::vector<DataTable> training_tables(const Json& figures);
[[nodiscard]] std::vector<DataTable> place_tables(const Json& figures);
[[nodiscard]] std::vector<DataTable> origin_tables(const Json& figures);
/// @}

}  // namespace triphase::trainer
