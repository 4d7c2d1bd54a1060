// SPDX-License-Identifier: Apache-2.0
// Jobs over several hosts, which on_nodes.sh makes on this machine: each has a network and a name
// of its own, and ranks reach each other by TCP alone.
#include "tests/support/test_support.hpp"

#include <chrono>
#include <regex>

#include "base/json.hpp"

namespace triphase::test {
namespace {

constexpr int kNoHosts = 77;  // exit code of on_nodes.sh

/// Runs a job and skips the test where its hosts cannot be made.
#define TRIPHASE_ON_NODES(result, ...)                \
  const CommandResult result = on_nodes(__VA_ARGS__); \
  if ((result).exit_code == kNoHosts)                 \
  GTEST_SKIP() << "no hosts can be made here: this case was NOT checked\n" << (result).output

/// One rank on each host. @param settings variables of on_nodes.sh, "NAME=value NAME=value"
CommandResult on_nodes(int num_hosts, const std::string& command, const std::string& settings = "") {
  return run_command(settings + " OMP_NUM_THREADS=1 timeout -k 5 100 " ON_NODES " " +
                     std::to_string(num_hosts) + " " + command);
}

std::size_t count(const std::string& text, const std::string& pattern) {
  const std::regex regex(pattern);
  return static_cast<std::size_t>(
      std::distance(std::sregex_iterator(text.begin(), text.end(), regex), std::sregex_iterator()));
}

TEST(Nodes, EachRankIsAloneOnAHostOfItsOwn) {
  for (const int num_hosts : {2, 3, 4}) {
    TRIPHASE_ON_NODES(result, num_hosts, FAULT_PROGRAM " places");
    EXPECT_EQ(result.exit_code, 0) << result.output;
    for (int i = 0; i < num_hosts; ++i)
      EXPECT_EQ(count(result.output, str("rank ", i, " of ", num_hosts, " is on node", i + 1,
                                         ", 0 of 1 there\n")),
                1U)
          << result.output;
  }
}

TEST(Nodes, TheContractOfProcessGroupsHoldsAcrossHosts) {
  for (const int num_hosts : {2, 3, 4}) {
    TRIPHASE_ON_NODES(result, num_hosts, CONTRACT_PROGRAM " --gtest_filter=*ProcessGroupContract*:*Agree*");
    EXPECT_EQ(result.exit_code, 0) << result.output;
    EXPECT_NE(result.output.find("PASSED"), std::string::npos) << result.output;
  }
}

TEST(Nodes, TheLossAndItsGradientsAreExactAcrossHosts) {
  TRIPHASE_ON_NODES(result, 3, CONTRACT_PROGRAM " --gtest_filter=*ContrastiveLossContract*:*GradientReducer*");
  EXPECT_EQ(result.exit_code, 0) << result.output;
  EXPECT_NE(result.output.find("PASSED"), std::string::npos) << result.output;
}

TEST(Nodes, ARankThatFailsOnAnotherHostEndsTheJobAndIsNamed) {
  struct Failure {
    std::string how;
    int exit_code;
    std::string words;
  };
  for (const Failure& failure :
       {Failure{"sleeps", 78, "for rank 1\\. [^]*rank 1 on node2"},
        Failure{"is_stopped", 78, "for rank 1\\. [^]*rank 1 on node2"},
        Failure{"is_killed", 71, "rank 1 was ended by signal 9 "},
        Failure{"exits_with_3", 71, "rank 1 left with exit code 3 "},
        Failure{"throws", 65, "rank 1 ends the job: the volume is cut short"}}) {
    SCOPED_TRACE(failure.how);
    TRIPHASE_ON_NODES(result, 3, FAULT_PROGRAM " " + failure.how + " all_reduce 1");
    EXPECT_EQ(result.exit_code, failure.exit_code) << result.output;
    EXPECT_EQ(count(result.output, failure.words), 1U) << result.output;
  }
}

/// No collective is quicker than the cable allows: so the bytes did go through it.
TEST(NodesBandwidth, BytesTravelByTheCables) {
  constexpr double kCableBytesPerSecond = 100e6 / 8;
  const TemporaryFolder folder;
  const std::string figures = (folder / "figures.json").string();
  TRIPHASE_ON_NODES(result, 2,
                    PROGRAM " bench collectives --quiet --min-bytes 4194304 --max-bytes 4194304 --iterations 2 --out " +
                        figures,
                    "TRIPHASE_NODES_RATE=100mbit");
  ASSERT_EQ(result.exit_code, 0) << result.output;
  const Json rows = Json::parse(read_text(figures)).at("timings");
  ASSERT_FALSE(rows.empty());
  for (const Json& row : rows)
    EXPECT_LT(row.at("busbw_bytes_per_second").get<double>(), 1.2 * kCableBytesPerSecond) << row.dump();
}

}  // namespace
}  // namespace triphase::test
