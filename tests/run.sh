#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Sets up, builds, and runs every test: the release build, then the sanitizer build of base, data and models.
# Ends with CTest's summary and its exit code.  TRIPHASE_SKIP_ASAN=1 leaves the second part out.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
started=$SECONDS
launch/setup.sh
source launch/env.sh
say() { printf '[tests] %4d s  %s\n' $((SECONDS - started)) "$*"; }

say "building the release preset"
launch/build.sh release
if [ -z "${TRIPHASE_SKIP_ASAN:-}" ]; then
  say "building base, data and models with address and undefined-behaviour sanitizers"
  launch/build.sh asan sanitizer_tests
  say "sanitizer tests"
  ctest --preset asan -L sanitizer --no-tests=error
fi
say "all tests"
ctest --preset release --no-tests=error
