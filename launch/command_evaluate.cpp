// SPDX-License-Identifier: Apache-2.0
#include "base/progress.hpp"
#include "launch/command.hpp"
#include "launch/evaluation_summary.hpp"
#include "launch/run_options.hpp"
#include "trainer/evaluate.hpp"
#include "trainer/report.hpp"

#include <cstdio>
#include <filesystem>

namespace triphase::launch {
namespace {

Action prepare_evaluate(const Arguments& arguments, dist::Runtime& runtime) {
  const trainer::RunConfig config = config_from(arguments, runtime);
  const std::string checkpoint = arguments.text("checkpoint");
  const std::string split = arguments.text("split", config.data.test_split);
  const std::string out = arguments.text("out");
  const bool progress_shown = shows_progress(arguments, runtime);
  const bool quiet = arguments.has("quiet");
  return [=, &runtime] {
    // A result that goes elsewhere leaves no run folder behind.
    Logger log = out.empty() ? run_logger(config, quiet, runtime) : console_logger(quiet, runtime);
    const Json evaluation =
        trainer::evaluate_run(config, checkpoint, split, out, runtime, log, progress_shown);
    if (runtime.rank() == 0) std::printf("%s", evaluation_summary(evaluation).c_str());
    return ExitCode::kDone;
  };
}

Action prepare_embed(const Arguments& arguments, dist::Runtime& runtime) {
  const trainer::RunConfig config = config_from(arguments, runtime);
  const std::string checkpoint = arguments.text("checkpoint");
  const std::string split = arguments.text("split", "all");
  const std::string out = arguments.text("out");
  const bool progress_shown = shows_progress(arguments, runtime);
  const bool quiet = arguments.has("quiet");
  return [=, &runtime] {
    Logger log = console_logger(quiet, runtime);
    trainer::embed_run(config, checkpoint, split, out, runtime, log, progress_shown);
    if (runtime.rank() == 0) std::printf("%s\n", out.c_str());
    return ExitCode::kDone;
  };
}

/// Where the page goes: a page over one run belongs into its folder.
std::string report_file(const Arguments& arguments) {
  const std::vector<std::string>& runs = arguments.positionals;
  TRIPHASE_CHECK(ConfigError, arguments.has("out") || runs.size() == 1, "--out FILE is missing: a page over ",
                 runs.size(), " run folders belongs into none of them. Name the HTML file.");
  return arguments.text("out", (std::filesystem::path(runs.front()) / "report.html").string());
}

Action prepare_report(const Arguments& arguments, dist::Runtime& runtime) {
  const std::vector<std::string> runs = arguments.positionals;
  const std::string out = report_file(arguments);
  const bool first = runtime.rank() == 0;
  return [=] {
    if (!first) return ExitCode::kDone;
    std::printf("%s\n", trainer::write_report(runs, out).c_str());
    std::printf("%s\n", out.c_str());
    return ExitCode::kDone;
  };
}

const OptionSpec kConfig{"config", "FILE", "run file; several allowed, the later wins", true, true};
const OptionSpec kSet{"set", "K=V", "one value, e.g. data.sites=[\"target\"]", false, true};
const OptionSpec kCheckpoint{"checkpoint", "DIR",
                             "checkpoint or run folder, peft folder on model.weights, or a weights file "
                             "(default: model.weights)"};

}  // namespace

Command evaluate_command() {
  return {.spec = {.name = "evaluate",
                   .summary = "prompt scores, linear probe, retrieval; AUC and F1 with intervals by patient",
                   .example = "  triphase evaluate --config configs/phantom_full.toml --config configs/phantom_peft.toml "
                              "--checkpoint quickstart/runs/peft --split test",
                   .options = {kConfig,
                               kCheckpoint,
                               {"split", "NAME", "which split to score (default: data.test_split)"},
                               {"out", "FILE", "JSON file (default: <run folder>/evaluation/<split>.json)"},
                               kSet}},
          .prepare = prepare_evaluate};
}

Command embed_command() {
  return {.spec = {.name = "embed",
                   .summary = "writes image and text embeddings to an HDF5 file",
                   .example = "  triphase embed --config configs/phantom_full.toml --checkpoint quickstart/runs/full "
                              "--out embeddings.h5",
                   .options = {kConfig,
                               kCheckpoint,
                               {"split", "NAME", "which split (default: all)"},
                               {"out", "FILE", "the HDF5 file", true},
                               kSet}},
          .prepare = prepare_embed};
}

Command report_command() {
  return {.spec = {.name = "report",
                   .summary = "one self-contained HTML page over run folders, its figures as JSON and CSV, a table here",
                   .example = "  triphase report quickstart/runs/before quickstart/runs/full quickstart/runs/peft "
                              "--out report.html",
                   .options = {{"out", "FILE", "the HTML file (default, with one run folder: RUN_DIR/report.html)"}},
                   .positional_name = "RUN_DIR...",
                   .min_positionals = 1,
                   .max_positionals = 1000},
          .prepare = prepare_report};
}

}  // namespace triphase::launch
