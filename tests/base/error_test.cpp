// SPDX-License-Identifier: Apache-2.0
#include "base/error.hpp"
#include "tests/support/test_support.hpp"

#include <type_traits>

namespace triphase {
namespace {

using test::expect_error;

TEST(Str, JoinsPartsAsTheStreamPrintsThem) {
  EXPECT_EQ(str("a ", 3, ' ', 2.5, std::string(" b")), "a 3 2.5 b");
}

template <class Kind>
void check_kind(const std::string& name, ExitCode code) {
  const Kind error("what is wrong");
  EXPECT_EQ(error.kind(), name);
  EXPECT_EQ(error.message(), "what is wrong");
  EXPECT_STREQ(error.what(), "what is wrong");
  EXPECT_EQ(error.exit_code(), code);
  EXPECT_EQ(Kind("", ExitCode::kTimeout).exit_code(), ExitCode::kTimeout);
  static_assert(std::is_base_of_v<Error, Kind> && std::is_nothrow_destructible_v<Kind>);
}

TEST(Error, EveryKindHasItsExitCodeAndTakesAnother) {
  check_kind<ConfigError>("ConfigError", ExitCode::kUsage);
  check_kind<DataError>("DataError", ExitCode::kBadData);
  check_kind<CommError>("CommError", ExitCode::kCommunication);
  check_kind<CheckpointError>("CheckpointError", ExitCode::kBadData);
  check_kind<NumericsError>("NumericsError", ExitCode::kDiverged);
  check_kind<InternalError>("InternalError", ExitCode::kInternal);
  EXPECT_EQ(IoError("x", ExitCode::kIo).kind(), "IoError");
}

// Scripts and schedulers know these numbers.
TEST(ExitCodes, AreThoseOfTheManual) {
  const auto number = [](ExitCode code) { return static_cast<int>(code); };
  EXPECT_EQ(number(ExitCode::kDone), 0);
  EXPECT_EQ(number(ExitCode::kUsage), 64);
  EXPECT_EQ(number(ExitCode::kBadData), 65);
  EXPECT_EQ(number(ExitCode::kMissingInput), 66);
  EXPECT_EQ(number(ExitCode::kInternal), 70);
  EXPECT_EQ(number(ExitCode::kCommunication), 71);
  EXPECT_EQ(number(ExitCode::kCannotCreateOutput), 73);
  EXPECT_EQ(number(ExitCode::kIo), 74);
  EXPECT_EQ(number(ExitCode::kRequeue), 75);
  EXPECT_EQ(number(ExitCode::kDiverged), 76);
  EXPECT_EQ(number(ExitCode::kPermission), 77);
  EXPECT_EQ(number(ExitCode::kTimeout), 78);
}

TEST(Error, ContextIsAddedLineByLineAndKeepsTheKind) {
  const auto inner = [] {
    try {
      throw DataError("bad header");
    } catch (Error& error) {
      error.add_context("while reading sample 412");
      throw;
    }
  };
  try {
    try {
      inner();
    } catch (Error& error) {
      error.add_context("in epoch 3");
      throw;
    }
    FAIL() << "nothing was thrown";
  } catch (const DataError& error) {
    EXPECT_STREQ(error.what(), "bad header\n  while reading sample 412\n  in epoch 3");
    EXPECT_EQ(error.message(), "bad header");
    EXPECT_EQ(error.context().size(), 2U);
  }
}

TEST(Check, ThrowsTheKindWithTheMessageOnlyWhenTheConditionFails) {
  const auto check = [](int n) { TRIPHASE_CHECK(DataError, n == 3, "has ", n, " slices"); };
  EXPECT_NO_THROW(check(3));
  expect_error<DataError>([&] { check(4); }, ExitCode::kBadData, {"has 4 slices"});
}

TEST(Check, WithCodeThrowsThatCode) {
  const auto check = [](bool there) {
    TRIPHASE_CHECK_CODE(DataError, kMissingInput, there, "is not there");
  };
  EXPECT_NO_THROW(check(true));
  expect_error<DataError>([&] { check(false); }, ExitCode::kMissingInput, {"is not there"});
}

TEST(Check, DebugCheckIsOnWithItsMacroAlone) {
  const auto check = [] { TRIPHASE_DCHECK(1 + 1 == 3, "inner loop"); };
#ifdef TRIPHASE_DEBUG_CHECKS
  expect_error<InternalError>(check, ExitCode::kInternal, {"inner loop"});
#else
  EXPECT_NO_THROW(check());
#endif
}

}  // namespace
}  // namespace triphase
