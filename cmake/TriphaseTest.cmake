# SPDX-License-Identifier: Apache-2.0
# triphase_add_test(<name> SOURCES s... [NP n...] [LABELS l...] [LIBS t...] [TIMEOUT s] [TORCH_PCH])
#   One binary per call. Without NP: one CTest entry <name>. With NP: one entry per rank count under
#   mpirun, named <name>.np<n>, with the multi-rank main of tests/support (a failure on one rank fails
#   all; a hanging test is named and ended). Tests see TRIPHASE_SOURCE_DIR, TRIPHASE_SHARED_DIR (may be
#   absent) and TRIPHASE_PROGRAM as environment variables. A test that skips visibly because shared
#   data is absent carries the label "shared".
# Tests of base, data and models without NP also carry the label "sanitizer"; the target sanitizer_tests builds them.
add_custom_target(sanitizer_tests)
set(TRIPHASE_SHARED_DIR "${PROJECT_SOURCE_DIR}/../shared" CACHE PATH
    "Folder with data/ct and data/roberta for the tests that need real input; may be absent")
function(triphase_add_test name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "TORCH_PCH" "TIMEOUT" "SOURCES;NP;LABELS;LIBS")
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
  if(TRIPHASE_SANITIZE)
    # The leak checker reports Open MPI itself; leaks are hunted in the one-process tests.
    list(APPEND environment "ASAN_OPTIONS=detect_leaks=0")
  endif()
  if(NOT arg_NP)
    get_filename_component(room "${CMAKE_CURRENT_SOURCE_DIR}" NAME)
    if(room MATCHES "^(base|data|models)$")
      list(APPEND arg_LABELS sanitizer)
      add_dependencies(sanitizer_tests ${target})
    endif()
    target_link_libraries(${target} PRIVATE GTest::gtest_main)
    add_test(NAME ${name} COMMAND ${target})
    set_tests_properties(${name} PROPERTIES LABELS "unit;${arg_LABELS}" TIMEOUT ${arg_TIMEOUT}
      ENVIRONMENT "${environment}")
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
