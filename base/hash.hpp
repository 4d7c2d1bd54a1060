// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace triphase {

/// xxh3 with 64 bits: finds damage and change, not malice. Source: github.com/Cyan4973/xxHash.
[[nodiscard]] std::uint64_t xxh3(std::span<const std::byte> bytes);
[[nodiscard]] std::uint64_t xxh3(std::string_view text);

/// Sixteen lower-case hexadecimal digits.
[[nodiscard]] std::string hex64(std::uint64_t value);

/// xxh3 of a file's content, read in pieces. @throws DataError (66) when it is not there; IoError
[[nodiscard]] std::uint64_t hash_file(const std::filesystem::path& path);

/// xxh3 over pieces that arrive one after another.
class StreamingHash {
 public:
  StreamingHash();
  ~StreamingHash();
  StreamingHash(StreamingHash&&) noexcept;
  StreamingHash& operator=(StreamingHash&&) noexcept;
  void update(std::span<const std::byte> bytes);
  void update(std::string_view text);
  [[nodiscard]] std::uint64_t digest() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace triphase
