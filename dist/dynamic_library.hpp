// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/error.hpp"

#include <optional>
#include <string>
#include <vector>

namespace triphase::dist {

/// A shared library that was opened at run time. It stays open as long as the process lives.
class DynamicLibrary {
 public:
  /// The first of `files` that this process has open already, else the first that can be opened. A
  /// name without a folder is looked for where the system looks. Purely local.
  [[nodiscard]] static std::optional<DynamicLibrary> open_first(
      const std::vector<std::string>& files);

  /// The file that was opened, as the system names it.
  [[nodiscard]] const std::string& file() const { return file_; }
  /// @throws CommError when the library has no such function
  template <class Function>
  void find(const char* name, Function*& function) const {
    function = reinterpret_cast<Function*>(find_symbol(name));
  }

 private:
  DynamicLibrary(void* handle, std::string file) : handle_(handle), file_(std::move(file)) {}
  [[nodiscard]] void* find_symbol(const char* name) const;

  void* handle_;
  std::string file_;
};

/// The folder that LibTorch was loaded from, with a slash at its end; empty where the system does not
/// tell. Purely local.
[[nodiscard]] std::string libtorch_folder();

}  // namespace triphase::dist
