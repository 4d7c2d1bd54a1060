// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/error.hpp"

#include <mpi.h>

#include <array>
#include <string>

namespace triphase::dist {

/// MPI's own words for an error code.
[[nodiscard]] inline std::string mpi_error_text(int code) {
  std::array<char, MPI_MAX_ERROR_STRING> text{};
  int length = 0;
  if (MPI_Error_string(code, text.data(), &length) != MPI_SUCCESS) return str("error code ", code);
  return {text.data(), static_cast<std::size_t>(length)};
}

inline void mpi_check(int code, const char* expression) {
  if (code != MPI_SUCCESS) throw CommError(str(expression, " failed: ", mpi_error_text(code)));
}

}  // namespace triphase::dist

/// Calls MPI and throws CommError with the call's text and MPI's own words when it fails. The
/// communicator's error handler must be MPI_ERRORS_RETURN.
#define MPI_TRY(...) ::triphase::dist::mpi_check((__VA_ARGS__), #__VA_ARGS__)
