// SPDX-License-Identifier: Apache-2.0
// Input: peft's adapter_config.json. What is accepted is asked about modules of Merlin, which runs
// its patterns, and must read back as it is written.
#include <array>
#include <string>

#include "models/peft_config.hpp"
#include "tests/fuzz/target.hpp"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace triphase;
  constexpr std::array<const char*, 4> kPaths{
      "encode_image.i3_resnet.layer3.5.conv2", "encode_image.i3_resnet.layer1.0.downsample.0",
      "encode_text.text_encoder.encoder.layer.11.attention.self.query", "encode_text.linear_layer"};
  const auto path = fuzz::scratch_file("adapter_config.json", fuzz::text_of(data, size));
  fuzz::expect_clean_end([&] {
    const models::PeftConfig config = models::read_peft_config(path);
    const std::string written = models::peft_config_json(config).dump();
    const models::PeftConfig again =
        models::read_peft_config(fuzz::scratch_file("written.json", written));
    for (const char* module : kPaths) {
      const bool is_target = config.targets(module);
      fuzz::require(config.target_expression || again.targets(module) == is_target,
                    "targets are what was written");
      fuzz::require(again.rank_of(module) == config.rank_of(module) && config.rank_of(module) > 0,
                    "ranks are what was written, and positive");
      fuzz::require(
          again.alpha_of(module) == config.alpha_of(module) && config.alpha_of(module) >= 0,
          "alphas are what was written, and not negative");
    }
  });
  return 0;
}
