// SPDX-License-Identifier: Apache-2.0
// What a configuration can do wrong, and what the user is told.
#include "base/config_reader.hpp"
#include "tests/support/test_support.hpp"

#include <functional>

namespace triphase {
namespace {

using test::expect_error;
using test::TemporaryFolder;

using Words = std::initializer_list<std::string>;
using Action = std::function<void(ConfigReader&)>;

/// Expects a ConfigError (64) with these words from opening run.toml with this text, or from
/// `action`.
void expect_refused(const std::string& text, const Action& action, Words words,
                    const std::vector<std::string>& sets = {},
                    const std::map<std::string, std::string>& environment = {}) {
  const TemporaryFolder folder;
  test::write_text(folder / "run.toml", text);
  expect_error<ConfigError>(
      [&] {
        ConfigReader config({{folder / "run.toml"}, environment, sets});
        action(config);
      },
      ExitCode::kUsage, words);
}

template <class T>
void read_as(ConfigReader& config, const std::string& path) {
  T value{};
  config.read(path, value);
}

template <class T>
Action reads(const std::string& path) {
  return [path](ConfigReader& config) { read_as<T>(config, path); };
}

/// Reads a few keys as the program would, then asks for what is left.
void read_all(ConfigReader& config) {
  read_as<std::int64_t>(config, "run.seed");
  read_as<std::string>(config, "run.name");
  read_as<std::string>(config, "loss.kind");
  read_as<double>(config, "loss.temperature_init");
  read_as<std::int64_t>(config, "adapt.image.rank");
  for (std::int64_t i = config.array_size("finding"); i > 0; --i)
    read_as<std::string>(config, str("finding[", i - 1, "].name"));
  config.finish();
}

const Action kNothing = [](ConfigReader&) {};

struct Typed {
  std::string toml;
  std::string kind;  ///< as the message calls it
  std::string accepted_as;
};

// Every type that TOML has against every type that can be asked for.
TEST(ConfigErrors, WrongTypeIsRefusedForEveryPairOfTypes) {
  const std::vector<Typed> given = {
      {"true", "true or false", "bool"},
      {"3", "an integer", "integer number"},
      {"3.0", "a number", "number"},
      {"'x'", "a string", "string"},
      {"2026-11-23", "a date or time", ""},
      {"10:00:00", "a date or time", ""},
      {"[['x']]", "an array", ""},
      {"{x = 1}", "a table", ""},
      {"[{x = 1}]", "an array of tables", ""},
  };
  const std::vector<std::tuple<std::string, std::string, Action>> asked = {
      {"bool", "must be true or false", reads<bool>("t.k")},
      {"integer", "must be an integer", reads<std::int64_t>("t.k")},
      {"number", "must be a number", reads<double>("t.k")},
      {"string", "must be a string", reads<std::string>("t.k")},
      {"strings", "must be an array of strings", reads<std::vector<std::string>>("t.k")},
      {"numbers", "must be an array of numbers", reads<std::vector<double>>("t.k")},
      {"integers", "must be an array of integers", reads<std::vector<std::int64_t>>("t.k")},
  };
  for (const Typed& value : given) {
    for (const auto& [name, expected, action] : asked) {
      if (value.accepted_as.find(name) != std::string::npos) continue;
      SCOPED_TRACE(value.toml + " as " + name);
      expect_refused("[t]\nk = " + value.toml + "\n", action,
                     {"run.toml:2:", "'t.k'", expected, "is " + value.kind});
    }
  }
}

TEST(ConfigErrors, WrongElementIsNamedWithItsPlace) {
  expect_refused("k = [\n  'a',\n  2,\n]\n", reads<std::vector<std::string>>("k"),
                 {"run.toml:3:3: 'k'", "array of strings", "element 1 is an integer", "quotes"});
  expect_refused("k = [1, 2.5]\n", reads<std::vector<std::int64_t>>("k"),
                 {"run.toml:1:9", "array of integers", "element 1 is a number"});
  expect_refused("k = [1, true]\n", reads<std::vector<double>>("k"),
                 {"array of numbers", "element 1 is true or false"});
  expect_refused("k = [{x = 1}, 2]\n", reads<std::vector<double>>("k"), {"element 0 is a table"});
}

TEST(ConfigErrors, WrongTypeLeavesTheVariableAlone) {
  const TemporaryFolder folder;
  test::write_text(folder / "run.toml", "k = ['a', 2]\n");
  ConfigReader config({{folder / "run.toml"}, {}, {}});
  std::vector<std::string> value = {"default"};
  EXPECT_THROW(config.read("k", value), ConfigError);
  EXPECT_EQ(value, std::vector<std::string>{"default"});
}

TEST(ConfigErrors, WrongTypeNamesTheSourceThatWon) {
  expect_refused("t.k = 1\n", reads<std::int64_t>("t.k"),
                 {"--set t.k: 't.k' must be an integer, is a string"}, {"t.k=abc"});
  expect_refused("", reads<std::int64_t>("t.k"),
                 {"environment TRIPHASE__T__K: 't.k' must be an integer, is a number"}, {},
                 {{"TRIPHASE__T__K", "1.5"}});
  expect_refused("", reads<std::string>("run.name"),
                 {"--set run.name", "must be a string, is an integer", "Put it in quotes."},
                 {"run.name=2026"});
  expect_refused("", reads<std::vector<std::string>>("t.k"), {"--set t.k", "Put it in brackets."},
                 {"t.k=a"});
}

TEST(ConfigErrors, UnknownKeyIsNamedWithItsPlaceAndTheNearestKey) {
  expect_refused("[run]\nseed = 1\n[loss]\nkind = 'infonce'\n  temprature_init = 0.1\n", read_all,
                 {"run.toml:5:3: unknown key 'loss.temprature_init'",
                  "Did you mean 'loss.temperature_init'?"});
  expect_refused(
      "[adapt.image]\nrnak = 8\n", read_all,
      {"run.toml:2:1: unknown key 'adapt.image.rnak'", "Did you mean 'adapt.image.rank'?"});
  expect_refused("", read_all, {"--set run.sede: unknown key 'run.sede'", "'run.seed'?"},
                 {"run.sede=1"});
  expect_refused("", read_all,
                 {"environment TRIPHASE__RUN__NAM: unknown key 'run.nam'", "'run.name'?"}, {},
                 {{"TRIPHASE__RUN__NAM", "x"}});
}

TEST(ConfigErrors, KeyInTheWrongTableIsFoundInTheRightOne) {
  expect_refused(
      "temperature_init = 0.1\n", read_all,
      {"run.toml:1:1: unknown key 'temperature_init'", "Did you mean 'loss.temperature_init'?"});
  expect_refused("[run]\nrank = 8\n", read_all,
                 {"unknown key 'run.rank'", "Did you mean 'adapt.image.rank'?"});
}

TEST(ConfigErrors, KeyLikeNoOtherIsAnsweredWithWhatTheTableHas) {
  expect_refused("[loss]\nfrobnicate = 1\n", read_all,
                 {"unknown key 'loss.frobnicate'", "'loss' has 'kind', 'temperature_init'."});
  expect_refused("zzzzzzzz = 1\n", read_all, {"unknown key 'zzzzzzzz'", "Remove it."});
}

TEST(ConfigErrors, UnknownTableIsNamedItself) {
  expect_refused("[run]\nseed = 1\n\n[losss]\nkind = 'infonce'\n", read_all,
                 {"run.toml:4:2: unknown table 'losss'", "Did you mean 'loss'?"});
  expect_refused("[adapt.imag]\nrank = 1\n", read_all,
                 {"unknown table 'adapt.imag'", "Did you mean 'adapt.image'?"});
  expect_refused("[[findings]]\nname = 'x'\n", read_all,
                 {"run.toml:1:", "unknown table 'findings'", "Did you mean 'finding'?"});
  expect_refused("[zzzzzzzz]\n", read_all,
                 {"unknown table 'zzzzzzzz'", "There are 'adapt', 'finding', 'loss', 'run'."});
  expect_refused("", read_all, {"--set losss.kind: unknown table 'losss'"}, {"losss.kind=a"});
}

TEST(ConfigErrors, UnknownKeyOfAnElementIsNamedWithItsIndex) {
  expect_refused(
      "[[finding]]\nname = 'a'\n[[finding]]\nnmae = 'b'\n", read_all,
      {"run.toml:4:1: unknown key 'finding[1].nmae'", "Did you mean 'finding[1].name'?"});
}

TEST(ConfigErrors, FirstUnknownKeyInReadingOrderIsReported) {
  expect_refused("[run]\nzz = 1\naa = 1\n[loss]\na = 1\n", read_all, {"run.toml:2:1", "'run.zz'"},
                 {"aaa.a=1"}, {{"TRIPHASE__AA", "1"}});
}

TEST(ConfigErrors, KeyThatIsNoBareKeyIsNeverMistakenForAPath) {
  expect_refused("'run.seed' = 5\n", read_all, {"run.toml:1:1: unknown key '\"run.seed\"'"});
  expect_refused("'finding[0].name' = 'x'\n", read_all, {"unknown key '\"finding[0].name\"'"});
}

TEST(ConfigErrors, ValueWhereATableIsExpectedAndTheOtherWayRound) {
  expect_refused("loss = 3\n", read_all,
                 {"run.toml:1:1: 'loss' must be a table, is an integer", "[loss]"});
  expect_refused("[[loss]]\nkind = 'x'\n", read_all,
                 {"'loss' must be a table, is an array of tables", "[loss]"});
  expect_refused("[finding]\nname = 'x'\n", read_all,
                 {"'finding' must be an array of tables, is a table", "[[finding]]"});
  expect_refused("finding = 3\n", read_all,
                 {"'finding' must be an array of tables, is an integer", "[[finding]]"});
  expect_refused("finding = [1]\n", read_all, {"must be an array of tables, is an array"});
  expect_refused("[finding]\nname = 'x'\n", reads<std::string>("finding[0].name"),
                 {"'finding' must be an array of tables, is a table"});
  expect_refused("[loss.kind]\n", read_all, {"'loss.kind' must be a string, is a table"});
}

TEST(ConfigErrors, ChoiceListsTheWordsAndTheNearest) {
  const Action choose = [](ConfigReader& config) {
    std::string method = "full";
    config.read_choice("adapt.method", method, {"full", "peft"});
  };
  expect_refused("[adapt]\nmethod = 'petf'\n", choose,
                 {"run.toml:2:1: 'adapt.method' must be one of 'full', 'peft', is 'petf'.",
                  "Did you mean 'peft'?"});
  expect_refused("[adapt]\nmethod = 'zzzz'\n", choose, {"is 'zzzz'."});
  expect_refused("[adapt]\nmethod = 1\n", choose, {"must be a string, is an integer"});
}

TEST(ConfigErrors, ChoiceThatIsRefusedLeavesTheVariableAlone) {
  ConfigReader config({{}, {}, {"a=b"}});
  std::string value = "full";
  EXPECT_THROW(config.read_choice("a", value, {"full", "peft"}), ConfigError);
  EXPECT_EQ(value, "full");
}

TEST(ConfigErrors, ErrorIsPrefixedByTheOrigin) {
  ConfigReader config({{}, {}, {"loss.scale_max=0"}});
  EXPECT_STREQ(config.error("loss.scale_max", "must be positive, is 0").what(),
               "--set loss.scale_max: 'loss.scale_max' must be positive, is 0");
  EXPECT_STREQ(config.error("loss.kind", "x").what(), "default: 'loss.kind' x");
  EXPECT_EQ(config.error("loss.kind", "x").exit_code(), ExitCode::kUsage);
}

TEST(ConfigErrors, TextThatIsNoTomlIsNamedWithFileLineAndColumn) {
  expect_refused("[run]\nseed = \n", kNothing, {"run.toml:2:8: cannot read this as TOML"});
  expect_refused("[run]\nseed = 1\nseed = 2\n", kNothing, {"run.toml:3:", "redefine", "'seed'"});
  expect_refused("a = '\xff'\n", kNothing, {"run.toml:1:"});
  expect_refused("a = " + std::string(5000, '[') + "\n", kNothing, {"run.toml:1:"});
  expect_refused("a = 99999999999999999999\n", kNothing, {"run.toml:1:"});
}

TEST(ConfigErrors, EveryTruncationIsParsedOrRefusedWithItsPlace) {
  const std::string text =
      "a = [1, {b = \"x\\u00e9\"}]\n[[t.u]]\nk = 1979-05-27\n'q r' = '''z'''\n";
  const TemporaryFolder folder;
  for (std::size_t size = 0; size <= text.size(); ++size) {
    test::write_text(folder / "run.toml", text.substr(0, size));
    try {
      const ConfigReader config({{folder / "run.toml"}, {}, {}});
    } catch (const ConfigError& error) {
      EXPECT_NE(std::string(error.what()).find("run.toml:"), std::string::npos) << error.what();
    }
  }
}

TEST(ConfigErrors, MissingAndOversizedFilesAreDataErrors) {
  const TemporaryFolder folder;
  const auto open = [&] { ConfigReader config({{folder / "run.toml"}, {}, {}}); };
  expect_error<DataError>(open, ExitCode::kMissingInput, {"run.toml", "not there"});
  test::write_text(folder / "run.toml", std::string((1 << 20) + 1, '\n'));
  expect_error<DataError>(open, ExitCode::kBadData, {"run.toml", "at most 1048576"});
  test::write_text(folder / "run.toml", std::string(1 << 20, '\n'));
  EXPECT_NO_THROW(open());
}

TEST(ConfigErrors, SetNeedsAKeyAndAnEqualsSign) {
  expect_refused("", kNothing, {"--set loss.kind: there is no '='", "table.key=value"},
                 {"loss.kind"});
  expect_refused("", kNothing, {"no '='"}, {""});
  for (const std::string set : {"=1", "a.=1", ".a=1", "a..b=1", "a b=1", "f[0].x=1", "'a'=1"}) {
    SCOPED_TRACE(set);
    expect_refused("", kNothing, {"--set ", "is no key"}, {set});
  }
}

TEST(ConfigErrors, EnvironmentNamesMustBeKeysAndUnique) {
  expect_refused("", kNothing, {"environment TRIPHASE__", "is no key"}, {}, {{"TRIPHASE__", "1"}});
  expect_refused("", kNothing, {"TRIPHASE__A____B", "is no key"}, {}, {{"TRIPHASE__A____B", "1"}});
  expect_refused("", kNothing, {"TRIPHASE__a__b", "TRIPHASE__A__B", "Keep one"}, {},
                 {{"TRIPHASE__A__B", "1"}, {"TRIPHASE__a__b", "1"}});
}

TEST(ConfigErrors, BareStringMustBeUtf8) {
  expect_refused("", kNothing, {"--set a: the value is not UTF-8"}, {"a=\xff"});
}

}  // namespace
}  // namespace triphase
