// SPDX-License-Identifier: Apache-2.0
// triphase weights show, convert and merge over torch.save files, safetensors and peft folders;
// damaged ones end in 65 and in little memory.
#include "models/weights.hpp"
#include "tests/launch/program_fixture.hpp"
#include "tests/models/torch_file_builder.hpp"

#include <ATen/ATen.h>

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>

namespace triphase::test {
namespace {

namespace fs = std::filesystem;
using models::test::pickle_of;
using models::test::torch_file_of;

struct Outcome {
  int exit_code = 0;
  double peak_mib = 0;
  std::string output;
};

/// triphase weights show FILE, with the highest memory of the process.
Outcome show(const fs::path& file) {
  const TemporaryFolder folder;
  const std::string program = program_path().string();
  const std::string log = (folder / "log").string();
  const pid_t child = fork();
  if (child == 0) {
    const int out = open(log.c_str(), O_WRONLY | O_CREAT, 0666);
    dup2(out, 1);
    dup2(out, 2);
    execl(program.c_str(), program.c_str(), "weights", "show", file.c_str(), nullptr);
    _exit(127);
  }
  int status = 0;
  rusage usage{};
  wait4(child, &status, 0, &usage);
  return {WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status),
          static_cast<double>(usage.ru_maxrss) / 1024, read_text(log)};
}

/// The memory of the program for a file of a few bytes.
double baseline_mib() {
  static const double baseline = [] {
    const Outcome outcome = show(golden_folder() / "torch" / "parameters.pt");
    EXPECT_EQ(outcome.exit_code, 0) << outcome.output;
    return outcome.peak_mib;
  }();
  return baseline;
}

/// Shows bytes under a name; the memory bound holds for all of them.
Outcome show_bytes(const std::string& bytes, const std::string& name) {
  const TemporaryFolder folder;
  write_text(folder / name, bytes);
  Outcome outcome = show(folder / name);
  EXPECT_LT(outcome.peak_mib, baseline_mib() + static_cast<double>(bytes.size()) / (1 << 20) + 64)
      << name;
  return outcome;
}

void expect_65(const std::string& bytes, const std::string& name) {
  const Outcome outcome = show_bytes(bytes, name);
  EXPECT_EQ(outcome.exit_code, 65) << outcome.output;
  EXPECT_NE(outcome.output.find(name), std::string::npos) << outcome.output;
  EXPECT_NE(outcome.output.find("CheckpointError"), std::string::npos) << outcome.output;
}

// Through the program, some; within one process, fifty and a hundred of each form (tests/fuzz).
constexpr std::size_t kCuts = 10;
constexpr std::size_t kChanges = 20;

/// Name and bytes of a small file of each form.
std::vector<std::pair<std::string, std::string>> small_files() {
  const TemporaryFolder folder;
  models::write_safetensors(folder / "x", {{"a", at::ones({20, 30})}, {"b", at::arange(50)}},
                            {{"format", "pt"}});
  return {{"x.safetensors", read_text(folder / "x")},
          {"views.pt", read_text(golden_folder() / "torch" / "views.pt")}};
}

/// What is said of the tensors; the metadata follows.
std::string tensor_lines(const std::string& output) {
  return output.substr(0, output.find("metadata "));
}

TEST(WeightsCommand, CutsEndIn65) {
  for (const auto& [name, bytes] : small_files())
    for (std::size_t i = 0; i < kCuts; ++i)
      expect_65(bytes.substr(0, bytes.size() * i / kCuts), name);
}

TEST(WeightsCommand, ChangedBytesEndIn65OrInTheSameList) {
  for (const auto& [name, bytes] : small_files()) {
    const TemporaryFolder folder;
    write_text(folder / name, bytes);
    const std::string expected = tensor_lines(show(folder / name).output);
    std::size_t noticed = 0;
    for (std::size_t i = 0; i < kChanges; ++i) {
      std::string changed = bytes;
      const std::size_t at = (bytes.size() - 1) * i / (kChanges - 1);
      changed[at] = static_cast<char>(static_cast<unsigned char>(changed[at]) ^ (1U << i % 8));
      const Outcome outcome = show_bytes(changed, name);
      noticed += outcome.exit_code == 65 ? 1U : 0U;
      EXPECT_TRUE(outcome.exit_code == 65 ||
                  (outcome.exit_code == 0 && tensor_lines(outcome.output) == expected))
          << name << " byte " << at << ": " << outcome.exit_code << " " << outcome.output;
    }
    EXPECT_GT(noticed, kChanges / 5) << name;
  }
}

std::string safetensors_of(const std::string& header, std::size_t data_bytes = 0) {
  return models::test::le<std::uint64_t>(header.size()) + header + std::string(data_bytes, '\0');
}

TEST(WeightsCommand, HostileSafetensorsEndIn65InLittleMemory) {
  const std::string name = "x.safetensors";
  const auto one = [](const std::string& shape, const std::string& offsets) {
    return R"({"a":{"dtype":"F32","shape":)" + shape + R"(,"data_offsets":)" + offsets + "}}";
  };
  expect_65(safetensors_of(one("[1000000000000000000]", "[0,8]"), 8), name);
  expect_65(safetensors_of(one("[1000000000000000000]", "[0,4000000000000000000]"), 8), name);
  expect_65(safetensors_of(one("[4611686018427387904,4]", "[0,0]")), name);
  expect_65(safetensors_of(one("[2]", "[9223372036854775800,9223372036854775807]"), 8), name);
  expect_65(
      safetensors_of(
          R"({"a":{"dtype":"U8","shape":[6],"data_offsets":[0,6]},"b":{"dtype":"U8","shape":[6],"data_offsets":[2,8]}})",
          8),
      name);
  expect_65(
      safetensors_of(
          R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"a":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}})",
          8),
      name);
  expect_65(safetensors_of("{\"a\":" + std::string(5'000'000, '[')), name);
  expect_65(safetensors_of("{\"__metadata__\":{\"" + std::string(8'000'000, 'k') + "\":1}}"), name);
  expect_65(
      safetensors_of("{\"__metadata__\":{\"k\":\"" + std::string(8'000'000, 'v') + "\"},\"a\":1}"),
      name);
  expect_65(models::test::le<std::uint64_t>(~0ULL) + "{}", name);
  expect_65(models::test::le<std::uint64_t>(90'000'000) + "{" + std::string(90'000'000, ' '), name);
  std::string many = "{";
  for (int i = 0; i < 90'000; ++i)
    many += str(i == 0 ? "" : ",", "\"", i, R"(":{"dtype":"U8","shape":[],"data_offsets":[)", i,
                ",", i + 1, "]}");
  expect_65(safetensors_of(many + "}", 90'000), name);
  std::string metadata = "{\"__metadata__\":{";
  for (int i = 0; i < 600'000; ++i) metadata += str(i == 0 ? "\"" : ",\"", i, "\":\"\"");
  expect_65(safetensors_of(metadata + "}}"), name);
}

TEST(WeightsCommand, HostileTorchFilesEndIn65InLittleMemory) {
  const std::string name = "x.pt";
  const std::int64_t huge = 1'000'000'000'000'000'000;
  const std::string eight(8, '\0');
  for (const models::test::TensorSpec& spec :
       std::vector<models::test::TensorSpec>{{.elements = huge},
                                             {.sizes = {huge}},
                                             {.sizes = {huge}, .strides = {0}},
                                             {.offset = huge},
                                             {.strides = {huge}}})
    expect_65(torch_file_of(pickle_of({spec}), {eight}), name);
  expect_65(torch_file_of(pickle_of({{}, {}}), {eight}), name);
  for (const char* opcodes : {"(", "N", ")", "}"})
    expect_65(torch_file_of(models::test::Pickle().op(std::string(20'000'000, *opcodes)).bytes, {}),
              name);
  expect_65(
      torch_file_of(models::test::Pickle().op(")").op(std::string(20'000'000, '\x85')).bytes, {}),
      name);
  expect_65(torch_file_of(models::test::Pickle().op("}r").op(std::string(4, '\xFF')).bytes, {}),
            name);
  expect_65(models::test::zip_of(
                {{"m/data.pkl", eight, {.method = 8, .size = 1ULL << 40, .stored_size = 8}}}),
            name);
  expect_65(models::test::zip_of({{"m/data.pkl", eight, {.size = 1ULL << 40}}}), name);
  expect_65(models::test::zip_of({{"/etc/passwd", eight}}), name);
  expect_65(models::test::zip_of({{"m/../../x", eight}}), name);
  expect_65(models::test::zip_of({{"m/data.pkl", eight}, {"m/data.pkl", eight}}), name);
  std::vector<models::test::Member> members;
  for (int i = 0; i < 65'000; ++i) members.push_back({"m/data/" + std::to_string(i), ""});
  expect_65(models::test::zip_of(members), name);
}

TEST(WeightsCommand, NothingInAFileIsExecuted) {
  const TemporaryFolder folder;
  const std::string command = "touch " + (folder / "executed").string();
  for (const char* module : {"os", "posix"}) {
    models::test::Pickle pickle;
    pickle.global(module, "system").op("(").text(command).op("tR.");
    const Outcome outcome = show_bytes(torch_file_of(pickle.bytes, {}), "evil.pt");
    EXPECT_EQ(outcome.exit_code, 65);
    EXPECT_NE(outcome.output.find(std::string(module) + ".system"), std::string::npos)
        << outcome.output;
  }
  EXPECT_FALSE(fs::exists(folder / "executed"));
}

TEST(WeightsCommand, AFileOfAsManyTensorsAsAllowedIsShownInLittleMemory) {
  std::vector<models::test::TensorSpec> specs;
  for (int i = 0; i < 32'000; ++i)
    specs.push_back({.name = "layer." + std::to_string(i),
                     .elements = 1,
                     .sizes = {1, 1, 1, 1, 1},
                     .strides = {1, 1, 1, 1, 1}});
  const Outcome outcome =
      show_bytes(torch_file_of(pickle_of(specs), {std::string(4, '\0')}), "many.pt");
  EXPECT_EQ(outcome.exit_code, 0) << outcome.output.substr(0, 500);
  std::string header = "{";
  for (int i = 0; i < 32'000; ++i)
    header += str(i == 0 ? "" : ",", "\"", i,
                  R"(":{"dtype":"U8","shape":[1,1,1,1,1],"data_offsets":[)", i, ",", i + 1, "]}");
  EXPECT_EQ(show_bytes(safetensors_of(header + "}", 32'000), "many.safetensors").exit_code, 0);
}

}  // namespace
}  // namespace triphase::test
