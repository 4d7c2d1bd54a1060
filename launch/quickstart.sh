#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# From nothing to a page: set-up, build, and the main job on a synthetic cohort (two ranks, no GPU needed).
#   launch/quickstart.sh [--seed N]      results in quickstart/, the page is quickstart/report.html
# Run again, it goes on where it stopped.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
seed=20
[ "${1:-}" = --seed ] && seed=$2

started=$SECONDS
launch/setup.sh
launch/build.sh release triphase
source launch/env.sh
export OMP_NUM_THREADS=1
triphase=build/release/bin/triphase
out=quickstart
mkdir -p $out
built=$SECONDS

step() {  # prints a command as it can be pasted, then runs it
  printf '\n[%4d s] $ %s\n' $((SECONDS - started)) "$*"
  "$@"
}
two="mpirun -np 2"
target="--config configs/phantom_full.toml"
peft="$target --config configs/phantom_peft.toml"

[ -e $out/cohort/manifest.csv ] || step $triphase phantom --out $out/cohort --size small --seed "$seed"
step $two $triphase cache build --manifest $out/cohort/manifest.csv --out $out/cache --preset phantom
[ -e $out/runs/pretrain/done ] || { step $two $triphase train --config configs/phantom_pretrain.toml --resume auto; touch $out/runs/pretrain/done; }
step $two $triphase evaluate --config configs/phantom_pretrain.toml --checkpoint $out/runs/pretrain
step $two $triphase evaluate $target --set run.name=before
[ -e $out/runs/full/done ] || { step $two $triphase train $target --resume auto; touch $out/runs/full/done; }
step $two $triphase evaluate $target --checkpoint $out/runs/full
[ -e $out/runs/peft/done ] || { step $two $triphase train $peft --resume auto; touch $out/runs/peft/done; }
step $two $triphase evaluate $peft --checkpoint $out/runs/peft
step $triphase report $out/runs/pretrain $out/runs/before $out/runs/full $out/runs/peft --out $out/report.html

printf '\nset-up and build %d s, main job %d s. The page: %s\n' \
  $((built - started)) $((SECONDS - built)) "$PWD/$out/report.html"
