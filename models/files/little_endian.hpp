// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <bit>
#include <cstddef>
#include <cstring>
#include <span>

namespace triphase::models {

static_assert(std::endian::native == std::endian::little,
              "weights files hold little-endian numbers");

/// The number whose first byte is bytes[at]; the caller has checked that all of it is there.
template <class T>
[[nodiscard]] T load_little(std::span<const std::byte> bytes, std::size_t at) {
  T value{};
  std::memcpy(&value, bytes.data() + at, sizeof value);
  return value;
}

}  // namespace triphase::models
