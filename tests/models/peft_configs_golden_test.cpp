// SPDX-License-Identifier: Apache-2.0
// adapter_config.json of every method and variant that peft has; see
// tests/reference/make_peft_configs.py.
#include "models/peft_config.hpp"

#include "base/json.hpp"
#include "tests/support/test_support.hpp"

#include <gtest/gtest.h>

namespace triphase::models {
namespace {

using triphase::test::expect_error;
using triphase::test::TemporaryFolder;

/// One case of the golden file, written where a folder would hold it.
class PeftConfigsGolden : public ::testing::Test {
 protected:
  static Json cases() {
    return read_json(triphase::test::golden_folder() / "peft" / "configs.json").at("cases");
  }
  std::filesystem::path written(const Json& config) const {
    write_json(folder_ / "adapter_config.json", config);
    return folder_ / "adapter_config.json";
  }

 private:
  TemporaryFolder folder_;
};

TEST_F(PeftConfigsGolden, EveryOtherMethodAndVariantIsRefusedByName) {
  int refused = 0;
  for (const Json& one : cases()) {
    if (one.at("refused").is_null()) continue;
    SCOPED_TRACE(one.at("name").get<std::string>());
    const auto key = one.at("refused").get<std::string>();
    const Json& value = one.at("config").at(key);
    const auto path = written(one.at("config"));
    expect_error<CheckpointError>([&] { (void)read_peft_config(path); }, ExitCode::kBadData,
                                  {"'" + key + "'", value.is_string() ? value.dump() : key});
    ++refused;
  }
  EXPECT_EQ(refused, 66);
}

TEST_F(PeftConfigsGolden, PlainLoraIsReadWhateverElseTheVersionWrites) {
  int read = 0;
  for (const Json& one : cases()) {
    if (!one.at("refused").is_null()) continue;
    SCOPED_TRACE(one.at("name").get<std::string>());
    Json config = one.at("config");
    config["a_key_of_a_newer_version"] = {{"with", "content"}};
    const PeftConfig found = read_peft_config(written(config));
    EXPECT_EQ(found.rank, 2);
    EXPECT_EQ(found.rslora, config.at("use_rslora"));
    EXPECT_EQ(found.dropout, config.at("lora_dropout"));
    EXPECT_EQ(found.rank_pattern.size(), config.at("rank_pattern").size());
    EXPECT_TRUE(found.targets("encode_text.text_encoder.encoder.layer.0.attention.self.query"));
    EXPECT_EQ(found.targets("encode_image.i3_resnet.layer4.0.conv2"),
              config.at("exclude_modules").is_null());
    EXPECT_TRUE(found.targets("encode_image.i3_resnet.layer3.0.conv2"));
    ++read;
  }
  EXPECT_EQ(read, 11);
}

}  // namespace
}  // namespace triphase::models
