# SPDX-License-Identifier: Apache-2.0
# Imported targets for system libraries that bring no CMake package of their own.
function(triphase_import_library target header library)
  find_path(${target}_INCLUDE ${header} REQUIRED)
  find_library(${target}_LIBRARY ${library} REQUIRED)
  add_library(triphase::${target} INTERFACE IMPORTED GLOBAL)
  target_include_directories(triphase::${target} SYSTEM INTERFACE "${${target}_INCLUDE}")
  target_link_libraries(triphase::${target} INTERFACE "${${target}_LIBRARY}")
endfunction()

triphase_import_library(xxhash xxhash.h xxhash)
triphase_import_library(deflate libdeflate.h deflate)
triphase_import_library(zstd zstd.h zstd)
triphase_import_library(pcre2 pcre2.h pcre2-8)

add_library(triphase::hdf5 INTERFACE IMPORTED GLOBAL)
target_include_directories(triphase::hdf5 SYSTEM INTERFACE ${HDF5_C_INCLUDE_DIRS})
target_link_libraries(triphase::hdf5 INTERFACE ${HDF5_C_LIBRARIES})
