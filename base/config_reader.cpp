// SPDX-License-Identifier: Apache-2.0
#include "base/config_reader.hpp"

#include "base/config_layers.hpp"
#include "base/toml_writer.hpp"

#include <algorithm>
#include <type_traits>
#include <utility>

namespace triphase {
namespace {

struct Wanted {
  ConfigKind kind;
  bool is_array = false;
};
constexpr Wanted wanted(const bool&) { return {ConfigKind::kBool}; }
constexpr Wanted wanted(const std::int64_t&) { return {ConfigKind::kInteger}; }
constexpr Wanted wanted(const double&) { return {ConfigKind::kDouble}; }
constexpr Wanted wanted(const std::string&) { return {ConfigKind::kString}; }
template <class T>
constexpr Wanted wanted(const std::vector<T>&) {
  return {wanted(T{}).kind, true};
}

std::string wanted_text(Wanted want) {
  if (!want.is_array) return kind_text(want.kind);
  if (want.kind == ConfigKind::kInteger) return "an array of integers";
  return want.kind == ConfigKind::kString ? "an array of strings" : "an array of numbers";
}

[[noreturn]] void throw_wrong_kind(const std::string& path, const ConfigValue& value, Wanted want,
                                   const std::string& element) {
  const bool lacks_quotes = want.kind == ConfigKind::kString && value.kind <= ConfigKind::kDate;
  const bool lacks_brackets = want.is_array && element.empty();
  throw ConfigError(str(value.origin, ": '", path, "' must be ", wanted_text(want), ", ",
                        element.empty() ? "is " : element + " is ", kind_text(value.kind),
                        lacks_brackets ? ". Put it in brackets."
                        : lacks_quotes ? ". Put it in quotes."
                                       : "."));
}

/// @param element "element 2" when the value stands in an array
template <class T>
T convert(const std::string& path, const ConfigValue& value, Wanted want,
          const std::string& element) {
  if (const T* exact = std::get_if<T>(&value.scalar)) return *exact;
  if constexpr (std::is_same_v<T, double>)
    if (const auto* integer = std::get_if<std::int64_t>(&value.scalar))
      return static_cast<double>(*integer);
  throw_wrong_kind(path, value, want, element);
}

template <class T>
void convert_to(const std::string& path, const ConfigValue& value, T& result) {
  result = convert<T>(path, value, wanted(result), "");
}

template <class T>
void convert_to(const std::string& path, const ConfigValue& value, std::vector<T>& result) {
  const Wanted want = wanted(result);
  if (value.kind != ConfigKind::kArray) throw_wrong_kind(path, value, want, "");
  std::vector<T> elements;
  for (const ConfigValue& element : value.elements)
    elements.push_back(convert<T>(path, element, want, str("element ", elements.size())));
  result = std::move(elements);
}

/// The tables that hold `path`: "a" and "a[0]" and "a[0].b" for "a[0].b.c".
std::vector<std::string> enclosing_tables(const std::string& path) {
  std::vector<std::string> tables;
  for (std::size_t i = 0; i < path.size(); ++i)
    if (path[i] == '.' || path[i] == '[') tables.push_back(path.substr(0, i));
  return tables;
}

std::string last_part(const std::string& path) {
  const std::size_t dot = path.rfind('.');
  return dot == std::string::npos ? path : path.substr(dot + 1);
}

std::string quoted_list(const std::vector<std::string>& words) {
  std::string list;
  for (const std::string& word : words) list += (list.empty() ? "'" : ", '") + word + "'";
  return list;
}

bool is_table(const ConfigValue& value) {
  return value.kind == ConfigKind::kTable || value.kind == ConfigKind::kTableArray;
}

bool is_in_table(const std::string& path, const std::string& table) {
  return path == table || path.starts_with(table + ".");
}

ConfigSetting setting_of(const std::string& key, const ConfigValue& value) {
  ConfigSetting setting{.key = key, .value = {}, .origin = value.origin};
  if (const auto* boolean = std::get_if<bool>(&value.scalar)) setting.value = toml_text(*boolean);
  if (const auto* integer = std::get_if<std::int64_t>(&value.scalar))
    setting.value = toml_text(*integer);
  if (const auto* number = std::get_if<double>(&value.scalar)) setting.value = toml_text(*number);
  if (const auto* text = std::get_if<std::string>(&value.scalar)) setting.value = toml_text(*text);
  setting.is_array = value.kind == ConfigKind::kArray;
  if (setting.is_array) {
    std::string list;
    for (const ConfigValue& element : value.elements) {
      setting.elements.push_back(setting_of(key, element));
      list += (list.empty() ? "" : ", ") + setting.elements.back().value;
    }
    setting.value = "[" + list + "]";
  }
  TRIPHASE_CHECK(ConfigError, !setting.value.empty(), value.origin, ": '", key, "' is ",
                 kind_text(value.kind),
                 ", expected true or false, a number, a string or an array of those.");
  return setting;
}

}  // namespace

struct ConfigReader::State {
  GivenKeys given;
  std::vector<std::string> order;             ///< what was asked for, once each, in reading order
  std::map<std::string, std::string> values;  ///< what the program got, as TOML
  std::map<std::string, std::int64_t> table_arrays;
  std::set<std::string> free_tables;  ///< whose keys only the user knows

  [[nodiscard]] const ConfigValue* find(const std::string& path) const {
    for (const std::string& table : enclosing_tables(path)) {
      const auto found = given.find(table);
      if (found == given.end()) continue;
      const bool is_indexed = path[table.size()] == '[';
      const ConfigKind kind = is_indexed ? ConfigKind::kTableArray : ConfigKind::kTable;
      TRIPHASE_CHECK(ConfigError, found->second.value.kind == kind, found->second.value.origin,
                     ": '", table, "' must be ", kind_text(kind), ", is ",
                     kind_text(found->second.value.kind), ". Write its keys under ",
                     is_indexed ? "[[" : "[", table, is_indexed ? "]]." : "].");
    }
    const auto found = given.find(path);
    return found == given.end() ? nullptr : &found->second.value;
  }

  template <class T>
  bool read(const std::string& path, T& value) {
    const ConfigValue* const found = find(path);
    if (found != nullptr) convert_to(path, *found, value);
    if (values.insert_or_assign(path, toml_text(value)).second) order.push_back(path);
    return found != nullptr;
  }

  [[nodiscard]] std::set<std::string> known_tables() const {
    std::set<std::string> known;
    const auto add_enclosing = [&](const std::string& path) {
      for (std::string& table : enclosing_tables(path)) known.insert(std::move(table));
    };
    for (const auto& [path, value] : values) add_enclosing(path);
    for (const std::string& table : free_tables) {
      add_enclosing(table);
      known.insert(table);
    }
    for (const auto& [path, count] : table_arrays) {
      add_enclosing(path);
      known.insert(path);
      for (std::int64_t i = 0; i < count; ++i) known.insert(str(path, "[", i, "]"));
    }
    return known;
  }

  [[nodiscard]] std::string key_hint(const std::string& path) const;
  [[nodiscard]] std::string table_hint(const std::string& path) const;
};

/// The nearest key; else the same key in another table; else what the table has.
std::string ConfigReader::State::key_hint(const std::string& path) const {
  std::optional<std::string> nearest = nearest_word(path, order);
  std::vector<std::string> siblings;
  const std::string table = path.substr(0, path.size() - last_part(path).size());
  for (const std::string& known : order) {
    if (!nearest && last_part(known) == last_part(path)) nearest = known;
    if (!table.empty() && known == table + last_part(known)) siblings.push_back(last_part(known));
  }
  if (nearest) return " Did you mean '" + *nearest + "'?";
  if (siblings.empty()) return " Remove it.";
  return str(" '", table.substr(0, table.size() - 1), "' has ", quoted_list(siblings), ".");
}

std::string ConfigReader::State::table_hint(const std::string& path) const {
  const std::set<std::string> known = known_tables();
  const std::vector<std::string> tables(known.begin(), known.end());
  if (const auto nearest = nearest_word(path, tables)) return " Did you mean '" + *nearest + "'?";
  std::vector<std::string> top;
  for (const std::string& table : tables)
    if (table.find_first_of(".[") == std::string::npos) top.push_back(table);
  return top.empty() ? " Remove it." : " There are " + quoted_list(top) + ".";
}

ConfigReader::ConfigReader(const ConfigSources& sources) : state_(std::make_unique<State>()) {
  state_->given = merge_layers(sources);
}

ConfigReader::~ConfigReader() = default;
ConfigReader::ConfigReader(ConfigReader&&) noexcept = default;

bool ConfigReader::read(const std::string& path, bool& value) { return state_->read(path, value); }
bool ConfigReader::read(const std::string& path, std::int64_t& value) {
  return state_->read(path, value);
}
bool ConfigReader::read(const std::string& path, double& value) {
  return state_->read(path, value);
}
bool ConfigReader::read(const std::string& path, std::string& value) {
  return state_->read(path, value);
}
bool ConfigReader::read(const std::string& path, std::vector<std::string>& value) {
  return state_->read(path, value);
}
bool ConfigReader::read(const std::string& path, std::vector<double>& value) {
  return state_->read(path, value);
}
bool ConfigReader::read(const std::string& path, std::vector<std::int64_t>& value) {
  return state_->read(path, value);
}

bool ConfigReader::read_choice(const std::string& path, std::string& value,
                               const std::vector<std::string>& allowed) {
  std::string chosen = value;
  const bool is_given = read(path, chosen);
  if (std::find(allowed.begin(), allowed.end(), chosen) == allowed.end()) {
    const std::optional<std::string> nearest = nearest_word(chosen, allowed);
    throw error(path, str("must be one of ", quoted_list(allowed), ", is '", chosen, "'.",
                          nearest ? " Did you mean '" + *nearest + "'?" : ""));
  }
  value = std::move(chosen);
  return is_given;
}

std::int64_t ConfigReader::array_size(const std::string& path) {
  const ConfigValue* const found = state_->find(path);
  const bool is_empty =
      found != nullptr && found->kind == ConfigKind::kArray && found->elements.empty();
  if (found != nullptr && !is_empty && found->kind != ConfigKind::kTableArray)
    throw error(path, str("must be an array of tables, is ", kind_text(found->kind),
                          ". Write each element under [[", path, "]]."));
  const std::int64_t size = found == nullptr ? 0 : found->num_tables;
  if (state_->table_arrays.insert_or_assign(path, size).second) state_->order.push_back(path);
  return size;
}

std::vector<ConfigSetting> ConfigReader::read_settings(const std::string& table) {
  static_cast<void>(state_->find(table + ".key"));  // that it is a table
  state_->free_tables.insert(table);
  struct Found {
    ConfigPlace first;  ///< where the key is written first
    ConfigPlace last;
    ConfigSetting setting;
  };
  std::map<std::string, Found> found;
  for (auto at = state_->given.lower_bound(table + ".");
       at != state_->given.end() && at->first.starts_with(table + "."); ++at) {
    const auto& [path, given] = *at;
    if (given.value.kind == ConfigKind::kTable) continue;
    std::string key = path.substr(table.size() + 1);
    std::erase(key, '"');
    const Found here{given.place, given.place, setting_of(key, given.value)};
    const auto [there, is_new] = found.emplace(key, here);
    if (is_new) continue;
    Found& other = there->second;
    TRIPHASE_CHECK(ConfigError, other.last.layer != here.last.layer, here.setting.origin, ": '",
                   key, "' stands twice in '", table, "', the other time at ",
                   other.setting.origin, ". Keep one of the two.");
    if (other.last < here.last) other.setting = here.setting;
    other.first = std::min(other.first, here.first);
    other.last = std::max(other.last, here.last);
  }
  std::vector<const Found*> in_order;
  for (const auto& [key, each] : found) in_order.push_back(&each);
  std::sort(in_order.begin(), in_order.end(),
            [](const Found* a, const Found* b) { return a->first < b->first; });
  std::vector<ConfigSetting> settings;
  for (const Found* each : in_order) settings.push_back(each->setting);
  return settings;
}

bool ConfigReader::has_table(const std::string& table) const {
  const auto first = state_->given.lower_bound(table + ".");
  return first != state_->given.end() && first->first.starts_with(table + ".");
}

std::string ConfigReader::origin(const std::string& path) const {
  const auto found = state_->given.find(path);
  return found == state_->given.end() ? "default" : found->second.value.origin;
}

ConfigError ConfigReader::error(const std::string& path, const std::string& message) const {
  return ConfigError(str(origin(path), ": '", path, "' ", message));
}

void ConfigReader::finish() const {
  const std::set<std::string> known = state_->known_tables();
  const auto is_in_unknown_table = [&](const std::string& path) {
    const std::vector<std::string> tables = enclosing_tables(path);
    return std::any_of(tables.begin(), tables.end(), [&](const std::string& table) {
      return state_->given.contains(table) && !known.contains(table);
    });
  };
  const auto is_free = [&](const std::string& path) {
    return std::any_of(state_->free_tables.begin(), state_->free_tables.end(),
                       [&](const std::string& table) { return is_in_table(path, table); });
  };
  const std::pair<const std::string, GivenKey>* first = nullptr;
  for (const auto& entry : state_->given) {
    const auto& [path, given] = entry;
    const bool is_known = is_table(given.value) ? known.contains(path)
                                                : state_->values.contains(path) ||
                                                      state_->table_arrays.contains(path);
    if (is_known || is_free(path) || is_in_unknown_table(path)) continue;  // the table is reported, not its keys
    if (first == nullptr || given.place < first->second.place) first = &entry;
  }
  if (first == nullptr) return;
  const auto& [path, given] = *first;
  const bool is_unknown_table = is_table(given.value);
  throw ConfigError(str(given.value.origin, ": unknown ", is_unknown_table ? "table" : "key", " '",
                        path, "' (nothing reads it).",
                        is_unknown_table ? state_->table_hint(path) : state_->key_hint(path)));
}

std::string ConfigReader::resolved_toml(bool with_origins) const {
  std::vector<TomlLine> lines;
  const auto is_of_missing_element = [&](const std::string& path) {
    const std::vector<std::string> tables = enclosing_tables(path);
    return std::any_of(tables.begin(), tables.end(), [&](const std::string& table) {
      return table.ends_with(']') && !state_->given.contains(table);
    });
  };
  for (const std::string& path : state_->order) {
    const std::string comment = with_origins ? origin(path) : "";
    const auto tables = state_->table_arrays.find(path);
    if (tables == state_->table_arrays.end()) {
      if (!is_of_missing_element(path)) lines.push_back({path, state_->values.at(path), comment});
      continue;
    }
    for (std::int64_t i = 0; i < tables->second; ++i)
      lines.push_back({str(path, "[", i, "]"), "", ""});
    const bool is_given_empty = tables->second == 0 && state_->given.contains(path);
    if (is_given_empty) lines.push_back({path, "[]", comment});
  }
  return write_toml(lines);
}

}  // namespace triphase
