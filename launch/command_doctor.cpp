// SPDX-License-Identifier: Apache-2.0
#include "base/parallel.hpp"
#include "data/dicom/dicom.hpp"
#include "data/library_versions.hpp"
#include "dist/gpu_libraries.hpp"
#include "launch/command.hpp"
#include "trainer/torch_setup.hpp"

#include <ATen/Context.h>
#include <sys/resource.h>
#include <torch/headeronly/version.h>

#include <cstdio>
#include <filesystem>
#include <fstream>

namespace triphase::launch {
namespace {

void row(const char* name, const std::string& value) { std::printf("%-22s %s\n", name, value.c_str()); }

std::string limit_text(int resource) {
  rlimit limit{};
  getrlimit(resource, &limit);
  return limit.rlim_cur == RLIM_INFINITY ? "unlimited" : std::to_string(limit.rlim_cur);
}

/// A field of /proc/meminfo in GiB.
std::string memory_gib(const std::string& field) {
  std::ifstream file("/proc/meminfo");
  std::string name;
  double kib = 0;
  std::string unit;
  while (file >> name >> kib) {
    std::getline(file, unit);
    if (name == field + ":") return str(static_cast<int>(kib / 1048576 * 10) / 10.0, " GiB");
  }
  return "unknown";
}

std::string free_space(const std::filesystem::path& path) {
  std::error_code error;
  const auto space = std::filesystem::space(path, error);
  return error ? "unknown" : str(space.available >> 30, " GiB");
}

ExitCode examine(dist::Runtime& runtime, const trainer::TorchSetup& setup, const std::vector<std::string>& hosts) {
  const int threads = setup.threads;
  row("triphase", TRIPHASE_VERSION);
  row("LibTorch", TORCH_VERSION);
  row("MPI", dist::Runtime::library_version());
  row("HDF5", data::hdf5_version());
  row("DICOM", data::dicom_support());
  row("cores for this rank", std::to_string(available_cores()));
  row("memory", memory_gib("MemTotal") + ", available " + memory_gib("MemAvailable"));
  row("free disk here", free_space("."));
  row("open files limit", limit_text(RLIMIT_NOFILE));
  row("locked memory limit", limit_text(RLIMIT_MEMLOCK));
  row("GPU", at::hasCUDA() ? "seen by LibTorch: " + dist::gpu_name(runtime.gpu()) : "none seen by LibTorch");
  row("CUDA runtime", dist::describe_cuda_here());
  row("NCCL library", dist::describe_nccl_here());
  row("ranks", str(runtime.num_ranks(), " (", runtime.local_num_ranks(), " on this host)"));
  row("a run here would use",
      str(setup.device.is_cuda() ? "a GPU for each rank, " : "the CPU, ", runtime.num_ranks(), runtime.num_ranks() == 1 ? " rank" : " ranks", " with ", threads,
          threads == 1 ? " thread" : " threads", " each, backend ", runtime.world().backend()));
  if (!setup.why_cpu.empty()) row("  not the GPUs, for", setup.why_cpu);
  for (std::size_t rank = 0; rank < hosts.size(); ++rank) row(str("  rank ", rank).c_str(), hosts[rank]);
  return ExitCode::kDone;
}

Action prepare(const Arguments& /*arguments*/, dist::Runtime& runtime) {
  return [&runtime] {
    const trainer::TorchSetup setup = trainer::set_up_torch({}, runtime);
    std::vector<std::string> hosts;
    for (int rank = 0; rank < runtime.num_ranks(); ++rank)
      hosts.push_back(dist::broadcast_text(
          runtime.world(), str(runtime.host(), ", local rank ", runtime.local_rank()), rank));
    return runtime.rank() == 0 ? examine(runtime, setup, hosts) : ExitCode::kDone;
  };
}

}  // namespace

Command doctor_command() {
  return {.spec = {.name = "doctor",
                   .summary = "versions, cores, memory, MPI, GPUs, NCCL, limits; what a run here would use",
                   .example = "  triphase doctor\n  mpirun -np 4 triphase doctor",
                   .options = {}},
          .prepare = prepare};
}

}  // namespace triphase::launch
