# SPDX-License-Identifier: Apache-2.0
# triphase_add_test(<name> SOURCES s... [NP n...] [SHARED filter] [LABELS l...] [LIBS t...] [TIMEOUT s] [TORCH_PCH])
#   One binary per call. Without NP: one CTest entry <name>. With NP: one entry per rank count under
#   mpirun, named <name>.np<n>, with the multi-rank main of tests/support (a failure on one rank fails
#   all; a hanging test is named and ended). Tests see TRIPHASE_SOURCE_DIR, TRIPHASE_SHARED_DIR (may be
#   absent) and TRIPHASE_PROGRAM as environment variables.
#   SHARED: the cases that need TRIPHASE_SHARED_DIR, as a GoogleTest filter ("A.b:C.*"). They make an entry of
#   their own, <name>_shared (<name> itself when the filter is "*"), labelled "shared", which CTest shows as
#   skipped where the folder is absent: a skip then hides no other case. Elsewhere such a skip is a failure.
# Tests of base, data, models and fuzz without NP also carry the label "sanitizer"; the target sanitizer_tests builds them.
# Those that a test file labels "threads" are run under the thread sanitizer, too; the target thread_tests builds them.
add_custom_target(sanitizer_tests)
add_custom_target(thread_tests)
set(TRIPHASE_SHARED_DIR "${PROJECT_SOURCE_DIR}/../shared" CACHE PATH
    "Folder with data/ct and data/roberta for the tests that need real input; may be absent")
# What TRIPHASE_NEEDS_SHARED() says.
set(TRIPHASE_SHARED_SKIP "the shared folder with real input is absent")

# LeakSanitizer stops the process it looks at by ptrace, which containers may forbid; it then fails every test.
if(TRIPHASE_SANITIZE MATCHES "address" AND NOT DEFINED TRIPHASE_CAN_CHECK_LEAKS)
  file(WRITE "${PROJECT_BINARY_DIR}/leak_check.cpp" "int main() { return 0; }\n")
  try_run(_ran _compiled "${PROJECT_BINARY_DIR}/leak_check" "${PROJECT_BINARY_DIR}/leak_check.cpp"
    LINK_OPTIONS -fsanitize=address COMPILE_DEFINITIONS -fsanitize=address)
  set(_can OFF)
  if(_compiled AND _ran EQUAL 0)
    set(_can ON)
  endif()
  set(TRIPHASE_CAN_CHECK_LEAKS ${_can} CACHE BOOL "LeakSanitizer works here (it needs ptrace)")
  if(NOT _can)
    message(STATUS "LeakSanitizer does not work here (it needs ptrace): tests do not look for leaks")
  endif()
endif()

# Entries of a test without NP. Called by triphase_add_test() alone, whose variables it reads.
function(triphase_add_entries name shared_filter)
  if(NOT shared_filter STREQUAL "*")
    set(filter "")
    if(shared_filter)
      set(filter "--gtest_filter=-${shared_filter}")
    endif()
    add_test(NAME ${name} COMMAND ${target} ${filter})
    set_tests_properties(${name} PROPERTIES LABELS "unit;${arg_LABELS}" TIMEOUT ${arg_TIMEOUT}
      ENVIRONMENT "${environment}" FAIL_REGULAR_EXPRESSION "${TRIPHASE_SHARED_SKIP}")
  endif()
  if(shared_filter)
    set(entry ${name}_shared)
    if(shared_filter STREQUAL "*")
      set(entry ${name})
    endif()
    add_test(NAME ${entry} COMMAND ${target} "--gtest_filter=${shared_filter}")
    set_tests_properties(${entry} PROPERTIES LABELS "unit;shared;${arg_LABELS}" TIMEOUT ${arg_TIMEOUT}
      ENVIRONMENT "${environment}" SKIP_REGULAR_EXPRESSION "${TRIPHASE_SHARED_SKIP}"
      FAIL_REGULAR_EXPRESSION "Running 0 tests")
  endif()
endfunction()

function(triphase_add_test name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "TORCH_PCH" "TIMEOUT;SHARED" "SOURCES;NP;LABELS;LIBS")
  if(arg_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "triphase_add_test(${name}): unknown arguments '${arg_UNPARSED_ARGUMENTS}'")
  endif()
  if(NOT arg_TIMEOUT)
    set(arg_TIMEOUT 120)
  endif()
  set(target test_${name})
  add_executable(${target} ${arg_SOURCES})
  target_link_libraries(${target} PRIVATE ${arg_LIBS} triphase::test_support)
  if(arg_TORCH_PCH)
    target_precompile_headers(${target} REUSE_FROM triphase_torch_pch)
    # The header is compiled with -fPIC; an executable's own -fPIE would refuse it.
    set_target_properties(${target} PROPERTIES POSITION_INDEPENDENT_CODE OFF)
    target_compile_options(${target} PRIVATE -fPIC)
  endif()
  set(environment
    "OMP_NUM_THREADS=1" "TRIPHASE_SOURCE_DIR=${PROJECT_SOURCE_DIR}"
    "TRIPHASE_SHARED_DIR=${TRIPHASE_SHARED_DIR}" "TRIPHASE_PROGRAM=${CMAKE_RUNTIME_OUTPUT_DIRECTORY}/triphase"
    "OMPI_MCA_rmaps_base_oversubscribe=1" "OMPI_ALLOW_RUN_AS_ROOT=1" "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1"
    "OMPI_MCA_btl_vader_single_copy_mechanism=none" "OMPI_MCA_hwloc_base_binding_policy=none")
  if(NOT gpu IN_LIST arg_LABELS)
    list(APPEND environment "CUDA_VISIBLE_DEVICES=")  # numbers of the CPU, on any machine
  endif()
  get_filename_component(room "${CMAKE_CURRENT_SOURCE_DIR}" NAME)
  set(is_sanitizer_test OFF)
  if(NOT arg_NP AND room MATCHES "^(base|data|models|fuzz)$")
    set(is_sanitizer_test ON)
  endif()
  if(TRIPHASE_SANITIZE)
    # Whatever starts MPI, itself or as a program, would be blamed for Open MPI's own leaks.
    if(is_sanitizer_test AND TRIPHASE_CAN_CHECK_LEAKS)
      list(APPEND environment "ASAN_OPTIONS=detect_leaks=1")
    else()
      list(APPEND environment "ASAN_OPTIONS=detect_leaks=0")
    endif()
  endif()
  if(threads IN_LIST arg_LABELS)
    add_dependencies(thread_tests ${target})
  endif()
  if(NOT arg_NP)
    if(is_sanitizer_test)
      list(APPEND arg_LABELS sanitizer)
      add_dependencies(sanitizer_tests ${target})
    endif()
    target_link_libraries(${target} PRIVATE GTest::gtest_main)
    triphase_add_entries(${name} "${arg_SHARED}")
    return()
  endif()
  target_link_libraries(${target} PRIVATE triphase::mpi_test_main)
  foreach(np IN LISTS arg_NP)
    set(test ${name}.np${np})
    add_test(NAME ${test} COMMAND ${MPIEXEC_EXECUTABLE} ${MPIEXEC_NUMPROC_FLAG} ${np}
             ${MPIEXEC_PREFLAGS} $<TARGET_FILE:${target}> ${MPIEXEC_POSTFLAGS})
    set_tests_properties(${test} PROPERTIES LABELS "mpi;np${np};${arg_LABELS}" PROCESSORS ${np}
      TIMEOUT ${arg_TIMEOUT} ENVIRONMENT "${environment}")
  endforeach()
endfunction()
