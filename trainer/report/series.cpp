// SPDX-License-Identifier: Apache-2.0
#include "trainer/report/series.hpp"

#include "base/error.hpp"
#include "trainer/report/fields.hpp"
#include "trainer/report/headline.hpp"

#include <algorithm>
#include <map>
#include <set>

namespace triphase::trainer {
namespace {

using Settings = std::map<std::string, std::string>;

/// Settings that tell runs of one group or method apart only by name and place, or by seed.
bool decides_nothing(const std::string& key) {
  static const std::set<std::string> keys{"run.name", "run.output_dir", "run.seed",
                                          "run.log_every_steps", "run.max_seconds"};
  return keys.contains(key);
}

Settings deciding_settings(const ReportRun& run) {
  Settings settings;
  for (const auto& [key, value] : run.settings)
    if (!decides_nothing(key)) settings[key] = value;
  return settings;
}

/// Equal for runs whose numbers are of the same studies.
std::string evaluated(const Json& run) {
  const Json* evaluation = main_evaluation(run);
  std::string text = run.at("method").dump() + run.at("environment").at("data_hash").dump();
  if (evaluation == nullptr) return text;
  for (const char* key : {"data_hash", "sites", "split", "n"})
    text += member(*evaluation, key).dump();
  return text;
}

struct Group {
  Settings settings;
  std::string evaluated;
  std::set<std::int64_t> seeds;
  std::vector<std::size_t> runs;
};

std::vector<Group> find_groups(const std::vector<ReportRun>& runs, const Json& json) {
  std::vector<Group> groups;
  for (std::size_t i = 0; i < runs.size(); ++i) {
    const Settings settings = deciding_settings(runs[i]);
    const std::string studies = evaluated(json[i]);
    const std::int64_t seed = runs[i].config.run.seed;
    const auto known = std::find_if(groups.begin(), groups.end(), [&](const Group& group) {
      return group.settings == settings && group.evaluated == studies && !group.seeds.contains(seed);
    });
    Group& group = known == groups.end() ? groups.emplace_back(Group{settings, studies, {}, {}})
                                         : *known;
    group.seeds.insert(seed);
    group.runs.push_back(i);
  }
  return groups;
}

/// What tells this group from the others of its method: "loss.temperature_init = 0.07".
std::string distinction(const Group& group, const std::vector<Group>& of_method) {
  std::string text;
  for (const auto& [key, value] : group.settings) {
    const bool differs = std::any_of(of_method.begin(), of_method.end(), [&](const Group& other) {
      const auto there = other.settings.find(key);
      return there == other.settings.end() || there->second != value;
    });
    if (!differs) continue;
    const std::size_t dot = key.rfind('.');
    text += str(", ", key.substr(dot == std::string::npos ? 0 : dot + 1), " ", value);
  }
  return text;
}

/// A run's own name; of several seeds what they share.
std::string group_name(const Group& group, const std::vector<Group>& groups, const Json& json) {
  const Json& first = json[group.runs.front()];
  if (group.runs.size() == 1) return first.at("name");
  std::vector<Group> of_method;
  for (const Group& other : groups)
    if (json[other.runs.front()].at("method") == first.at("method")) of_method.push_back(other);
  return str(method_text(first), distinction(group, of_method), " (", group.runs.size(), " seeds)");
}

std::string family_name(const Json& run, const Json& runs) {
  const auto learns = [](const Json& each) { return member(member(each, "temperature"), "learnable"); };
  const bool differ = std::any_of(runs.begin(), runs.end(), [&](const Json& other) {
    return !learns(run).is_null() && !learns(other).is_null() && learns(other) != learns(run);
  });
  if (!differ) return method_text(run);
  return method_text(run) + (learns(run).get<bool>() ? ", temperature learned" : ", temperature fixed");
}

/// Adds `run` to the entry of that name, made when there is none. @return its place
std::size_t join(Json& entries, const std::string& name, std::size_t run) {
  for (std::size_t i = 0; i < entries.size(); ++i) {
    if (entries[i].at("name") != name) continue;
    entries[i]["runs"].push_back(run);
    return i;
  }
  entries.push_back({{"name", name}, {"runs", {run}}});
  return entries.size() - 1;
}

}  // namespace

void add_series(const std::vector<ReportRun>& runs, Json& figures) {
  Json& json = figures["runs"];
  const std::vector<Group> groups = find_groups(runs, json);
  figures["groups"] = Json::array();
  std::map<std::string, int> seen;
  for (const Group& group : groups) {
    std::string name = group_name(group, groups, json);
    const int count = ++seen[name];
    if (count > 1) name += str(" (", count, ")");
    for (const std::size_t i : group.runs) json[i]["group"] = figures["groups"].size();
    figures["groups"].push_back({{"name", name}, {"runs", group.runs}});
  }
  figures["series"] = Json::array();
  for (std::size_t i = 0; i < json.size(); ++i) {
    const std::string name =
        groups.size() > kMaxSeries
            ? family_name(json[i], json)
            : figures["groups"][json[i]["group"].get<std::size_t>()]["name"].get<std::string>();
    json[i]["series"] = join(figures["series"], name, i);
  }
}

}  // namespace triphase::trainer
