// SPDX-License-Identifier: Apache-2.0
#include "data/chunk_compression.hpp"

#include <zstd.h>

#include <cstdlib>
#include <memory>

#include "base/error.hpp"
#include "data/h5.hpp"

namespace triphase::data {
namespace {

struct FreeDecompressor {
  void operator()(ZSTD_DCtx* context) const { ZSTD_freeDCtx(context); }
};

void shuffle(std::span<const std::byte> in, std::size_t width, std::byte* out) {
  const std::size_t count = in.size() / width;
  for (std::size_t place = 0; place < width; ++place)
    for (std::size_t i = 0; i < count; ++i) *out++ = in[i * width + place];
}

template <std::size_t kWidth>
void unshuffle(std::span<const std::byte> in, std::byte* out) {
  const std::size_t count = in.size() / kWidth;
  for (std::size_t i = 0; i < count; ++i)
    for (std::size_t place = 0; place < kWidth; ++place)
      out[i * kWidth + place] = in[place * count + i];
}

/// HDF5's filter callback, for whoever reads a shard through H5Dread in this process. Memory is
/// HDF5's: malloc and free. @return 0 on failure
std::size_t filter(unsigned flags, std::size_t, const unsigned*, std::size_t num_bytes,
                   std::size_t* buffer_bytes, void** buffer) {
  const bool is_reading = (flags & H5Z_FLAG_REVERSE) != 0;
  const unsigned long long size =
      is_reading ? ZSTD_getFrameContentSize(*buffer, num_bytes) : ZSTD_compressBound(num_bytes);
  constexpr unsigned long long kLargestChunk = 0xFFFFFFFFULL;  // HDF5's own limit
  if (size == 0 || size > kLargestChunk) return 0;             // also the two error values
  void* out = std::malloc(size);
  if (out == nullptr) return 0;
  const std::size_t made = is_reading
                               ? ZSTD_decompress(out, size, *buffer, num_bytes)
                               : ZSTD_compress(out, size, *buffer, num_bytes, kZstdLevel);
  if (ZSTD_isError(made) != 0) {
    std::free(out);
    return 0;
  }
  std::free(*buffer);
  *buffer = out;
  *buffer_bytes = size;
  return made;
}

}  // namespace

std::vector<std::byte> compress_chunk(std::span<const std::byte> bytes,
                                      std::int64_t element_bytes) {
  std::vector<std::byte> shuffled(bytes.size());
  shuffle(bytes, static_cast<std::size_t>(element_bytes), shuffled.data());
  std::vector<std::byte> out(ZSTD_compressBound(bytes.size()));
  const std::size_t made =
      ZSTD_compress(out.data(), out.size(), shuffled.data(), shuffled.size(), kZstdLevel);
  TRIPHASE_CHECK(InternalError, ZSTD_isError(made) == 0, "zstd: ", ZSTD_getErrorName(made));
  out.resize(made);
  return out;
}

void decompress_chunk(std::span<const std::byte> stored, std::int64_t element_bytes,
                      std::span<std::byte> out) {
  // Kept by each thread: contexts and buffers of many MB cost more to make than to use.
  thread_local const std::unique_ptr<ZSTD_DCtx, FreeDecompressor> context(ZSTD_createDCtx());
  thread_local std::vector<std::byte> shuffled;
  shuffled.resize(out.size());
  const std::size_t made = ZSTD_decompressDCtx(context.get(), shuffled.data(), shuffled.size(),
                                               stored.data(), stored.size());
  TRIPHASE_CHECK(DataError, ZSTD_isError(made) == 0, "zstd: ", ZSTD_getErrorName(made));
  TRIPHASE_CHECK(DataError, made == out.size(), "a compressed volume holds ", made,
                 " bytes, expected ", out.size());
  if (element_bytes == 2) return unshuffle<2>(shuffled, out.data());
  unshuffle<4>(shuffled, out.data());
}

std::int64_t compress_bound(std::int64_t bytes) {
  return static_cast<std::int64_t>(ZSTD_compressBound(static_cast<std::size_t>(bytes)));
}

void register_zstd_filter() {
  static const H5Z_class2_t kClass{H5Z_CLASS_T_VERS, kZstdFilter, 1, 1,
                                   "zstd",           nullptr,     nullptr, filter};
  H5_TRY(H5Zregister(&kClass));
}

}  // namespace triphase::data
