#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# From nothing to a page: set-up, build, and the main job on a synthetic cohort (two ranks, no GPU needed).
#   launch/quickstart.sh [--seed N]      results in quickstart/, the page is quickstart/report.html
# Run again, it goes on where it stopped.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
out=quickstart
seed=
die() { printf '[quickstart] %s\n' "$*" >&2; exit 64; }
while [ $# -gt 0 ]; do
  case $1 in
    --seed) [[ ${2:-} =~ ^[0-9]+$ ]] || die "--seed needs a whole number."; seed=$2; shift 2 ;;
    *) die "unknown argument '$1'. Usage: launch/quickstart.sh [--seed N]" ;;
  esac
done
made=
[ -e $out/cohort/phantom.json ] && made=$(sed -n 's/^ *"seed": *\([0-9]*\).*/\1/p' $out/cohort/phantom.json)
seed=${seed:-${made:-2026}}
[ -z "$made" ] || [ "$made" = "$seed" ] || die "$out/ holds the cohort and models of seed $made, not of $seed. \
Go on with them (--seed $made), or move $out/ away first."

started=$SECONDS
launch/setup.sh
launch/build.sh release triphase
source launch/env.sh
export OMP_NUM_THREADS=1
triphase=build/release/bin/triphase
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
