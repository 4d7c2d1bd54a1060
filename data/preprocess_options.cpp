// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "base/error.hpp"
#include "base/json.hpp"
#include "data/preprocess.hpp"

namespace triphase::data {
namespace {

/// Raised whenever preprocess() gives other voxels for the same options: old caches are then stale.
constexpr int kAlgorithmVersion = 1;

void check_rising(const char* key, const std::array<double, 2>& range) {
  TRIPHASE_CHECK(ConfigError,
                 std::isfinite(range[0]) && std::isfinite(range[1]) && range[0] < range[1],
                 "preprocess.", key, " is [", range[0], ", ", range[1],
                 "]; expected two finite numbers, the smaller one first.");
}

}  // namespace

PreprocessOptions preprocess_preset(const std::string& name) {
  PreprocessOptions options;
  options.preset = name;
  if (name == "merlin") return options;
  if (name == "phantom") {
    options.spacing_mm = {5.6, 5.6, 6.0};
    options.volume_shape = {56, 40, 32};
    options.window_hu = {-50, 200};
    return options;
  }
  if (name == "ct_clip") {
    options.resampling = Resampling::kTorchInterpolate;
    options.orientation = Orientation::kStored;
    options.spacing_mm = {0.75, 0.75, 1.5};
    options.volume_shape = {480, 480, 240};
    options.output_range = {-1, 1};
    options.padding = -1;
    return options;
  }
  throw ConfigError(str("there is no preprocessing preset '", name,
                        "'. Known ones are 'merlin', 'ct_clip' and 'phantom'."));
}

void check_preprocess_options(const PreprocessOptions& options) {
  // A volume larger than this cannot be one chunk of an HDF5 dataset (2^32 - 1 bytes as float32).
  constexpr std::int64_t kMaxVoxels = (std::int64_t{1} << 30) - 1;
  std::int64_t voxels = 1;
  for (std::size_t i = 0; i < 3; ++i) {
    const double spacing = options.spacing_mm[i];
    TRIPHASE_CHECK(ConfigError, std::isfinite(spacing) && spacing > 0, "preprocess.spacing_mm has ",
                   spacing, "; expected millimetres above 0.");
    const std::int64_t length = options.volume_shape[i];
    TRIPHASE_CHECK(ConfigError, length >= 1, "preprocess.volume_shape has ", length,
                   "; expected voxels, 1 or more.");
    TRIPHASE_CHECK(ConfigError, length <= kMaxVoxels / voxels,
                   "preprocess.volume_shape has more than ", kMaxVoxels,
                   " voxels in all, the most that a cache can hold. Choose a smaller grid.");
    voxels *= length;
  }
  check_rising("window_hu", options.window_hu);
  check_rising("output_range", options.output_range);
  TRIPHASE_CHECK(
      ConfigError,
      options.padding >= options.output_range[0] && options.padding <= options.output_range[1],
      "preprocess.output_range is [", options.output_range[0], ", ", options.output_range[1],
      "]; expected a range that holds ", options.padding,
      ", with which small scans are padded (preprocess.padding).");
}

std::string preprocess_spec(const PreprocessOptions& options) {
  Json json;
  json["algorithm"] = resampling_name(options.resampling);
  json["algorithm_version"] = kAlgorithmVersion;
  json["spacing_mm"] = options.spacing_mm;
  json["volume_shape"] = options.volume_shape;
  json["window_hu"] = options.window_hu;
  json["output_range"] = options.output_range;
  json["storage"] = storage_name(options.storage);
  // Left out where they are as they always were: caches from before keep their hash.
  if (options.orientation != Orientation::kRas)
    json["orientation"] = orientation_name(options.orientation);
  if (options.padding != 0) json["padding"] = options.padding;
  return json.dump();
}

PreprocessOptions parse_preprocess_spec(const std::string& text) {
  const Json json = Json::parse(text);
  PreprocessOptions options;
  options.preset.clear();
  options.resampling = resampling_from_name(json.at("algorithm").get<std::string>());
  json.at("spacing_mm").get_to(options.spacing_mm);
  json.at("volume_shape").get_to(options.volume_shape);
  json.at("window_hu").get_to(options.window_hu);
  json.at("output_range").get_to(options.output_range);
  options.storage = storage_from_name(json.at("storage").get<std::string>());
  if (json.contains("orientation"))
    options.orientation = orientation_from_name(json.at("orientation").get<std::string>());
  if (json.contains("padding")) json.at("padding").get_to(options.padding);
  return options;
}

std::string resampling_name(Resampling resampling) {
  return resampling == Resampling::kMonaiSpacing ? "monai_spacing" : "torch_interpolate";
}

Resampling resampling_from_name(const std::string& name) {
  for (const Resampling resampling : {Resampling::kMonaiSpacing, Resampling::kTorchInterpolate})
    if (resampling_name(resampling) == name) return resampling;
  throw ConfigError(str("there is no resampling '", name,
                        "'. Known ones are 'monai_spacing' and 'torch_interpolate'."));
}

std::string orientation_name(Orientation orientation) {
  return orientation == Orientation::kRas ? "ras" : "stored";
}

Orientation orientation_from_name(const std::string& name) {
  for (const Orientation orientation : {Orientation::kRas, Orientation::kStored})
    if (orientation_name(orientation) == name) return orientation;
  throw ConfigError(
      str("there is no orientation '", name, "'. Known ones are 'ras' and 'stored'."));
}

std::string storage_name(Storage storage) {
  switch (storage) {
    case Storage::kUint16:
      return "uint16";
    case Storage::kFloat16:
      return "float16";
    case Storage::kFloat32:
      return "float32";
  }
  throw InternalError("a storage type without a name");
}

Storage storage_from_name(const std::string& name) {
  for (const Storage storage : {Storage::kUint16, Storage::kFloat16, Storage::kFloat32})
    if (storage_name(storage) == name) return storage;
  throw ConfigError(str("there is no storage type '", name,
                        "'. Known ones are 'uint16', 'float16' and 'float32'."));
}

}  // namespace triphase::data
