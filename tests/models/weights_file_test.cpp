// SPDX-License-Identifier: Apache-2.0
#include "base/json.hpp"
#include "models/files/safetensors_header.hpp"
#include "tests/models/models_test_support.hpp"
#include "tests/models/ruled_model.hpp"
#include "tests/models/torch_file_builder.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace triphase::models {
namespace {

using test::equal_bits;
using test::normal;
using triphase::test::expect_error;
using triphase::test::read_text;
using triphase::test::TemporaryFolder;
using triphase::test::write_text;

std::filesystem::path torch_golden(const std::string& name) {
  return triphase::test::golden_folder() / "torch" / name;
}

void expect_refused(const std::string& bytes, std::initializer_list<std::string> words) {
  const TemporaryFolder folder;
  write_text(folder / "x.bin", bytes);
  expect_error<CheckpointError>([&] { (void)read_weights(folder / "x.bin"); }, ExitCode::kBadData,
                                words);
}

/// What Python wrote, as an archive of torch.save and as safetensors, computes what it computes in
/// Python; see tests/reference/make_torch_files.py.
TEST(WeightsFile, PythonsFilesOfBothKindsGivePythonsOutputs) {
  constexpr std::uint64_t kSeed = 2026;
  const test::TensorMap golden = test::read_golden("torch/merlin_odd_outputs");
  const at::Tensor volumes =
      test::ruled_volumes(kSeed, 1'000'000, {2, 1, 34, 33, 20}).to(at::kDouble);
  const auto [tokens, mask] = test::ruled_tokens(kSeed, 2'000'000, {21, 9}, 40);
  for (const char* name : {"merlin_odd.pt", "merlin_odd.safetensors"}) {
    TwoTower model(test::golden_odd_options());
    load_weights(model, torch_golden(name).string(), 0);
    model->to(at::kDouble);
    model->eval();
    const at::NoGradGuard no_grad;
    const Embeddings rows = model->forward(volumes, tokens, mask, /*with_phenotypes=*/true);
    // The weights are the same to the bit; float64 sums in another order remain.
    EXPECT_LT(test::relative_error(rows.image, golden.at("image")), 1e-12) << name;
    EXPECT_LT(test::relative_error(rows.text, golden.at("text")), 1e-12) << name;
    EXPECT_LT(test::relative_error(rows.phenotype_logits, golden.at("phenotype_logits")), 1e-12)
        << name;
  }
}

TEST(WeightsFile, TheContentDecidesNotTheName) {
  const TemporaryFolder folder;
  std::filesystem::copy_file(torch_golden("ordered_dict.pt"), folder / "a.safetensors");
  write_safetensors(folder / "b.pt", {{"x", at::ones({2})}}, {{"note", "n"}});
  EXPECT_EQ(read_weights(folder / "a.safetensors").tensors.size(), 9U);
  const WeightsFile file = read_weights(folder / "b.pt");
  EXPECT_EQ(file.tensors.at(0).first, "x");
  EXPECT_EQ(file.metadata, (std::map<std::string, std::string>{{"note", "n"}}));
  EXPECT_EQ(file.path, folder / "b.pt");
}

TEST(WeightsFile, AFolderStandsForItsWeightsOrItsAdapter) {
  const TemporaryFolder folder;
  expect_error<CheckpointError>([&] { (void)read_weights(folder.path()); }, ExitCode::kMissingInput,
                                {"neither model.safetensors nor adapter_model.safetensors"});
  write_safetensors(folder / "adapter_model.safetensors", {{"adapter", at::ones({2})}});
  EXPECT_EQ(read_weights(folder.path()).tensors.at(0).first, "adapter");
  write_safetensors(folder / "model.safetensors", {{"model", at::ones({2})}});
  EXPECT_EQ(read_weights(folder.path()).tensors.at(0).first, "model");
  expect_error<CheckpointError>([&] { (void)read_weights(folder / "none.pt"); },
                                ExitCode::kMissingInput, {"none.pt"});
}

TEST(WeightsFile, OldFormsOfTorchAreRefusedWithWhatToDo) {
  std::string magic("\x80\x02\x8a\x0al\xfc\x9c\x46\xf9 j\xa8P\x19.", 15);
  expect_refused(magic + "\x80\x02M\xe9\x03.", {"before PyTorch 1.6", "torch.save(torch.load("});
  std::string tar(600, '\0');
  tar.replace(257, 5, "ustar");
  expect_refused(tar, {"before PyTorch 1.6"});
  expect_refused("", {"0 bytes"});
  expect_refused("PK", {"cut short"});
  expect_refused("garbage that is no file of weights", {"header"});
}

TEST(WeightsFile, EveryChangedByteOfOurOwnFilesIsFoundOrHarmless) {
  const TemporaryFolder folder;
  const NamedTensors tensors{{"a", normal({3}, 1)}, {"b.weight", at::ones({4}, at::kBFloat16)}};
  write_safetensors(folder / "x", tensors, {{"format", "pt"}});
  const std::string bytes = read_text(folder / "x");
  const std::size_t key = bytes.find(kHashKey);
  for (std::size_t at = 0; at < bytes.size(); ++at) {
    std::string changed = bytes;
    changed[at] = static_cast<char>(static_cast<unsigned char>(changed[at]) ^ (1U << at % 8));
    write_text(folder / "y", changed);
    if (at < key || at >= key + std::string(kHashKey).size()) {
      EXPECT_THROW((void)read_weights(folder / "y"), CheckpointError) << at;
      continue;
    }
    // The hash's own key: the file then looks like another program's, and its tensors are what they
    // were.
    try {
      const NamedTensors found = read_weights(folder / "y").tensors;
      for (std::size_t i = 0; i < tensors.size(); ++i)
        EXPECT_TRUE(found[i].first == tensors[i].first &&
                    equal_bits(found[i].second, tensors[i].second));
    } catch (const CheckpointError&) {  // no UTF-8, or a quote
    }
  }
}

TEST(WeightsFile, TheHashIsCheckedWhereItIsAndMissedNowhere) {
  const TemporaryFolder folder;
  write_safetensors(folder / "x", {{"a", at::zeros({64})}}, {{"format", "pt"}});
  std::string bytes = read_text(folder / "x");
  EXPECT_TRUE(read_safetensors(folder / "x").metadata.contains("format"));
  EXPECT_FALSE(read_safetensors(folder / "x").metadata.contains(kHashKey));
  bytes.back() = 1;
  write_text(folder / "x", bytes);
  expect_error<CheckpointError>([&] { (void)read_safetensors(folder / "x"); }, ExitCode::kBadData,
                                {"damaged", kHashKey, "take that entry out"});
  // Another key of the same length: a file of another program, which carries no hash.
  bytes.replace(bytes.find(kHashKey), std::string(kHashKey).size(), "someone's.xxx");
  write_text(folder / "x", bytes);
  EXPECT_EQ(read_safetensors(folder / "x").tensors.size(), 1U);
  // A hash that stands where none can be computed.
  const std::string header = R"({"__metadata__": {"triphase.xxh3" : "0123456789abcdef"}})";
  write_text(folder / "z", test::le<std::uint64_t>(header.size()) + header);
  EXPECT_THROW((void)read_safetensors(folder / "z"), CheckpointError);
}

TEST(WeightsFile, FractionsAreConvertedOnTheWayOutAndNothingElse) {
  const TemporaryFolder folder;
  const NamedTensors tensors{{"f", normal({3, 5}, 1)},
                             {"i", at::arange(4)},
                             {"d", normal({2}, 2, at::kDouble)},
                             {"h", at::ones({1}, at::kHalf)}};
  for (const at::ScalarType dtype : {at::kBFloat16, at::kHalf, at::kFloat, at::kDouble}) {
    write_safetensors(folder / "x", tensors, {}, dtype);
    const NamedTensors found = read_safetensors(folder / "x").tensors;
    for (std::size_t i = 0; i < tensors.size(); ++i)
      EXPECT_TRUE(equal_bits(found[i].second, tensors[i].second.is_floating_point()
                                                  ? tensors[i].second.to(dtype)
                                                  : tensors[i].second));
  }
  const float infinity = std::numeric_limits<float>::infinity();
  write_safetensors(folder / "x", {{"f", at::full({1}, infinity)}}, {}, at::kHalf);
  expect_error<CheckpointError>(
      [&] {
        write_safetensors(folder / "x", {{"f", at::full({1}, 70'000.0F)}}, {}, at::kHalf);
      },
      ExitCode::kBadData, {"'f'", "beyond the range of Half"});
}

TEST(WeightsFile, AHeaderOfManyTinyTensorsIsStopped) {
  std::string header = "{";
  std::size_t count = 0;
  for (; count < 33'000; ++count)
    header += str(count == 0 ? "" : ",", "\"", count,
                  R"(":{"dtype":"U8","shape":[],"data_offsets":[)", count, ",", count + 1, "]}");
  header += "}";
  expect_refused(test::le<std::uint64_t>(header.size()) + header + std::string(count, '\0'),
                 {"more than 32768 tensors"});
  const std::uint64_t too_long = kMaxHeaderBytes + 1;
  expect_refused(test::le<std::uint64_t>(too_long) + "{" + std::string(too_long, ' '),
                 {"header would have", "8388608"});
}

}  // namespace
}  // namespace triphase::models
