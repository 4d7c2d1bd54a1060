#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Sets up, builds, and runs every test: the dev build (inner-loop checks on), and base, data and models under sanitizers.
# Ends with CTest's summary and its exit code.  TRIPHASE_SKIP_ASAN=1 leaves the second part out.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
started=$SECONDS
launch/setup.sh
source launch/env.sh
say() { printf '[tests] %4d s  %s\n' $((SECONDS - started)) "$*"; }

say "building the dev preset"
launch/build.sh dev
if [ -z "${TRIPHASE_SKIP_ASAN:-}" ]; then
  say "building base, data and models with address and undefined-behaviour sanitizers"
  launch/build.sh asan sanitizer_tests
  say "sanitizer tests"
  ctest --preset asan -L sanitizer --no-tests=error
fi
say "all tests"
ctest --preset dev --no-tests=error
