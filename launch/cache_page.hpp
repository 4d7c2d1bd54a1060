// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "data/cache.hpp"

#include <string>

namespace triphase::launch {

/// One self-contained HTML page with the middle slices of up to `max_volumes` samples, evenly taken
/// from the whole cache, with the patient's directions, size of the voxels, split, site and a hash of
/// the id in place of the id: for a person to see that left is left and the window is right.
/// @throws DataError when a volume is damaged; IoError
[[nodiscard]] std::string cache_page(const data::Cache& cache, std::int64_t max_volumes);

}  // namespace triphase::launch
