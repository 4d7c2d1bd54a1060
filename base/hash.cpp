// SPDX-License-Identifier: Apache-2.0
#include "base/hash.hpp"

#include "base/descriptor.hpp"
#include "base/error.hpp"

#include <xxhash.h>
// The widest vector unit that the processor has, chosen as the program runs; the library's own
// choice is that of its compilation.
#if defined(__x86_64__) && __has_include(<xxh_x86dispatch.h>)
#include <xxh_x86dispatch.h>
#endif

#include <new>
#include <vector>

namespace triphase {

std::uint64_t xxh3(std::span<const std::byte> bytes) {
  return XXH3_64bits(bytes.data(), bytes.size());
}

std::uint64_t xxh3(std::string_view text) { return XXH3_64bits(text.data(), text.size()); }

std::string hex64(std::uint64_t value) {
  std::string digits(16, '0');
  for (std::size_t i = digits.size(); i > 0; --i, value >>= 4)
    digits[i - 1] = "0123456789abcdef"[value & 0xf];
  return digits;
}

std::uint64_t hash_file(const std::filesystem::path& path) {
  const InputFile file = open_input(path);
  StreamingHash hash;
  std::vector<std::byte> piece(1 << 20);
  while (const std::size_t count = read_some(file.descriptor, piece.data(), piece.size(), path))
    hash.update(std::span(piece).first(count));
  return hash.digest();
}

struct StreamingHash::State {
  State() {
    if (state == nullptr) throw std::bad_alloc();
    XXH3_64bits_reset(state);
  }
  ~State() { XXH3_freeState(state); }
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  XXH3_state_t* state = XXH3_createState();
};

StreamingHash::StreamingHash() : state_(std::make_unique<State>()) {}
StreamingHash::~StreamingHash() = default;
StreamingHash::StreamingHash(StreamingHash&&) noexcept = default;
StreamingHash& StreamingHash::operator=(StreamingHash&&) noexcept = default;

void StreamingHash::update(std::span<const std::byte> bytes) {
  if (!bytes.empty()) XXH3_64bits_update(state_->state, bytes.data(), bytes.size());
}

void StreamingHash::update(std::string_view text) { update(std::as_bytes(std::span(text))); }

std::uint64_t StreamingHash::digest() const { return XXH3_64bits_digest(state_->state); }

}  // namespace triphase
