#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Slurm job: trains, and puts itself back in the queue when the run saved and ended with 75.
#   sbatch launch/slurm.sh configs/merlin_peft.toml
#SBATCH --job-name=triphase
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --signal=B:USR1@300
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.out
config=${1:?usage: sbatch launch/slurm.sh RUN.toml [more triphase train options]}
shift
program=${TRIPHASE_PROGRAM:-build/release/bin/triphase}

# Open MPI forwards USR1 to the ranks and waits for them; after TERM it kills them within a second.
# So both signals reach the ranks as USR1: they stop at the same step, save, and end with 75.
signalled=0
pid=
trap 'signalled=1; [ -n "$pid" ] && kill -USR1 "$pid" 2>/dev/null' USR1 TERM
# shellcheck disable=SC2086
mpirun ${TRIPHASE_MPI_FLAGS:-} "$program" train --config "$config" --resume auto "$@" &
pid=$!
while :; do  # a trap interrupts wait: wait again for the real end
  signalled=0
  wait "$pid"
  code=$?
  [ "$signalled" = 1 ] || break
done

job=$SLURM_JOB_ID
[ -n "${SLURM_ARRAY_JOB_ID:-}" ] && job=${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}
[ "$code" -eq 75 ] && scontrol requeue "$job"
exit "$code"
