// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace triphase::data {

/// A chunk as HDF5's filters "shuffle" and 32015 (zstd) store it: first the lowest byte of every
/// element, then the next, as one zstd frame that states its size. Purely local.
/// @param element_bytes 2 or 4
[[nodiscard]] std::vector<std::byte> compress_chunk(std::span<const std::byte> bytes,
                                                    std::int64_t element_bytes);
/// The other way. @param out all elements; its size is the one that must come out
/// @throws DataError when the frame is none or holds another number of bytes
void decompress_chunk(std::span<const std::byte> stored, std::int64_t element_bytes,
                      std::span<std::byte> out);
/// The most bytes that compress_chunk() makes of so many.
[[nodiscard]] std::int64_t compress_bound(std::int64_t bytes);

inline constexpr int kZstdFilter = 32015;  ///< registered with The HDF Group
inline constexpr int kZstdLevel = 1;

/// Makes HDF5 know the zstd filter, so that a dataset can be declared to have it. The caller holds
/// h5::lock().
void register_zstd_filter();

}  // namespace triphase::data
