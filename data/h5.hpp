// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <hdf5.h>

#include <cstdint>
#include <filesystem>
#include <mutex>
#include <string>
#include <vector>

/// The HDF5 C library behind owners that close what they hold, and errors instead of return codes.
/// The library is not safe for threads: whoever calls anything here holds h5::lock().
namespace triphase::data::h5 {

/// Throws for a failed call: IoError when the operating system refused something (the library's
/// error stack names an errno), DataError otherwise. Clears the stack.
[[noreturn]] void throw_failure(const char* expression);

template <class Result>
Result checked(Result result, const char* expression) {
  if (result < 0) throw_failure(expression);
  return result;
}

/// Serialises HDF5 over the process. On first use also stops the library from printing errors
/// itself.
[[nodiscard]] std::unique_lock<std::mutex> lock();

/// Owns one HDF5 identifier.
class Id {
 public:
  using Close = herr_t (*)(hid_t);
  Id() = default;
  Id(hid_t id, Close closer) : id_(id), close_(closer) {}
  ~Id() { reset(); }
  Id(Id&& other) noexcept;
  Id& operator=(Id&& other) noexcept;
  Id(const Id&) = delete;
  Id& operator=(const Id&) = delete;
  [[nodiscard]] hid_t get() const { return id_; }
  void reset() noexcept;
  /// Closes and reports: for files that were written, whose last bytes leave at closing.
  void close();

 private:
  hid_t id_ = -1;
  Close close_ = nullptr;
};

/// An empty file that replaces what was there; chunks of 64 KiB and more start at multiples of 4
/// KiB.
[[nodiscard]] Id create_file(const std::filesystem::path& path);
/// For reading, without file locks (network file systems do not always have them).
[[nodiscard]] Id open_file(const std::filesystem::path& path);

[[nodiscard]] Id open_dataset(const Id& file, const std::string& name);
[[nodiscard]] bool has_dataset(const Id& file, const std::string& name);
/// Lengths of a dataset along its axes. @throws DataError when there are not `rank` of them
[[nodiscard]] std::vector<std::int64_t> shape_of(const Id& dataset, int rank);

/// Writes a whole dataset. T: int8, int32, int64, uint64, float or double.
template <class T>
void write_array(const Id& file, const std::string& name, const std::vector<T>& values,
                 const std::vector<std::int64_t>& shape);
/// Variable-length UTF-8.
void write_strings(const Id& file, const std::string& name, const std::vector<std::string>& values);

/// Reads a whole dataset. @throws DataError when its shape or type is another one
template <class T>
[[nodiscard]] std::vector<T> read_array(const Id& file, const std::string& name,
                                        const std::vector<std::int64_t>& shape);
[[nodiscard]] std::vector<std::string> read_strings(const Id& file, const std::string& name,
                                                    std::int64_t count);

/// Attributes of a file's root ("/") or of one of its datasets.
void write_attribute(const Id& object, const std::string& name, const std::string& value);
void write_attribute(const Id& object, const std::string& name, double value);
void write_attribute(const Id& object, const std::string& name, std::int64_t value);
void write_attribute(const Id& object, const std::string& name,
                     const std::vector<std::string>& values);
[[nodiscard]] std::string read_text_attribute(const Id& object, const std::string& name);
[[nodiscard]] double read_double_attribute(const Id& object, const std::string& name);
[[nodiscard]] std::int64_t read_int_attribute(const Id& object, const std::string& name);
[[nodiscard]] std::vector<std::string> read_strings_attribute(const Id& object,
                                                              const std::string& name);

/// IEEE half precision, which HDF5 1.10 does not bring along; h5py reads it as float16.
[[nodiscard]] Id half_type();

}  // namespace triphase::data::h5

/// The result of an HDF5 call, or an exception with the library's own words.
#define H5_TRY(expression) ::triphase::data::h5::checked((expression), #expression)
