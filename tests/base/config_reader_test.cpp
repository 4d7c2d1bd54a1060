// SPDX-License-Identifier: Apache-2.0
// Which value wins, what type it has, and where it came from.
#include "base/config_reader.hpp"
#include "tests/support/test_support.hpp"

#include <cstdlib>
#include <utility>

namespace triphase {
namespace {

using test::TemporaryFolder;

/// Reads keys of sources whose files are given as text, named a.toml, b.toml, …
class ConfigReaderTest : public testing::Test {
 protected:
  ConfigReader reader(const std::vector<std::string>& files, std::vector<std::string> sets = {},
                      std::map<std::string, std::string> environment = {}) {
    ConfigSources sources{{}, std::move(environment), std::move(sets)};
    for (const std::string& text : files) {
      const std::string name = str(static_cast<char>('a' + sources.files.size()), ".toml");
      test::write_text(folder_ / name, text);
      sources.files.push_back(folder_ / name);
    }
    return ConfigReader(sources);
  }
  [[nodiscard]] std::string file(const std::string& name_and_place) const {
    return (folder_ / name_and_place).string();
  }
  TemporaryFolder folder_;
};

template <class T>
T get(ConfigReader& reader, const std::string& path, T value = {}) {
  reader.read(path, value);
  return value;
}

using Strings = std::vector<std::string>;
using Doubles = std::vector<double>;
using Integers = std::vector<std::int64_t>;

TEST_F(ConfigReaderTest, AbsentKeyLeavesTheDefaultOfEveryType) {
  ConfigReader config = reader({""});
  bool flag = true;
  std::int64_t integer = 3;
  double number = 0.07;
  std::string text = "runs";
  Strings strings = {"a"};
  Doubles doubles = {1.5};
  Integers integers = {7};
  EXPECT_FALSE(config.read("t.flag", flag));
  EXPECT_FALSE(config.read("t.integer", integer));
  EXPECT_FALSE(config.read("t.number", number));
  EXPECT_FALSE(config.read("t.text", text));
  EXPECT_FALSE(config.read("t.strings", strings));
  EXPECT_FALSE(config.read("t.doubles", doubles));
  EXPECT_FALSE(config.read("t.integers", integers));
  EXPECT_FALSE(config.read_choice("t.choice", text, {"runs", "walks"}));
  EXPECT_TRUE(flag);
  EXPECT_EQ(integer, 3);
  EXPECT_EQ(number, 0.07);
  EXPECT_EQ(text, "runs");
  EXPECT_EQ(strings, Strings{"a"});
  EXPECT_EQ(doubles, Doubles{1.5});
  EXPECT_EQ(integers, Integers{7});
  EXPECT_EQ(config.origin("t.flag"), "default");
  EXPECT_EQ(config.array_size("finding"), 0);
  EXPECT_NO_THROW(config.finish());
}

TEST_F(ConfigReaderTest, ReadsEveryType) {
  ConfigReader config = reader({R"(
top = 1
[t]
flag = true
integer = -9223372036854775808
number = 1e-3
whole_number = 3
text = "é \"q\" \n"
strings = ["a", ""]
doubles = [1, 2.5]
integers = [1, -2]
none = []
choice = "peft"
sub.key = 4)"});
  EXPECT_EQ(get<std::int64_t>(config, "top"), 1);
  EXPECT_TRUE(get<bool>(config, "t.flag"));
  EXPECT_EQ(get<std::int64_t>(config, "t.integer"), std::numeric_limits<std::int64_t>::min());
  EXPECT_EQ(get<double>(config, "t.number"), 1e-3);
  EXPECT_EQ(get<double>(config, "t.whole_number"), 3.0);
  EXPECT_EQ(get<std::string>(config, "t.text"), "é \"q\" \n");
  EXPECT_EQ(get<Strings>(config, "t.strings"), (Strings{"a", ""}));
  EXPECT_EQ(get<Doubles>(config, "t.doubles"), (Doubles{1, 2.5}));
  EXPECT_EQ(get<Integers>(config, "t.integers"), (Integers{1, -2}));
  EXPECT_EQ(get<Strings>(config, "t.none", {"default"}), Strings{});
  std::string choice = "full";
  EXPECT_TRUE(config.read_choice("t.choice", choice, {"full", "peft"}));
  EXPECT_EQ(choice, "peft");
  EXPECT_EQ(get<std::int64_t>(config, "t.sub.key"), 4);
  EXPECT_NO_THROW(config.finish());
}

TEST_F(ConfigReaderTest, OriginSaysWhereAValueCameFrom) {
  ConfigReader config = reader({"[run]\n  name = 'x'\nseed = 1\n"}, {"a.b=1"},
                               {{"TRIPHASE__C__D", "2"}, {"TRIPHASE__e", "3"}});
  EXPECT_EQ(config.origin("run.name"), file("a.toml:2:3"));
  EXPECT_EQ(config.origin("run.seed"), file("a.toml:3:1"));
  EXPECT_EQ(config.origin("run"), file("a.toml:1:2"));
  EXPECT_EQ(config.origin("a.b"), "--set a.b");
  EXPECT_EQ(config.origin("c.d"), "environment TRIPHASE__C__D");
  EXPECT_EQ(config.origin("e"), "environment TRIPHASE__e");
  EXPECT_EQ(config.origin("run.nothing"), "default");
}

// Sixteen combinations of the four sources; the last of those that speak must win.
TEST_F(ConfigReaderTest, LaterSourceWinsForEveryCombination) {
  for (unsigned mask = 0; mask < 16; ++mask) {
    const auto is_on = [&](unsigned bit) { return (mask >> bit & 1U) != 0; };
    const std::string first = is_on(0) ? "[t]\nk = 1\n" : "[t]\n";
    const std::string second = is_on(1) ? "t.k = 2\n" : "";
    std::map<std::string, std::string> environment;
    if (is_on(2)) environment["TRIPHASE__t__k"] = "3";
    std::vector<std::string> sets;
    if (is_on(3)) sets = {"t.k=99", "t.k=4"};
    ConfigReader config = reader({first, second}, sets, environment);
    std::int64_t expected = 0;
    std::string origin = "default";
    if (is_on(0)) expected = 1, origin = file("a.toml:2:1");
    if (is_on(1)) expected = 2, origin = file("b.toml:1:3");
    if (is_on(2)) expected = 3, origin = "environment TRIPHASE__t__k";
    if (is_on(3)) expected = 4, origin = "--set t.k";
    EXPECT_EQ(get<std::int64_t>(config, "t.k"), expected) << mask;
    EXPECT_EQ(config.origin("t.k"), origin) << mask;
    EXPECT_NO_THROW(config.finish());
  }
}

TEST_F(ConfigReaderTest, TablesMergeKeyByKey) {
  ConfigReader config =
      reader({"[a]\nx = 1\ny = 1\n[a.b]\nz = 1\n", "[a]\ny = 2\nb = {w = 2}\n"}, {"a={v = 3}"});
  EXPECT_EQ(get<std::int64_t>(config, "a.x"), 1);
  EXPECT_EQ(get<std::int64_t>(config, "a.y"), 2);
  EXPECT_EQ(get<std::int64_t>(config, "a.b.z"), 1);
  EXPECT_EQ(get<std::int64_t>(config, "a.b.w"), 2);
  EXPECT_EQ(get<std::int64_t>(config, "a.v"), 3);
  EXPECT_NO_THROW(config.finish());
}

TEST_F(ConfigReaderTest, ArraysAreReplacedAsAWhole) {
  ConfigReader config = reader({"a = [1, 2, 3]\n[[f]]\nname = 'x'\nold = 1\n[[f]]\nname = 'y'\n",
                                "a = [9]\n[[f]]\nname = 'z'\n"});
  EXPECT_EQ(get<Integers>(config, "a"), Integers{9});
  EXPECT_EQ(config.array_size("f"), 1);
  EXPECT_EQ(get<std::string>(config, "f[0].name"), "z");
  EXPECT_NO_THROW(config.finish());  // f[0].old and f[1] are gone
}

TEST_F(ConfigReaderTest, LaterTypeReplacesAnEarlierOne) {
  ConfigReader to_value = reader({"[a]\nx = 1\n[a.b]\ny = 1\n[ab]\nz = 1\n"}, {"a=5"});
  EXPECT_EQ(get<std::int64_t>(to_value, "a"), 5);
  EXPECT_EQ(get<std::int64_t>(to_value, "ab.z"), 1);
  EXPECT_NO_THROW(to_value.finish());
  ConfigReader to_table = reader({"a = 5\n"}, {"a.x=1"});
  EXPECT_EQ(get<std::int64_t>(to_table, "a.x"), 1);
  EXPECT_NO_THROW(to_table.finish());
  ConfigReader to_no_tables = reader({"[[f]]\nx = 1\n"}, {"f=[]"});
  EXPECT_EQ(to_no_tables.array_size("f"), 0);
  EXPECT_NO_THROW(to_no_tables.finish());
}

TEST_F(ConfigReaderTest, SetTakesTomlOrABareString) {
  ConfigReader config =
      reader({}, {"t.integer=3", "t.number=1.5", "t.flag=true", "t.bare=layer3.*",
                  "t.quoted=\"a = b\"", "t.array=[\"a\", \"b\"]", "t.empty=", "t.pattern=[a-z]+",
                  "t.equals=a=b", "t.date=2026-11-23", "t.lines=1\nx=2", "top=x"});
  EXPECT_EQ(get<std::int64_t>(config, "t.integer"), 3);
  EXPECT_EQ(get<double>(config, "t.number"), 1.5);
  EXPECT_TRUE(get<bool>(config, "t.flag"));
  EXPECT_EQ(get<std::string>(config, "t.bare"), "layer3.*");
  EXPECT_EQ(get<std::string>(config, "t.quoted"), "a = b");
  EXPECT_EQ(get<Strings>(config, "t.array"), (Strings{"a", "b"}));
  EXPECT_EQ(get<std::string>(config, "t.empty", "default"), "");
  EXPECT_EQ(get<std::string>(config, "t.pattern"), "[a-z]+");
  EXPECT_EQ(get<std::string>(config, "t.equals"), "a=b");
  EXPECT_EQ(get<std::string>(config, "t.date"), "2026-11-23");
  EXPECT_EQ(get<std::string>(config, "t.lines"), "1\nx=2");
  EXPECT_EQ(get<std::string>(config, "top"), "x");
  EXPECT_NO_THROW(config.finish());
}

TEST_F(ConfigReaderTest, EnvironmentNamesAreKeysInLowerCase) {
  ConfigReader config = reader({}, {},
                               {{"TRIPHASE__LOSS__TEMPERATURE_INIT", "0.1"},
                                {"TRIPHASE__adapt__image__rank", "8"},
                                {"TRIPHASE_SHARED_DIR", "ignored"},
                                {"HOME", "ignored"}});
  EXPECT_EQ(get<double>(config, "loss.temperature_init"), 0.1);
  EXPECT_EQ(get<std::int64_t>(config, "adapt.image.rank"), 8);
  EXPECT_NO_THROW(config.finish());
}

TEST_F(ConfigReaderTest, ConfigEnvironmentFindsThisProcessesNames) {
  ASSERT_EQ(setenv("TRIPHASE__base_test__key", "a=b", 1), 0);
  const auto found = config_environment();
  unsetenv("TRIPHASE__base_test__key");
  EXPECT_EQ(found.at("TRIPHASE__base_test__key"), "a=b");
  for (const auto& [name, value] : found) EXPECT_TRUE(name.starts_with("TRIPHASE__")) << name;
  EXPECT_FALSE(config_environment().contains("TRIPHASE__base_test__key"));
}

TEST_F(ConfigReaderTest, ArrayOfTablesIsReadElementByElement) {
  ConfigReader config = reader({R"(
[[finding]]
name = "hcc"
positive = ["a", "b"]
  [finding.scoring]
  kind = "max"
[[finding]]
name = "cyst"
)"});
  ASSERT_EQ(config.array_size("finding"), 2);
  EXPECT_EQ(get<std::string>(config, "finding[0].name"), "hcc");
  EXPECT_EQ(get<Strings>(config, "finding[0].positive"), (Strings{"a", "b"}));
  EXPECT_EQ(get<std::string>(config, "finding[0].scoring.kind"), "max");
  EXPECT_EQ(get<std::string>(config, "finding[1].name"), "cyst");
  EXPECT_EQ(get<std::string>(config, "finding[1].scoring.kind", "mean"), "mean");
  EXPECT_EQ(config.origin("finding[1].name"), file("a.toml:8:1"));
  EXPECT_NO_THROW(config.finish());
}

TEST_F(ConfigReaderTest, ATableIsThereWhenOneOfItsKeysIs) {
  const ConfigReader config = reader({"ab.c = 1\na.b.c = 1\nz = 1\n[e]\n"});
  EXPECT_TRUE(config.has_table("ab"));
  EXPECT_TRUE(config.has_table("a"));
  EXPECT_TRUE(config.has_table("a.b"));
  for (const std::string name : {"b", "c", "z", "e", "a.b.c", ""})
    EXPECT_FALSE(config.has_table(name)) << name;
}

TEST_F(ConfigReaderTest, InlineTablesInAnArrayAreTablesToo) {
  ConfigReader config = reader({"f = [{x = 1}, {x = 2}]\n"});
  ASSERT_EQ(config.array_size("f"), 2);
  EXPECT_EQ(get<std::int64_t>(config, "f[1].x"), 2);
}

TEST_F(ConfigReaderTest, KeyReadTwiceGivesTheSame) {
  ConfigReader config = reader({"a = 1\n"});
  EXPECT_EQ(get<std::int64_t>(config, "a"), 1);
  EXPECT_EQ(get<double>(config, "a"), 1.0);
  EXPECT_NO_THROW(config.finish());
}

TEST_F(ConfigReaderTest, EmptyTablesThatAreKnownAndNoSourcesAtAllAreFine) {
  ConfigReader config = reader({"[loss]\n"});
  EXPECT_EQ(get<std::string>(config, "loss.kind", "infonce"), "infonce");
  EXPECT_NO_THROW(config.finish());
  EXPECT_NO_THROW(ConfigReader(ConfigSources{}).finish());
}

TEST_F(ConfigReaderTest, CanBeMoved) {
  ConfigReader first = reader({"a = 1\n"});
  ConfigReader second = std::move(first);
  EXPECT_EQ(get<std::int64_t>(second, "a"), 1);
}

}  // namespace
}  // namespace triphase
