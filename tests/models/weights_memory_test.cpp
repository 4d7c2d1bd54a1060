// SPDX-License-Identifier: Apache-2.0
// Merlin in its full size: what loading it costs in memory. Each measurement is a process of its
// own, since a process's highest memory never falls.
#include "tests/models/models_test_support.hpp"
#include "tests/models/torch_file_builder.hpp"
#include "tests/support/child_memory.hpp"

#include <gtest/gtest.h>

#include <cstdio>
#include <stdexcept>

namespace triphase::models {
namespace {

using triphase::test::in_child;
using triphase::test::peak_mib_of;

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
    const double peak = peak_mib_of([&] {
      at::set_num_threads(1);
      TwoTower model(model_preset("merlin"));
      load_weights(model, (folder / name).string(), 0);
      if (base_state(model).at(0).second.sum().item<double>() != written)
        throw std::runtime_error("other weights were read");
    });
    std::printf("%s: peak %.0f MiB above the baseline\n", name, peak);
    EXPECT_GT(peak, 1000) << name;  // the parameters themselves
    EXPECT_LT(peak, 1.3 * 1024) << name;
  }
}

}  // namespace
}  // namespace triphase::models
