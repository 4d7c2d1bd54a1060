// SPDX-License-Identifier: Apache-2.0
#include "dist/runtime.hpp"

#include <c10/util/Exception.h>
#include <gtest/gtest.h>

#include <new>
#include <stdexcept>

namespace triphase::dist {
namespace {

Error error_from(const std::function<void()>& action) {
  try {
    action();
  } catch (const std::exception& caught) {
    return error_of(caught);
  }
  return InternalError("nothing was thrown");
}

TEST(ErrorOf, OwnErrorsStayAsTheyAre) {
  const Error error = error_from([] {
    ConfigError own("batch.global_pairs is odd");
    own.add_context("while reading");
    throw own;
  });
  EXPECT_EQ(error.kind(), "ConfigError");
  EXPECT_EQ(error.exit_code(), ExitCode::kUsage);
  EXPECT_STREQ(error.what(), "batch.global_pairs is odd\n  while reading");
}

TEST(ErrorOf, AFullGpuIsACommunicationErrorThatSaysWhatToLower) {
  const Error error = error_from([] { TORCH_CHECK_WITH(OutOfMemoryError, false, "tried to allocate 3 GiB"); });
  EXPECT_EQ(error.exit_code(), ExitCode::kCommunication);
  for (const char* part : {"GPU's memory is full", "batch.micro_pairs", "recompute", "tried to allocate 3 GiB"})
    EXPECT_NE(error.message().find(part), std::string::npos) << error.message();
  EXPECT_EQ(error.message().find("frame #0"), std::string::npos) << error.message();
}

TEST(ErrorOf, FullMemoryOfTheHostSaysSo) {
  const Error error = error_from([] { throw std::bad_alloc(); });
  EXPECT_EQ(error.exit_code(), ExitCode::kInternal);
  EXPECT_NE(error.message().find("memory is full"), std::string::npos);
}

TEST(ErrorOf, AnythingElseIsInternalWithItsOwnWords) {
  const Error error = error_from([] { throw std::runtime_error("a surprise"); });
  EXPECT_EQ(error.exit_code(), ExitCode::kInternal);
  EXPECT_EQ(error.message(), "a surprise");
}

}  // namespace
}  // namespace triphase::dist
