// SPDX-License-Identifier: Apache-2.0
#include "trainer/study/cell_names.hpp"

#include <algorithm>
#include <cctype>
#include <map>

#include "base/hash.hpp"
#include "trainer/study/setting_json.hpp"

namespace triphase::trainer {
namespace {

constexpr std::size_t kMostCharacters = 110;  // without the hash

/// The last `count` parts of a key with dots.
std::string last_parts(const std::string& key, int count) {
  std::size_t begin = key.size();
  for (int i = 0; i < count && begin != std::string::npos && begin > 0; ++i)
    begin = key.rfind('.', begin - 1);
  return begin == std::string::npos ? key : key.substr(begin + 1);
}

std::string value_text(const Json& value, bool& is_exact) {
  if (value.is_array()) {
    std::string text;
    for (const Json& element : value) text += (text.empty() ? "" : "+") + value_text(element, is_exact);
    return text.empty() ? "none" : text;
  }
  if (!value.is_string()) return value.dump();
  std::string text = value.get<std::string>();
  for (char& c : text) {
    if (std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '.' || c == '_' || c == '-') continue;
    is_exact = false;
    c = '-';
  }
  return text;
}

/// "peft", "t0.07", "rank4", "sites-a+b", "reduction-fast".
std::string part_of(const std::string& label, const ConfigSetting& setting, bool& is_exact) {
  const Json value = setting_json(setting);
  // As TOML writes it: the same digits as on every other page.
  if (value.is_number()) return label + setting.value;
  if (value.is_string() && label == "method") return value_text(value, is_exact);
  return label + "-" + value_text(value, is_exact);
}

std::string hash_of(const std::vector<ConfigSetting>& cell) {
  std::string all;
  for (const ConfigSetting& setting : cell) all += setting.key + "=" + setting.value + "\n";
  return hex64(xxh3(all)).substr(0, 8);
}

std::string name_of(const std::vector<ConfigSetting>& cell,
                    const std::map<std::string, std::string>& labels) {
  std::string name;
  bool is_exact = true;
  for (const ConfigSetting& setting : cell)
    name += (name.empty() ? "" : "_") + part_of(labels.at(setting.key), setting, is_exact);
  for (char& c : name)  // a key in quotes may hold anything; the run refuses it later
    if (std::isalnum(static_cast<unsigned char>(c)) == 0 && std::string("._+-").find(c) == std::string::npos) c = '-';
  if (name.front() == '.' || name.front() == '-') name.insert(name.begin(), 'c');
  if (is_exact && name.size() <= kMostCharacters) return name;
  return name.substr(0, kMostCharacters) + "_" + hash_of(cell);
}

}  // namespace

std::vector<std::string> short_keys(const std::vector<std::string>& keys) {
  std::vector<std::string> labels;
  for (const std::string& key : keys) {
    int count = 1;
    const auto is_shared = [&] {
      return std::any_of(keys.begin(), keys.end(), [&](const std::string& other) {
        return other != key && last_parts(other, count) == last_parts(key, count);
      });
    };
    while (last_parts(key, count) != key && is_shared()) ++count;
    labels.push_back(last_parts(key, count));
  }
  return labels;
}

std::vector<std::string> cell_names(const std::vector<std::vector<ConfigSetting>>& cells) {
  std::vector<std::string> keys;
  for (const auto& cell : cells)
    for (const ConfigSetting& setting : cell)
      if (std::find(keys.begin(), keys.end(), setting.key) == keys.end()) keys.push_back(setting.key);
  const std::vector<std::string> labels = short_keys(keys);
  std::map<std::string, std::string> label_of;
  for (std::size_t i = 0; i < keys.size(); ++i) label_of[keys[i]] = labels[i];
  if (label_of.contains("loss.temperature_init")) label_of["loss.temperature_init"] = "t";
  if (label_of.contains("run.seed")) label_of["run.seed"] = "s";
  std::vector<std::string> names;
  std::map<std::string, int> uses;
  for (const auto& cell : cells) ++uses[names.emplace_back(name_of(cell, label_of))];
  for (std::size_t i = 0; i < names.size(); ++i)
    if (uses[names[i]] > 1) names[i] += "_" + hash_of(cells[i]);
  return names;
}

}  // namespace triphase::trainer
