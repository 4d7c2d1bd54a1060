// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace triphase::data {

/// The HDF5 library that is loaded, e.g. "1.10.8".
[[nodiscard]] std::string hdf5_version();

}  // namespace triphase::data
