// SPDX-License-Identifier: Apache-2.0
#include "tests/models/models_test_support.hpp"

#include "base/json.hpp"
#include "models/files/safetensors_header.hpp"

#include <gtest/gtest.h>

#include <cstring>
#include <limits>

namespace triphase::models {
namespace {

using test::equal_bits;
using test::normal;
using triphase::test::expect_error;
using triphase::test::TemporaryFolder;
using triphase::test::write_text;

/// A file with this header text and this many bytes of data.
std::string file_of(const std::string& header, std::size_t data_bytes) {
  const std::uint64_t length = header.size();
  std::string bytes(sizeof length, '\0');
  std::memcpy(bytes.data(), &length, sizeof length);
  return bytes + header + std::string(data_bytes, '\1');
}

std::string entry(const std::string& name, const std::string& shape, std::int64_t begin,
                  std::int64_t end, const std::string& dtype = "F32") {
  return str("\"", name, "\":{\"dtype\":\"", dtype, "\",\"shape\":", shape, ",\"data_offsets\":[",
             begin, ",", end, "]}");
}

void expect_refused(const std::string& bytes, std::initializer_list<std::string> words) {
  const TemporaryFolder folder;
  write_text(folder / "x.safetensors", bytes);
  expect_error<CheckpointError>([&] { (void)read_safetensors(folder / "x.safetensors"); },
                                ExitCode::kBadData, words);
}

NamedTensors of_every_kind() {
  NamedTensors tensors;
  for (const at::ScalarType dtype : {at::kByte, at::kBool, at::kDouble, at::kFloat, at::kHalf,
                                     at::kBFloat16, at::kLong, at::kInt, at::kShort, at::kChar}) {
    const at::Tensor values = (normal({3, 5}, 1) * 20).clamp(0, 100);
    tensors.emplace_back(c10::toString(dtype), dtype == at::kBool ? values > 10 : values.to(dtype));
  }
  tensors.emplace_back("scalar", at::full({}, 2.5F));
  tensors.emplace_back("strided",
                       normal({2, 3, 4, 5, 6}, 2).contiguous(at::MemoryFormat::ChannelsLast3d));
  tensors.emplace_back("a view", normal({8, 8}, 3).t().slice(0, 2, 7));
  tensors.emplace_back("name with \"quotes\" and \xC3\xA4", normal({1}, 4));
  return tensors;
}

TEST(Safetensors, WhatIsWrittenIsReadInOrderToTheBit) {
  const TemporaryFolder folder;
  const NamedTensors written = of_every_kind();
  const std::map<std::string, std::string> metadata{{"format", "pt"}, {"note", "a\nb"}};
  write_safetensors(folder / "x.safetensors", written, metadata);
  const WeightsFile found = read_safetensors(folder / "x.safetensors");
  EXPECT_EQ(found.metadata, metadata);
  ASSERT_EQ(found.tensors.size(), written.size());
  for (std::size_t i = 0; i < written.size(); ++i) {
    EXPECT_EQ(found.tensors[i].first, written[i].first);
    EXPECT_TRUE(equal_bits(found.tensors[i].second, written[i].second)) << written[i].first;
    // Python's reader asks for it.
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(found.tensors[i].second.const_data_ptr()) %
                  static_cast<std::uintptr_t>(found.tensors[i].second.element_size()),
              0U)
        << written[i].first;
  }
  EXPECT_FALSE(std::filesystem::exists(folder / "x.safetensors.part"));
}

TEST(Safetensors, TensorsOutliveTheirFile) {
  const TemporaryFolder folder;
  write_safetensors(folder / "x.safetensors", {{"a", at::arange(1000, at::kFloat)}});
  const at::Tensor kept = read_safetensors(folder / "x.safetensors").tensors[0].second;
  std::filesystem::remove(folder / "x.safetensors");
  EXPECT_EQ(kept.sum().item<double>(), 499500);
}

TEST(Safetensors, AFileWithoutTensorsIsFine) {
  const TemporaryFolder folder;
  write_safetensors(folder / "x.safetensors", {});
  EXPECT_TRUE(read_safetensors(folder / "x.safetensors").tensors.empty());
}

TEST(Safetensors, ReplacesAnOldFileWhileItIsMapped) {
  const TemporaryFolder folder;
  write_safetensors(folder / "x.safetensors", {{"a", at::ones({4})}});
  const WeightsFile old = read_safetensors(folder / "x.safetensors");
  write_safetensors(folder / "x.safetensors", {{"a", old.tensors[0].second + 1}});
  EXPECT_EQ(old.tensors[0].second.sum().item<float>(), 4);
  EXPECT_EQ(read_safetensors(folder / "x.safetensors").tensors[0].second.sum().item<float>(), 8);
}

TEST(Safetensors, PathsThatCannotBeReadOrWrittenKeepTheirCodes) {
  const TemporaryFolder folder;
  expect_error<CheckpointError>([&] { (void)read_safetensors(folder / "none.safetensors"); },
                                ExitCode::kMissingInput, {"none.safetensors"});
  expect_error<IoError>(
      [&] {
        write_safetensors(folder / "no" / "x.safetensors", {{"a", at::ones({1})}});
      },
      ExitCode::kCannotCreateOutput, {"x.safetensors"});
  expect_error<CheckpointError>(
      [&] {
        write_safetensors(folder / "x", {{"a", at::ones({1})}, {"a", at::ones({1})}});
      },
      ExitCode::kBadData, {"'a'", "once"});
  expect_error<CheckpointError>(
      [&] {
        write_safetensors(folder / "x", {{"a", at::ones({0})}});
      },
      ExitCode::kBadData, {"'a'", "no elements"});
  expect_error<CheckpointError>(
      [&] {
        write_safetensors(folder / "x", {{"a", at::ones({1}, at::kComplexFloat)}});
      },
      ExitCode::kBadData, {"ComplexFloat"});
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST(Safetensors, AFullDiskLeavesNoFileBehind) {
  ASSERT_TRUE(std::filesystem::exists("/dev/full")) << "Linux always has it";
  const TemporaryFolder folder;
  std::filesystem::create_symlink("/dev/full", folder / "x.safetensors.part");
  expect_error<IoError>(
      [&] {
        write_safetensors(folder / "x.safetensors", {{"a", at::ones({1})}});
      },
      ExitCode::kIo, {"x.safetensors"});
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST(Safetensors, AFileThatIsNoneIsRefused) {
  expect_refused("", {"0 bytes"});
  expect_refused("short", {"5 bytes"});
  expect_refused(std::string(8, '\0'), {"'{'"});
  expect_refused(std::string(64, '\xFF'), {"header would have"});
  std::string bytes = file_of("{}", 0);
  bytes[0] = 100;
  expect_refused(bytes, {"cut short", "100"});
  expect_refused(file_of("[]", 0), {"'{'"});
  expect_refused(file_of(" {}", 0), {"'{'"});
  expect_refused(file_of("{", 0), {"JSON"});
  expect_refused(file_of("{}{}", 0), {"JSON"});
  expect_refused(file_of("{\"\xFF\":1}", 0), {"JSON"});
}

TEST(Safetensors, EveryRuleOfTheHeaderHolds) {
  const auto one = [](const std::string& text) { return file_of("{" + text + "}", 8); };
  const std::string fine = entry("a", "[2]", 0, 8);
  {
    const TemporaryFolder folder;
    write_text(folder / "x", one(fine));
    EXPECT_EQ(read_safetensors(folder / "x").tensors.size(), 1U);
    write_text(folder / "y",
               file_of("{" + fine + "}   ", 8));  // spaces after the header are allowed
    EXPECT_EQ(read_safetensors(folder / "y").tensors.size(), 1U);
  }
  expect_refused(one(fine + "," + fine), {"'a' twice"});
  expect_refused(one("\"\":" + fine.substr(4)), {"without a name"});
  expect_refused(one("\"" + std::string(5000, 'n') + "\":" + fine.substr(4)), {"4096"});
  expect_refused(one("\"a\":1"), {"number"});
  expect_refused(one("\"a\":null"), {"null"});
  expect_refused(one("\"a\":true"), {"true or false"});
  expect_refused(one("\"a\":\"b\""), {"string"});
  expect_refused(one("\"a\":[]"), {"list"});
  expect_refused(one("\"a\":{}"), {"without dtype"});
  expect_refused(one("\"a\":{\"dtype\":{}}"), {"object"});
  expect_refused(one(R"("a":{"dtype":"F32","shape":[2],"data_offsets":[0,8],"more":1})"),
                 {"'more'"});
  expect_refused(one(R"("a":{"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]})"),
                 {"'dtype' twice"});
  expect_refused(one(R"("a":{"dtype":"F32","shape":[[2]],"data_offsets":[0,8]})"), {"list"});
  expect_refused(one(R"("a":{"dtype":"F32","shape":[2],"data_offsets":[0]})"), {"two numbers"});
  expect_refused(one(R"("a":{"dtype":"F32","shape":[2],"data_offsets":[0,8,9]})"), {"two numbers"});
  expect_refused(one(R"("a":{"dtype":"F32","shape":["2"],"data_offsets":[0,8]})"), {"string"});
  expect_refused(one(entry("a", "[-2]", 0, 8)), {"negative"});
  expect_refused(one(entry("a", "[2.0]", 0, 8)), {"fraction"});
  expect_refused(one(entry("a", "[18446744073709551615]", 0, 8)), {"63 bits"});
  expect_refused(one(entry("a", "[2]", 0, 8, "F8_E4M3")), {"F8_E4M3"});
  expect_refused(one(entry("a", "[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,2]", 0, 8)), {"too long"});
  expect_refused(one("\"__metadata__\":{\"k\":1}," + fine), {"number"});
  expect_refused(one("\"__metadata__\":{\"k\":{}}," + fine), {"object"});
  expect_refused(one("\"__metadata__\":{\"k\":\"1\",\"k\":\"2\"}," + fine), {"'k' twice"});
}

TEST(Safetensors, EveryRuleOfTheLayoutHolds) {
  const auto two = [](const std::string& a, const std::string& b, std::size_t bytes = 8) {
    return file_of("{" + a + "," + b + "}", bytes);
  };
  expect_refused(file_of("{" + entry("a", "[2]", 0, 8) + "}", 7), {"'a'", "cut short"});
  expect_refused(file_of("{" + entry("a", "[2]", 0, 8) + "}", 9), {"no tensor claims"});
  expect_refused(file_of("{" + entry("a", "[2]", 8, 0) + "}", 8), {"'a'"});
  expect_refused(file_of("{" + entry("a", "[3]", 0, 8) + "}", 8), {"8 bytes", "12"});
  expect_refused(file_of("{" + entry("a", "[1]", 4, 8) + "}", 8), {"expected 0"});
  expect_refused(two(entry("a", "[2]", 0, 8), entry("b", "[1]", 4, 8)), {"'b'", "overlap"});
  expect_refused(two(entry("a", "[2]", 0, 8), entry("b", "[2]", 0, 8)), {"overlap"});
  expect_refused(two(entry("a", "[1]", 0, 4), entry("b", "[1]", 8, 12), 12), {"gap"});
  expect_refused(two(entry("a", "[0]", 0, 0), entry("b", "[0,3]", 0, 0), 0), {"shares its place"});
  // The product of this shape wraps around to 4 in 64 bits.
  expect_refused(file_of("{" + entry("a", "[4194305,4194305,211106198978564]", 0, 16) + "}", 16),
                 {"beyond any file"});
  const std::int64_t huge = std::numeric_limits<std::int64_t>::max();
  expect_refused(file_of("{" + entry("a", "[2]", huge - 8, huge) + "}", 8), {"cut short"});
  expect_refused(file_of("{" + entry("a", "[8]", 0, 8, "BOOL") + "}", 0), {"cut short"});
  std::string bools = file_of("{" + entry("a", "[8]", 0, 8, "BOOL") + "}", 8);
  bools.back() = 2;
  expect_refused(bools, {"other than 0 and 1"});
}

TEST(Safetensors, OneEmptyTensorInAPlaceIsFine) {
  const TemporaryFolder folder;
  write_text(folder / "x",
             file_of("{" + entry("a", "[0,7]", 0, 0) + "," + entry("b", "[2]", 0, 8) + "}", 8));
  const WeightsFile found = read_safetensors(folder / "x");
  EXPECT_EQ(found.tensors[0].second.sizes(), at::IntArrayRef({0, 7}));
}

TEST(Safetensors, AMillionBracketsEndInAnErrorAndNotInTheStack) {
  expect_refused(file_of("{\"a\":" + std::string(1'000'000, '['), 0), {"list"});
  expect_refused(file_of("{\"a\":{\"shape\":" + std::string(1'000'000, '['), 0), {"list"});
}

}  // namespace
}  // namespace triphase::models
