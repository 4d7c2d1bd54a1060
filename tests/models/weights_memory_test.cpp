// SPDX-License-Identifier: Apache-2.0
// Merlin in its full size: what loading it costs in memory. Each measurement is a process of its
// own, since a process's highest memory never falls.
#include "tests/models/models_test_support.hpp"
#include "tests/models/torch_file_builder.hpp"

#include <gtest/gtest.h>

#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>

namespace triphase::models {
namespace {

/// A line of /proc/self/status in MiB.
double status_mib(const std::string& key) {
  std::ifstream file("/proc/self/status");
  for (std::string line; std::getline(file, line);)
    if (line.starts_with(key + ":")) return std::stod(line.substr(key.size() + 1)) / 1024;
  return -1;
}

/// Runs `action` in a child and returns the number it gives, or -1 when it fails.
double in_child(const std::function<double()>& action) {
  int ends[2];
  if (pipe(ends) != 0) return -1;
  const pid_t child = fork();
  if (child == 0) {
    double result = -1;
    try {
      result = action();
    } catch (const std::exception& error) {
      std::fprintf(stderr, "%s\n", error.what());
    }
    const bool is_written = write(ends[1], &result, sizeof result) == sizeof result;
    _exit(is_written ? 0 : 1);
  }
  close(ends[1]);
  double result = -1;
  if (read(ends[0], &result, sizeof result) != sizeof result) result = -1;
  close(ends[0]);
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? result : -1;
}

TEST(WeightsMemory, LoadingMerlinStaysBelow1300MiBFromEitherForm) {
  const triphase::test::TemporaryFolder folder;
  const double written = in_child([&] {
    at::set_num_threads(1);
    TwoTower model = test::random_model(1, model_preset("merlin"));
    write_safetensors(folder / "merlin.safetensors", base_state(model));
    test::write_torch_file(folder / "merlin.pt", base_state(model));
    return base_state(model).at(0).second.sum().item<double>();
  });
  ASSERT_NE(written, -1);
  for (const char* name : {"merlin.safetensors", "merlin.pt"}) {
    EXPECT_GT(std::filesystem::file_size(folder / name), std::uintmax_t{1033} << 20) << name;
    const double peak = in_child([&] {
      at::set_num_threads(1);
      const double baseline = status_mib("VmRSS");
      TwoTower model(model_preset("merlin"));
      load_weights(model, (folder / name).string(), 0);
      const double first_sum = base_state(model).at(0).second.sum().item<double>();
      return first_sum == written ? status_mib("VmHWM") - baseline : -1;
    });
    std::printf("%s: peak %.0f MiB above the baseline\n", name, peak);
    EXPECT_GT(peak, 1000) << name;  // the parameters themselves
    EXPECT_LT(peak, 1.3 * 1024) << name;
  }
}

}  // namespace
}  // namespace triphase::models
