// SPDX-License-Identifier: Apache-2.0
#include "launch/cache_page.hpp"

#include "base/error.hpp"
#include "base/hash.hpp"
#include "data/slice_image.hpp"
#include "trainer/report/format.hpp"

#include <algorithm>
#include <array>
#include <cmath>

namespace triphase::launch {
namespace {

using trainer::decimal;
using trainer::escape_html;

constexpr double kPixelsPerMm = 0.6;

constexpr const char* kHead = R"(<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Cache</title><style>
body{background:#111;color:#ddd;font:14px/1.4 system-ui,sans-serif;margin:2em}
h1{font-size:1.3em}table{border-collapse:collapse}td{padding:0 1em 0 0}
section{margin:1.5em 0;display:flex;flex-wrap:wrap;gap:1em;align-items:flex-end}
section p{flex-basis:100%;margin:0;color:#aaa}
figure{margin:0;position:relative}figure img{display:block;image-rendering:pixelated}
figure b{position:absolute;color:#fc6;font-weight:normal;text-shadow:0 0 2px #000}
b.l{left:3px;top:45%}b.r{right:3px;top:45%}b.u{top:1px;left:48%}b.d{bottom:1px;left:48%}
</style></head><body>
)";

std::string base64(const std::string& bytes) {
  constexpr const char* kLetters =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    std::uint32_t group = 0;
    for (std::size_t k = 0; k < 3; ++k)
      group = group << 8 | (i + k < bytes.size() ? static_cast<unsigned char>(bytes[i + k]) : 0U);
    for (std::size_t k = 0; k < 4; ++k)
      out += i + k <= bytes.size() ? kLetters[group >> (18 - 6 * k) & 63U] : '=';
  }
  return out;
}

std::string figure(const data::SliceImage& image) {
  const auto pixels = [](double mm) { return std::to_string(std::lround(mm * kPixelsPerMm)); };
  std::string html = "<figure><img alt=\"" + image.name + "\" title=\"" + image.name + "\" width=\"" +
                     pixels(image.width_mm) + "\" height=\"" + pixels(image.height_mm) +
                     "\" src=\"data:image/png;base64," + base64(data::png_of(image)) + "\">";
  constexpr std::array<const char*, 4> kPlaces{"l", "r", "u", "d"};
  for (std::size_t i = 0; i < 4; ++i)
    html += str("<b class=\"", kPlaces[i], "\">", image.edges[i], "</b>");
  return html + "</figure>\n";
}

std::string section(const data::Cache& cache, std::int64_t index) {
  const data::CacheEntry& entry = cache.entries()[static_cast<std::size_t>(index)];
  const data::PreprocessOptions& preprocess = cache.spec().preprocess;
  data::Volume volume;
  volume.shape = preprocess.volume_shape;
  volume.affine = entry.affine;
  volume.voxels.resize(static_cast<std::size_t>(volume.shape[0] * volume.shape[1] * volume.shape[2]));
  cache.read_volume(index, volume.voxels.data());
  std::string html = str("<section><p>", hex64(xxh3(entry.id)), " &middot; ", escape_html(entry.split),
                         " &middot; ", escape_html(entry.site), " &middot; ",
                         entry.tokens.size(), " tokens</p>\n");
  for (const data::SliceImage& image : data::middle_slices(volume, preprocess.output_range))
    html += figure(image);
  return html + "</section>\n";
}

std::string facts(const data::Cache& cache, std::int64_t num_shown) {
  const data::PreprocessOptions& p = cache.spec().preprocess;
  const auto row = [](const std::string& name, const std::string& value) {
    return "<tr><td>" + name + "</td><td>" + value + "</td></tr>\n";
  };
  const auto three = [](const auto& values) {
    return str(values[0], " &times; ", values[1], " &times; ", values[2]);
  };
  return "<h1>What a cache holds</h1>\n<table>\n" +
         row("volumes", str(cache.entries().size(), ", ", num_shown, " shown; left out by the build: ",
                            cache.left_out().size())) +
         row("voxels", three(p.volume_shape) + " of " + three(p.spacing_mm) + " mm") +
         row("window", str("black ", p.window_hu[0], " HU, white ", p.window_hu[1], " HU")) +
         row("stored as", data::storage_name(p.storage) + ", compression " +
                              data::compression_name(cache.spec().compression)) +
         row("specification", cache.spec().hash()) + row("data hash", cache.data_hash()) +
         "</table>\n<p>R, L, A, P, S, I: the patient's right, left, front, back, head and feet. In place of "
         "each id stands a hash of it.</p>\n";
}

}  // namespace

std::string cache_page(const data::Cache& cache, std::int64_t max_volumes) {
  const auto num_volumes = static_cast<std::int64_t>(cache.entries().size());
  const std::int64_t num_shown = std::min(num_volumes, max_volumes);
  std::string html = kHead + facts(cache, num_shown);
  for (std::int64_t i = 0; i < num_shown; ++i) html += section(cache, i * num_volumes / num_shown);
  return html + "</body></html>\n";
}

}  // namespace triphase::launch
