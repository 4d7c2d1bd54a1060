// SPDX-License-Identifier: Apache-2.0
#include "trainer/study/study_cells.hpp"

#include <algorithm>
#include <map>

#include "base/toml_writer.hpp"
#include "trainer/same_settings.hpp"
#include "trainer/study/cell_names.hpp"

namespace triphase::trainer {
namespace {

using Values = std::vector<ConfigSetting>;

std::vector<Values> grid_of(const std::vector<StudyAxis>& axes) {
  if (axes.empty()) return {};
  std::vector<Values> grid{{}};
  for (const StudyAxis& axis : axes) {
    std::vector<Values> longer;
    for (const Values& values : grid) {
      for (const ConfigSetting& value : axis.values) {
        longer.push_back(values);
        longer.back().push_back(value);
      }
    }
    grid = std::move(longer);
  }
  return grid;
}

RunConfig config_of(const StudyConfig& study, const std::string& name, const Values& values) {
  ConfigSources sources{.files = {}, .environment = study.run_environment, .sets = study.run_sets};
  for (const std::string& file : study.base) sources.files.emplace_back(file);
  for (const StudyRule& rule : study.rules)
    if (is_matched(rule, values))
      sources.settings.insert(sources.settings.end(), rule.set.begin(), rule.set.end());
  sources.settings.insert(sources.settings.end(), values.begin(), values.end());
  sources.settings.push_back({"run.output_dir", toml_text(study.folder()), "study.output_dir"});
  sources.settings.push_back({"run.name", toml_text(name), "study.name"});
  try {
    return load_run_config(sources);
  } catch (Error& error) {
    error.add_context(str("in cell '", name, "' of the study"));
    throw;
  }
}

void check_distinct(const std::vector<StudyCell>& cells) {
  std::map<std::string, std::string> seen;
  for (const StudyCell& cell : cells) {
    std::string settings = cell.config.resolved_toml;
    const std::string own = "name = " + toml_text(cell.name) + "\n";
    settings.erase(settings.find(own), own.size());
    const auto [other, is_new] = seen.emplace(settings, cell.name);
    TRIPHASE_CHECK(ConfigError, is_new, cell.values.front().origin, ": cells '", other->second,
                   "' and '", cell.name,
                   "' are the same run: every key has the same value. Take one out.");
  }
}

void check_unchanged(const RunConfig& config, const std::filesystem::path& file) {
  constexpr std::size_t kShown = 6;
  const std::vector<std::string> lines = differing_settings(file, config);
  std::string text;
  for (std::size_t i = 0; i < std::min(kShown, lines.size()); ++i) text += "\n    " + lines[i];
  if (lines.size() > kShown) text += str("\n    and ", lines.size() - kShown, " more");
  TRIPHASE_CHECK(ConfigError, lines.empty(), "'", file.string(),
                 "' was written with other settings than the study has now (its numbers would pass "
                 "for theirs):",
                 text, "\n  Set them back, give study.name another value, or move '",
                 config.run_dir(), "' away to have that run made again.");
}

}  // namespace

std::filesystem::path StudyCell::evaluation() const {
  return std::filesystem::path(config.run_dir()) / "evaluation" /
         (config.data.test_split + ".json");
}

std::filesystem::path StudyCell::evaluation_settings() const {
  return evaluation().replace_extension(".toml");
}

bool StudyCell::is_done() const {
  return std::filesystem::exists(evaluation()) && std::filesystem::exists(evaluation_settings());
}

bool is_matched(const StudyRule& rule, const Values& values) {
  return std::all_of(rule.match.begin(), rule.match.end(), [&](const ConfigSetting& wanted) {
    const ConfigSetting* const value = find_setting(values, wanted.key);
    return value != nullptr && is_same_value(*value, wanted);
  });
}

std::vector<StudyCell> study_cells(const StudyConfig& study) {
  std::vector<Values> all = grid_of(study.axes);
  all.insert(all.end(), study.cells.begin(), study.cells.end());
  const std::vector<std::string> names = cell_names(all);
  std::vector<StudyCell> cells;
  for (std::size_t i = 0; i < all.size(); ++i)
    cells.push_back({names[i], all[i], config_of(study, names[i], all[i])});
  check_distinct(cells);
  return cells;
}

void check_results_are_of(const std::vector<StudyCell>& cells) {
  for (const StudyCell& cell : cells) {
    const std::filesystem::path trained =
        std::filesystem::path(cell.config.run_dir()) / "config.toml";
    if (std::filesystem::exists(trained)) check_unchanged(cell.config, trained);
    if (cell.is_done()) check_unchanged(cell.config, cell.evaluation_settings());
  }
}

}  // namespace triphase::trainer
