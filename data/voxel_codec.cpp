// SPDX-License-Identifier: Apache-2.0
#include "data/voxel_codec.hpp"

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "base/error.hpp"

namespace triphase::data {
namespace {

constexpr double kLargestUint16 = 65535;
static_assert(std::endian::native == std::endian::little,
              "chunks are little-endian and copied as they are");

/// Reads and writes elements one by one through memcpy, which compiles to plain vector loads.
template <class T>
T element(const std::byte* bytes, std::size_t i) {
  T value;
  std::memcpy(&value, bytes + i * sizeof(T), sizeof(T));
  return value;
}
template <class T>
void set_element(std::byte* bytes, std::size_t i, T value) {
  std::memcpy(bytes + i * sizeof(T), &value, sizeof(T));
}

/// One plain loop for each storage type, which the compiler turns into vector code.
template <class T, class Convert>
void decode(std::span<const std::byte> bytes, const VoxelCodec& codec, T* out, std::size_t count,
            Convert convert) {
  TRIPHASE_CHECK(InternalError,
                 bytes.size() == count * static_cast<std::size_t>(bytes_per_voxel(codec.storage)),
                 bytes.size(), " bytes do not hold ", count, " voxels");
  switch (codec.storage) {
    case Storage::kUint16: {
      const auto scale = static_cast<float>(codec.scale);
      const auto offset = static_cast<float>(codec.offset);
      for (std::size_t i = 0; i < count; ++i)
        out[i] = convert(static_cast<float>(element<std::uint16_t>(bytes.data(), i)) * scale + offset);
      break;
    }
    case Storage::kFloat16:
      for (std::size_t i = 0; i < count; ++i)
        out[i] = convert(float_from_half(element<std::uint16_t>(bytes.data(), i)));
      break;
    case Storage::kFloat32:
      for (std::size_t i = 0; i < count; ++i) out[i] = convert(element<float>(bytes.data(), i));
      break;
  }
}

#if defined(__SSE2__)
/// As decode(), around the caches: a batch is larger than they are, and a plain store would first read what it overwrites.
void decode_past_caches(std::span<const std::byte> bytes, float scale, float offset, std::span<float> out) {
  const auto one = [&](std::size_t i) {
    out[i] = static_cast<float>(element<std::uint16_t>(bytes.data(), i)) * scale + offset;
  };
  constexpr std::uintptr_t kAlignment = 16;
  std::size_t i = 0;
  for (; i < out.size() && reinterpret_cast<std::uintptr_t>(&out[i]) % kAlignment != 0; ++i) one(i);
  const __m128 scales = _mm_set1_ps(scale);
  const __m128 offsets = _mm_set1_ps(offset);
  const auto four = [&](__m128i stored, float* to) {
    _mm_stream_ps(to, _mm_add_ps(_mm_mul_ps(_mm_cvtepi32_ps(stored), scales), offsets));
  };
  const __m128i zero = _mm_setzero_si128();
  for (; i + 8 <= out.size(); i += 8) {
    const __m128i stored = _mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes.data() + 2 * i));
    four(_mm_unpacklo_epi16(stored, zero), &out[i]);
    four(_mm_unpackhi_epi16(stored, zero), &out[i + 4]);
  }
  for (; i < out.size(); ++i) one(i);
  _mm_sfence();  // the batch may go to another thread
}
#endif

}  // namespace

VoxelCodec codec_for(const PreprocessOptions& options) {
  if (options.storage != Storage::kUint16) return {options.storage, 1, 0};
  const auto [low, high] = options.output_range;
  return {options.storage, (high - low) / kLargestUint16, low};
}

std::int64_t bytes_per_voxel(Storage storage) { return storage == Storage::kFloat32 ? 4 : 2; }

std::vector<std::byte> encode_voxels(std::span<const float> voxels, const VoxelCodec& codec) {
  std::vector<std::byte> bytes(voxels.size() *
                               static_cast<std::size_t>(bytes_per_voxel(codec.storage)));
  encode_voxels_into(voxels, codec, bytes);
  return bytes;
}

void encode_voxels_into(std::span<const float> voxels, const VoxelCodec& codec,
                        std::span<std::byte> bytes) {
  switch (codec.storage) {
    case Storage::kUint16:
      for (std::size_t i = 0; i < voxels.size(); ++i) {
        const double steps = (static_cast<double>(voxels[i]) - codec.offset) / codec.scale;
        const double rounded = std::nearbyint(std::clamp(steps, 0.0, kLargestUint16));
        set_element(bytes.data(), i, static_cast<std::uint16_t>(rounded));
      }
      break;
    case Storage::kFloat16:
      for (std::size_t i = 0; i < voxels.size(); ++i)
        set_element(bytes.data(), i, half_from_float(voxels[i]));
      break;
    case Storage::kFloat32:
      std::memcpy(bytes.data(), voxels.data(), bytes.size());
      break;
  }
}

void decode_voxels(std::span<const std::byte> bytes, const VoxelCodec& codec,
                   std::span<float> out) {
#if defined(__SSE2__)
  if (codec.storage == Storage::kUint16 && bytes.size() == 2 * out.size())
    return decode_past_caches(bytes, static_cast<float>(codec.scale), static_cast<float>(codec.offset), out);
#endif
  decode(bytes, codec, out.data(), out.size(), [](float value) { return value; });
}

void decode_voxels(std::span<const std::byte> bytes, const VoxelCodec& codec,
                   std::span<std::uint16_t> out) {
  decode(bytes, codec, out.data(), out.size(), bfloat16_from_float);
}

std::uint16_t half_from_float(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const auto sign = static_cast<std::uint16_t>((bits >> 16) & 0x8000U);
  const std::uint32_t magnitude = bits & 0x7FFFFFFFU;
  if (magnitude > 0x7F800000U) return static_cast<std::uint16_t>(sign | 0x7E00U);  // not a number
  if (magnitude >= 0x477FF000U)
    return static_cast<std::uint16_t>(sign | 0x7C00U);  // rounds beyond 65504
  if (magnitude < 0x38800000U) {
    // Below 2^-14 halves are multiples of 2^-24: adding 0.5 lets the float unit round to that.
    const float shifted = std::bit_cast<float>(magnitude) + 0.5F;
    return static_cast<std::uint16_t>(sign | (std::bit_cast<std::uint32_t>(shifted) - 0x3F000000U));
  }
  const std::uint32_t is_odd = (magnitude >> 13) & 1U;
  return static_cast<std::uint16_t>(sign | ((magnitude - 0x38000000U + 0xFFFU + is_odd) >> 13));
}

}  // namespace triphase::data
