#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Sets up, builds, and runs every test: the dev build (inner-loop checks on), base, data and models under the address and
# undefined-behaviour sanitizers, and what has threads (log, threads backend, reducer, nccl backend) under the thread sanitizer.
# Ends with CTest's summary and its exit code.  TRIPHASE_SKIP_SANITIZERS=1 leaves the sanitizers out.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
started=$SECONDS
launch/setup.sh
source launch/env.sh
say() { printf '[tests] %4d s  %s\n' $((SECONDS - started)) "$*"; }

say "building the dev preset"
launch/build.sh dev
if [ -z "${TRIPHASE_SKIP_SANITIZERS:-}" ]; then
  say "building base, data and models with address and undefined-behaviour sanitizers"
  launch/build.sh asan sanitizer_tests
  say "sanitizer tests"
  ctest --preset asan -L sanitizer --no-tests=error
  say "building what has threads with the thread sanitizer"
  launch/build.sh tsan thread_tests
  say "thread sanitizer tests"
  ctest --preset tsan -L threads --no-tests=error
fi
say "all tests"
ctest --preset dev --no-tests=error
