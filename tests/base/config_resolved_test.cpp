// SPDX-License-Identifier: Apache-2.0
// The resolved configuration is read back as the same configuration.
#include "base/config_reader.hpp"
#include "base/random.hpp"
#include "base/toml_writer.hpp"
#include "tests/support/test_support.hpp"

#include <bit>
#include <limits>
#include <variant>

namespace triphase {
namespace {

using test::TemporaryFolder;

using Value = std::variant<bool, std::int64_t, double, std::string, std::vector<std::string>,
                           std::vector<double>, std::vector<std::int64_t>>;

struct Key {
  std::string path;
  Value value;
};

std::string text_of(const Value& value) {
  return std::visit([](const auto& inner) { return toml_text(inner); }, value);
}

std::int64_t random_integer(KeyedRandom& random) {
  if (random.chance(0.1)) return std::numeric_limits<std::int64_t>::min();
  return std::bit_cast<std::int64_t>(random.bits()) >> random.below(64);
}

double random_double(KeyedRandom& random) {
  const auto value =
      std::bit_cast<double>(random.bits());  // any exponent, infinities, not a number
  return random.chance(0.3) ? static_cast<double>(random.below(10)) : value;
}

std::string random_string(KeyedRandom& random) {
  static const std::vector<std::string> kPieces = {"a",    " ",    "\"", "\\", "\n", "\r",
                                                   "\t",   "#",    "=",  "[",  "]",  "'",
                                                   "\x01", "\x7f", "é",  "肝", "😀"};
  std::string text;
  for (std::uint64_t n = random.below(8); n > 0; --n) text += kPieces[random.below(kPieces.size())];
  return text;
}

template <class T, class Make>
std::vector<T> random_vector(KeyedRandom& random, Make make) {
  std::vector<T> values;
  for (std::uint64_t n = random.below(4); n > 0; --n) values.push_back(make(random));
  return values;
}

Value random_value(KeyedRandom& random) {
  switch (random.below(7)) {
    case 0:
      return random.chance(0.5);
    case 1:
      return random_integer(random);
    case 2:
      return random_double(random);
    case 3:
      return random_string(random);
    case 4:
      return random_vector<std::string>(random, random_string);
    case 5:
      return random_vector<double>(random, random_double);
    default:
      return random_vector<std::int64_t>(random, random_integer);
  }
}

/// A handful of keys in tables, tables of tables and arrays of tables, in a random reading order.
std::vector<Key> random_keys(KeyedRandom& random) {
  const std::vector<std::string> tables = {"",        "a.",         "a.b.",       "a.b.c.",
                                           "d-e.",    "f[0].",      "f[1].",      "f[2].",
                                           "f[1].g.", "f[0].h[0].", "f[0].h[1].", "f[0].g."};
  std::vector<Key> keys;
  for (const std::string& table : tables)
    for (std::uint64_t n = random.below(4); n > 0; --n)
      keys.push_back({str(table, "key_", n), random_value(random)});
  std::vector<Key> shuffled;
  for (const std::int64_t i : keyed_permutation(static_cast<std::int64_t>(keys.size()), random))
    shuffled.push_back(keys[static_cast<std::size_t>(i)]);
  return shuffled;
}

/// A document with every element, so that indices mean what they say.
std::string document_of(const std::vector<Key>& keys) {
  std::vector<TomlLine> lines = {{"f[0]", "", ""},
                                 {"f[1]", "", ""},
                                 {"f[2]", "", ""},
                                 {"f[0].h[0]", "", ""},
                                 {"f[0].h[1]", "", ""}};
  for (const Key& key : keys) lines.push_back({key.path, text_of(key.value), ""});
  return write_toml(lines);
}

ConfigReader open_text(const TemporaryFolder& folder, const std::string& text) {
  test::write_text(folder / "run.toml", text);
  return ConfigReader({{folder / "run.toml"}, {}, {}});
}

/// Reads every key as the type it has and expects its value.
void expect_keys(ConfigReader& config, const std::vector<Key>& keys, bool expect_given) {
  EXPECT_EQ(config.array_size("f"), 3);
  EXPECT_EQ(config.array_size("f[0].h"), 2);
  for (const Key& key : keys) {
    Value value = key.value;
    const bool is_given = std::visit(
        [&](auto& inner) {
          if (expect_given) inner = {};
          return config.read(key.path, inner);
        },
        value);
    EXPECT_TRUE(is_given || !expect_given) << key.path;
    EXPECT_EQ(text_of(value), text_of(key.value)) << key.path;
  }
  EXPECT_NO_THROW(config.finish());
}

TEST(ResolvedToml, IsReadBackAsTheSameForRandomDocuments) {
  const TemporaryFolder folder;
  for (std::uint64_t seed = 0; seed < 150; ++seed) {
    SCOPED_TRACE(str("seed ", seed));
    KeyedRandom random{41, seed};
    const std::vector<Key> keys = random_keys(random);
    ConfigReader first = open_text(folder, document_of(keys));
    expect_keys(first, keys, true);
    for (const bool with_origins : {false, true}) {
      SCOPED_TRACE(first.resolved_toml(with_origins));
      ConfigReader second = open_text(folder, first.resolved_toml(with_origins));
      expect_keys(second, keys, true);
      EXPECT_EQ(second.resolved_toml(false), first.resolved_toml(false));
    }
  }
}

TEST(ResolvedToml, HoldsDefaultsToo) {
  const TemporaryFolder folder;
  for (std::uint64_t seed = 0; seed < 50; ++seed) {
    KeyedRandom random{42, seed};
    const std::vector<Key> keys = random_keys(random);
    ConfigReader first = open_text(folder, document_of({}));
    expect_keys(first, keys, false);
    ConfigReader second = open_text(folder, first.resolved_toml(true));
    expect_keys(second, keys, true);
  }
}

TEST(ResolvedToml, SaysWhereEachValueCameFrom) {
  const TemporaryFolder folder;
  test::write_text(folder / "run.toml", "[loss]\nkind = 'siglip'\n");
  ConfigReader config(
      {{folder / "run.toml"}, {{"TRIPHASE__LOSS__SCALE_MAX", "50"}}, {"run.name=x y"}});
  std::string name = "run";
  std::int64_t seed = 0;
  std::string kind = "infonce";
  double scale_max = 100;
  config.read("run.name", name);
  config.read("run.seed", seed);
  config.read("loss.kind", kind);
  config.read("loss.scale_max", scale_max);
  EXPECT_EQ(config.resolved_toml(true),
            str("[run]\nname = \"x y\"  # --set run.name\nseed = 0  # default\n\n[loss]\n"
                "kind = \"siglip\"  # ",
                (folder / "run.toml").string(),
                ":2:1\n"
                "scale_max = 50.0  # environment TRIPHASE__LOSS__SCALE_MAX\n"));
  EXPECT_EQ(config.resolved_toml(false),
            "[run]\nname = \"x y\"\nseed = 0\n\n[loss]\nkind = \"siglip\"\nscale_max = 50.0\n");
}

TEST(ResolvedToml, KeepsElementsWithoutKeysAndAnArrayGivenEmpty) {
  const TemporaryFolder folder;
  ConfigReader config = open_text(folder, "g = []\n[[f]]\n[[f]]\nx = 1\n");
  EXPECT_EQ(config.array_size("f"), 2);
  EXPECT_EQ(config.array_size("g"), 0);
  EXPECT_EQ(config.array_size("absent"), 0);
  std::int64_t x = 0;
  config.read("f[1].x", x);
  std::int64_t beyond = 5;
  config.read("f[2].x", beyond);  // there is no third element to hold a default
  EXPECT_EQ(config.resolved_toml(false), "g = []\n\n[[f]]\n\n[[f]]\nx = 1\n");
}

TEST(ResolvedToml, OfNothingIsEmpty) {
  EXPECT_EQ(ConfigReader(ConfigSources{}).resolved_toml(true), "");
}

}  // namespace
}  // namespace triphase
