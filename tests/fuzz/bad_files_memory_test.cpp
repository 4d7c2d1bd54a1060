// SPDX-License-Identifier: Apache-2.0
// What bad files cost in memory: never more than the file's size and 64 MiB, whether they are
// refused or read.
#include <gtest/gtest.h>

#include <chrono>
#include <cstdio>
#include <functional>

#include "base/error.hpp"
#include "data/tokenizer.hpp"
#include "models/peft_config.hpp"
#include "models/files/weights_file.hpp"
#include "tests/models/torch_file_builder.hpp"
#include "tests/support/child_memory.hpp"
#include "tests/support/test_support.hpp"

namespace triphase::fuzz {
namespace {

namespace fs = std::filesystem;
using models::test::le;
using triphase::test::read_text;
using triphase::test::TemporaryFolder;
using triphase::test::write_text;

constexpr double kRoomMib = 64;
/// Each takes about a second at most on an idle machine; one whose work grows with the square of
/// its length takes minutes.
constexpr double kMostSeconds = 30;

/// Reads a file, or a folder with the two files of a tokenizer.
void read_any(const fs::path& path) {
  if (fs::is_directory(path))
    static_cast<void>(data::Tokenizer(path));
  else if (path.extension() == ".json")
    static_cast<void>(models::read_peft_config(path));
  else
    static_cast<void>(models::read_weights(path));
}

double mib_of(const fs::path& path) {
  double bytes = 0;
  if (fs::is_directory(path))
    for (const auto& entry : fs::directory_iterator(path))
      bytes += static_cast<double>(entry.file_size());
  else
    bytes = static_cast<double>(fs::file_size(path));
  return bytes / (1 << 20);
}

/// Highest memory above the file's size while it is read in a child.
void expect_little_memory(const fs::path& path, const std::string& name, bool is_shown) {
  const auto begin = std::chrono::steady_clock::now();
  const double peak = triphase::test::peak_mib_of([&] {
    try {
      read_any(path);
    } catch (const Error& error) {
      if (error.exit_code() != ExitCode::kBadData) throw;
    }
  });
  ASSERT_GE(peak, 0) << name;
  const double above = peak - mib_of(path);
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
  if (is_shown)
    std::printf("%-28s %5.1f MiB, peak %6.1f MiB: %6.1f above its size, %.1f s\n", name.c_str(),
                mib_of(path), peak, above, seconds.count());
  EXPECT_LT(above, kRoomMib) << name;
  EXPECT_LT(seconds.count(), kMostSeconds) << name;
}

TEST(BadFilesMemory, HostileFilesOfTheCorpora) {
  int hostile = 0;
  for (const char* target : {"safetensors", "torch_file", "adapter_config", "tokenizer"})
    for (const auto& entry : fs::directory_iterator(triphase::test::source_folder() / "tests" /
                                                    "fuzz" / "corpus" / target)) {
      const std::string name = entry.path().filename().string();
      if (!name.starts_with("bad-")) continue;
      ++hostile;
      if (std::string(target) != "tokenizer") {
        expect_little_memory(entry.path(), name, /*is_shown=*/false);
        continue;
      }
      const TemporaryFolder folder;
      const std::string bytes = read_text(entry.path());
      const std::size_t zero = std::min(bytes.find('\0'), bytes.size());
      write_text(folder / "vocab.json", bytes.substr(0, zero));
      write_text(folder / "merges.txt", bytes.substr(std::min(zero + 1, bytes.size())));
      expect_little_memory(folder.path(), name, /*is_shown=*/false);
    }
  EXPECT_GE(hostile, 40);
}

std::string repeated(const std::string& text, std::size_t count) {
  std::string result;
  result.reserve(text.size() * count);
  for (std::size_t i = 0; i < count; ++i) result += text;
  return result;
}

/// Text made of `piece` of each number from 0, until it holds `bytes` bytes or `count` pieces.
std::string numbered(std::size_t bytes, std::size_t count,
                     const std::function<std::string(std::size_t)>& piece) {
  std::string text;
  for (std::size_t i = 0; i < count && text.size() < bytes; ++i) text += piece(i);
  return text;
}

std::string safetensors_of(const std::string& header, std::size_t data_bytes) {
  return le<std::uint64_t>(header.size()) + header + std::string(data_bytes, '\0');
}

/// Files that ask for as much as the readers' limits give.
void write_greedy_files(const TemporaryFolder& folder) {
  const std::size_t most = std::size_t{8} << 20;
  const std::string filler(150, 'n');
  const auto entry = [&](std::size_t i) {
    return str(i == 0 ? "{\"" : ",\"", i, filler, R"(":{"dtype":"U8","shape":[1],"data_offsets":[)",
               i, ",", i + 1, "]}");
  };
  write_text(folder / "many.safetensors",
             safetensors_of(numbered(most - 9, 32'768, entry) + "}", 32'768));
  const auto note = [](std::size_t i) {
    return str(i == 0 ? R"({"__metadata__":{")" : ",\"", i, "\":\"", std::string(800, 'm'), "\"");
  };
  write_text(folder / "metadata.safetensors",
             safetensors_of(numbered(most - 900, 10'000, note) + "}}", 0));
  write_text(folder / "string.safetensors",
             safetensors_of("{\"" + std::string(most - 9, 's') + "\":1}", 0));

  const auto torch_file = [&](const std::string& name, const std::string& opcodes) {
    write_text(folder / name, models::test::torch_file_of("\x80\x02" + opcodes, {"12345678"}));
  };
  torch_file("stack.pt", std::string(most, 'N'));
  torch_file("marks.pt", std::string(most, '('));
  torch_file("memo.pt", "Nr" + le<std::uint32_t>((1U << 19U) - 1) + ".");
  torch_file("members.pt", ")" + std::string(most, '\x85'));
  torch_file("entries.pt", "}" + repeated("NNs", most / 3) + ".");
  std::vector<models::test::TensorSpec> specs;
  for (int i = 0; i < 32'768; ++i) specs.push_back({.name = std::to_string(i)});
  write_text(folder / "tensors.pt",
             models::test::torch_file_of(models::test::pickle_of(specs), {"12345678"}));
  std::vector<models::test::Member> members;
  for (int i = 0; i < 65'000; ++i) members.push_back({str("m/data/", i), ""});
  write_text(folder / "members-of-zip.pt", models::test::zip_of(members));

  const std::size_t json = (std::size_t{1} << 20) - 100;
  write_text(folder / "list.json", "{\"a\":[1" + repeated(",1", json / 2) + "]}");
  write_text(folder / "lists.json", "{\"a\":[[]" + repeated(",[]", json / 3) + "]}");
  write_text(folder / "objects.json", "{\"a\":[{}" + repeated(",{}", json / 3) + "]}");
  write_text(folder / "large.json", "{\"a\":[1" + repeated(",1", 8 * json) + "]}");
  write_text(folder / "keys.json", numbered(json, 16'000, [](std::size_t i) {
                                     return str(i == 0 ? "{\"" : ",\"", i, R"(":"")");
                                   }) + "}");

  const std::string small =
      read_text(triphase::test::golden_folder() / "tokenizer/small/vocab.json");
  const auto tokenizer = [&](const std::string& name, const std::string& vocabulary,
                             const std::string& merges) {
    fs::create_directories(folder / name);
    write_text(folder / name / "vocab.json", vocabulary);
    write_text(folder / name / "merges.txt", merges);
  };
  const std::string begin = small.substr(0, small.rfind('}'));
  const auto token = [](std::size_t length) {
    return [length](std::size_t i) {
      return str(",\"<", i, std::string(length, 't'), ">\":", i + 300);
    };
  };
  const std::string merges =
      read_text(triphase::test::golden_folder() / "tokenizer/small/merges.txt");
  tokenizer("many-tokens", begin + numbered(most - begin.size() - 99, 130'772, token(0)) + "}",
            merges);
  tokenizer("long-tokens", begin + numbered(most - begin.size() - 99, 130'772, token(44)) + "}",
            merges);
  tokenizer("longest-token", begin + token(most - 20'000)(0) + "}", merges);
  tokenizer("many-merges", small, merges + repeated("a t\n", 262'000));
  tokenizer("too-many-tokens", begin + numbered(most - begin.size(), 400'000, token(0)), merges);
}

TEST(BadFilesMemory, FilesThatAskForAsMuchAsTheLimitsGive) {
  const TemporaryFolder folder;
  write_greedy_files(folder);
  int files = 0;
  for (const auto& entry : fs::directory_iterator(folder.path())) {
    expect_little_memory(entry.path(), entry.path().filename().string(), /*is_shown=*/true);
    ++files;
  }
  EXPECT_EQ(files, 20);
}

}  // namespace
}  // namespace triphase::fuzz
