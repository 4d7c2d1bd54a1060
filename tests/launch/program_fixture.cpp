// SPDX-License-Identifier: Apache-2.0
#include "tests/launch/program_fixture.hpp"

#include <algorithm>
#include <fstream>
#include <memory>
#include <stdexcept>

namespace triphase::test {
namespace {

struct CohortOnDisk {
  TemporaryFolder folder;
  TinyCohort cohort;
  CohortOnDisk() {
    cohort.folder = folder.path();
    const auto need = [](const CommandResult& result) {
      if (result.exit_code != 0) throw std::runtime_error("cannot make the tiny cohort: " + result.output);
    };
    need(triphase("phantom --quiet --size tiny --seed 5 --threads 2 --out " + (folder / "cohort").string()));
    need(triphase("cache build --quiet --preset phantom --set 'preprocess.volume_shape=[28,20,16]' --set "
                  "'preprocess.spacing_mm=[11.2,11.2,12.0]' --manifest " +
                      cohort.manifest().string() + " --out " + cohort.cache().string(),
                  2));
  }
};

}  // namespace

const TinyCohort& tiny_cohort() {
  static const CohortOnDisk made;
  return made.cohort;
}

CommandResult triphase(const std::string& arguments, int num_ranks) {
  const std::string program = program_path().string();
  const std::string launcher = num_ranks == 1 ? "" : "mpirun -np " + std::to_string(num_ranks) + " ";
  return run_command(launcher + program + " " + arguments);
}

std::filesystem::path write_run_file(const std::filesystem::path& folder, const std::string& name,
                                     const std::map<std::string, std::string>& changes) {
  const TinyCohort& cohort = tiny_cohort();
  const auto quoted = [](const std::filesystem::path& path) { return "\"" + path.string() + "\""; };
  std::map<std::string, std::string> values{
      {"run.name", "\"" + name + "\""},
      {"run.output_dir", quoted(folder / "runs")},
      {"run.seed", "3"},
      {"run.log_every_steps", "1"},
      {"data.cache", quoted(cohort.cache())},
      {"data.sites", "[\"target\"]"},
      {"model.preset", "\"merlin_tiny\""},
      {"model.weights", "\"random\""},
      {"model.tokenizer", quoted(cohort.folder / "cohort" / "tokenizer")},
      {"model.max_text_tokens", "128"},
      {"adapt.method", "\"full\""},
      {"batch.global_pairs", "6"},
      {"optimizer.lr", "1e-3"},
      {"schedule.kind", "\"constant\""},
      {"schedule.max_steps", "6"},
      {"evaluate.prompts", quoted(cohort.folder / "cohort" / "prompts.toml")},
      {"evaluate.bootstrap_samples", "50"},
  };
  for (const auto& [key, value] : changes) {
    if (value.empty())
      values.erase(key);
    else
      values[key] = value;
  }
  const std::filesystem::path path = folder / (name + ".toml");
  std::string text;
  for (const auto& [key, value] : values) text += key + " = " + value + "\n";
  write_text(path, text);
  return path;
}

std::vector<Json> read_metrics(const std::filesystem::path& run_dir) {
  std::vector<Json> lines;
  std::ifstream file(run_dir / "metrics.jsonl");
  for (std::string line; std::getline(file, line);) lines.push_back(Json::parse(line));
  return lines;
}

std::filesystem::path last_checkpoint(const std::filesystem::path& run_dir) {
  std::vector<std::filesystem::path> steps;
  for (const auto& entry : std::filesystem::directory_iterator(run_dir / "checkpoints"))
    if (entry.path().filename().string().starts_with("step_") && std::filesystem::exists(entry.path() / "COMPLETE"))
      steps.push_back(entry.path());
  if (steps.empty()) throw std::runtime_error("no checkpoint in " + run_dir.string());
  return *std::max_element(steps.begin(), steps.end());
}

void expect_outcome(const CommandResult& result, int exit_code, std::initializer_list<std::string> words) {
  EXPECT_EQ(result.exit_code, exit_code) << result.output;
  for (const std::string& word : words)
    EXPECT_NE(result.output.find(word), std::string::npos) << "'" << word << "' is missing in: " << result.output;
}

}  // namespace triphase::test
