// SPDX-License-Identifier: Apache-2.0
#include "dist/runtime.hpp"

#include "dist/collective_place.hpp"
#include "dist/host_group.hpp"
#include "dist/launcher.hpp"
#include "dist/mpi_try.hpp"
#include "dist/node_group.hpp"
#include "dist/process_group_mpi.hpp"
#include "dist/process_group_nccl.hpp"

#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>

namespace triphase::dist {
namespace {

/// Longer than the one who tells needs to look at the missing ranks and to end the job.
constexpr std::chrono::seconds kSilence{3};

}  // namespace

struct Runtime::State {
  SharedRecord record;
  std::shared_ptr<MpiWatch> watch = std::make_shared<MpiWatch>();  // shared with the groups
  std::unique_ptr<ProcessGroup> world;
  std::string host;
  int local_rank = 0;
  int gpu = 0;
  int local_num_ranks = 1;
  double timeout_seconds = 0;
  bool uses_mpi = false;
  bool owns_mpi = false;  ///< started it, so finalizes it
  bool is_part = false;   ///< of another Runtime
  int uncaught_exceptions = std::uncaught_exceptions();
};

namespace {

/// Starts MPI when it is not running. @return whether it did
bool start_mpi() {
  int is_running = 0;
  MPI_TRY(MPI_Initialized(&is_running));
  int provided = MPI_THREAD_SINGLE;
  if (is_running == 0)
    MPI_TRY(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_MULTIPLE, &provided));
  else
    MPI_TRY(MPI_Query_thread(&provided));
  MPI_TRY(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN));
  TRIPHASE_CHECK(CommError, provided >= MPI_THREAD_SERIALIZED, "MPI (", Runtime::library_version(),
                 ") offers thread level ", provided, ", at least SERIALIZED (",
                 MPI_THREAD_SERIALIZED, ") is needed. Use an MPI built with thread support.");
  return is_running == 0;
}

/// The ranks of this host. Collective over all ranks.
std::unique_ptr<ProcessGroup> make_neighbour_group(const std::shared_ptr<MpiWatch>& watch,
                                                   const std::shared_ptr<RankRecord>& record) {
  MPI_Comm comm = MPI_COMM_NULL;
  MPI_TRY(MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &comm));
  auto group = make_mpi_group(comm, watch, record);
  MPI_TRY(MPI_Comm_free(&comm));
  return group;
}

void check_backend(const std::string& backend, const Launcher& launcher) {
  TRIPHASE_CHECK(
      ConfigError,
      backend == "auto" || backend == "self" || backend == "mpi" || backend == "nccl",
      "distributed.backend is '", backend, "', expected 'auto', 'self', 'mpi' or 'nccl'");
  TRIPHASE_CHECK(
      ConfigError, backend != "self" || launcher.num_ranks == 1,
      "distributed.backend is 'self', but ", launcher.name, " started ", launcher.num_ranks,
      " tasks: each would do the whole work and write the same files. Start one, or use 'auto'.");
}

}  // namespace

Runtime::Runtime(const RuntimeOptions& options) : state_(std::make_unique<State>()) {
  const Launcher launcher = find_launcher(process_environment);
  check_backend(options.backend, launcher);
  state_->timeout_seconds = options.timeout_seconds;
  state_->host = host_name();
  state_->record = options.record.record != nullptr ? options.record : make_shared_record();
  if (options.backend == "self" || (options.backend == "auto" && launcher.num_ranks == 1)) {
    state_->world = make_self_group();
    return;
  }
  state_->owns_mpi = start_mpi();
  state_->uses_mpi = true;
  state_->watch->timeout_seconds = options.timeout_seconds;
  state_->world = make_mpi_group(MPI_COMM_WORLD, state_->watch, state_->record.record);
  record().set_rank(rank(), num_ranks());
  state_->watch->peers = RankPeers(*state_->world, state_->record);
  TRIPHASE_CHECK(ConfigError, launcher.num_ranks == 1 || state_->world->num_ranks() > 1,
                 launcher.name, " started several tasks, but MPI (", library_version(),
                 ") sees one: the launcher and MPI do not fit together. With Slurm use srun "
                 "--mpi=pmix, or mpirun.");
  const auto neighbours = make_neighbour_group(state_->watch, state_->record.record);
  state_->local_rank = neighbours->rank();
  state_->local_num_ranks = neighbours->num_ranks();
  record().set_phase(RankRecord::Phase::kRunning);
  if (options.backend == "nccl") use_nccl();
}

Runtime::Runtime(Runtime& whole, int color) : state_(std::make_unique<State>()) {
  const State& of = *whole.state_;
  state_->record = of.record;
  state_->watch = of.watch;
  state_->host = of.host;
  state_->local_rank = of.local_rank;
  state_->local_num_ranks = of.local_num_ranks;  // who shares the cores
  state_->gpu = of.gpu;
  state_->timeout_seconds = of.timeout_seconds;
  state_->uses_mpi = of.uses_mpi;
  state_->is_part = true;
  state_->world = whole.world().split(color, whole.rank());
}

// Note [How a job ends]
// Finalize waits for every rank. It is called when all ranks come here: after success, and after an
// AgreedError, which run_main catches while the Runtime lives. A rank that alone has an error calls
// end_job(). Should an exception pass through here after all, or the group be broken, MPI is left
// as it is: the process then ends without Finalize, which the launcher takes as a failure of the
// job.
Runtime::~Runtime() {
  const bool is_orderly =
      !is_broken(*state_->world) && std::uncaught_exceptions() == state_->uncaught_exceptions;
  state_->world.reset();
  if (state_->owns_mpi && is_orderly) MPI_Finalize();
  if (is_orderly && !state_->is_part) record().set_phase(RankRecord::Phase::kOutside);
}

ProcessGroup& Runtime::world() { return *state_->world; }
int Runtime::rank() const { return state_->world->rank(); }
int Runtime::num_ranks() const { return state_->world->num_ranks(); }
int Runtime::local_rank() const { return state_->local_rank; }
int Runtime::local_num_ranks() const { return state_->local_num_ranks; }
int Runtime::gpu() const { return state_->gpu; }
const std::string& Runtime::host() const { return state_->host; }

std::string Runtime::library_version() {
  std::array<char, MPI_MAX_LIBRARY_VERSION_STRING> text{};
  int length = 0;
  MPI_TRY(MPI_Get_library_version(text.data(), &length));  // allowed before MPI_Init
  const std::string full(text.data(), static_cast<std::size_t>(length));
  return full.substr(0, full.find_first_of(",\n"));
}

void Runtime::set_timeout(double seconds) {
  dist::set_timeout(*state_->world, seconds);
  state_->timeout_seconds = seconds;
}
double Runtime::timeout_seconds() const { return state_->timeout_seconds; }

void Runtime::use_nccl() {
  if (world().backend() == "nccl") return;
  const CollectivePlace place("start of NCCL");
  NcclSetup setup;
  agree_on(world(), [&] {
    setup.libraries = require_gpu_libraries(load_cuda_runtime(), load_nccl_library());
  });
  if (num_ranks() == 1) return;
  agree_on(world(), [&] {
    TRIPHASE_CHECK(ConfigError, !state_->is_part,
                   "GPUs are given to the ranks of a whole job, and it computes on the CPU: these are a "
                   "part of its ranks. Start as many ranks as there are GPUs, or one group.");
    const auto neighbours = make_neighbour_group(state_->watch, state_->record.record);
    setup.gpu = choose_gpu(*neighbours, setup.libraries->cuda, process_environment);
  });
  state_->gpu = setup.gpu;
  setup.device = at::Device(at::kCUDA, static_cast<at::DeviceIndex>(setup.gpu));
  setup.timeout_seconds = std::make_shared<std::atomic<double>>(timeout_seconds());
  state_->world = make_nccl_group(std::move(state_->world), std::move(setup));
}

RankRecord& Runtime::record() { return *state_->record.record; }

void Runtime::end_job(const Error& error, const std::function<void()>& tell) {
  const ExitCode code = error.exit_code();
  record().set_phase(RankRecord::Phase::kEnding);
  if (code == ExitCode::kTimeout || code == ExitCode::kCommunication) {
    std::string of_others;
    if (state_->watch->is_spokesman)
      for (const int missing : state_->watch->missing())
        of_others += state_->watch->peers.record_text(missing);
    record().write_to_log(str(error.kind(), ": ", error.what()), of_others);
  }
  if (!state_->watch->is_spokesman) std::this_thread::sleep_for(kSilence);
  tell();
  std::fflush(nullptr);
  if (state_->uses_mpi) MPI_Abort(MPI_COMM_WORLD, static_cast<int>(code));
  std::_Exit(static_cast<int>(code));
}

}  // namespace triphase::dist
