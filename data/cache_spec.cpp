// SPDX-License-Identifier: Apache-2.0
#include <set>

#include "base/error.hpp"
#include "base/hash.hpp"
#include "base/json.hpp"
#include "data/cache_shard.hpp"

namespace triphase::data {
namespace {

/// Raised when the layout of the shards changes.
constexpr int kFormatVersion = 1;
constexpr std::int64_t kMaxTextTokens = 1 << 16;

/// What is written, or all that is compared.
enum class Detail { kWritten, kCompared };

Json spec_json(const CacheSpec& spec, Detail detail) {
  Json json;
  json["format_version"] = kFormatVersion;
  json["preprocess"] = Json::parse(preprocess_spec(spec.preprocess));
  json["tokenizer_hash"] = spec.tokenizer_hash;
  json["max_text_tokens"] = spec.max_text_tokens;
  if (detail == Detail::kCompared || spec.text_preparation != TextPreparation::kWordPunct)
    json["text_preparation"] = text_preparation_name(spec.text_preparation);
  if (detail == Detail::kCompared || spec.compression != Compression::kNone)
    json["compression"] = compression_name(spec.compression);
  return json;
}

/// "preprocess.spacing_mm: the cache has [...], this run wants [...]" for each difference.
std::string differences(const Json& cache, const Json& wanted, const std::string& prefix) {
  std::set<std::string> keys;
  for (const auto& [key, value] : cache.items()) keys.insert(key);
  for (const auto& [key, value] : wanted.items()) keys.insert(key);
  std::string text;
  for (const std::string& key : keys) {
    const Json ours = cache.value(key, Json());
    const Json theirs = wanted.value(key, Json());
    if (ours == theirs) continue;
    if (ours.is_object() && theirs.is_object())
      text += differences(ours, theirs, prefix + key + ".");
    else
      text += str("\n  ", prefix, key, ": the cache has ", ours.dump(), ", this run wants ",
                  theirs.dump());
  }
  return text;
}

}  // namespace

std::string compression_name(Compression compression) {
  return compression == Compression::kZstd ? "zstd" : "none";
}

Compression compression_from_name(const std::string& name) {
  for (const Compression compression : {Compression::kNone, Compression::kZstd})
    if (compression_name(compression) == name) return compression;
  throw ConfigError(str("there is no compression '", name, "'. Known ones are 'none' and 'zstd'."));
}

std::string CacheSpec::text() const { return spec_json(*this, Detail::kWritten).dump(); }
std::string CacheSpec::hash() const { return hex64(xxh3(text())); }

CacheSpec parse_cache_spec(const std::string& text) {
  CacheSpec spec;
  try {
    const Json json = Json::parse(text);
    spec.preprocess = parse_preprocess_spec(json.at("preprocess").dump());
    json.at("tokenizer_hash").get_to(spec.tokenizer_hash);
    json.at("max_text_tokens").get_to(spec.max_text_tokens);
    if (json.contains("text_preparation"))
      spec.text_preparation =
          text_preparation_from_name(json.at("text_preparation").get<std::string>());
    if (json.contains("compression"))
      spec.compression = compression_from_name(json.at("compression").get<std::string>());
    check_preprocess_options(spec.preprocess);
    TRIPHASE_CHECK(DataError, spec.max_text_tokens >= 2 && spec.max_text_tokens <= kMaxTextTokens,
                   "a cache's specification makes no sense (max_text_tokens is ",
                   spec.max_text_tokens, "). Build the cache again.");
  } catch (const nlohmann::json::exception& error) {
    throw DataError(
        str("a cache's specification cannot be read (", error.what(), "). Build the cache again."));
  } catch (const ConfigError& error) {
    throw DataError(str("a cache's specification makes no sense (", error.message(),
                        "). Build the cache again."));
  }
  TRIPHASE_CHECK(DataError, spec.text() == text,
                 "a cache was built by another version of the program (its specification is ", text,
                 "). Build the cache again.");
  return spec;
}

void check_cache_spec(const Cache& cache, const CacheSpec& wanted) {
  const std::string found = differences(spec_json(cache.spec(), Detail::kCompared),
                                        spec_json(wanted, Detail::kCompared), "");
  TRIPHASE_CHECK(DataError, found.empty(), "cache '", cache.folder().string(),
                 "' was built otherwise than this run wants:", found,
                 "\nBuild it again with triphase cache build, or change the run to match.");
}

}  // namespace triphase::data
