#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Configures and builds one preset: launch/build.sh [release|dev|asan|tsan] [target...]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
preset=${1:-release}
shift || true
arguments=()
[ -n "${Torch_DIR:-}" ] && arguments+=("-DTorch_DIR=$Torch_DIR")
cmake --preset "$preset" "${arguments[@]}" >/dev/null
targets=()
[ $# -gt 0 ] && targets=(--target "$@")
cmake --build --preset "$preset" "${targets[@]}"
