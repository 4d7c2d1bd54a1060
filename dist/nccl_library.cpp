// SPDX-License-Identifier: Apache-2.0
#include "dist/nccl_library.hpp"

#include "base/error.hpp"
#include "dist/dynamic_library.hpp"

namespace triphase::dist {

static_assert(sizeof(NcclLibrary::UniqueId) == 128);
static_assert(offsetof(NcclLibrary::Config, blocking) == 16 &&
                  offsetof(NcclLibrary::Config, net_name) == 32 &&
                  offsetof(NcclLibrary::Config, split_share) == 40,
              "the layout of ncclConfig_t");

std::optional<NcclLibrary> load_nccl_library(const std::vector<std::string>& files) {
  const auto library = DynamicLibrary::open_first(files);
  if (!library) return std::nullopt;
  NcclLibrary nccl;
  nccl.file = library->file();
  library->find("ncclGetVersion", nccl.get_version);
  TRIPHASE_CHECK(CommError, nccl.get_version(&nccl.version) == NcclLibrary::kSuccess, "'",
                 nccl.file, "' does not tell its version");
  check_version(nccl);  // an older one may lack what follows
  library->find("ncclGetErrorString", nccl.get_error_string);
  library->find("ncclGetLastError", nccl.get_last_error);
  library->find("ncclGetUniqueId", nccl.get_unique_id);
  library->find("ncclCommInitRankConfig", nccl.comm_init_rank_config);
  library->find("ncclCommGetAsyncError", nccl.comm_get_async_error);
  library->find("ncclCommFinalize", nccl.comm_finalize);
  library->find("ncclCommDestroy", nccl.comm_destroy);
  library->find("ncclCommAbort", nccl.comm_abort);
  library->find("ncclAllReduce", nccl.all_reduce);
  library->find("ncclAllGather", nccl.all_gather);
  library->find("ncclReduceScatter", nccl.reduce_scatter);
  library->find("ncclBroadcast", nccl.broadcast);
  library->find("ncclSend", nccl.send);
  library->find("ncclRecv", nccl.receive);
  library->find("ncclGroupStart", nccl.group_start);
  library->find("ncclGroupEnd", nccl.group_end);
  return nccl;
}

std::optional<NcclLibrary> load_nccl_library() {
  std::vector<std::string> files;
  if (const std::string folder = libtorch_folder(); !folder.empty())
    files = {folder + "libnccl.so.2", folder + "../../nvidia/nccl/lib/libnccl.so.2"};
  files.emplace_back("libnccl.so.2");
  return load_nccl_library(files);
}

void check_version(const NcclLibrary& nccl) {
  const int declared = NcclLibrary::kDeclaredVersion;
  TRIPHASE_CHECK(CommError,
                 nccl.version / 10000 == declared / 10000 && nccl.version >= declared, "'",
                 nccl.file, "' is NCCL ", nccl_version_text(nccl.version),
                 ", but Triphase was built for ", nccl_version_text(declared), " and later ",
                 declared / 10000, ".x. Use the NCCL that LibTorch carries.");
}

std::string nccl_version_text(int version) {
  if (version < 10000)  // as before 2.9
    return str(version / 1000, ".", version % 1000 / 100, ".", version % 100);
  return str(version / 10000, ".", version % 10000 / 100, ".", version % 100);
}

}  // namespace triphase::dist
