// SPDX-License-Identifier: Apache-2.0
#include "data/nifti.hpp"

#include <algorithm>
#include <utility>

#include "base/error.hpp"
#include "data/gunzip.hpp"
#include "data/nifti_file.hpp"

namespace triphase::data {
namespace {

namespace fs = std::filesystem;

/// "scan" of "scan.hdr", "scan.img.gz" and their like; empty for other names.
std::string pair_stem(const std::string& name) {
  for (const std::string_view ending : {".hdr", ".img", ".hdr.gz", ".img.gz"})
    if (name.ends_with(ending)) return name.substr(0, name.size() - ending.size());
  return "";
}

/// The half with this ending: compressed or not as `path` is, else the other way.
std::optional<fs::path> find_half(const fs::path& path, const std::string& stem,
                                  const std::string& ending) {
  const fs::path plain = stem + ending;
  const fs::path compressed = stem + ending + ".gz";
  const bool prefers_plain = path.extension() != ".gz";
  const fs::path& first = prefers_plain ? plain : compressed;
  const fs::path& second = prefers_plain ? compressed : plain;
  std::error_code ignored;
  if (first == path || fs::exists(first, ignored)) return first;
  if (fs::exists(second, ignored)) return second;
  return std::nullopt;
}

/// The first `size` bytes of a file, inflated where it is compressed.
/// @return the bytes, which lie in scan.mapped or scan.inflated
std::span<const std::byte> take_bytes(MappedFile file, std::int64_t size, const std::string& name,
                                      StoredScan& scan) {
  if (is_gzip(file.bytes())) {
    scan.inflated = gunzip(file.bytes(), size, name);
    return std::as_const(scan.inflated).bytes();
  }
  const auto available = static_cast<std::int64_t>(file.bytes().size());
  TRIPHASE_CHECK(DataError, size <= available, "volume '", name, "' is cut short: it has ",
                 available, " bytes, its header declares ", size, ". Fetch the file again.");
  scan.mapped = std::move(file);
  return scan.mapped->bytes();
}

NiftiHeader read_header(const MappedFile& file, const std::string& name, const NiftiLimits& limits,
                        NiftiLayout layout) {
  if (!is_gzip(file.bytes())) return parse_nifti_header(file.bytes(), name, limits, layout);
  return parse_nifti_header(gunzip_prefix(file.bytes(), kNiftiHeaderBytes, name), name, limits,
                            layout);
}

/// From the file's order (x fastest) into ours (z fastest), in blocks that stay in the cache.
void convert_voxels(const StoredScan& scan, Volume& volume) {
  constexpr std::int64_t kBlock = 32;
  const auto [nx, ny, nz] = scan.header.shape;
  const ConvertVoxels convert_row = voxel_converter(scan.header);
  const std::int64_t pitch = nx + 16;  // rows a power of two apart would share a few lines of cache
  std::vector<float> rows(static_cast<std::size_t>(kBlock * pitch));
  for (std::int64_t y = 0; y < ny; ++y)
    for (std::int64_t z0 = 0; z0 < nz; z0 += kBlock) {
      const std::int64_t depth = std::min(kBlock, nz - z0);
      for (std::int64_t z = 0; z < depth; ++z)
        convert_row(
            scan.voxels.data() + ((z0 + z) * ny + y) * nx * scan.header.bytes_per_voxel, nx,
            scan.header, &rows[static_cast<std::size_t>(z * pitch)]);
      for (std::int64_t x = 0; x < nx; ++x) {
        float* out = &volume.at(x, y, z0);
        for (std::int64_t z = 0; z < depth; ++z) out[z] = rows[static_cast<std::size_t>(z * pitch + x)];
      }
    }
}

}  // namespace

std::vector<fs::path> nifti_files(const fs::path& path) {
  const std::string stem = pair_stem(path.string());
  if (stem.empty()) return {path};
  std::vector<fs::path> files;
  for (const char* ending : {".hdr", ".img"}) {
    const std::optional<fs::path> half = find_half(path, stem, ending);
    TRIPHASE_CHECK(DataError, half.has_value(), "volume '", path.string(),
                   "' is half of a pair, but there is neither '", stem, ending, "' nor '", stem,
                   ending, ".gz' with its ", ending == std::string_view(".hdr") ? "header" : "voxels",
                   ". Fetch the other file, or drop the study from the manifest.");
    files.push_back(*half);
  }
  return files;
}

StoredScan open_nifti(const fs::path& path, const NiftiLimits& limits,
                      const ScanCorrection& correction) {
  const std::string name = path.string();
  StoredScan scan;
  MappedFile file(path);
  const std::vector<fs::path> files = nifti_files(path);
  const bool is_pair = files.size() == 2;
  if (is_pair && files.front() != path) file = MappedFile(files.front());
  scan.header = read_header(file, files.front().string(), limits,
                            is_pair ? NiftiLayout::kPair : NiftiLayout::kSingleFile);
  if (is_pair) file = MappedFile(files.back());
  const auto bytes =
      take_bytes(std::move(file), scan.header.end_of_voxels(), files.back().string(), scan);
  if (!is_pair) check_nifti_extensions(bytes, scan.header, name);
  scan.affine = corrected_affine(nifti_affine(scan.header, files.front().string()), correction);
  scan.header.slope *= correction.hu_slope;
  scan.header.intercept = correction.hu_slope * scan.header.intercept + correction.hu_intercept;
  scan.voxels =
      bytes.subspan(static_cast<std::size_t>(scan.header.voxel_offset),
                    static_cast<std::size_t>(scan.header.num_voxels() * scan.header.bytes_per_voxel));
  return scan;
}

Volume read_nifti(const fs::path& path, const NiftiLimits& limits,
                  const ScanCorrection& correction) {
  const StoredScan scan = open_nifti(path, limits, correction);
  check_voxels_finite(scan, path.string());
  Volume volume;
  volume.shape = scan.header.shape;
  volume.affine = scan.affine;
  volume.voxels.resize(static_cast<std::size_t>(scan.header.num_voxels()));
  convert_voxels(scan, volume);
  return volume;
}

}  // namespace triphase::data
