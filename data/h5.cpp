// SPDX-License-Identifier: Apache-2.0
#include "data/h5.hpp"

#include <charconv>
#include <string_view>
#include <utility>

#include "base/error.hpp"
#include "base/file.hpp"

namespace triphase::data::h5 {
namespace {

constexpr hsize_t kAlignFromBytes = 64 << 10;
constexpr hsize_t kAlignment = 4096;

herr_t collect(unsigned, const H5E_error2_t* error, void* text) {
  auto& out = *static_cast<std::string*>(text);
  if (!out.empty()) out += "; ";
  if (error->desc != nullptr) out += error->desc;
  return 0;
}

/// The "errno = 28" that HDF5's file drivers put into their messages, or 0.
int errno_in(std::string_view text) {
  constexpr std::string_view kMark = "errno = ";
  const std::size_t found = text.find(kMark);
  if (found == std::string_view::npos) return 0;
  int value = 0;
  std::from_chars(text.data() + found + kMark.size(), text.data() + text.size(), value);
  return value;
}

}  // namespace

void throw_failure(const char* expression) {
  std::string reasons;
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_DOWNWARD, collect, &reasons);
  H5Eclear2(H5E_DEFAULT);
  if (const int reason = errno_in(reasons))
    throw io_error(str("HDF5 failed in ", expression), reason);
  throw DataError(str("HDF5 failed in ", expression, ": ", reasons));
}

std::unique_lock<std::mutex> lock() {
  static std::mutex mutex;
  std::unique_lock<std::mutex> held(mutex);
  // A file whose closing failed, as on a full disk, makes HDF5 crash when it tidies up at the program's
  // end, and 74 becomes a segmentation fault. Every file of ours is closed before that.
  static const bool no_tidying = H5dont_atexit() >= 0;
  TRIPHASE_CHECK(InternalError, no_tidying, "HDF5 started too early");
  // Error settings belong to the thread in a thread-safe HDF5, to the process in another.
  thread_local const bool quiet = H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr) >= 0;
  TRIPHASE_CHECK(InternalError, quiet, "HDF5 could not start");
  return held;
}

Id::Id(Id&& other) noexcept
    : id_(std::exchange(other.id_, -1)), close_(std::exchange(other.close_, nullptr)) {}

Id& Id::operator=(Id&& other) noexcept {
  if (this != &other) {
    reset();
    id_ = std::exchange(other.id_, -1);
    close_ = std::exchange(other.close_, nullptr);
  }
  return *this;
}

void Id::reset() noexcept {
  if (id_ >= 0 && close_ != nullptr) close_(id_);
  id_ = -1;
}

void Id::close() {
  const hid_t id = std::exchange(id_, -1);
  if (id >= 0) H5_TRY(close_(id));
}

Id create_file(const std::filesystem::path& path) {
  const Id access(H5_TRY(H5Pcreate(H5P_FILE_ACCESS)), H5Pclose);
  H5_TRY(H5Pset_alignment(access.get(), kAlignFromBytes, kAlignment));
  return {H5_TRY(H5Fcreate(path.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, access.get())), H5Fclose};
}

Id open_file(const std::filesystem::path& path) {
  const Id access(H5_TRY(H5Pcreate(H5P_FILE_ACCESS)), H5Pclose);
  H5_TRY(H5Pset_file_locking(access.get(), false, true));
  return {H5_TRY(H5Fopen(path.c_str(), H5F_ACC_RDONLY, access.get())), H5Fclose};
}

Id open_dataset(const Id& file, const std::string& name) {
  return {H5_TRY(H5Dopen2(file.get(), name.c_str(), H5P_DEFAULT)), H5Dclose};
}

bool has_dataset(const Id& file, const std::string& name) {
  return H5_TRY(H5Lexists(file.get(), name.c_str(), H5P_DEFAULT)) > 0;
}

std::vector<std::int64_t> shape_of(const Id& dataset, int rank) {
  const Id space(H5_TRY(H5Dget_space(dataset.get())), H5Sclose);
  const int found = H5_TRY(H5Sget_simple_extent_ndims(space.get()));
  TRIPHASE_CHECK(DataError, found == rank, "a dataset has ", found, " axes, expected ", rank);
  std::vector<hsize_t> lengths(static_cast<std::size_t>(rank));
  H5_TRY(H5Sget_simple_extent_dims(space.get(), lengths.data(), nullptr));
  std::vector<std::int64_t> shape;
  for (const hsize_t length : lengths) shape.push_back(static_cast<std::int64_t>(length));
  return shape;
}

Id half_type() {
  Id type(H5_TRY(H5Tcopy(H5T_IEEE_F32LE)), H5Tclose);
  H5_TRY(H5Tset_fields(type.get(), 15, 10, 5, 0, 10));
  H5_TRY(H5Tset_size(type.get(), 2));
  H5_TRY(H5Tset_ebias(type.get(), 15));
  return type;
}

}  // namespace triphase::data::h5
