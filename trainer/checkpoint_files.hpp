// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "trainer/checkpoint.hpp"

namespace triphase::trainer {

/// Makes a temporary folder beside `folder`, lets `fill` write files into it (names relative to it,
/// in writing order, are its result), adds manifest.json and COMPLETE, flushes all, and renames it
/// to `folder`, replacing one that is there. @throws IoError; the temporary folder is gone then
void write_checkpoint_folder(
    const std::filesystem::path& folder,
    const std::function<std::vector<std::string>(const std::filesystem::path&)>& fill);

/// Names below checkpoints_dir of folders that bear a checkpoint's name, complete or not, the
/// newest first.
[[nodiscard]] std::vector<std::string> checkpoint_names(
    const std::filesystem::path& checkpoints_dir);

}  // namespace triphase::trainer
