// SPDX-License-Identifier: Apache-2.0
// Weights and peft folders through Python and back, and caches read by h5py, by
// tests/reference/check_*.py and read_cache.py: needs an interpreter with merlin-vlm, transformers,
// peft and hdf5plugin, named by TRIPHASE_REFERENCE_PYTHON.
#include "data/cache.hpp"
#include "models/weights.hpp"
#include "tests/launch/program_fixture.hpp"
#include "tests/models/models_test_support.hpp"
#include "tests/models/ruled_model.hpp"

#include <cstdio>
#include <cstdlib>

namespace triphase::test {
namespace {

namespace fs = std::filesystem;
using models::AdaptOptions;
using models::TwoTower;
using models::test::equal_bits;
using models::test::max_error;

/// Unit rows: a float32 model's differ from Python's by 1e-6, a float64 model's by 1e-15.
constexpr double kTolerance = 1e-5;
constexpr double kWideTolerance = 1e-12;

/// The interpreter; empty where there is none.
std::string python() {
  const char* path = std::getenv("TRIPHASE_REFERENCE_PYTHON");
  return path == nullptr ? "" : path;
}

/// Runs a script of tests/reference; -B: it leaves no compiled files in the repository.
void expect_agrees(const std::string& script, const std::string& arguments) {
  const fs::path path = source_folder() / "tests" / "reference" / script;
  const CommandResult result =
      run_command(python() + " -B -W ignore " + path.string() + " " + arguments);
  expect_outcome(result, 0, {"largest differences"});
  std::printf("%s", result.output.c_str());  // how far apart, for whoever asks
}

/// Inputs by the rule, and the model's outputs, for the scripts.
models::test::TensorMap write_cases(const fs::path& path, TwoTower& model) {
  const at::ScalarType dtype = model->log_scale().scalar_type();
  const auto [tokens, mask] =
      models::test::ruled_tokens(31, 2'000'000, {30, 12}, model->options().text.vocabulary_size);
  const at::Tensor volumes =
      models::test::ruled_volumes(31, 1'000'000, {2, 1, 34, 33, 20}).to(dtype);
  const at::NoGradGuard no_grad;
  const models::Embeddings rows = model->forward(volumes, tokens, mask);
  models::write_safetensors(path, {{"volumes", volumes},
                                   {"tokens", tokens},
                                   {"mask", mask},
                                   {"image", rows.image},
                                   {"text", rows.text}});
  return {{"image", rows.image}, {"text", rows.text}};
}

void expect_same_state(TwoTower& found, TwoTower& expected) {
  const auto ours = models::base_state(found);
  const auto theirs = models::base_state(expected);
  ASSERT_EQ(ours.size(), theirs.size());
  for (std::size_t i = 0; i < ours.size(); ++i)
    EXPECT_TRUE(equal_bits(ours[i].second, theirs[i].second)) << ours[i].first;
}

TEST(PythonExchange, ConvertedWeightsGiveTheSameOutputsInPythonAndComeBackByBothKindsOfFile) {
  for (const std::string name : {"merlin_tiny", "merlin_odd"}) {
    SCOPED_TRACE(name);
    const TemporaryFolder folder;
    const fs::path golden = golden_folder() / "towers" / (name + "_weights.safetensors");
    TwoTower model = models::test::golden_model(name);
    const auto check = [&](const std::string& file, const std::string& cases, double tolerance) {
      expect_agrees("check_exchange.py",
                    str((folder / file).string(), " ", (folder / cases).string(), " --model ", name,
                        " --tolerance ", tolerance, " --again ", folder.path().string()));
    };
    expect_outcome(triphase("weights convert " + golden.string() + " --out " +
                            (folder / "out.safetensors").string()),
                   0, {});
    write_cases(folder / "cases", model);
    check("out.safetensors", "cases", kTolerance);
    // What Python saved, through the program once more.
    for (const char* file : {"weights.pt", "weights.safetensors"}) {
      TwoTower direct(model->options());
      models::load_weights(direct, (folder / file).string(), 0);
      expect_same_state(direct, model);
      expect_outcome(triphase("weights convert " + (folder / file).string() + " --out " +
                              (folder / "again.safetensors").string()),
                     0, {});
      TwoTower again(model->options());
      models::load_weights(again, (folder / "again.safetensors").string(), 0);
      expect_same_state(again, model);
    }
    model->to(at::kDouble);
    write_cases(folder / "wide", model);
    check("again.safetensors", "wide", kWideTolerance);
  }
}

/// Adapters in both towers; `change` makes the variant.
AdaptOptions variant(const std::function<void(AdaptOptions&)>& change) {
  AdaptOptions options{.method = "peft"};
  options.image = {.rank = 3, .alpha = 6, .targets = {"conv1", "conv2", "downsample.0"}};
  options.text = {.rank = 2, .alpha = 5, .targets = {"query", "value", "intermediate.dense"}};
  change(options);
  return options;
}

std::vector<std::pair<std::string, AdaptOptions>> variants() {
  return {
      {"plain", variant([](AdaptOptions&) {})},
      {"mixed scales", variant([](AdaptOptions& o) { o.text.rslora = true; })},
      {"patterns", variant([](AdaptOptions& o) {
         o.image.rank_pattern = {{"layer[34]\\..*conv2$", 5}, {"conv1", 2}};
         o.image.alpha_pattern = {{"layer4.0.conv2", 1.5}};
         o.text.alpha_pattern = {{"layer.1.attention.self.query", 32}};
         o.image.rslora = true;
       })},
      {"heads", variant([](AdaptOptions& o) { o.train_heads = true; })},
  };
}

TEST(PythonExchange, OurPeftFoldersGiveTheSameOutputsInPeftAndComeBack) {
  const fs::path base = golden_folder() / "towers" / "merlin_tiny_weights.safetensors";
  for (const auto& [name, options] : variants()) {
    SCOPED_TRACE(name);
    const TemporaryFolder folder;
    TwoTower model = models::test::golden_model("merlin_tiny");
    const models::AdapterPlan plan = models::plan_adapters(model, options);
    models::apply_adapters(model, plan, 3);
    models::test::fill_factors(model, 20);
    models::write_peft_folder(folder / "adapter", model, plan);
    const auto outputs = write_cases(folder / "cases", model);
    expect_agrees(
        "check_peft_folder.py",
        str((folder / "adapter").string(), " ", base.string(), " ", (folder / "cases").string(),
            " --tolerance ", kTolerance, " --again ", (folder / "again").string()));
    // What peft saved of it, read by us.
    TwoTower again = models::test::golden_model("merlin_tiny");
    models::read_peft_folder(folder / "again", again);
    const auto found = write_cases(folder / "cases_again", again);
    EXPECT_LT(max_error(found.at("image"), outputs.at("image")), kTolerance);
    EXPECT_LT(max_error(found.at("text"), outputs.at("text")), kTolerance);
  }
}

/// From a run to its rows: train, export, embed, and the same rows by Python peft.
TEST(PythonExchange, AnExportedRunEmbedsTheSameRowsInPeft) {
  const TemporaryFolder folder;
  const fs::path base = folder / "base.safetensors";
  TwoTower model = models::test::random_model(4);
  models::write_safetensors(base, models::base_state(model), {{"format", "pt"}});
  const std::string run =
      " --config " + write_run_file(folder.path(), "peft",
                                    {{"model.weights", "\"" + base.string() + "\""},
                                     {"adapt.method", "\"peft\""},
                                     {"schedule.max_steps", "4"}})
                         .string();
  expect_outcome(triphase("train --quiet" + run), 0, {});
  const std::string checkpoint = run + " --checkpoint " + (folder / "runs/peft").string();
  expect_outcome(
      triphase("weights export" + checkpoint + " --out " + (folder / "adapter").string()), 0, {});
  expect_outcome(triphase("embed" + checkpoint + " --out " + (folder / "rows.h5").string()), 0, {});
  expect_agrees(
      "check_peft_folder.py",
      str((folder / "adapter").string(), " ", base.string(), " ", (folder / "rows.h5").string(),
          " --tolerance ", kTolerance, " --cache ", tiny_cohort().cache().string()));
}

/// Every storage type with and without compression, with a study left out.
TEST(PythonExchange, H5pyReadsTheVolumesThatWeRead) {
  const TemporaryFolder folder;
  std::string manifest = read_text(tiny_cohort().manifest());
  const std::size_t image = manifest.find("volumes/");
  manifest.replace(image, manifest.find(',', image) - image, "volumes/gone.nii.gz");
  fs::create_directory_symlink(tiny_cohort().folder / "cohort" / "volumes", folder / "volumes");
  write_text(folder / "manifest.csv", manifest);
  const std::string build = "cache build --quiet --manifest " + (folder / "manifest.csv").string() +
                            " --preset phantom --tokenizer " +
                            (tiny_cohort().folder / "cohort" / "tokenizer").string();
  for (const char* storage : {"uint16", "float16", "float32"})
    for (const char* compression : {"none", "zstd"}) {
      SCOPED_TRACE(str(storage, " ", compression));
      const fs::path cache_folder = folder / str(storage, "-", compression);
      expect_outcome(triphase(build + " --out " + cache_folder.string() + " --set preprocess.storage=" +
                              storage + " --set cache.compression=" + compression),
                     0, {"volumes", "95"});
      const data::Cache cache(cache_folder);
      std::vector<float> voxels(56 * 40 * 32);
      cache.read_volume(7, voxels.data());
      write_text(folder / "voxels", std::string(reinterpret_cast<const char*>(voxels.data()),
                                                voxels.size() * sizeof(float)));
      const CommandResult result = run_command(
          python() + " -B " + (source_folder() / "tests/reference/read_cache.py").string() + " " +
          cache_folder.string() + " --index 7 --compare " + (folder / "voxels").string());
      expect_outcome(result, 0, {"95 volumes, laid out as promised", "largest difference"});
      EXPECT_EQ(result.output.find("not checked"), std::string::npos) << result.output;
      voxels[100] += 0.01F;
      write_text(folder / "voxels", std::string(reinterpret_cast<const char*>(voxels.data()),
                                                voxels.size() * sizeof(float)));
      EXPECT_EQ(run_command(python() + " -B " +
                            (source_folder() / "tests/reference/read_cache.py").string() + " " +
                            cache_folder.string() + " --index 7 --compare " +
                            (folder / "voxels").string())
                    .exit_code,
                65);
    }
}

}  // namespace
}  // namespace triphase::test

/// A main of its own: without an interpreter CTest shall show a skip (SKIP_RETURN_CODE), not a
/// pass.
int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  if (std::getenv("TRIPHASE_REFERENCE_PYTHON") == nullptr) {
    std::puts(
        "no Python with the reference packages: NOT checked. Set TRIPHASE_REFERENCE_PYTHON to an "
        "interpreter with tests/reference/requirements.txt.");
    return 77;
  }
  return RUN_ALL_TESTS();
}
