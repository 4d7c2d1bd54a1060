// SPDX-License-Identifier: Apache-2.0
// Every kind of bad input: its exit code, a message that names file, line or id, and nothing lost.
#include "data/folder_lock.hpp"
#include "tests/launch/program_fixture.hpp"

#include <unistd.h>

namespace triphase::test {
namespace {

namespace fs = std::filesystem;

/// The tiny cohort's manifest with one change, in a folder of its own (image paths stay valid).
class Cohort {
 public:
  Cohort() {
    text_ = read_text(tiny_cohort().manifest());
    fs::create_directory_symlink(tiny_cohort().folder / "cohort" / "volumes", folder_ / "volumes");
    fs::create_directory_symlink(tiny_cohort().folder / "cohort" / "tokenizer", folder_ / "tokenizer");
  }
  /// The text of line `number` (1-based; 1 is the header).
  std::string line(std::size_t number) const {
    std::size_t begin = 0;
    for (std::size_t i = 1; i < number; ++i) begin = text_.find('\n', begin) + 1;
    return text_.substr(begin, text_.find('\n', begin) - begin);
  }
  void replace(const std::string& from, const std::string& to) {
    const std::size_t at = text_.find(from);
    ASSERT_NE(at, std::string::npos) << from;
    text_.replace(at, from.size(), to);
  }
  void append(const std::string& line) { text_ += line + "\n"; }
  void keep_lines(std::size_t count) {
    std::size_t end = 0;
    for (std::size_t i = 0; i < count; ++i) end = text_.find('\n', end) + 1;
    text_.resize(end);
  }
  CommandResult build(int num_ranks = 1, const std::string& more = "") {
    write_text(folder_ / "manifest.csv", text_);
    return triphase("cache build --quiet --preset phantom " + more + " --manifest " +
                        (folder_ / "manifest.csv").string() + " --out " + (folder_ / "cache").string(),
                    num_ranks);
  }
  fs::path path(const std::string& name) const { return folder_ / name; }
  /// The field of a line by its place among the first five: id, patient_id, site, split, image.
  std::string field(std::size_t number, int place) const {
    std::string rest = line(number);
    for (int i = 0; i < place; ++i) rest = rest.substr(rest.find(',') + 1);
    return rest.substr(0, rest.find(','));
  }

 private:
  TemporaryFolder folder_;
  std::string text_;
};

int count_of(const std::string& word, const std::string& text) {
  int count = 0;
  for (std::size_t at = 0; (at = text.find(word, at)) != std::string::npos; ++at) ++count;
  return count;
}

CommandResult train(const fs::path& run_file, int num_ranks = 1, const std::string& more = "") {
  return triphase("train --quiet --config " + run_file.string() + " " + more, num_ranks);
}

TEST(BadInput, UnknownKeyNamesPlaceAndNearestKey) {
  const TemporaryFolder folder;
  const fs::path file = write_run_file(folder.path(), "run", {{"loss.temprature_init", "0.1"}});
  for (const int num_ranks : {1, 2})
    expect_outcome(train(file, num_ranks), 64, {"run.toml:", "loss.temprature_init", "temperature_init"});
}

TEST(BadInput, WrongTypeNamesPlace) {
  const TemporaryFolder folder;
  const fs::path file = write_run_file(folder.path(), "run", {{"optimizer.lr", "\"fast\""}});
  expect_outcome(train(file), 64, {"run.toml:", "optimizer.lr"});
}

TEST(BadInput, MissingManifestIs66) {
  expect_outcome(triphase("cache build --manifest nowhere.csv --out " + (fs::temp_directory_path() / "none").string()),
                 66, {"nowhere.csv"});
}

TEST(BadInput, MissingImageIsLeftOutAndEndsAStrictBuild) {
  Cohort cohort;
  cohort.replace(cohort.field(3, 4), "volumes/gone.nii.gz");
  expect_outcome(cohort.build(2, "--strict"), 66, {"manifest.csv", "3", cohort.field(3, 0), "gone.nii.gz"});
  const CommandResult result = cohort.build(2);
  expect_outcome(result, 0, {"left out: study '" + cohort.field(3, 0) + "', line 3: its image is not there",
                             "warning: 1 of 96 studies", "next build tries them again"});
  EXPECT_EQ(count_of("left out: study", result.output), 1) << result.output;
  expect_outcome(triphase("cache verify --quiet " + cohort.path("cache").string(), 2), 0, {"95 volumes"});
  expect_outcome(triphase("cache show " + cohort.path("cache").string()), 0, {"left out       1 studies"});
}

TEST(BadInput, ASecondBuildAtOnceIsToldAboutTheFirst) {
  Cohort cohort;
  fs::create_directory(cohort.path("cache"));
  const data::FolderLock other(cohort.path("cache"), data::FolderLock::Role::kLead);
  for (const int num_ranks : {1, 2}) {
    const CommandResult result = cohort.build(num_ranks);
    expect_outcome(result, 73, {"another build writes to", str("process ", ::getpid(), " on ")});
    EXPECT_EQ(count_of("another build", result.output), 1) << result.output;
  }
}

TEST(BadInput, TruncatedVolumeIsNamed) {
  Cohort cohort;
  const std::string image = cohort.field(4, 4);
  const std::string bytes = read_text(tiny_cohort().folder / "cohort" / image);
  write_text(cohort.path("short.nii.gz"), bytes.substr(0, bytes.size() / 2));
  cohort.replace(image, "short.nii.gz");
  for (const int num_ranks : {1, 2, 3}) {
    const CommandResult result = cohort.build(num_ranks, "--strict");
    expect_outcome(result, 65, {cohort.field(4, 0), "short.nii.gz", "short"});
    EXPECT_EQ(count_of("DataError", result.output), 1) << result.output;
  }
}

TEST(BadInput, VoxelsThatAreNotFiniteAreNamed) {
  Cohort cohort;
  std::string header(352, '\0');  // NIfTI-1, float32, 2x2x2, one voxel a NaN
  const auto put16 = [&](std::size_t at, std::int16_t value) { header.replace(at, 2, reinterpret_cast<const char*>(&value), 2); };
  const auto put_float = [&](std::size_t at, float value) { header.replace(at, 4, reinterpret_cast<const char*>(&value), 4); };
  const std::int32_t size = 348;
  header.replace(0, 4, reinterpret_cast<const char*>(&size), 4);
  put16(40, 3);
  for (const std::size_t axis : {42U, 44U, 46U}) put16(axis, 2);
  for (const std::size_t axis : {48U, 50U, 52U, 54U}) put16(axis, 1);
  put16(70, 16);
  put16(72, 32);
  for (const std::size_t at : {76U, 80U, 84U, 88U}) put_float(at, 1);
  put_float(108, 352);
  put_float(112, 1);
  header.replace(344, 4, std::string("n+1\0", 4));
  std::string voxels(32, '\0');
  const float nan = std::numeric_limits<float>::quiet_NaN();
  voxels.replace(12, 4, reinterpret_cast<const char*>(&nan), 4);
  write_text(cohort.path("nan.nii"), header + voxels);
  cohort.replace(cohort.field(2, 4), "nan.nii");
  expect_outcome(cohort.build(1, "--strict"), 65, {cohort.field(2, 0), "nan.nii", "finite"});
}

TEST(BadInput, DuplicateIdNamesBothLines) {
  Cohort cohort;
  cohort.append(cohort.line(2));
  expect_outcome(cohort.build(), 65, {"manifest.csv", cohort.field(2, 0)});
}

TEST(BadInput, PatientInTwoSplitsIsRefused) {
  Cohort cohort;
  const std::string line = cohort.line(2);
  const std::string other = cohort.field(2, 3) == "test" ? "train" : "test";
  std::string copy = line;
  copy.replace(copy.find("," + cohort.field(2, 3) + ","), cohort.field(2, 3).size() + 2, "," + other + ",");
  copy.replace(0, cohort.field(2, 0).size(), "another-id");
  cohort.append(copy);
  const CommandResult result = cohort.build();
  expect_outcome(result, 65, {"manifest.csv", "another-id", cohort.field(2, 0), "line 2", other});
  EXPECT_EQ(result.output.find(cohort.field(2, 1)), std::string::npos) << "a patient is named: " << result.output;
}

TEST(BadInput, EmptySplitNamesThoseThereAre) {
  const TemporaryFolder folder;
  const fs::path file = write_run_file(folder.path(), "run", {{"data.train_split", "\"training\""}});
  expect_outcome(train(file, 2), 65, {"training", "train"});
}

TEST(BadInput, CacheOfAnotherSpecificationNamesTheDifference) {
  const TemporaryFolder folder;
  const fs::path file = write_run_file(folder.path(), "run", {{"preprocess.preset", "\"phantom\""}});
  expect_outcome(train(file, 2), 65, {"spacing_mm", "cache"});
}

TEST(BadInput, CheckpointOfAnotherModelNamesTheDifference) {
  const TemporaryFolder folder;
  const fs::path tiny = write_run_file(folder.path(), "tiny", {{"schedule.max_steps", "1"}});
  expect_outcome(train(tiny), 0, {});
  const fs::path small = write_run_file(folder.path(), "small",
                                        {{"model.preset", "\"merlin_small\""},
                                         {"model.weights", "\"" + (folder / "runs/tiny").string() + "\""}});
  expect_outcome(train(small), 65, {"merlin_tiny", "merlin_small"});
  // A weights file alone does not say what it is of: its tensors do.
  fs::copy_file(last_checkpoint(folder / "runs/tiny") / "model.safetensors", folder / "tiny.safetensors");
  expect_outcome(train(small, 1, "--set model.weights=" + (folder / "tiny.safetensors").string()), 65, {"encode_image"});
  expect_outcome(train(small, 1, "--set model.weights=random --resume " + last_checkpoint(folder / "runs/tiny").string()),
                 65, {"merlin_tiny"});
}

TEST(BadInput, LabelWithoutAPromptIsRefusedInEvaluation) {
  const TemporaryFolder folder;
  write_text(folder / "prompts.toml", "[[finding]]\nname = \"fracture\"\npositive = [\"fracture\"]\nnegative = [\"no fracture\"]\n");
  const fs::path file = write_run_file(folder.path(), "run", {{"evaluate.prompts", "\"" + (folder / "prompts.toml").string() + "\""}});
  expect_outcome(triphase("evaluate --quiet --config " + file.string(), 2), 65, {"fracture", "hcc"});
}

TEST(BadInput, TemperatureOutOfRangeNamesPlace) {
  const TemporaryFolder folder;
  for (const char* value : {"0.0", "-0.07", "1e9"})
    expect_outcome(train(write_run_file(folder.path(), "run", {{"loss.temperature_init", value}})), 64,
                   {"run.toml:", "temperature_init"});
}

TEST(BadInput, GlobalPairsThatDoNotDivideAreRefused) {
  const TemporaryFolder folder;
  expect_outcome(train(write_run_file(folder.path(), "run", {{"batch.global_pairs", "5"}}), 2), 64,
                 {"global_pairs", "5", "2"});
}

TEST(BadInput, OneRankThatCannotReadItsShardEndsAllWithOneMessage) {
  const TemporaryFolder folder;
  fs::copy(tiny_cohort().cache(), folder / "cache", fs::copy_options::recursive);
  // Damage the voxels of the last third of one shard: some rank meets it, the other does not.
  const fs::path shard = folder / "cache" / "shard-00001.h5";
  std::string bytes = read_text(shard);
  for (std::size_t i = bytes.size() / 2; i < bytes.size() - 65536; i += 512) bytes[i] = static_cast<char>(bytes[i] ^ 1);
  write_text(shard, bytes);
  const fs::path file = write_run_file(folder.path(), "run",
                                       {{"data.cache", "\"" + (folder / "cache").string() + "\""},
                                        {"data.sites", "[]"},
                                        {"schedule.max_steps", "40"}});
  const CommandResult result = train(file, 2);
  expect_outcome(result, 65, {"shard-00001.h5"});
  EXPECT_EQ(count_of("DataError", result.output), 1) << result.output;
}

TEST(BadInput, ADamagedCacheIsToldOnceWithWhatToDelete) {
  const TemporaryFolder folder;
  fs::copy(tiny_cohort().cache(), folder / "cache", fs::copy_options::recursive);
  for (const char* name : {"shard-00000.h5", "shard-00001.h5"}) {  // one for each of two ranks
    std::string bytes = read_text(folder / "cache" / name);
    bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 1);
    write_text(folder / "cache" / name, bytes);
  }
  for (const int num_ranks : {1, 2, 3}) {
    const CommandResult result = triphase("cache verify --quiet " + (folder / "cache").string(), num_ranks);
    expect_outcome(result, 65, {"2 damaged places", "Delete shard-00000.h5, shard-00001.h5 there", "cache build again"});
    EXPECT_EQ(count_of("DataError", result.output), 1) << result.output;
    EXPECT_EQ(count_of("damaged: shard-00000.h5", result.output), 1) << result.output;
    EXPECT_LT(result.output.find("damaged: shard-00000.h5"), result.output.find("damaged: shard-00001.h5"));
  }
  for (const int num_ranks : {1, 2}) {
    const CommandResult sound = triphase("cache verify --quiet " + tiny_cohort().cache().string(), num_ranks);
    expect_outcome(sound, 0, {"every hash is right"});
    EXPECT_EQ(count_of("every hash is right", sound.output), 1) << sound.output;
  }
}

TEST(BadInput, RanksWithDifferentConfigurationsEndWithOneMessage) {
  const TemporaryFolder folder;
  const fs::path one = write_run_file(folder.path(), "one");
  const fs::path other = write_run_file(folder.path(), "other", {{"run.name", "\"one\""}, {"optimizer.lr", "2e-3"}});
  const std::string program = program_path().string() + " train --quiet --config ";
  const CommandResult result =
      run_command("mpirun -np 1 " + program + one.string() + " : -np 1 " + program + other.string());
  expect_outcome(result, 71, {"ranks disagree on the configuration", "lr"});
  EXPECT_EQ(count_of("ranks disagree", result.output), 1) << result.output;
}

TEST(BadInput, OutputFolderThatCannotBeMadeIs73) {
  const TemporaryFolder folder;
  write_text(folder / "file", "");
  const fs::path file = write_run_file(folder.path(), "run", {{"run.output_dir", "\"" + (folder / "file/runs").string() + "\""}});
  expect_outcome(train(file, 2), 73, {"file/runs"});
}

/// A run of one step, and every command that writes, told to write below `place`.
class Writers {
 public:
  Writers() : run_file_(write_run_file(folder_.path(), "run", {{"schedule.max_steps", "1"}, {"adapt.method", "\"peft\""}})) {
    expect_outcome(train(run_file_), 0, {});
  }
  [[nodiscard]] fs::path path(const std::string& name) const { return folder_ / name; }
  [[nodiscard]] std::vector<std::string> commands(const fs::path& place) const {
    const std::string run = (folder_ / "runs/run").string();
    const std::string model = " --quiet --config " + run_file_.string() + " --checkpoint " + run;
    const auto out = [&](const char* name) { return " --out " + (place / name).string(); };
    return {"phantom --quiet --size tiny --patients 6" + out("cohort"),
            "cache build --quiet --preset phantom --manifest " + tiny_cohort().manifest().string() + out("cache"),
            "train --quiet --config " + run_file_.string() + " --set 'run.output_dir=\"" + (place / "runs").string() + "\"'",
            "evaluate" + model + out("scores.json"),
            "embed" + model + " --split test" + out("rows.h5"),
            "report " + run + out("page.html"),
            "weights convert " + (last_checkpoint(run) / "model.safetensors").string() + out("copy.safetensors"),
            "weights merge" + model + out("merged.safetensors"),
            "weights export" + model + out("adapter")};
  }

 private:
  TemporaryFolder folder_;
  fs::path run_file_;
};

TEST(BadInput, AFileWhereAFolderBelongsIs73ForEveryCommandThatWrites) {
  const Writers writers;
  write_text(writers.path("file"), "kept");
  for (const std::string& command : writers.commands(writers.path("file"))) {
    SCOPED_TRACE(command);
    expect_outcome(triphase(command), 73, {writers.path("file").string()});
  }
  EXPECT_EQ(read_text(writers.path("file")), "kept");
}

/// What to put before a command so that permissions bind it: root is let off by capabilities.
std::string bound_by_permissions(const fs::path& locked) {
  const std::string without_override = "setpriv --bounding-set=-dac_override,-dac_read_search ";
  const std::string attempt = "touch " + (locked / "attempt").string();
  if (run_command(attempt).exit_code != 0) return "";
  fs::remove(locked / "attempt");
  EXPECT_NE(run_command(without_override + attempt).exit_code, 0) << "nothing keeps this user out of a locked folder";
  return without_override;
}

TEST(BadInput, AFolderWithoutWritePermissionIs77ForEveryCommandThatWrites) {
  const Writers writers;
  const fs::path locked = writers.path("locked");
  fs::create_directory(locked);
  fs::permissions(locked, fs::perms::owner_read | fs::perms::owner_exec);
  const std::string prefix = bound_by_permissions(locked);
  const std::string program = program_path().string() + " ";
  for (const std::string& command : writers.commands(locked)) {
    SCOPED_TRACE(command);
    expect_outcome(run_command(prefix + program + command), 77, {locked.string()});
    if (command.starts_with("train"))
      expect_outcome(run_command(prefix + "mpirun -np 2 " + program + command), 77, {locked.string()});
  }
  EXPECT_TRUE(fs::is_empty(locked));
}

TEST(BadInput, AFinishedRunIsNotOverwritten) {
  const TemporaryFolder folder;
  const fs::path file = write_run_file(folder.path(), "run", {{"schedule.max_steps", "1"}});
  expect_outcome(train(file), 0, {});
  const std::string before = read_text(folder / "runs/run/metrics.jsonl");
  expect_outcome(train(file), 64, {"--resume auto"});
  EXPECT_EQ(read_text(folder / "runs/run/metrics.jsonl"), before);
}

}  // namespace
}  // namespace triphase::test
