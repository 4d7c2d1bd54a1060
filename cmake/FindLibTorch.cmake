# SPDX-License-Identifier: Apache-2.0
# Finds LibTorch without its own CMake files, which cannot configure without a CUDA toolkit.
#
# Looks in Torch_DIR (.../share/cmake/Torch or the torch folder itself), then in the project's
# private virtual environment .deps/ (see launch/setup.sh). Makes
#   torch::cpu      everything the rooms compile and link against
#   torch::runtime  for executables: keeps libtorch_cuda loaded, so that a GPU is seen where there is one
if(Torch_DIR)
  get_filename_component(_torch_hint "${Torch_DIR}" ABSOLUTE)
  foreach(_up "" "/../../..")
    get_filename_component(_candidate "${_torch_hint}${_up}" ABSOLUTE)
    if(EXISTS "${_candidate}/lib/libtorch_cpu.so")
      set(TORCH_ROOT "${_candidate}")
    endif()
  endforeach()
  if(NOT TORCH_ROOT)
    message(FATAL_ERROR "Torch_DIR is '${Torch_DIR}', but no lib/libtorch_cpu.so is there nor three folders up. Give the LibTorch folder, or its share/cmake/Torch.")
  endif()
else()
  file(GLOB _torch_candidates "${PROJECT_SOURCE_DIR}/.deps/lib/python3*/site-packages/torch")
  list(LENGTH _torch_candidates _n)
  if(NOT _n EQUAL 1)
    message(FATAL_ERROR "LibTorch was not found in .deps/. Run launch/setup.sh, or give -DTorch_DIR=<LibTorch folder>.")
  endif()
  set(TORCH_ROOT "${_torch_candidates}")
endif()

set(_version_header "${TORCH_ROOT}/include/torch/headeronly/version.h")
if(NOT EXISTS "${_version_header}")
  message(FATAL_ERROR "LibTorch in '${TORCH_ROOT}' is older than 2.10 (no torch/headeronly/version.h). Triphase needs 2.10 or newer.")
endif()
foreach(_part MAJOR MINOR PATCH)
  file(STRINGS "${_version_header}" _line REGEX "^#define TORCH_VERSION_${_part} ")
  string(REGEX REPLACE ".* ([0-9]+).*" "\\1" TORCH_VERSION_${_part} "${_line}")
endforeach()
set(TORCH_VERSION "${TORCH_VERSION_MAJOR}.${TORCH_VERSION_MINOR}.${TORCH_VERSION_PATCH}")
if(TORCH_VERSION VERSION_LESS 2.10)
  message(FATAL_ERROR "LibTorch ${TORCH_VERSION} in '${TORCH_ROOT}' is too old. Triphase needs 2.10 or newer.")
endif()
message(STATUS "LibTorch ${TORCH_VERSION}: ${TORCH_ROOT}")

add_library(torch::cpu INTERFACE IMPORTED GLOBAL)
target_include_directories(torch::cpu SYSTEM INTERFACE
  "${TORCH_ROOT}/include" "${TORCH_ROOT}/include/torch/csrc/api/include")
foreach(_lib c10 torch_cpu)
  add_library(torch::lib_${_lib} SHARED IMPORTED GLOBAL)
  set_target_properties(torch::lib_${_lib} PROPERTIES
    IMPORTED_LOCATION "${TORCH_ROOT}/lib/lib${_lib}.so")
endforeach()
target_link_libraries(torch::cpu INTERFACE torch::lib_torch_cpu torch::lib_c10)
# The wheel's CPU library itself needs some NVIDIA libraries; this path serves the link-time check only.
file(GLOB _nvidia_lib_dirs "${TORCH_ROOT}/../nvidia/*/lib")
list(TRANSFORM _nvidia_lib_dirs PREPEND "LINKER:-rpath-link,")
target_link_options(torch::cpu INTERFACE ${_nvidia_lib_dirs})

add_library(torch::runtime INTERFACE IMPORTED GLOBAL)
target_link_libraries(torch::runtime INTERFACE torch::cpu)
if(EXISTS "${TORCH_ROOT}/lib/libtorch_cuda.so")
  target_link_libraries(torch::runtime INTERFACE
    "-Wl,--push-state,--no-as-needed,${TORCH_ROOT}/lib/libtorch_cuda.so,--pop-state")
endif()
