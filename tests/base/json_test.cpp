// SPDX-License-Identifier: Apache-2.0
#include "base/json.hpp"
#include "base/random.hpp"
#include "tests/support/test_support.hpp"

#include <bit>
#include <limits>

namespace triphase {
namespace {

using test::expect_error;
using test::TemporaryFolder;

Json random_json(KeyedRandom& random, int depth) {
  switch (random.below(depth > 0 ? 7 : 5)) {
    case 0:
      return nullptr;
    case 1:
      return random.chance(0.5);
    case 2:
      return std::bit_cast<std::int64_t>(random.bits());
    case 3:
      return random.normal() * std::pow(10.0, random.uniform(-300, 300));
    case 4:
      return str("tab\t quote\" back\\ é 肝 ", random.bits());
    case 5: {
      Json array = Json::array();
      for (std::uint64_t n = random.below(4); n > 0; --n)
        array.push_back(random_json(random, depth - 1));
      return array;
    }
    default: {
      Json object = Json::object();
      for (std::uint64_t n = random.below(4); n > 0; --n)
        object[str("key", random.below(1000))] = random_json(random, depth - 1);
      return object;
    }
  }
}

void expect_refused(const std::string& text, std::initializer_list<std::string> words,
                    std::int64_t max_bytes = 1 << 20) {
  const TemporaryFolder folder;
  test::write_text(folder / "a.json", text);
  expect_error<DataError>([&] { static_cast<void>(read_json(folder / "a.json", max_bytes)); },
                          ExitCode::kBadData, words);
}

TEST(Json, WrittenValueIsReadBack) {
  const TemporaryFolder folder;
  KeyedRandom random{21};
  for (int i = 0; i < 60; ++i) {
    const Json value = random_json(random, 4);
    write_json(folder / "a.json", value);
    EXPECT_EQ(read_json(folder / "a.json"), value) << value;
  }
}

TEST(Json, KeysKeepTheirOrder) {
  const TemporaryFolder folder;
  Json value;
  for (const char* key : {"zebra", "apple", "mango"}) value[key] = key;
  write_json(folder / "a.json", value);
  EXPECT_EQ(test::read_text(folder / "a.json"),
            "{\n  \"zebra\": \"zebra\",\n  \"apple\": \"apple\",\n  \"mango\": \"mango\"\n}\n");
  std::string order;
  const Json read = read_json(folder / "a.json");
  for (const auto& [key, ignored] : read.items()) order += key + " ";
  EXPECT_EQ(order, "zebra apple mango ");
}

TEST(Json, ErrorNamesFileAndByte) {
  expect_refused("{\"a\": 1,\n \"b\": }", {"a.json", "at byte 16 of 16"});
  expect_refused("[1, 2", {"a.json", "at byte 6 of 5"});
  expect_refused("", {"a.json", "at byte 1 of 0"});
  expect_refused("{} x", {"at byte 4 of 4"});
  expect_refused("\"\xff\"", {"at byte 2 of 3", "UTF-8"});
}

TEST(Json, TooDeepIsRefusedAndTheLastLevelIsRead) {
  const TemporaryFolder folder;
  test::write_text(folder / "a.json", std::string(256, '[') + std::string(256, ']'));
  EXPECT_NO_THROW(static_cast<void>(read_json(folder / "a.json")));
  expect_refused(std::string(257, '[') + std::string(257, ']'), {"a.json", "deeper than 256"});
  expect_refused(std::string(1 << 19, '['), {"deeper than 256"});
}

TEST(Json, KeyThatStandsTwiceInOneObjectIsRefused) {
  expect_refused(R"({"a": {"x": 1}, "b": {"x": 2, "x": 3}})", {"a.json", "'x' twice"});
  const TemporaryFolder folder;
  test::write_text(folder / "a.json", R"({"x": [{"x": 1}, {"x": {"x": 2}}], "y": 1})");
  EXPECT_NO_THROW(static_cast<void>(read_json(folder / "a.json")));
}

TEST(Json, ANumberBeyondDoubleIsRefused) {
  for (const char* text : {"1e999", "[-1e999]", "{\"a\": 1e400}"})
    expect_refused(text, {"a.json", "overflow"});
}

TEST(Json, AnObjectOfTooManyKeysIsRefusedAndTheLastAllowedIsRead) {
  const auto object_of = [](int keys) {
    std::string text = "{";
    for (int i = 0; i < keys; ++i) text += str(i == 0 ? "\"" : ",\"", i, "\":1");
    return text + "}";
  };
  expect_refused(object_of(16'385), {"a.json", "16384 keys"});
  const TemporaryFolder folder;
  test::write_text(folder / "a.json", object_of(16'384));
  EXPECT_EQ(read_json(folder / "a.json").size(), 16'384U);
}

TEST(Json, AListOfManyObjectsIsReadInTimeThatGrowsWithItsLength) {
  // Looking through the list again after each object would take hours here.
  std::string text = "[{}";
  for (int i = 1; i < 1'000'000; ++i) text += ",{}";
  const TemporaryFolder folder;
  test::write_text(folder / "a.json", text + "]");
  EXPECT_EQ(read_json(folder / "a.json").size(), 1'000'000U);
}

TEST(Json, FileAboveTheLimitIsRefusedBeforeItIsRead) {
  expect_refused("[1,2,3,4]", {"a.json", "at most 8"}, 8);
  const TemporaryFolder folder;
  test::write_text(folder / "a.json", "[1,2,3,4]");
  EXPECT_EQ(read_json(folder / "a.json", 9).size(), 4U);
}

TEST(Json, MissingFileHasItsOwnCode) {
  const TemporaryFolder folder;
  expect_error<DataError>([&] { static_cast<void>(read_json(folder / "none.json")); },
                          ExitCode::kMissingInput, {"none.json"});
}

TEST(Json, TextThatIsNotUtf8IsNotWritten) {
  const TemporaryFolder folder;
  expect_error<DataError>([&] { write_json(folder / "a.json", Json("\xff")); }, ExitCode::kBadData,
                          {"a.json", "UTF-8"});
  EXPECT_FALSE(std::filesystem::exists(folder / "a.json"));
}

}  // namespace
}  // namespace triphase
