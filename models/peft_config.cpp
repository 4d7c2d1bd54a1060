// SPDX-License-Identifier: Apache-2.0
#include "models/peft_config.hpp"

#include "base/error.hpp"
#include "base/text_pattern.hpp"
#include "models/target_pattern.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

namespace triphase::models {
namespace {

/// A folder that names every module of Merlin takes 0.1 MB; a value in memory is up to 48 times its text.
constexpr std::int64_t kMaxBytes = 1 << 20;
constexpr std::int64_t kMaxRank = 65536;
/// Of regular expressions in one pattern object; names are not counted.
constexpr std::ptrdiff_t kMaxExpressions = 1000;

/// One adapter_config.json; says which key is wrong.
class Reader {
 public:
  Reader(Json json, std::string source) : json_(std::move(json)), source_(std::move(source)) {}

  [[noreturn]] void refuse(const std::string& key, const std::string& what) const {
    throw CheckpointError(str("'", source_, "': '", key, "' ", what));
  }
  [[nodiscard]] const Json* find(const std::string& key) const {
    const auto found = json_.find(key);
    return found == json_.end() || found->is_null() ? nullptr : &*found;
  }
  [[nodiscard]] bool boolean(const std::string& key) const {
    const Json* value = find(key);
    if (value == nullptr) return false;
    if (!value->is_boolean()) refuse(key, "must be true or false");
    return value->get<bool>();
  }
  [[nodiscard]] std::int64_t rank(const std::string& key, const Json& value) const {
    if (!value.is_number_unsigned() || value.get<std::uint64_t>() < 1 ||
        value.get<std::uint64_t>() > static_cast<std::uint64_t>(kMaxRank))
      refuse(key, str("must be a rank from 1 to ", kMaxRank));
    return value.get<std::int64_t>();
  }
  [[nodiscard]] double number(const std::string& key, const Json& value, double least,
                              double most) const {
    if (!value.is_number()) refuse(key, "must be a number");
    const double number = value.get<double>();
    if (!(number >= least && number <= most)) refuse(key, str("is out of range: ", number));
    return number;
  }
  [[nodiscard]] std::vector<std::string> words(const std::string& key) const {
    std::vector<std::string> result;
    const Json* value = find(key);
    if (value == nullptr) return result;
    if (!value->is_array()) refuse(key, "must be a list of names");
    for (const Json& word : *value) {
      if (!word.is_string()) refuse(key, "must be a list of names");
      result.push_back(word.get<std::string>());
    }
    return result;
  }
  template <class Value, class Convert>
  [[nodiscard]] std::vector<std::pair<std::string, Value>> pattern(const std::string& key,
                                                                   Convert convert) const {
    std::vector<std::pair<std::string, Value>> result;
    const Json* value = find(key);
    if (value == nullptr) return result;
    if (!value->is_object()) refuse(key, "must be an object");
    for (const auto& [name, item] : value->items()) result.emplace_back(name, convert(item));
    const auto expressions = std::count_if(result.begin(), result.end(), [](const auto& entry) {
      return !is_plain_name(entry.first);
    });
    if (expressions > kMaxExpressions)
      refuse(key, str("holds ", expressions, " regular expressions, at most ", kMaxExpressions,
                      " are read"));
    return result;
  }

 private:
  Json json_;
  std::string source_;
};

/// Ways of drawing the first factors that leave the base weights alone. The others (PiSSA, OLoRA,
/// CorDA, LoftQ) change these too, whenever peft loads the folder. Source: peft's
/// tuners/lora/layer.py.
constexpr std::array<const char*, 5> kPlainStarts{"gaussian", "orthogonal", "eva", "mica",
                                                  "lora_ga"};

void refuse_variants(const Reader& reader) {
  const Json* type = reader.find("peft_type");
  if (type == nullptr) reader.refuse("peft_type", "must be \"LORA\"");
  if (*type != "LORA")
    reader.refuse("peft_type",
                  str("is ", type->dump(), ", of which Triphase computes \"LORA\" alone"));
  if (const Json* start = reader.find("init_lora_weights");
      start != nullptr && !start->is_boolean() &&
      std::find(kPlainStarts.begin(), kPlainStarts.end(), *start) == kPlainStarts.end())
    reader.refuse("init_lora_weights",
                  str("is ", start->dump(),
                      ", which changes base weights, or is unknown. Convert the folder in peft: "
                      "save_pretrained(..., path_initial_model_for_weight_conversion=...)."));
  for (const char* key : {"use_dora", "use_qalora", "fan_in_fan_out", "lora_bias"})
    if (reader.boolean(key)) reader.refuse(key, "is true, which Triphase does not compute");
  if (const Json* bias = reader.find("bias"); bias != nullptr && *bias != "none")
    reader.refuse("bias", str("is ", bias->dump(), ", must be \"none\""));
  for (const char* key :
       {"layers_to_transform", "layers_pattern", "layer_replication", "trainable_token_indices",
        "target_parameters", "arrow_config", "alora_invocation_tokens", "kasa_config",
        "monteclora_config", "use_bdlora", "velora_config"})
    if (const Json* value = reader.find(key);
        value != nullptr && *value != false && !value->empty())
      reader.refuse(key, "is given, which Triphase does not read");
}

/// re.fullmatch(expression, path), the error being the file's.
bool fits_whole(const std::string& expression, const std::string& path, const std::string& key) {
  try {
    return TextPattern(expression, PatternOrigin::kGiven).fits_whole(path);
  } catch (const ConfigError& error) {
    throw CheckpointError(str("adapter_config.json: '", key, "': ", error.message()));
  }
}

/// re.match(rf"(.*\.)?({key})$", path), as peft matches the keys of its patterns.
bool pattern_fits(const std::string& key, const std::string& path, const std::string& name) {
  if (!is_plain_name(key)) return fits_whole("(.*\\.)?(" + key + ")", path, name);
  // The expression's own rule without the engine: a folder may name every module. A dot is any
  // character.
  if (key.size() > path.size()) return false;
  const std::size_t begin = path.size() - key.size();
  if (begin > 0 && path[begin - 1] != '.') return false;
  return std::equal(key.begin(), key.end(), path.begin() + static_cast<std::ptrdiff_t>(begin),
                    [](char k, char p) { return k == '.' || k == p; });
}

template <class Value>
Value pattern_value(const std::vector<std::pair<std::string, Value>>& pattern,
                    const std::string& path, const std::string& name, Value otherwise) {
  for (const auto& [key, value] : pattern)
    if (pattern_fits(key, path, name)) return value;
  return otherwise;
}

/// 16.0 as 16: peft's lora_alpha is an integer where it can be one.
Json plain_number(double value) {
  const bool whole = value == std::floor(value) && std::abs(value) < 1e15;
  return whole ? Json(static_cast<std::int64_t>(value)) : Json(value);
}

/// A path by names (itself, or its end at a dot) or by an expression instead.
bool is_chosen(const std::string& path, const std::vector<std::string>& names,
               const std::optional<std::string>& expression, const std::string& key) {
  if (expression) return fits_whole(*expression, path, key);
  return std::any_of(names.begin(), names.end(), [&](const std::string& name) {
    return path == name || path.ends_with("." + name);
  });
}

}  // namespace

bool PeftConfig::targets(const std::string& path) const {
  return is_chosen(path, target_modules, target_expression, "target_modules") &&
         !is_chosen(path, excluded_modules, excluded_expression, "exclude_modules");
}

std::int64_t PeftConfig::rank_of(const std::string& path) const {
  return pattern_value(rank_pattern, path, "rank_pattern", rank);
}

double PeftConfig::alpha_of(const std::string& path) const {
  return pattern_value(alpha_pattern, path, "alpha_pattern", alpha);
}

PeftConfig read_peft_config(const std::filesystem::path& path) {
  Json json;
  try {
    json = read_json(path, kMaxBytes);
  } catch (const DataError& error) {
    throw CheckpointError(error.message(), error.exit_code());
  }
  TRIPHASE_CHECK(CheckpointError, json.is_object(), "'", path.string(), "' is no JSON object");
  const Reader reader(std::move(json), path.string());
  refuse_variants(reader);
  PeftConfig config;
  const double huge = 1e9;
  if (const Json* r = reader.find("r")) config.rank = reader.rank("r", *r);
  if (const Json* alpha = reader.find("lora_alpha"))
    config.alpha = reader.number("lora_alpha", *alpha, 0, huge);
  if (const Json* dropout = reader.find("lora_dropout"))
    config.dropout = reader.number("lora_dropout", *dropout, 0, 0.999);
  config.rslora = reader.boolean("use_rslora");
  config.rank_pattern = reader.pattern<std::int64_t>(
      "rank_pattern", [&](const Json& value) { return reader.rank("rank_pattern", value); });
  config.alpha_pattern = reader.pattern<double>("alpha_pattern", [&](const Json& value) {
    return reader.number("alpha_pattern", value, 0, huge);
  });
  const Json* targets = reader.find("target_modules");
  if (targets == nullptr) reader.refuse("target_modules", "is missing");
  if (targets->is_string())
    config.target_expression = targets->get<std::string>();
  else
    config.target_modules = reader.words("target_modules");
  const Json* excluded = reader.find("exclude_modules");
  if (excluded != nullptr && excluded->is_string())
    config.excluded_expression = excluded->get<std::string>();
  else
    config.excluded_modules = reader.words("exclude_modules");
  config.modules_to_save = reader.words("modules_to_save");
  return config;
}

Json peft_config_json(const PeftConfig& config) {
  Json json = Json::object();
  json["peft_type"] = "LORA";
  json["auto_mapping"] = nullptr;
  json["base_model_name_or_path"] = nullptr;
  json["revision"] = nullptr;
  json["task_type"] = nullptr;
  json["inference_mode"] = true;
  json["r"] = config.rank;
  json["lora_alpha"] = plain_number(config.alpha);
  json["lora_dropout"] = config.dropout;
  json["use_rslora"] = config.rslora;
  json["use_dora"] = false;
  json["bias"] = "none";
  json["fan_in_fan_out"] = false;
  json["init_lora_weights"] = true;
  json["target_modules"] = config.target_modules;
  json["rank_pattern"] = Json::object();
  for (const auto& [key, rank] : config.rank_pattern) json["rank_pattern"][key] = rank;
  json["alpha_pattern"] = Json::object();
  for (const auto& [key, alpha] : config.alpha_pattern)
    json["alpha_pattern"][key] = plain_number(alpha);
  json["modules_to_save"] = nullptr;
  if (!config.modules_to_save.empty()) json["modules_to_save"] = config.modules_to_save;
  json["layers_to_transform"] = nullptr;
  json["layers_pattern"] = nullptr;
  return json;
}

}  // namespace triphase::models
