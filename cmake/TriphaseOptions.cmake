# SPDX-License-Identifier: Apache-2.0
# Build types, warnings, sanitizers and ccache, for every target of the project.
#   Release: -O2, TRIPHASE_CHECK on.   Dev: -O1 -g1, TRIPHASE_DCHECK on too.
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "Release or Dev" FORCE)
endif()
set(CMAKE_CXX_FLAGS_RELEASE "-O2")
set(CMAKE_CXX_FLAGS_DEV "-O1 -g1 -DTRIPHASE_DEBUG_CHECKS")
set(CMAKE_C_FLAGS_DEV "-O1 -g1")

option(TRIPHASE_WERROR "Treat warnings as errors" ON)
set(TRIPHASE_SANITIZE "" CACHE STRING "Comma-separated sanitizers: address,undefined or thread")

option(TRIPHASE_FUZZ "Make the fuzz targets libFuzzer programs; needs clang (see tests/fuzz/README.md)" OFF)

find_program(CCACHE_PROGRAM ccache)
if(CCACHE_PROGRAM AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  # The sloppiness lets ccache keep precompiled headers; the base directory lets build folders share.
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env
      CCACHE_SLOPPINESS=pch_defines,time_macros CCACHE_BASEDIR=${PROJECT_SOURCE_DIR}
      CCACHE_NOHASHDIR=1 ${CCACHE_PROGRAM})
endif()

add_library(triphase_options INTERFACE)
add_library(triphase::options ALIAS triphase_options)
target_include_directories(triphase_options INTERFACE "${PROJECT_SOURCE_DIR}")
target_compile_options(triphase_options INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wsign-conversion -Wnon-virtual-dtor
  -Woverloaded-virtual $<$<BOOL:${TRIPHASE_WERROR}>:-Werror>)
if(TRIPHASE_SANITIZE)
  target_compile_options(triphase_options INTERFACE
    -fsanitize=${TRIPHASE_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all
    # GCC 12 takes std::regex for uninitialized when it is instrumented; builds without sanitizers check.
    $<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized>)
  target_link_options(triphase_options INTERFACE -fsanitize=${TRIPHASE_SANITIZE})
endif()

if(TRIPHASE_FUZZ)
  if(NOT CMAKE_CXX_COMPILER_ID MATCHES "Clang")
    message(FATAL_ERROR "TRIPHASE_FUZZ needs clang, which has libFuzzer; the compiler is "
      "${CMAKE_CXX_COMPILER_ID} ${CMAKE_CXX_COMPILER}. Configure a fresh folder: cmake --preset fuzz. "
      "Without TRIPHASE_FUZZ the same targets replay their corpora under any compiler.")
  endif()
  include(CheckCXXSourceCompiles)
  set(CMAKE_REQUIRED_FLAGS -fsanitize=fuzzer)
  check_cxx_source_compiles("#include <cstddef>
    extern \"C\" int LLVMFuzzerTestOneInput(const unsigned char*, std::size_t) { return 0; }" TRIPHASE_HAS_LIBFUZZER)
  unset(CMAKE_REQUIRED_FLAGS)
  if(NOT TRIPHASE_HAS_LIBFUZZER)
    message(FATAL_ERROR "${CMAKE_CXX_COMPILER} cannot link libFuzzer. Install its runtime (Debian: libclang-rt-dev).")
  endif()
  target_compile_options(triphase_options INTERFACE -fsanitize=fuzzer-no-link)
  target_link_options(triphase_options INTERFACE -fsanitize=fuzzer-no-link)
endif()

# triphase_add_room(<name> SOURCES s... [LINKS l...] [TORCH_PCH])
#   One static library per room, triphase_<name>, alias triphase::<name>.
#   TORCH_PCH: compile with the shared precompiled LibTorch header (see TriphaseTorchPch.cmake);
#   files that need only Tensor.h set SKIP_PRECOMPILE_HEADERS.
function(triphase_add_room name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "TORCH_PCH" "" "SOURCES;LINKS")
  add_library(triphase_${name} STATIC ${arg_SOURCES})
  add_library(triphase::${name} ALIAS triphase_${name})
  target_link_libraries(triphase_${name} PUBLIC triphase::options ${arg_LINKS})
  if(arg_TORCH_PCH)
    target_precompile_headers(triphase_${name} REUSE_FROM triphase_torch_pch)
  endif()
endfunction()
