// SPDX-License-Identifier: Apache-2.0
#include "dist/dynamic_library.hpp"

#include <dlfcn.h>
#include <link.h>

#include <filesystem>
#include <fstream>

namespace triphase::dist {

std::optional<DynamicLibrary> DynamicLibrary::open_first(const std::vector<std::string>& files) {
  for (const int is_open_already : {RTLD_NOLOAD, 0}) {
    for (const std::string& file : files) {
      void* handle = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL | is_open_already);
      if (handle == nullptr) continue;
      link_map* map = nullptr;
      const bool is_named = dlinfo(handle, RTLD_DI_LINKMAP, &map) == 0 && map->l_name[0] != '\0';
      const std::filesystem::path path = is_named ? map->l_name : file;
      return DynamicLibrary(handle, path.lexically_normal().string());
    }
  }
  return std::nullopt;
}

void* DynamicLibrary::find_symbol(const char* name) const {
  void* symbol = dlsym(handle_, name);
  TRIPHASE_CHECK(CommError, symbol != nullptr, "'", file_, "' has no function ", name,
                 ". It is no library of the expected version.");
  return symbol;
}

std::string libtorch_folder() {
  constexpr std::string_view kLibrary = "/libtorch_cpu.so";
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    const std::size_t path = line.find('/');
    if (path != std::string::npos && line.ends_with(kLibrary))
      return line.substr(path, line.size() - path - kLibrary.size() + 1);
  }
  return {};
}

}  // namespace triphase::dist
