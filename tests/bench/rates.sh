#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Measures what the main job's limits are about: milliseconds a phantom patient and core, cache build rate, and the
# step time of full against PEFT training, each several times. Prints medians and ratios; asserts nothing.
#   tests/bench/rates.sh [repeats]        needs build/release
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
source launch/env.sh
export OMP_NUM_THREADS=1
repeats=${1:-5}
triphase=$PWD/build/release/bin/triphase
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

median() { sort -n | awk '{v[NR] = $1} END {print v[int((NR + 1) / 2)]}'; }
seconds_of() { local begin=$EPOCHREALTIME; "$@" >/dev/null 2>&1; echo "$EPOCHREALTIME $begin" | awk '{print $1 - $2}'; }

patients=100
for _ in $(seq "$repeats"); do
  rm -rf "$folder/cohort"
  seconds_of "$triphase" phantom --quiet --threads 1 --patients $patients --out "$folder/cohort"
done | median | awk -v n=$patients '{printf "phantom: %.1f ms a patient and core\n", $1 / n * 1000}'

for _ in $(seq "$repeats"); do
  rm -rf "$folder/cache"
  seconds_of "$triphase" cache build --quiet --preset phantom --manifest "$folder/cohort/manifest.csv" --out "$folder/cache"
done | median | awk -v n=$patients '{printf "cache build: %.1f ms a volume and core\n", $1 / n * 1000}'

step_seconds() {  # median seconds of a step of one training run with these settings
  rm -rf "$folder/runs"
  "$triphase" train --quiet --config configs/phantom_full.toml --set run.output_dir="$folder/runs" --set run.name=run \
    --set data.cache="$folder/cache" --set model.tokenizer="$folder/cohort/tokenizer" --set model.weights=random \
    --set evaluate.prompts="$folder/cohort/prompts.toml" --set 'data.sites=["source"]' --set batch.global_pairs=16 \
    --set schedule.max_epochs=0 --set schedule.max_steps=8 --set run.log_every_steps=1 --set evaluate.every_epochs=0 "$@" >/dev/null
  sed -n 's/.*"pairs_per_second": *\([0-9.e+-]*\).*/\1/p' "$folder/runs/run/metrics.jsonl" | tail -n +3 | awk '{print 16 / $1}' | median
}
for _ in $(seq "$repeats"); do
  echo "$(step_seconds) $(step_seconds --set adapt.method=peft --set adapt.image.rank=2 --set adapt.text.rank=2)"
done | sort -n | awk '{full[NR] = $1; peft[NR] = $2; ratio[NR] = $2 / $1} END {m = int((NR + 1) / 2);
  printf "step, 16 pairs, one rank: full %.3f s, PEFT %.3f s, PEFT / full %.2f (paired, median)\n", full[m], peft[m], ratio[m]}'
