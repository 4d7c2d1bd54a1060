// SPDX-License-Identifier: Apache-2.0
// The part of checkpoints that knows files and hashes and no tensors.
#include "trainer/checkpoint_files.hpp"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <set>

#include "base/file.hpp"
#include "base/hash.hpp"
#include "base/json.hpp"

namespace triphase::trainer {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kTemporaryPrefix = ".tmp-";
constexpr std::int64_t kManifestBytesMax = 1 << 20;
constexpr std::int64_t kMarkBytesMax = 64;
const std::set<std::string> kRequiredFiles{"model.safetensors", "optimizer.safetensors",
                                           "state.json", "config.toml"};

/// The step in a checkpoint's name, or -1.
std::int64_t step_of(const std::string& name) {
  const std::string prefix = "step_";
  if (!name.starts_with(prefix) || name.size() <= prefix.size() || name.size() > 24) return -1;
  const std::string digits = name.substr(prefix.size());
  if (digits.find_first_not_of("0123456789") != std::string::npos) return -1;
  return std::stoll(digits);
}

/// Relative, and inside the folder: what a manifest may name.
bool is_plain_name(const std::string& name) {
  const fs::path path(name);
  if (name.empty() || path.is_absolute() || path != path.lexically_normal()) return false;
  return std::none_of(path.begin(), path.end(), [](const fs::path& part) { return part == ".."; });
}

Json manifest_of(const fs::path& folder, const std::vector<std::string>& names) {
  Json files = Json::array();
  for (const std::string& name : names) {
    files.push_back(Json{{"name", name},
                         {"bytes", fs::file_size(folder / name)},
                         {"xxh3", hex64(hash_file(folder / name))}});
  }
  return Json{{"format", "triphase-checkpoint"}, {"version", 1}, {"files", std::move(files)}};
}

void rename_path(const fs::path& from, const fs::path& to) {
  std::error_code error;
  fs::rename(from, to, error);
  if (error)
    throw io_error(str("cannot rename '", from.string(), "' to '", to.string(), "'"),
                   error.value());
}

void check_file(const fs::path& folder, const Json& entry, std::set<std::string>& seen) {
  const auto name = entry.at("name").get<std::string>();
  TRIPHASE_CHECK(CheckpointError, is_plain_name(name), "checkpoint '", folder.string(),
                 "': manifest.json names '", name, "', which is no file inside the folder");
  const fs::path path = folder / name;
  TRIPHASE_CHECK(CheckpointError, fs::is_regular_file(path), "checkpoint file '", path.string(),
                 "' is missing. Use another checkpoint.");
  const auto bytes = static_cast<std::uint64_t>(fs::file_size(path));
  const auto expected_bytes = entry.at("bytes").get<std::uint64_t>();
  TRIPHASE_CHECK(CheckpointError, bytes == expected_bytes, "checkpoint file '", path.string(),
                 "' has ", expected_bytes, " bytes in manifest.json and ", bytes,
                 " on disk. Use another checkpoint.");
  const std::string hash = hex64(hash_file(path));
  const auto expected_hash = entry.at("xxh3").get<std::string>();
  TRIPHASE_CHECK(CheckpointError, hash == expected_hash, "checkpoint file '", path.string(),
                 "' has hash ", hash, ", expected ", expected_hash,
                 " (it is damaged). Use another checkpoint.");
  seen.insert(name);
}

void remove_folder(const fs::path& folder) {
  std::error_code ignored;
  fs::remove(folder / "COMPLETE",
             ignored);  // first, so that half of a folder never passes for a checkpoint
  fs::remove_all(folder, ignored);
}

}  // namespace

std::string checkpoint_name(std::int64_t step) {
  char name[40];
  std::snprintf(name, sizeof name, "step_%08lld", static_cast<long long>(step));
  return name;
}

void write_checkpoint_folder(const fs::path& folder,
                             const std::function<std::vector<std::string>(const fs::path&)>& fill) {
  const fs::path parent = folder.parent_path();
  make_output_directory(parent);
  const std::string suffix = str(folder.filename().string(), "-", getpid());
  const fs::path temporary = parent / str(kTemporaryPrefix, suffix);
  const fs::path replaced = parent / str(kTemporaryPrefix, "old-", suffix);
  remove_folder(temporary);
  try {
    make_output_directory(temporary);
    const Json manifest = manifest_of(temporary, fill(temporary));
    write_json(temporary / "manifest.json", manifest);
    write_file_atomically(temporary / "COMPLETE",
                          hex64(hash_file(temporary / "manifest.json")) + "\n");
    fsync_path(temporary);
    if (fs::exists(folder)) rename_path(folder, replaced);
    rename_path(temporary, folder);
    fsync_path(parent);
  } catch (...) {
    remove_folder(temporary);
    throw;
  }
  remove_folder(replaced);
}

std::vector<std::string> checkpoint_names(const fs::path& checkpoints_dir) {
  std::vector<std::string> names;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(checkpoints_dir, error)) {
    const std::string name = entry.path().filename().string();
    if (step_of(name) >= 0 && entry.is_directory()) names.push_back(name);
  }
  std::sort(names.begin(), names.end(), [](const std::string& a, const std::string& b) {
    return std::pair(step_of(a), a) > std::pair(step_of(b), b);
  });
  return names;
}

void verify_checkpoint(const fs::path& folder) {
  TRIPHASE_CHECK_CODE(CheckpointError, kMissingInput, fs::is_directory(folder),
                      "there is no checkpoint '", folder.string(),
                      "'. Name a folder such as checkpoints/step_00001000.");
  TRIPHASE_CHECK_CODE(CheckpointError, kMissingInput, fs::exists(folder / "COMPLETE"), "'",
                      folder.string(),
                      "' is no complete checkpoint: it has no file COMPLETE (its writer was "
                      "stopped, or it is another "
                      "kind of folder). Use another checkpoint.");
  try {
    const std::string mark = read_file(folder / "COMPLETE", kMarkBytesMax);
    const std::string expected = hex64(hash_file(folder / "manifest.json")) + "\n";
    TRIPHASE_CHECK(CheckpointError, mark == expected, "checkpoint '", folder.string(),
                   "': COMPLETE and manifest.json do not belong together (one is damaged). Use "
                   "another checkpoint.");
    const Json manifest = read_json(folder / "manifest.json", kManifestBytesMax);
    TRIPHASE_CHECK(CheckpointError,
                   manifest.at("format") == "triphase-checkpoint" && manifest.at("version") == 1,
                   "checkpoint '", folder.string(),
                   "' is of a version that this build does not read");
    std::set<std::string> seen;
    for (const Json& entry : manifest.at("files")) check_file(folder, entry, seen);
    for (const std::string& name : kRequiredFiles)
      TRIPHASE_CHECK(CheckpointError, seen.contains(name), "checkpoint '", folder.string(),
                     "' lacks '", name, "'");
  } catch (const DataError& error) {
    throw CheckpointError(str("checkpoint '", folder.string(), "' is damaged: ", error.message()));
  } catch (const nlohmann::json::exception& error) {
    throw CheckpointError(
        str("checkpoint '", folder.string(), "': manifest.json is malformed (", error.what(), ")"));
  }
}

std::optional<fs::path> newest_checkpoint(const fs::path& checkpoints_dir,
                                          const std::function<void(const std::string&)>& warn) {
  for (const std::string& name : checkpoint_names(checkpoints_dir)) {
    const fs::path folder = checkpoints_dir / name;
    try {
      verify_checkpoint(folder);
      return folder;
    } catch (const Error& error) {
      warn(str("passing over a checkpoint: ", error.message()));
    }
  }
  return std::nullopt;
}

void prune_checkpoints(const fs::path& checkpoints_dir, std::int64_t keep_last,
                       const std::vector<std::string>& keep) {
  std::int64_t num_complete = 0;
  for (const std::string& name : checkpoint_names(checkpoints_dir)) {
    const bool is_complete = fs::exists(checkpoints_dir / name / "COMPLETE");
    if (is_complete) ++num_complete;
    const bool is_kept = std::find(keep.begin(), keep.end(), name) != keep.end();
    if (is_complete && (num_complete <= keep_last || is_kept)) continue;
    remove_folder(checkpoints_dir / name);
  }
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(checkpoints_dir, error))
    if (entry.path().filename().string().starts_with(kTemporaryPrefix)) remove_folder(entry.path());
}

void mark_best_checkpoint(const fs::path& checkpoints_dir, const std::string& name) {
  write_file_atomically(checkpoints_dir / "best", name + "\n");
}

}  // namespace triphase::trainer
