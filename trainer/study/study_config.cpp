// SPDX-License-Identifier: Apache-2.0
#include "trainer/study/study_config.hpp"

#include <algorithm>
#include <cctype>
#include <set>

#include "trainer/study/setting_json.hpp"

namespace triphase::trainer {
namespace {

constexpr std::int64_t kMostGroups = 1 << 20;
constexpr std::size_t kMostCells = 10'000;

[[noreturn]] void refuse(const ConfigSetting& setting, const std::string& why) {
  throw ConfigError(str(setting.origin, ": '", setting.key, "' ", why));
}

/// What the study gives each run itself, and where it has it.
std::string owner_of(const std::string& key) {
  if (key == "run.name") return "study.name";
  if (key == "run.output_dir") return "study.output_dir";
  return {};
}

void check_free(const std::vector<ConfigSetting>& settings) {
  for (const ConfigSetting& setting : settings)
    if (const std::string owner = owner_of(setting.key); !owner.empty())
      refuse(setting, "is the study's to give: each cell has a folder of its own. Set " + owner + ".");
}

StudyAxis axis_of(const ConfigSetting& setting) {
  if (!setting.is_array)
    refuse(setting, "must be the list of its values, is " + setting.value + ". Put it in brackets.");
  if (setting.elements.empty())
    refuse(setting, "has no values, so that there would be no cell. Give one, or take it out.");
  for (std::size_t i = 0; i < setting.elements.size(); ++i)
    for (std::size_t j = 0; j < i; ++j)
      if (is_same_value(setting.elements[i], setting.elements[j]))
        refuse(setting.elements[i], "has the value " + setting.elements[i].value +
                                        " twice. Take one out.");
  return {setting.key, setting.elements};
}

std::set<std::string> keys_of_cells(const StudyConfig& study) {
  std::set<std::string> keys;
  for (const StudyAxis& axis : study.axes) keys.insert(axis.key);
  for (const auto& cell : study.cells)
    for (const ConfigSetting& setting : cell) keys.insert(setting.key);
  return keys;
}

void read_axes(ConfigReader& reader, StudyConfig& study) {
  const std::vector<ConfigSetting> axes = reader.read_settings("study.axes");
  check_free(axes);
  std::size_t count = 1;
  for (const ConfigSetting& axis : axes) {
    study.axes.push_back(axis_of(axis));
    count *= study.axes.back().values.size();
    if (count > kMostCells)
      refuse(axis, str("makes the grid larger than ", kMostCells, " cells. Divide the study."));
  }
}

void read_cells(ConfigReader& reader, StudyConfig& study) {
  for (std::int64_t i = 0; i < reader.array_size("study.cells"); ++i) {
    const std::string path = str("study.cells[", i, "]");
    study.cells.push_back(reader.read_settings(path));
    check_free(study.cells.back());
    if (study.cells.back().empty())
      throw reader.error(path, "sets no key. Write its keys as \"table.key\" = value.");
  }
}

void check_rule(const StudyRule& rule, const StudyConfig& study) {
  const std::set<std::string> keys = keys_of_cells(study);
  for (const ConfigSetting& setting : rule.match) {
    if (keys.contains(setting.key)) continue;
    const auto near = nearest_word(setting.key, {keys.begin(), keys.end()});
    refuse(setting, str("is no key of the study's axes or cells, so that the rule would never apply.",
                        near ? " Did you mean '" + *near + "'?" : " Take it out."));
  }
  check_free(rule.set);
  for (const ConfigSetting& setting : rule.set)
    for (const StudyAxis& axis : study.axes)
      if (axis.key == setting.key)
        refuse(setting, "is an axis of the study, whose value would win. Take one of the two out.");
}

void read_rules(ConfigReader& reader, StudyConfig& study) {
  for (std::int64_t i = 0; i < reader.array_size("study.when"); ++i) {
    const std::string path = str("study.when[", i, "]");
    StudyRule rule{.match = reader.read_settings(path + ".match"),
                   .set = reader.read_settings(path + ".set"),
                   .origin = reader.origin(path)};
    if (rule.set.empty())
      throw reader.error(path, "sets nothing. Write set = {\"table.key\" = value}.");
    check_rule(rule, study);
    study.rules.push_back(std::move(rule));
  }
}

bool is_study_variable(std::string name) {
  std::transform(name.begin(), name.end(), name.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return name == "triphase__study" || name.starts_with("triphase__study__");
}

bool is_run_key(const std::string& key) { return key != "study" && !key.starts_with("study."); }

/// Takes what concerns the runs out of the sources, into the study. @return what is left
ConfigSources take_run_settings(ConfigSources sources, StudyConfig& study) {
  const std::map<std::string, std::string> environment = std::move(sources.environment);
  sources.environment.clear();
  for (const auto& [name, value] : environment)
    (is_study_variable(name) ? sources.environment : study.run_environment).emplace(name, value);
  const std::vector<std::string> sets = std::move(sources.sets);
  sources.sets.clear();
  for (const std::string& set : sets) {
    const std::string key = set.substr(0, set.find('='));
    const bool is_runs = set.size() > key.size() && is_run_key(key);
    (is_runs ? study.run_sets : sources.sets).push_back(set);
  }
  return sources;
}

void check_run_sets(const StudyConfig& study) {
  const std::set<std::string> keys = keys_of_cells(study);
  for (const std::string& set : study.run_sets) {
    const std::string key = set.substr(0, set.find('='));
    const std::string owner = owner_of(key);
    TRIPHASE_CHECK(ConfigError, owner.empty() && !keys.contains(key), "--set ", key,
                   ": the study gives each of its cells its own '", key, "'. Set ",
                   owner.empty() ? "study.axes." + key + "=[...] instead, or change its cells" : owner,
                   ".");
  }
}

void read_study_table(ConfigReader& reader, StudyConfig& study) {
  reader.read("study.name", study.name);
  const bool is_plain = !study.name.empty() && study.name != "." && study.name != ".." &&
                        study.name.find('/') == std::string::npos;
  if (!is_plain)
    throw reader.error("study.name",
                       "must be a folder's name without '/', is '" + study.name + "'.");
  reader.read("study.output_dir", study.output_dir);
  if (study.output_dir.empty())
    throw reader.error("study.output_dir", "is empty. Use '.' for this folder.");
  reader.read("study.base", study.base);
  reader.read("study.groups", study.groups);
  if (study.groups < 0 || study.groups > kMostGroups)
    throw reader.error("study.groups", str("must be in [0, ", kMostGroups, "], is ", study.groups, "."));
}

}  // namespace

bool is_same_value(const ConfigSetting& a, const ConfigSetting& b) {
  return setting_json(a) == setting_json(b);
}

const ConfigSetting* find_setting(const std::vector<ConfigSetting>& settings,
                                  const std::string& key) {
  const auto found = std::find_if(settings.begin(), settings.end(),
                                  [&](const ConfigSetting& each) { return each.key == key; });
  return found == settings.end() ? nullptr : &*found;
}

StudyConfig load_study_config(const ConfigSources& sources) {
  StudyConfig study;
  ConfigReader reader(take_run_settings(sources, study));
  read_study_table(reader, study);
  read_axes(reader, study);
  read_cells(reader, study);
  read_rules(reader, study);
  reader.finish();
  if (study.base.empty())
    throw reader.error("study.base", "names no run file. Give the base run's TOML file.");
  if (study.axes.empty() && study.cells.empty())
    throw reader.error("study.axes",
                       "is missing, and so is study.cells, so that there is no cell. Write keys and "
                       "lists of values under [study.axes].");
  check_run_sets(study);
  return study;
}

}  // namespace triphase::trainer
