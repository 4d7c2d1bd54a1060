# SPDX-License-Identifier: Apache-2.0
"""Times a step with gradient caching against the steps that it is made of.

    tests/bench/step/cached.py [--preset merlin_small] [--method full] [--pairs-per-chunk 8] [--chunks 2,4,8]
        [--volume X,Y,Z] [--tokens N] [--repeats 3] [--iterations 5] [--out FILE.json]

Needs build/release and an idle machine. A cached step over k chunks runs the towers forward 2k - 1 times and backward k
times. In theory a forward is a third of a step, so it takes 1 + (1 - 1/k)/3 of k direct steps of one chunk each. Printed for
each k, from medians over alternating runs: both times without reducer and optimizer (which a step has once, whatever k is),
their ratio, that theory, and the same with the share of the forward that was measured in place of a third. Asserts
nothing.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[3]


def step(arguments, pairs, micro_pairs):
    """Median seconds of the phases of a step."""
    with tempfile.NamedTemporaryFile(suffix=".json") as out:
        command = [ROOT / "build/release/bin/triphase", "bench", "step", "--quiet", "--preset", arguments.preset,
                   "--method", arguments.method, "--pairs", str(pairs), "--micro-pairs", str(micro_pairs), "--tokens",
                   str(arguments.tokens), "--iterations", str(arguments.iterations), "--out", out.name]
        if arguments.volume:
            command += ["--volume", arguments.volume]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        figures = json.load(open(out.name))
    return figures["seconds"], figures["peak_rss_mib"]


def towers_and_loss(seconds):
    return seconds["forward"] + seconds["loss"] + seconds["backward"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="merlin_small")
    parser.add_argument("--method", default="full")
    parser.add_argument("--pairs-per-chunk", type=int, default=8)
    parser.add_argument("--chunks", default="2,4,8")
    parser.add_argument("--volume", default="")
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--iterations", type=int, default=5)
    parser.add_argument("--out")
    arguments = parser.parse_args()

    size = arguments.pairs_per_chunk
    chunks = [int(k) for k in arguments.chunks.split(",")]
    direct, memory, cached = [], [], {k: [] for k in chunks}
    cached_memory = {}
    for _ in range(arguments.repeats):
        seconds, peak = step(arguments, size, 0)
        direct.append(seconds)
        memory.append(peak)
        for k in chunks:
            seconds, cached_memory[k] = step(arguments, k * size, size)
            cached[k].append(towers_and_loss(seconds))
    one = statistics.median(towers_and_loss(s) for s in direct)
    share = statistics.median(s["forward"] / towers_and_loss(s) for s in direct)
    print(f"one chunk, {size} pairs: {one:.3f} s, {share:.3f} of it forward, {statistics.median(memory):.0f} MiB")
    print(f"{'chunks':>6} {'cached, s':>10} {'k direct, s':>12} {'ratio':>7} {'theory':>7} {'off, %':>7} "
          f"{'by share':>9} {'off, %':>7} {'MiB':>7}")
    rows = []
    for k in chunks:
        seconds = statistics.median(cached[k])
        ratio = seconds / (k * one)
        theory = 1 + (1 - 1 / k) / 3
        by_share = 1 + (1 - 1 / k) * share
        rows.append({"chunks": k, "cached_seconds": seconds, "direct_seconds": k * one, "ratio": ratio, "theory": theory,
                     "theory_by_share": by_share, "peak_rss_mib": cached_memory[k]})
        print(f"{k:6d} {seconds:10.3f} {k * one:12.3f} {ratio:7.3f} {theory:7.3f} {100 * (ratio / theory - 1):7.1f} "
              f"{by_share:9.3f} {100 * (ratio / by_share - 1):7.1f} {cached_memory[k]:7.0f}")
    if arguments.out:
        json.dump({"forward_share": share, "pairs_per_chunk": size, "rows": rows}, open(arguments.out, "w"), indent=1)


if __name__ == "__main__":
    main()
