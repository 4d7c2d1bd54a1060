// SPDX-License-Identifier: Apache-2.0
// What the fuzz targets share. Each target is one file <name>_target.cpp with libFuzzer's entry
// function; see README.md.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string_view>

/// libFuzzer's entry function. Returns 0.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace triphase::fuzz {

/// How reading an input may end.
enum class Outcome { kRead, kRefused };

/// Of the latest input.
[[nodiscard]] Outcome last_outcome();

/// Runs `read`. It may return, or throw an error of Triphase with exit code 65 and a message;
/// anything else ends the process by abort() after a line that says why.
void expect_clean_end(const std::function<void()>& read);

/// Ends the process by abort() where a property of what was read does not hold.
void require(bool holds, const char* property);

/// The bytes as the file `name` in a folder of this process's own, which is gone at its end.
[[nodiscard]] std::filesystem::path scratch_file(const char* name, std::string_view bytes);

/// An input as text.
[[nodiscard]] inline std::string_view text_of(const std::uint8_t* data, std::size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

}  // namespace triphase::fuzz
