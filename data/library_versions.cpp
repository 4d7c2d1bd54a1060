// SPDX-License-Identifier: Apache-2.0
#include "data/library_versions.hpp"

#include "base/error.hpp"

#include <hdf5.h>

namespace triphase::data {

std::string hdf5_version() {
  unsigned major = 0;
  unsigned minor = 0;
  unsigned release = 0;
  if (H5get_libversion(&major, &minor, &release) < 0) return "unknown";
  return str(major, ".", minor, ".", release);
}

}  // namespace triphase::data
