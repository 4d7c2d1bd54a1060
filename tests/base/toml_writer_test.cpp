// SPDX-License-Identifier: Apache-2.0
#include "base/toml_writer.hpp"

#include <gtest/gtest.h>

#include <limits>

namespace triphase {
namespace {

TEST(TomlText, WritesEachTypeSoThatItStaysThatType) {
  EXPECT_EQ(toml_text(true), "true");
  EXPECT_EQ(toml_text(std::int64_t{-3}), "-3");
  EXPECT_EQ(toml_text(2.0), "2.0");
  EXPECT_EQ(toml_text(-0.0), "-0.0");
  EXPECT_EQ(toml_text(0.07), "0.07");
  EXPECT_EQ(toml_text(1e-5), "1e-05");
  EXPECT_EQ(toml_text(1e22), "1e+22");
  EXPECT_EQ(toml_text(std::numeric_limits<double>::infinity()), "inf");
  EXPECT_EQ(toml_text(std::numeric_limits<double>::quiet_NaN()), "nan");
  EXPECT_EQ(toml_text(std::vector<double>{1, 0.5}), "[1.0, 0.5]");
  EXPECT_EQ(toml_text(std::vector<std::int64_t>{}), "[]");
}

TEST(TomlText, EscapesWhatAStringMayNotHold) {
  EXPECT_EQ(toml_text(std::string("a\"b\\c\n\t\x01\x7f é")),
            "\"a\\\"b\\\\c\\n\\t\\u0001\\u007f é\"");
  EXPECT_EQ(toml_text(std::vector<std::string>{"a", "b\r"}), "[\"a\", \"b\\u000d\"]");
}

TEST(WriteToml, GathersTablesInOrderOfFirstAppearance) {
  EXPECT_EQ(write_toml({{"loss.kind", "1", ""},
                        {"seed", "2", ""},
                        {"adapt.image.rank", "3", ""},
                        {"loss.scale", "4", ""},
                        {"adapt.method", "5", ""}}),
            "seed = 2\n\n[loss]\nkind = 1\nscale = 4\n\n[adapt]\nmethod = 5\n\n[adapt.image]\n"
            "rank = 3\n");
}

TEST(WriteToml, LeavesOutTheHeaderOfATableThatHoldsOnlyTables) {
  EXPECT_EQ(write_toml({{"a.b.c", "1", ""}}), "[a.b]\nc = 1\n");
}

TEST(WriteToml, WritesElementsOfAnArrayInOrderAndWithTheirTables) {
  EXPECT_EQ(write_toml({{"f[1].name", "1", ""},
                        {"f[0].name", "0", ""},
                        {"f[2]", "", ""},
                        {"f[0].sub.x", "7", ""}}),
            "[[f]]\nname = 0\n\n[f.sub]\nx = 7\n\n[[f]]\nname = 1\n\n[[f]]\n");
}

TEST(WriteToml, CommentCannotEndItsLineOrBreakTheEncoding) {
  EXPECT_EQ(write_toml({{"a", "1", "x.toml\nb = 2\xff"}}), "a = 1  # x.toml?b = 2?\n");
}

TEST(WriteToml, OfNothingIsEmpty) { EXPECT_EQ(write_toml({}), ""); }

}  // namespace
}  // namespace triphase
