// SPDX-License-Identifier: Apache-2.0
#include "base/json.hpp"
#include "dist/benchmark.hpp"
#include "launch/command.hpp"
#include "trainer/benchmark.hpp"
#include "trainer/torch_setup.hpp"

#include <ATen/Parallel.h>

#include <algorithm>
#include <array>
#include <cinttypes>
#include <cstdio>
#include <initializer_list>

namespace triphase::launch {
namespace {

const OptionSpec kIterations{"iterations", "N", "timed repeats, the median counts (default 5)"};
const OptionSpec kDevice{"device", "NAME", "auto (default: a GPU where there is one), cpu or cuda"};
const OptionSpec kOut{"out", "FILE", "also write the figures as JSON"};

std::int64_t iterations(const Arguments& arguments) { return arguments.integer("iterations", 5, 1, 100000); }

/// One of a few words. @throws ConfigError naming them
std::string choice(const Arguments& arguments, const std::string& option, const std::string& fallback,
                   std::initializer_list<std::string_view> words) {
  const std::string value = arguments.text(option, fallback);
  std::string expected;
  for (const std::string_view word : words) {
    if (value == word) return value;
    expected += (expected.empty() ? "" : ", ") + std::string(word);
  }
  throw ConfigError(str("--", option, " is '", value, "', expected one of ", expected, "."));
}

std::string chosen_device(const Arguments& arguments) {
  return choice(arguments, "device", "auto", {"auto", "cpu", "cuda"});
}

void write_figures(const std::string& out, const Json& figures, const dist::Runtime& runtime) {
  if (!out.empty() && runtime.rank() == 0) write_json(out, figures);
}

/// nccl-tests' columns.
Action prepare_collectives(const Arguments& arguments, dist::Runtime& runtime) {
  constexpr std::int64_t kMost = std::int64_t{1} << 34;
  const std::int64_t smallest = arguments.integer("min-bytes", 8, 8, kMost);
  const std::int64_t largest = arguments.integer("max-bytes", std::int64_t{16} << 20, 8, kMost);
  const std::int64_t factor = arguments.integer("factor", 8, 2, 1 << 10);
  const double given_limit = arguments.number("limit", 0, 0, 1e6) * 1e9;
  const auto count = static_cast<int>(iterations(arguments));
  const std::string device_name = chosen_device(arguments);
  const std::string out = arguments.text("out");
  return [=, &runtime] {
    std::vector<std::int64_t> sizes;
    for (std::int64_t bytes = smallest; bytes <= largest; bytes *= factor) sizes.push_back(bytes);
    const at::Device device = trainer::set_up_torch({.device = device_name}, runtime).device;
    const double limit = given_limit > 0 ? given_limit : dist::copy_bandwidth(runtime.world(), count);
    const auto timings = dist::bench_collectives(runtime.world(), sizes, count, device);
    if (runtime.rank() != 0) return ExitCode::kDone;
    Json figures{{"backend", runtime.world().backend()},
                 {"num_ranks", runtime.num_ranks()},
                 {"limit_bytes_per_second", limit},
                 {"timings", Json::array()}};
    std::printf("limit %.2f GB/s a rank (%s)\n%-16s %12s %12s %14s %14s %9s\n", limit / 1e9,
                given_limit > 0 ? "given" : "copying in memory, all ranks at a time", "operation", "size (B)",
                "time (us)", "algbw (GB/s)", "busbw (GB/s)", "of limit");
    for (const dist::CollectiveTiming& t : timings) {
      std::printf("%-16s %12lld %12.1f %14.3f %14.3f %8.1f%%\n", t.operation.c_str(), static_cast<long long>(t.bytes),
                  t.seconds * 1e6, t.algorithm_bandwidth / 1e9, t.bus_bandwidth / 1e9, 100 * t.bus_bandwidth / limit);
      figures["timings"].push_back({{"operation", t.operation},
                                    {"bytes", t.bytes},
                                    {"seconds", t.seconds},
                                    {"algbw_bytes_per_second", t.algorithm_bandwidth},
                                    {"busbw_bytes_per_second", t.bus_bandwidth}});
    }
    write_figures(out, figures, runtime);
    return ExitCode::kDone;
  };
}

Action prepare_loss(const Arguments& arguments, dist::Runtime& runtime) {
  dist::LossBenchmarkOptions options;
  options.pairs_per_rank = arguments.integer("pairs", options.pairs_per_rank, 1, 1 << 20);
  options.width = arguments.integer("width", options.width, 1, 1 << 16);
  options.tile = arguments.integer("tile", options.tile, 0, 1 << 16);
  options.iterations = static_cast<int>(iterations(arguments));
  options.with_dense = !arguments.has("no-dense");
  const std::string device_name = chosen_device(arguments);
  const std::string out = arguments.text("out");
  return [=, &runtime] {
    dist::LossBenchmarkOptions here = options;
    here.device = trainer::set_up_torch({.device = device_name}, runtime).device;
    const dist::LossTiming t = dist::bench_loss(runtime.world(), here);
    if (runtime.rank() != 0) return ExitCode::kDone;
    std::printf("%lld pairs of width %lld on %d ranks, %d threads each\n%-30s %10s %10s %14s\n",
                static_cast<long long>(t.global_pairs), static_cast<long long>(options.width), runtime.num_ranks(),
                at::get_num_threads(), "", "seconds", "MiB", "loss");
    const double mib = 1024.0 * 1024.0;
    std::printf("%-30s %10.4f %10.1f %14.9g\n", "tiled", t.tiled_seconds, t.tiled_bytes / mib, t.tiled_loss);
    if (options.with_dense)
      std::printf("%-30s %10.4f %10.1f %14.9g\n%-30s %10.3f %10.4f\n", "dense (two b x B matrices)", t.dense_seconds,
                  t.dense_bytes / mib, t.dense_loss, "tiled / dense", t.tiled_seconds / t.dense_seconds,
                  t.tiled_bytes / t.dense_bytes);
    write_figures(out,
                  Json{{"global_pairs", t.global_pairs}, {"width", options.width}, {"tile", options.tile},
                       {"num_ranks", runtime.num_ranks()}, {"threads", at::get_num_threads()},
                       {"tiled_seconds", t.tiled_seconds}, {"dense_seconds", t.dense_seconds},
                       {"tiled_bytes", t.tiled_bytes}, {"dense_bytes", t.dense_bytes},
                       {"tiled_loss", t.tiled_loss}, {"dense_loss", t.dense_loss}},
                  runtime);
    return ExitCode::kDone;
  };
}

std::array<std::int64_t, 3> volume_shape(const std::string& text) {
  std::array<std::int64_t, 3> shape{};
  char end = 0;
  const int found = std::sscanf(text.c_str(), "%" SCNd64 ",%" SCNd64 ",%" SCNd64 "%c", &shape[0], &shape[1], &shape[2], &end);
  const bool is_sane = std::all_of(shape.begin(), shape.end(), [](std::int64_t n) { return n >= 1 && n <= 4096; });
  TRIPHASE_CHECK(ConfigError, found == 3 && is_sane, "--volume is '", text, "', expected three sizes like 224,224,160.");
  return shape;
}

/// The operators that take nine tenths of the time.
void print_operators(const Json& operators) {
  double total = 0;
  for (const Json& one : operators) total += one.at("seconds").get<double>();
  std::printf("%-40s %8s %12s %7s\n", "operator (one step, its own time)", "calls", "seconds", "share");
  double so_far = 0;
  for (const Json& one : operators) {
    const double seconds = one.at("seconds").get<double>();
    std::printf("%-40s %8lld %12.4f %6.1f %%\n", one.at("name").get<std::string>().c_str(),
                one.at("calls").get<long long>(), seconds, 100 * seconds / total);
    so_far += seconds;
    if (so_far > 0.9 * total) return;
  }
}

Action prepare_step(const Arguments& arguments, dist::Runtime& runtime) {
  trainer::StepBenchmarkOptions options;
  options.preset = arguments.text("preset", options.preset);
  options.part = choice(arguments, "part", options.part, {"both", "image", "text"});
  options.method = choice(arguments, "method", options.method, {"full", "peft"});
  options.rank = arguments.integer("rank", options.rank, 1, 1 << 12);
  options.batch_norm = choice(arguments, "batch-norm", options.batch_norm, {"frozen", "local", "sync"});
  options.pairs = arguments.integer("pairs", options.pairs, 1, 1 << 16);
  options.micro_pairs = arguments.integer("micro-pairs", options.micro_pairs, 0, 1 << 16);
  TRIPHASE_CHECK(ConfigError, options.micro_pairs == 0 || options.part == "both",
                 "--micro-pairs belongs to both towers; one alone has no loss that needs all pairs at a time. "
                 "Take --part out.");
  TRIPHASE_CHECK(ConfigError, options.micro_pairs == 0 || options.batch_norm != "sync",
                 "--micro-pairs divides the batch that --batch-norm sync normalises over. Take one of them out.");
  options.volume_shape = volume_shape(arguments.text("volume", options.preset == "merlin" ? "224,224,160" : "56,40,32"));
  options.report_tokens = arguments.integer("tokens", options.report_tokens, 1, 4096);
  options.precision.device = chosen_device(arguments);
  options.precision.tf32 = arguments.has("tf32");
  options.precision.deterministic = !arguments.has("any-order");
  options.precision.compute = choice(arguments, "compute", options.precision.compute, {"float32", "bfloat16"});
  options.precision.memory_format =
      choice(arguments, "memory-format", options.precision.memory_format, {"contiguous", "channels_last_3d"});
  options.precision.recompute =
      choice(arguments, "recompute", options.precision.recompute, {"none", "blocks", "stages"});
  options.distributed.overlap =
      choice(arguments, "overlap", options.distributed.overlap, {"auto", "on", "off"});
  options.distributed.wire_dtype =
      choice(arguments, "wire-dtype", options.distributed.wire_dtype, {"gradient", "bfloat16"});
  options.save_to = arguments.text("save");
  options.iterations = iterations(arguments);
  options.with_operators = arguments.has("operators");
  const std::string out = arguments.text("out");
  return [=, &runtime] {
    trainer::StepBenchmarkOptions here = options;
    here.device = trainer::set_up_torch(options.precision, runtime).device;
    const Json figures = trainer::bench_step(here, runtime.world());
    if (runtime.rank() != 0) return ExitCode::kDone;
    for (const auto& [phase, seconds] : figures.at("seconds").items())
      std::printf("%-12s %10.4f s\n", phase.c_str(), seconds.get<double>());
    std::printf("%.2f pairs/s, %lld bytes reduced a step, %.0f MiB resident at most\n",
                figures.at("pairs_per_second").get<double>(), figures.at("bytes_reduced").get<long long>(),
                figures.at("peak_rss_mib").get<double>());
    if (figures.contains("peak_gpu_mib"))
      std::printf("%s, %.0f MiB of its memory at most\n", figures.at("device").get<std::string>().c_str(),
                  figures.at("peak_gpu_mib").get<double>());
    if (figures.contains("operators")) print_operators(figures.at("operators"));
    write_figures(out, figures, runtime);
    return ExitCode::kDone;
  };
}

}  // namespace

Command bench_collectives_command() {
  return {.spec = {.name = "bench collectives",
                   .summary = "times the collectives, in nccl-tests' columns",
                   .example = "  mpirun -np 2 triphase bench collectives --max-bytes 16777216",
                   .options = {{"min-bytes", "N", "smallest tensor (default 8)"},
                               {"max-bytes", "N", "largest tensor (default 16 MiB)"},
                               {"factor", "N", "from one size to the next (default 8)"},
                               {"limit", "GB/s", "what a rank's link carries at most (default: measured, copying in memory)"},
                               kDevice,
                               kIterations,
                               kOut}},
          .prepare = prepare_collectives};
}

Command bench_loss_command() {
  return {.spec = {.name = "bench loss",
                   .summary = "times the tiled global loss against the dense one",
                   .example = "  mpirun -np 2 triphase bench loss --pairs 1024 --width 512",
                   .options = {{"pairs", "N", "pairs per rank (default 1024)"},
                               {"width", "N", "embedding width (default 512)"},
                               {"tile", "N", "rows and columns of logits held at once (default 1024, on a GPU 4096)"},
                               {"no-dense", "", "leave the dense loss out: it holds four b x B matrices"},
                               kDevice,
                               kIterations,
                               kOut}},
          .prepare = prepare_loss};
}

Command bench_step_command() {
  return {.spec = {.name = "bench step",
                   .summary = "times the phases of a training step on synthetic pairs",
                   .example = "  mpirun -np 2 triphase bench step --preset merlin_small --method peft --pairs 8",
                   .options = {{"preset", "NAME", "merlin_small (default), merlin_tiny or merlin"},
                               {"method", "NAME", "full (default) or peft"},
                               {"part", "NAME", "both (default), image or text: one tower alone"},
                               {"rank", "R", "of the adapters (default 2)"},
                               {"batch-norm", "NAME", "frozen (default), local or sync"},
                               {"pairs", "N", "pairs per rank (default 8)"},
                               {"micro-pairs", "N", "of a micro batch: gradient caching (default 0: all pairs at a time)"},
                               {"volume", "X,Y,Z", "voxels (default: the preset's own)"},
                               {"tokens", "N", "tokens of a report (default 64)"},
                               kDevice,
                               {"compute", "NAME", "float32 (default) or bfloat16"},
                               {"tf32", "", "round float32 products on a GPU to TensorFloat-32"},
                               {"any-order", "", "let kernels add in any order (precision.deterministic = false)"},
                               {"memory-format", "NAME", "contiguous (default) or channels_last_3d"},
                               {"recompute", "NAME", "none (default), blocks or stages"},
                               {"overlap", "NAME", "auto (default), on or off"},
                               {"wire-dtype", "NAME", "gradient (default) or bfloat16"},
                               {"save", "DIR", "first leave weights, batch and gradients of each rank there"},
                               {"operators", "", "also what each operator of a step takes"},
                               kIterations,
                               kOut}},
          .prepare = prepare_step};
}

}  // namespace triphase::launch
