// SPDX-License-Identifier: Apache-2.0
// In place of dicom_dcmtk.cpp where DCMTK is not there.
#include "base/error.hpp"
#include "data/dicom/dicom.hpp"

namespace triphase::data {

Volume read_dicom(const std::filesystem::path& folder, const NiftiLimits& /*limits*/,
                  const ScanCorrection& /*correction*/) {
  throw DataError(str("'", folder.string(), "' is a folder, and this build reads no DICOM. Install DCMTK ",
                      "(libdcmtk-dev) and build again, or convert the series to NIfTI."));
}

std::string dicom_support() { return "none: built without DCMTK"; }

}  // namespace triphase::data
