// SPDX-License-Identifier: Apache-2.0
#include "base/random.hpp"
#include "tests/models/models_test_support.hpp"
#include "tests/models/torch_file_builder.hpp"

#include <gtest/gtest.h>

#include <limits>
#include <map>
#include <optional>

namespace triphase::models {
namespace {

using test::equal_bits;
using test::pickle_of;
using test::TensorSpec;
using test::torch_file_of;
using triphase::test::expect_error;
using triphase::test::read_text;
using triphase::test::TemporaryFolder;
using triphase::test::write_text;

std::filesystem::path golden(const std::string& name) {
  return triphase::test::golden_folder() / "torch" / name;
}

/// What Python saved, by file and name.
std::map<std::string, std::map<std::string, at::Tensor>> expected_tensors() {
  std::map<std::string, std::map<std::string, at::Tensor>> result;
  for (const auto& [key, tensor] : read_safetensors(golden("expected.safetensors")).tensors) {
    const std::size_t slash = key.find('/');
    result[key.substr(0, slash)][key.substr(slash + 1)] = tensor;
  }
  return result;
}

void expect_refused(const std::string& bytes, std::initializer_list<std::string> words) {
  const TemporaryFolder folder;
  write_text(folder / "x.pt", bytes);
  expect_error<CheckpointError>([&] { (void)read_torch_file(folder / "x.pt"); }, ExitCode::kBadData,
                                words);
}

std::string floats(std::size_t count) { return std::string(4 * count, '\0'); }

TEST(TorchFile, ReadsWhatPythonSavedToTheBit) {
  const auto files = expected_tensors();
  EXPECT_EQ(files.size(), 7U);
  for (const auto& [file, tensors] : files) {
    const WeightsFile found = read_torch_file(golden(file + ".pt"));
    EXPECT_EQ(found.tensors.size(), tensors.size()) << file;
    for (const auto& [name, tensor] : found.tensors) {
      ASSERT_TRUE(tensors.contains(name)) << file << "/" << name;
      EXPECT_EQ(tensor.sizes(), tensors.at(name).sizes()) << file << "/" << name;
      EXPECT_TRUE(equal_bits(tensor, tensors.at(name))) << file << "/" << name;
    }
  }
}

TEST(TorchFile, ViewsKeepTheirStridesAndShareTheirStorage) {
  std::map<std::string, at::Tensor> found;
  for (const auto& [name, tensor] : read_torch_file(golden("views.pt")).tensors)
    found[name] = tensor;
  const auto* base = static_cast<const char*>(found.at("base").const_data_ptr());
  EXPECT_EQ(found.at("transposed").strides(), at::IntArrayRef({1, 8}));
  EXPECT_EQ(found.at("transposed").const_data_ptr(), base);
  EXPECT_EQ(found.at("row").const_data_ptr(), base + std::ptrdiff_t{4 * 3 * 8});
  EXPECT_TRUE(found.at("channels_last").is_contiguous(at::MemoryFormat::ChannelsLast3d));
}

TEST(TorchFile, AWholeModelFromATrainingProgramLoads) {
  TwoTower model(test::golden_odd_options());
  load_weights(model, golden("merlin_odd.pt").string(), 0);
  const test::TensorMap weights = test::read_golden("towers/merlin_odd_weights");
  for (const auto& [name, tensor] : base_state(model)) {
    const at::Tensor& expected = weights.at(name);  // saved in bfloat16, computed in float32
    EXPECT_TRUE(equal_bits(tensor, expected.is_floating_point()
                                       ? expected.to(at::kBFloat16).to(at::kFloat)
                                       : expected))
        << name;
  }
}

TEST(TorchFile, TensorsOutliveTheFileAndItsName) {
  const TemporaryFolder folder;
  std::filesystem::copy_file(golden("ordered_dict.pt"), folder / "x.pt");
  const at::Tensor kept = read_torch_file(folder / "x.pt").tensors[0].second;
  std::filesystem::remove(folder / "x.pt");
  EXPECT_TRUE(equal_bits(kept, expected_tensors().at("ordered_dict").at("0.weight")));
}

TEST(TorchFile, ReleasedTensorsAreStillThere) {
  const WeightsFile file = read_torch_file(golden("views.pt"));
  const auto expected = expected_tensors().at("views");
  for (const auto& [name, tensor] : file.tensors) file.release(tensor);
  for (const auto& [name, tensor] : file.tensors)
    EXPECT_TRUE(equal_bits(tensor, expected.at(name))) << name;
}

TEST(TorchFile, WhatPythonSavedAndIsNotWeightsIsRefusedByName) {
  const auto refuses = [](const std::string& name, const std::string& word) {
    expect_error<CheckpointError>([&] { (void)read_torch_file(golden(name)); }, ExitCode::kBadData,
                                  {name, word});
  };
  refuses("refused_object.pt", "NoWeights");
  refuses("refused_list.pt", "EMPTY_LIST");
  refuses("refused_protocol.pt", "protocol 4");
  refuses("refused_expanded.pt", ".contiguous()");
}

TEST(TorchFile, ArchivesThatAreNoTorchFilesAreRefused) {
  expect_refused(test::zip_of({{"word/document.xml", "x"}}), {"without data.pkl"});
  expect_refused(test::zip_of({{"data.pkl", "x"}}), {"without data.pkl"});
  expect_refused(test::zip_of({{"a/b/data.pkl", "x"}}), {"without data.pkl"});
  expect_refused(test::zip_of({{"a/data.pkl", "x"}, {"b/data/0", "x"}}), {"outside"});
  expect_refused(torch_file_of(pickle_of({{}}), {floats(2)}, "big"),
                 {"byte order 'big'", "little"});
  expect_refused(torch_file_of(pickle_of({{}}), {}), {"no storage '0'", "'a'"});
  expect_refused(torch_file_of(pickle_of({{.key = "../../../etc/passwd"}}), {floats(2)}),
                 {"no storage"});
  expect_refused(torch_file_of("", {floats(2)}), {"cut short"});
}

TEST(TorchFile, PlacesOutsideTheirStorageAreRefused) {
  const auto refuses = [](const TensorSpec& spec, std::initializer_list<std::string> words) {
    expect_refused(torch_file_of(pickle_of({spec}), {floats(2)}), words);
  };
  const std::int64_t huge = 1'000'000'000'000'000'000;
  const std::int64_t most = std::numeric_limits<std::int64_t>::max();
  refuses({.elements = 3}, {"3 elements of 4 bytes", "8 bytes"});
  refuses({.elements = huge}, {"'a'", "elements"});
  refuses({.elements = most}, {"'a'", "elements"});
  refuses({.type = "DoubleStorage"}, {"2 elements of 8 bytes"});
  refuses({.sizes = {3}}, {"element 2 of a storage of 2"});
  refuses({.offset = 1}, {"element 2"});
  refuses({.offset = most}, {"beyond any file"});
  refuses({.strides = {2}}, {"element 2"});
  refuses({.strides = {most}}, {"element"});
  refuses({.sizes = {huge}}, {"element"});
  refuses({.sizes = {huge}, .strides = {0}}, {"share memory"});
  refuses({.sizes = {huge, huge}, .strides = {0, 0}}, {"share memory"});
  refuses({.sizes = {huge, huge}, .strides = {huge, 1}}, {"beyond any file"});
  refuses({.sizes = {3, 3}, .strides = {most, most}}, {"beyond any file"});
  refuses({.sizes = {2, 2}, .strides = {1, 0}}, {"share memory"});
  refuses({.type = "BoolStorage", .elements = 9, .sizes = {9}}, {"9 elements"});
  expect_refused(torch_file_of(pickle_of({{.type = "BoolStorage"}}), {"\1\2"}),
                 {"other than 0 and 1"});
}

TEST(TorchFile, EmptyTensorsMayLieAnywhere) {
  const TemporaryFolder folder;
  const std::int64_t huge = 1'000'000'000'000'000'000;
  write_text(
      folder / "x.pt",
      torch_file_of(
          pickle_of({{.elements = 0, .offset = 5, .sizes = {0, huge}, .strides = {1, 1}}}), {""}));
  EXPECT_EQ(read_torch_file(folder / "x.pt").tensors.at(0).second.numel(), 0);
}

/// What a file reads as, or nothing when it is refused with the right kind of error.
std::optional<NamedTensors> tensors_or_error(const std::filesystem::path& path) {
  try {
    return read_weights(path).tensors;
  } catch (const CheckpointError& error) {
    EXPECT_EQ(error.exit_code(), ExitCode::kBadData);
    EXPECT_NE(std::string(error.what()).find(path.filename().string()), std::string::npos)
        << error.what();
    return std::nullopt;
  }
}

TEST(TorchFile, FiftyCutsAreNoticedInEveryFile) {
  const TemporaryFolder folder;
  for (const char* name : {"ordered_dict.pt", "views.pt", "many.pt", "merlin_odd.pt"}) {
    const std::string bytes = read_text(golden(name));
    for (std::size_t i = 0; i < 50; ++i) {
      write_text(folder / "cut.pt", bytes.substr(0, bytes.size() * i / 50));
      EXPECT_FALSE(tensors_or_error(folder / "cut.pt")) << name << " " << i;
    }
    write_text(folder / "cut.pt", bytes.substr(0, bytes.size() - 1));
    EXPECT_FALSE(tensors_or_error(folder / "cut.pt")) << name;
  }
}

TEST(TorchFile, AChangedByteIsNoticedOrHarmless) {
  const TemporaryFolder folder;
  for (const char* name : {"ordered_dict.pt", "views.pt", "dtypes.pt", "merlin_odd.pt"}) {
    const std::string bytes = read_text(golden(name));
    const NamedTensors expected = read_torch_file(golden(name)).tensors;
    std::size_t noticed = 0;
    for (std::size_t i = 0; i < 100; ++i) {
      std::string changed = bytes;
      const std::size_t at = (bytes.size() - 1) * i / 99;
      changed[at] = static_cast<char>(static_cast<unsigned char>(changed[at]) ^ (1U << i % 8));
      write_text(folder / "changed.pt", changed);
      const auto found = tensors_or_error(folder / "changed.pt");
      noticed += found ? 0U : 1U;
      if (!found) continue;
      ASSERT_EQ(found->size(), expected.size()) << name << " byte " << at;
      for (std::size_t t = 0; t < expected.size(); ++t) {
        EXPECT_EQ((*found)[t].first, expected[t].first) << name << " byte " << at;
        EXPECT_TRUE(equal_bits((*found)[t].second, expected[t].second)) << name << " byte " << at;
      }
    }
    EXPECT_GT(noticed, 20U) << name;
  }
}

TEST(TorchFile, DamagedFilesGiveTensorsOrACheckpointError) {
  const TemporaryFolder folder;
  // With honest sums over changed bytes, so that the damage reaches the pickle and the tensors.
  const std::string pickle =
      pickle_of({{.name = "a"},
                 {.name = "b", .key = "1", .elements = 4, .sizes = {2, 2}, .strides = {2, 1}}});
  KeyedRandom random{2028};
  double sum = 0;
  int read = 0;
  for (int i = 0; i < 3000; ++i) {
    std::string changed = pickle;
    for (std::uint64_t changes = 1 + random.below(3); changes > 0; --changes)
      changed[static_cast<std::size_t>(random.below(changed.size()))] =
          static_cast<char>(random.chance(0.5) ? random.below(8) : random.below(256));
    write_text(folder / "x.pt", torch_file_of(changed, {floats(2), floats(4)}));
    const auto found = tensors_or_error(folder / "x.pt");
    if (!found) continue;
    ++read;
    for (const auto& [name, tensor] : *found) sum += tensor.to(at::kDouble).sum().item<double>();
  }
  EXPECT_GT(read, 20);
  EXPECT_LT(read, 2900);
}

}  // namespace
}  // namespace triphase::models
