// SPDX-License-Identifier: Apache-2.0
// The only file that knows toml++.
#include "base/config_layers.hpp"

#include "base/file.hpp"
#include "base/toml_writer.hpp"

#include <toml++/toml.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <optional>
#include <string_view>

namespace triphase {
namespace {

constexpr std::int64_t kMaxFileBytes = 1 << 20;
constexpr std::string_view kEnvironmentPrefix = "TRIPHASE__";

bool is_bare_key(std::string_view key) {
  return !key.empty() && std::all_of(key.begin(), key.end(), [](unsigned char c) {
    return std::isalnum(c) != 0 || c == '_' || c == '-';
  });
}

std::vector<std::string> split(std::string_view text, std::string_view separator) {
  std::vector<std::string> parts;
  for (std::size_t at = 0; (at = text.find(separator)) != std::string_view::npos;) {
    parts.emplace_back(text.substr(0, at));
    text.remove_prefix(at + separator.size());
  }
  parts.emplace_back(text);
  return parts;
}

ConfigKind kind_of(const toml::node& node) {
  if (const toml::array* array = node.as_array()) {
    const bool has_only_tables = !array->empty() && array->is_homogeneous(toml::node_type::table);
    return has_only_tables ? ConfigKind::kTableArray : ConfigKind::kArray;
  }
  if (node.is_table()) return ConfigKind::kTable;
  if (node.is_boolean()) return ConfigKind::kBool;
  if (node.is_integer()) return ConfigKind::kInteger;
  if (node.is_floating_point()) return ConfigKind::kDouble;
  if (node.is_string()) return ConfigKind::kString;
  return ConfigKind::kDate;
}

/// Lays one source after the other over what was given before.
class Merger {
 public:
  void add_file(const std::filesystem::path& path) {
    begin_layer(path.string(), true);
    const std::string text = read_file(path, kMaxFileBytes);
    try {
      const toml::table document =
          toml::parse(std::string_view(text), std::string_view(layer_name_));
      add_table(document, "");
    } catch (const toml::parse_error& error) {
      throw ConfigError(str(origin(error.source()), ": cannot read this as TOML: ",
                            error.description(), ". Correct this line."));
    }
  }

  /// One value under one path, from the environment or from --set.
  void add_value(const std::string& name, const std::vector<std::string>& parts,
                 const std::string& text) {
    begin_layer(name, false);
    for (const std::string& part : parts)
      TRIPHASE_CHECK(
          ConfigError, is_bare_key(part), name, ": '", part,
          "' is no key. Name the key with letters, digits, '_' and '-', as in table.key.");
    const toml::table document = parse_value(text);
    std::string path;
    for (std::size_t i = 0; i < parts.size(); ++i) {
      path += (i == 0 ? "" : ".") + parts[i];
      if (i + 1 < parts.size()) set(path, {}, {});
    }
    add_node(*document.get("value"), path, {});
  }

  [[nodiscard]] GivenKeys take() { return std::move(given_); }

 private:
  void begin_layer(std::string name, bool has_lines) {
    ++layer_;
    layer_name_ = std::move(name);
    has_lines_ = has_lines;
  }

  [[nodiscard]] std::string origin(const toml::source_region& source) const {
    if (!has_lines_) return layer_name_;
    return str(layer_name_, ":", source.begin.line, ":", source.begin.column);
  }

  /// A document with the one key "value". What is no TOML is a string, and so is a date, which no
  /// key takes.
  [[nodiscard]] toml::table parse_value(const std::string& text) const {
    try {
      toml::table document = toml::parse("value = " + text, std::string_view(layer_name_));
      if (document.size() == 1 && kind_of(*document.get("value")) != ConfigKind::kDate)
        return document;
    } catch (const toml::parse_error&) {  // a bare string
    }
    try {
      return toml::parse("value = " + toml_text(text), std::string_view(layer_name_));
    } catch (const toml::parse_error&) {
      throw ConfigError(str(layer_name_, ": the value is not UTF-8. Write it in UTF-8."));
    }
  }

  void erase_beneath(const std::string& path) {
    for (const char separator : {'.', '['}) {
      const auto first = given_.lower_bound(path + separator);
      auto last = first;
      while (last != given_.end() && last->first.starts_with(path + separator)) ++last;
      given_.erase(first, last);
    }
  }

  void set(const std::string& path, ConfigValue value, const toml::source_region& source) {
    value.origin = origin(source);
    const auto found = given_.find(path);
    const bool both_tables = found != given_.end() && value.kind == ConfigKind::kTable &&
                             found->second.value.kind == ConfigKind::kTable;
    if (both_tables) return;
    erase_beneath(path);
    given_[path] = {std::move(value), {layer_, source.begin.line, source.begin.column}};
  }

  [[nodiscard]] ConfigValue value_of(const toml::node& node) const {
    ConfigValue value{.kind = kind_of(node), .scalar = {}, .elements = {}, .origin = {}};
    value.origin = origin(node.source());
    if (const auto* boolean = node.as_boolean()) value.scalar = boolean->get();
    if (const auto* integer = node.as_integer()) value.scalar = integer->get();
    if (const auto* number = node.as_floating_point()) value.scalar = number->get();
    if (const auto* text = node.as_string()) value.scalar = text->get();
    if (value.kind == ConfigKind::kArray)
      for (const toml::node& element : *node.as_array())
        value.elements.push_back(value_of(element));
    return value;
  }

  void add_node(const toml::node& node, const std::string& path,
                const toml::source_region& key_source) {
    ConfigValue value = value_of(node);
    const toml::array* tables = nullptr;
    if (value.kind == ConfigKind::kTableArray) {
      tables = node.as_array();
      value.num_tables = static_cast<std::int64_t>(tables->size());
    }
    set(path, std::move(value), key_source);
    if (node.is_table()) add_table(*node.as_table(), path);
    if (tables == nullptr) return;
    std::int64_t index = 0;
    for (const toml::node& element : *tables)
      add_node(element, str(path, "[", index++, "]"), element.source());
  }

  void add_table(const toml::table& table, const std::string& path) {
    for (const auto& [key, node] : table) {
      const std::string name =
          is_bare_key(key.str()) ? std::string(key.str()) : toml_text(std::string(key.str()));
      add_node(node, path.empty() ? name : path + "." + name, key.source());
    }
  }

  GivenKeys given_;
  std::int64_t layer_ = 0;
  std::string layer_name_;
  bool has_lines_ = false;
};

void add_environment(Merger& merger, const std::map<std::string, std::string>& environment) {
  std::map<std::string, std::string> names;  // two spellings of one key have no order
  for (const auto& [name, value] : environment) {
    if (!name.starts_with(kEnvironmentPrefix)) continue;
    std::string path = name.substr(kEnvironmentPrefix.size());
    for (char& c : path) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    const auto [other, is_new] = names.emplace(path, name);
    TRIPHASE_CHECK(ConfigError, is_new, "environment ", name, ": '", other->second,
                   "' sets the same key. Keep one of the two.");
    merger.add_value("environment " + name, split(path, "__"), value);
  }
}

}  // namespace

std::string kind_text(ConfigKind kind) {
  switch (kind) {
    case ConfigKind::kBool:
      return "true or false";
    case ConfigKind::kInteger:
      return "an integer";
    case ConfigKind::kDouble:
      return "a number";
    case ConfigKind::kString:
      return "a string";
    case ConfigKind::kDate:
      return "a date or time";
    case ConfigKind::kArray:
      return "an array";
    case ConfigKind::kTable:
      return "a table";
    case ConfigKind::kTableArray:
      return "an array of tables";
  }
  throw InternalError("kind_text: unknown kind");
}

GivenKeys merge_layers(const ConfigSources& sources) {
  Merger merger;
  for (const std::filesystem::path& file : sources.files) merger.add_file(file);
  add_environment(merger, sources.environment);
  for (const ConfigSetting& setting : sources.settings)
    merger.add_value(setting.origin, split(setting.key, "."), setting.value);
  for (const std::string& set : sources.sets) {
    const std::size_t equals = set.find('=');
    TRIPHASE_CHECK(ConfigError, equals != std::string::npos, "--set ", set,
                   ": there is no '='. Write --set table.key=value.");
    const std::string path = set.substr(0, equals);
    merger.add_value("--set " + path, split(path, "."), set.substr(equals + 1));
  }
  return merger.take();
}

std::map<std::string, std::string> config_environment() {
  std::map<std::string, std::string> found;
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
    const std::string_view text = *entry;
    const std::size_t equals = text.find('=');
    if (!text.starts_with(kEnvironmentPrefix) || equals == std::string_view::npos) continue;
    found.emplace(text.substr(0, equals), text.substr(equals + 1));
  }
  return found;
}

}  // namespace triphase
