// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <optional>
#include <string>
#include <vector>

namespace triphase::dist {

/// NCCL's functions, found when the program runs: it is built without NCCL's header. Declared as in
/// the public API of NCCL 2.18, which later 2.x keep; checked against the header of 2.28.9.
struct NcclLibrary {
  using Comm = void*;
  using Stream = void*;
  /// Sent from rank 0 to all to find each other.
  struct UniqueId {
    std::array<char, 128> bytes;
  };
  /// Newer libraries read `size` and `version` and take their defaults for what is not here.
  struct Config {
    std::size_t size = sizeof(Config);
    unsigned magic = 0xcafebeef;
    unsigned version = kDeclaredVersion;
    int blocking = kUndefined;
    int cga_cluster_size = kUndefined;
    int min_ctas = kUndefined;
    int max_ctas = kUndefined;
    const char* net_name = nullptr;
    int split_share = kUndefined;
  };
  static constexpr int kDeclaredVersion = 21800;  ///< 10000 * major + 100 * minor + patch
  static constexpr int kUndefined = -2147483647 - 1;

  // Results
  static constexpr int kSuccess = 0;
  static constexpr int kInProgress = 7;
  // Element types
  static constexpr int kUint8 = 1;
  static constexpr int kInt32 = 2;
  static constexpr int kInt64 = 4;
  static constexpr int kFloat32 = 7;
  static constexpr int kFloat64 = 8;
  // Operations
  static constexpr int kSum = 0;
  static constexpr int kMax = 2;
  static constexpr int kMin = 3;

  int (*get_version)(int* version) = nullptr;
  const char* (*get_error_string)(int result) = nullptr;
  const char* (*get_last_error)(Comm comm) = nullptr;
  int (*get_unique_id)(UniqueId* id) = nullptr;
  int (*comm_init_rank_config)(Comm* comm, int num_ranks, UniqueId id, int rank,
                               Config* config) = nullptr;
  int (*comm_get_async_error)(Comm comm, int* result) = nullptr;
  int (*comm_finalize)(Comm comm) = nullptr;
  int (*comm_destroy)(Comm comm) = nullptr;
  int (*comm_abort)(Comm comm) = nullptr;
  int (*all_reduce)(const void* in, void* out, std::size_t count, int type, int op, Comm comm,
                    Stream stream) = nullptr;
  int (*all_gather)(const void* in, void* out, std::size_t count_in, int type, Comm comm,
                    Stream stream) = nullptr;
  int (*reduce_scatter)(const void* in, void* out, std::size_t count_out, int type, int op,
                        Comm comm, Stream stream) = nullptr;
  int (*broadcast)(const void* in, void* out, std::size_t count, int type, int root, Comm comm,
                   Stream stream) = nullptr;
  int (*send)(const void* in, std::size_t count, int type, int to, Comm comm,
              Stream stream) = nullptr;
  int (*receive)(void* out, std::size_t count, int type, int from, Comm comm,
                 Stream stream) = nullptr;
  int (*group_start)() = nullptr;
  int (*group_end)() = nullptr;

  std::string file;  ///< where it was found
  int version = 0;   ///< its own, as get_version says it
};

/// Opens the library that LibTorch carries, or the system's.
/// @return nothing where there is none
/// @throws CommError for one that lacks a function or does not fit; see check_version(). Purely local.
[[nodiscard]] std::optional<NcclLibrary> load_nccl_library(const std::vector<std::string>& files);
[[nodiscard]] std::optional<NcclLibrary> load_nccl_library();

/// Compares the version this program was written for with that of the library.
/// @throws CommError for another major version and for one older than the declared. Purely local.
void check_version(const NcclLibrary& nccl);

/// Such as "2.28.9". Purely local.
[[nodiscard]] std::string nccl_version_text(int version);

}  // namespace triphase::dist
