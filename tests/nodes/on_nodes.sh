#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Runs a program with one rank on each of several hosts made on this machine: tests/nodes/on_nodes.sh NUM_HOSTS PROGRAM [argument...]
# A host is a network and a name of its own (namespaces), joined to the others by a bridge; mpirun reaches it with a
# launch agent, this script's last part, as it would by ssh. Needs root. Ends with the job's exit code, 77 where hosts cannot be made.
#   TRIPHASE_NODES_RATE   bandwidth of each host's cable, as tc has it, such as 100mbit; empty: as it is
#   TRIPHASE_NODES_CUT    seconds after which the cable of host 2 is pulled; empty: never
# All of it lives in a process namespace of its own, so that nothing is left of it in the end.
set -euo pipefail
self=$(readlink -f "$0")

case "${TRIPHASE_NODES_PART:-}" in
  "")
    if ! unshare --net --uts --pid --fork --kill-child --mount-proc ip link add probe type veth peer name other 2>/dev/null; then
      echo "on_nodes.sh: no hosts can be made here: it needs root, ip (iproute2) and a kernel with veth" >&2
      exit 77
    fi
    TRIPHASE_NODES_PART=hosts exec unshare --net --uts --pid --fork --kill-child --mount-proc "$self" "$@" ;;
  agent)  # called by mpirun: ADDRESS WORD...
    address=$1
    shift
    unset TRIPHASE_NODES_PART
    exec nsenter --target "$(cat "$TRIPHASE_NODES_FOLDER/$address")" --net --uts bash -c "$*" ;;
esac

num_hosts=$1
shift
TRIPHASE_NODES_FOLDER=$(mktemp -d /tmp/nodes.XXXXXX)
export TRIPHASE_NODES_FOLDER
trap 'rm -rf "$TRIPHASE_NODES_FOLDER"' EXIT
ip link set lo up
ip link add bridge0 type bridge
ip link set bridge0 up
hosts=""
for ((i = 1; i <= num_hosts; ++i)); do
  unshare --net --uts sleep infinity &
  holder=$!
  until [[ $(readlink "/proc/$holder/ns/net") != "$(readlink /proc/self/ns/net)" ]]; do sleep 0.01; done
  ip link add "cable$i" type veth peer name net0 netns "$holder"
  ip link set "cable$i" master bridge0 up
  inside=(nsenter --target "$holder" --net --uts)
  "${inside[@]}" hostname "node$i"
  "${inside[@]}" ip link set lo up
  "${inside[@]}" ip address add "10.77.0.$i/24" dev net0
  "${inside[@]}" ip link set net0 up
  if [[ -n "${TRIPHASE_NODES_RATE:-}" ]]; then
    if ! "${inside[@]}" tc qdisc add dev net0 root tbf rate "$TRIPHASE_NODES_RATE" burst 64kb latency 400ms; then
      echo "on_nodes.sh: cables of a set bandwidth need tc (iproute2) and a kernel with sch_tbf" >&2
      exit 77
    fi
  fi
  echo "$holder" > "$TRIPHASE_NODES_FOLDER/10.77.0.$i"
  hosts+="${hosts:+,}10.77.0.$i:1"
done
if [[ -n "${TRIPHASE_NODES_CUT:-}" ]]; then
  (sleep "$TRIPHASE_NODES_CUT" && ip link set cable2 down) &
fi

export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
set +e
TRIPHASE_NODES_PART=agent nsenter --target "$(cat "$TRIPHASE_NODES_FOLDER/10.77.0.1")" --net --uts \
  mpirun --host "$hosts" --map-by node --bind-to none -x OMP_NUM_THREADS=1 \
  --mca plm_rsh_agent "$self" --mca plm_rsh_no_tree_spawn 1 \
  --mca oob_tcp_if_include net0 --mca btl tcp,self --mca btl_tcp_if_include net0 "$@"
code=$?
exit $code
