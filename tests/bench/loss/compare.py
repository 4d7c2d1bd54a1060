# SPDX-License-Identifier: Apache-2.0
"""Compares `triphase bench loss` with open_clip's ClipLoss on the same cores, one process after the other.

    tests/bench/loss/compare.py [--pairs 4096,16384] [--repeats 5] [--alone 65536] [--out FILE.json]

Run it with a Python that has torch, torchvision and open_clip_torch (3.3.0); needs build/release and an idle machine.
Each repeat is one process of either program in turn: float32 unit rows of width 512, the scale at 1/0.07, a loss and
its backward pass. Time is the second run of a process, memory what the first takes beyond the inputs (their gradients
included). Printed are medians. `--alone`: pairs at which only ours is run. Asserts nothing.
"""

import argparse
import json
import math
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[3]


def status_bytes(name):
    for line in open("/proc/self/status"):
        if line.startswith(name + ":"):
            return 1024 * int(line.split()[1])


def open_clip_figures(pairs, width):
    import torch
    from open_clip.loss import ClipLoss

    rows = [torch.nn.functional.normalize(torch.randn(pairs, width), dim=1).requires_grad_() for _ in range(2)]
    log_scale = torch.tensor(math.log(1 / 0.07), requires_grad=True)
    loss_of = ClipLoss()

    def run():
        for tensor in (*rows, log_scale):
            tensor.grad = None
        start = time.perf_counter()
        loss_of(*rows, log_scale.exp()).backward()
        return time.perf_counter() - start

    pathlib.Path("/proc/self/clear_refs").write_text("5")
    before = status_bytes("VmRSS")
    run()
    peak = status_bytes("VmHWM") - before
    return {"seconds": run(), "bytes": peak}


def theirs(arguments, pairs):
    command = [sys.executable, __file__, "--child", str(pairs), "--width", str(arguments.width)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def ours(arguments, pairs):
    with tempfile.NamedTemporaryFile(suffix=".json") as out:
        subprocess.run([ROOT / "build/release/bin/triphase", "bench", "loss", "--quiet", "--no-dense", "--pairs",
                        str(pairs), "--width", str(arguments.width), "--iterations", "1", "--out", out.name],
                       check=True, stdout=subprocess.DEVNULL)
        figures = json.load(open(out.name))
    return {"seconds": figures["tiled_seconds"], "bytes": figures["tiled_bytes"]}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", default="4096,16384")
    parser.add_argument("--alone", default="65536")
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--child", type=int)
    parser.add_argument("--out")
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(open_clip_figures(arguments.child, arguments.width)))
        return
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, width {arguments.width}, {arguments.repeats} repeats")
    print(f"{'pairs':>8} {'open_clip s':>12} {'triphase s':>12} {'ratio':>7} {'open_clip MiB':>14} {'triphase MiB':>13} "
          f"{'ratio':>7}")
    rows = []
    sizes = [(int(n), True) for n in arguments.pairs.split(",") if n]
    sizes += [(int(n), False) for n in arguments.alone.split(",") if n]
    for pairs, with_peer in sizes:
        runs = [(theirs(arguments, pairs) if with_peer else None, ours(arguments, pairs))
                for _ in range(arguments.repeats)]
        row = {"pairs": pairs, "load": os.getloadavg()[0]}
        for key in ("seconds", "bytes"):
            row[f"triphase_{key}"] = statistics.median(mine[key] for _, mine in runs)
            if with_peer:
                row[f"open_clip_{key}"] = statistics.median(peer[key] for peer, _ in runs)
        rows.append(row)
        mib = 2**20
        if with_peer:
            print(f"{pairs:8} {row['open_clip_seconds']:12.3f} {row['triphase_seconds']:12.3f} "
                  f"{row['triphase_seconds'] / row['open_clip_seconds']:7.3f} {row['open_clip_bytes'] / mib:14.1f} "
                  f"{row['triphase_bytes'] / mib:13.1f} {row['triphase_bytes'] / row['open_clip_bytes']:7.4f}", flush=True)
        else:
            print(f"{pairs:8} {'-':>12} {row['triphase_seconds']:12.3f} {'-':>7} {'-':>14} "
                  f"{row['triphase_bytes'] / mib:13.1f} {'-':>7}", flush=True)
    if arguments.out:
        pathlib.Path(arguments.out).write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
