#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Makes this machine ready to build Triphase: Debian/Ubuntu packages and LibTorch. Safe to run again.
#   launch/setup.sh            installs what is missing (needs root for packages)
#   Torch_DIR=/path/to/libtorch launch/setup.sh     uses that LibTorch instead of fetching the wheel
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$here"

torch_version=2.11.0
packages=(
  g++ cmake ninja-build ccache git ca-certificates python3-venv
  openmpi-bin libopenmpi-dev libhdf5-dev libboost-program-options-dev libtomlplusplus-dev
  nlohmann-json3-dev libxxhash-dev libdeflate-dev zlib1g-dev libzstd-dev libpcre2-dev libgtest-dev hdf5-tools
  libzip-dev libpugixml-dev libdcmtk-dev iproute2
)

say() { printf '[setup] %s\n' "$*"; }
die() { printf '[setup] %s\n' "$*" >&2; exit 1; }

command -v dpkg-query >/dev/null || die "This script knows Debian and Ubuntu only. Install the counterparts of: ${packages[*]}"
missing=()
for package in "${packages[@]}"; do
  dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
  [ "$(id -u)" = 0 ] || die "These packages are missing: ${missing[*]}
[setup] Run as root, or: sudo apt-get install --no-install-recommends ${missing[*]}"
  say "installing ${#missing[@]} packages: ${missing[*]}"
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

if [ -n "${Torch_DIR:-}" ]; then
  say "using LibTorch in $Torch_DIR"
else
  have=$(sed -n 's/^__version__ = .\([0-9.]*\).*/\1/p' .deps/lib/python3*/site-packages/torch/version.py 2>/dev/null || true)
  if [ "$have" != "$torch_version" ] || [ ! -e .deps/complete-$torch_version ]; then
    say "fetching LibTorch $torch_version into .deps/ (about 3 GB, a few minutes)"
    rm -rf .deps
    python3 -m venv .deps
    .deps/bin/python -m pip install --quiet --disable-pip-version-check --no-cache-dir "torch==$torch_version"
    touch .deps/complete-$torch_version
  fi
fi
say "ready"
