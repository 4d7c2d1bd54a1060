// SPDX-License-Identifier: Apache-2.0
#include "data/gunzip.hpp"

#include <libdeflate.h>
#include <zlib.h>

#include <algorithm>
#include <array>
#include <limits>
#include <memory>

#include "base/error.hpp"

namespace triphase::data {
namespace {

/// Inflates a gzip file piece by piece; goes on over the members' borders.
class GzipStream {
 public:
  GzipStream(std::span<const std::byte> compressed, const std::string& name)
      : rest_(compressed), name_(name) {
    constexpr int kGzipOnly = 16 + MAX_WBITS;
    TRIPHASE_CHECK(InternalError, inflateInit2(&stream_, kGzipOnly) == Z_OK,
                   "zlib could not start");
  }
  ~GzipStream() { inflateEnd(&stream_); }
  GzipStream(const GzipStream&) = delete;
  GzipStream& operator=(const GzipStream&) = delete;

  /// Fills `out` as far as there is data. @return bytes written
  std::size_t read(std::span<std::byte> out) {
    std::size_t done = 0;
    while (done < out.size() && !ended_) done += step(out.subspan(done));
    return done;
  }
  /// The last member ended with a good checksum. False: the file is cut short.
  [[nodiscard]] bool is_complete() const { return complete_; }

 private:
  std::size_t step(std::span<std::byte> out) {
    constexpr std::size_t kPiece = std::size_t{1} << 30;  // zlib counts in 32 bits
    const auto in_size = static_cast<uInt>(std::min(rest_.size(), kPiece));
    const auto out_size = static_cast<uInt>(std::min(out.size(), kPiece));
    // zlib's interface lacks const; it does not write to its input.
    stream_.next_in = reinterpret_cast<Bytef*>(const_cast<std::byte*>(rest_.data()));
    stream_.avail_in = in_size;
    stream_.next_out = reinterpret_cast<Bytef*>(out.data());
    stream_.avail_out = out_size;
    const int result = inflate(&stream_, Z_NO_FLUSH);
    rest_ = rest_.subspan(in_size - stream_.avail_in);
    const std::size_t produced = out_size - stream_.avail_out;
    if (result == Z_STREAM_END) {
      next_member();
    } else if (result == Z_BUF_ERROR || (result == Z_OK && rest_.empty() && produced == 0)) {
      ended_ = true;
    } else {
      TRIPHASE_CHECK(DataError, result == Z_OK, "volume '", name_, "' is damaged: gzip says '",
                     stream_.msg == nullptr ? "wrong data" : stream_.msg,
                     "'. Fetch the file again.");
    }
    return produced;
  }
  /// Another member may follow; zero bytes and other bytes after the last one are ignored, as gzip
  /// does.
  void next_member() {
    if (is_gzip(rest_)) {
      inflateReset(&stream_);
    } else {
      ended_ = true;
      complete_ = true;
    }
  }

  z_stream stream_{};
  std::span<const std::byte> rest_;
  const std::string& name_;
  bool ended_ = false;
  bool complete_ = false;
};

/// The common case, three times as fast as zlib: one member that holds just the wanted bytes.
bool gunzip_at_once(std::span<const std::byte> compressed, std::span<std::byte> out) {
  thread_local const std::unique_ptr<libdeflate_decompressor, void (*)(libdeflate_decompressor*)>
      decompressor(libdeflate_alloc_decompressor(), libdeflate_free_decompressor);
  if (decompressor == nullptr) return false;
  std::size_t consumed = 0;
  std::size_t produced = 0;
  const libdeflate_result result =
      libdeflate_gzip_decompress_ex(decompressor.get(), compressed.data(), compressed.size(),
                                    out.data(), out.size(), &consumed, &produced);
  return result == LIBDEFLATE_SUCCESS && produced == out.size();
}

}  // namespace

bool is_gzip(std::span<const std::byte> bytes) {
  return bytes.size() >= 2 && bytes[0] == std::byte{0x1f} && bytes[1] == std::byte{0x8b};
}

std::vector<std::byte> gunzip_prefix(std::span<const std::byte> compressed, std::size_t count,
                                     const std::string& name) {
  std::vector<std::byte> out(count);
  GzipStream stream(compressed, name);
  out.resize(stream.read(out));
  return out;
}

ByteBuffer gunzip(std::span<const std::byte> compressed, std::int64_t size,
                  const std::string& name) {
  TRIPHASE_CHECK(DataError, size / kMaxInflateRatio <= static_cast<std::int64_t>(compressed.size()),
                 "volume '", name, "' is cut short: its ", compressed.size(),
                 " compressed bytes cannot hold the ", size,
                 " bytes that its header declares. Fetch the file again.");
  ByteBuffer out(static_cast<std::size_t>(size));
  if (gunzip_at_once(compressed, out.bytes())) return out;
  GzipStream stream(compressed, name);
  const std::size_t produced = stream.read(out.bytes());
  std::array<std::byte, 65536> surplus{};
  std::int64_t num_surplus = 0;
  while (stream.read(surplus) == surplus.size()) {
    num_surplus += static_cast<std::int64_t>(surplus.size());
    TRIPHASE_CHECK(DataError, num_surplus <= kMaxInflatedSurplus, "volume '", name,
                   "' inflates to more than ", kMaxInflatedSurplus,
                   " bytes beyond the voxels that its header declares. One of the two is wrong: "
                   "fetch the file again.");
  }
  TRIPHASE_CHECK(DataError, produced == out.bytes().size() && stream.is_complete(), "volume '",
                 name, "' is cut short: it holds ", produced, " of ", size,
                 " bytes, or lacks its checksum. Fetch the file again.");
  return out;
}

std::string gzip(std::span<const std::byte> bytes, int level) {
  const std::unique_ptr<libdeflate_compressor, void (*)(libdeflate_compressor*)> compressor(
      libdeflate_alloc_compressor(level), libdeflate_free_compressor);
  TRIPHASE_CHECK(InternalError, compressor != nullptr, "libdeflate could not start at level ",
                 level);
  std::string out(libdeflate_gzip_compress_bound(compressor.get(), bytes.size()), '\0');
  const std::size_t size = libdeflate_gzip_compress(compressor.get(), bytes.data(), bytes.size(),
                                                    out.data(), out.size());
  TRIPHASE_CHECK(InternalError, size > 0, "libdeflate did not fit its own bound");
  out.resize(size);
  return out;
}

}  // namespace triphase::data
