# SPDX-License-Identifier: Apache-2.0
"""Compares `triphase bench step` with merlin-vlm + peft + transformers on the same cores, one case after the other.

    tests/bench/step/compare.py [--repeats 2] [--cases image_full_float32,...] [--out FILE.json]
    tests/bench/step/compare.py --device cuda --volume 224,224,160 --cases both_full_bfloat16,both_full_tf32

Run it with a Python that has tests/reference/requirements.txt; needs build/release and an idle machine. Each case
alternates between both programs; every process times --iterations steps (5) after one that warms up. Printed are
the median over all steps, the ratio of medians, and the greatest resident memory of each (on a GPU: of its memory).
There, tf32 stands for float32 whose products are rounded to TensorFloat-32, on both sides. Then what limits each: the
arithmetic that the step cannot do without, as a share of what a large matrix product reaches on the same cores, and the
operators that take most of our step. Asserts nothing.
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

import torch

import merlin_step

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[2]
# Targets of the project: Python's step over ours.
TARGETS = {"image_full_float32": 1.7, "image_peft_float32": 2, "image_peft_bfloat16": 4, "text_full_float32": 4.5,
           "text_full_bfloat16": 9, "both_full_float32": 2.2, "both_full_bfloat16": 5}


def memory_mib(figures):
    return figures.get("peak_gpu_mib") or figures["peak_rss_mib"]


def ours(part, method, compute, arguments, recompute="none"):
    extra = ["--tf32"] if compute == "tf32" else []
    with tempfile.NamedTemporaryFile(suffix=".json") as out:
        # Text tokens are the same number; full fine-tuning normalises with batch statistics as merlin-vlm does.
        run = subprocess.run(
            [arguments.program, "bench", "step", "--quiet", "--preset", "merlin", "--part", part,
             "--method", method, "--rank", "8", "--pairs", str(arguments.pairs), "--volume", arguments.volume,
             "--tokens", "300", "--device", arguments.device, *extra,
             "--compute", compute.replace("tf32", "float32"), "--memory-format", "channels_last_3d", "--recompute", recompute, "--batch-norm",
             "local" if method == "full" else "frozen", "--iterations", str(arguments.iterations), "--operators",
             "--out", out.name],
            stdout=subprocess.DEVNULL)
        if run.returncode != 0:  # it has said why; a GPU's memory may be too small for a mode
            return math.nan, math.nan, []
        figures = json.load(open(out.name))
    return figures["seconds"]["step"], memory_mib(figures), figures["operators"]


def theirs(part, method, compute, arguments):
    extra = ["--tf32"] if compute == "tf32" else []
    run = subprocess.run(
        [sys.executable, HERE / "merlin_step.py", "--part", part, "--method", method, "--compute", compute.replace("tf32", "float32"),
         "--pairs", str(arguments.pairs), "--device", arguments.device, *extra, "--volume", arguments.volume, "--iterations", str(arguments.iterations)],
        capture_output=True, text=True)
    if run.returncode != 0:
        print(run.stderr[-500:], file=sys.stderr)
        return math.nan, math.nan
    figures = json.loads(run.stdout.splitlines()[-1])
    return figures["seconds"], memory_mib(figures)


def needed_flop(part, method, arguments):
    """Operations of the convolutions and matrix products of one step, two for each multiply-add.

    Forward once, the gradient of the inputs as much again, and in full fine-tuning that of the weights, too. Padding,
    recomputation, norms and the adapters' own products are left out.
    """
    forward = 0
    if part != "text":
        from torch.utils.flop_counter import FlopCounterMode
        with torch.device("meta"):
            tower = merlin_step.Image().eval()
            volumes = torch.empty(arguments.pairs, 1, *[int(n) for n in arguments.volume.split(",")])
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            tower(volumes)
        forward += counter.get_total_flops()
    if part != "image":
        tokens, width, layers = 300, 768, 12
        forward += arguments.pairs * layers * tokens * (2 * (4 * width**2 + 8 * width**2) + 4 * tokens * width)
    return forward * (3 if method == "full" else 2)


def product_flop_per_second(compute, device):
    """What a product of two 4,096 x 4,096 matrices reaches: median of five."""
    torch.backends.cuda.matmul.allow_tf32 = compute == "tf32"
    a = torch.randn(4096, 4096, device=device).to(getattr(torch, compute.replace("tf32", "float32")))
    seconds = []
    for _ in range(6):
        begin = time.perf_counter()
        float((a @ a)[0, 0])  # waits for a GPU, too
        seconds.append(time.perf_counter() - begin)
    return 2 * 4096**3 / statistics.median(seconds[1:])


def print_limits(rows):
    print(f"\n{'case':22} {'needed':>10} {'ours':>12} {'product':>12} {'share':>6}  our operators")
    for row in rows:
        reached = row["needed_flop"] / row["triphase_seconds"]
        total = sum(one["seconds"] for one in row["operators"]) or 1
        longest = ", ".join(f"{one['name'].removeprefix('aten::')} {100 * one['seconds'] / total:.0f} %"
                            for one in row["operators"][:4])
        print(f"{row['case']:22} {row['needed_flop'] / 1e9:5.0f} GFLOP {reached / 1e9:5.0f} GFLOP/s "
              f"{row['product_flop_per_second'] / 1e9:5.0f} GFLOP/s {100 * reached / row['product_flop_per_second']:4.0f} %"
              f"  {longest}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--iterations", type=int, default=5)
    parser.add_argument("--pairs", type=int, default=2)
    parser.add_argument("--volume", default="112,112,80")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--program", type=pathlib.Path, default=ROOT / "build/release/bin/triphase")
    parser.add_argument("--cases", default=",".join(TARGETS))
    parser.add_argument("--out")
    arguments = parser.parse_args()
    print(f"{os.cpu_count()} cores, OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', 'unset')}, "
          f"[{arguments.pairs},1,{arguments.volume}], {arguments.pairs} x 300 tokens, {arguments.device}")
    print(f"{'case':22} {'merlin-vlm':>12} {'triphase':>12} {'ratio':>7} {'target':>7} {'their MiB':>10} "
          f"{'our MiB':>9} {'blocks MiB':>10} {'blocks s':>9}")
    rows = []
    computes = {case.split("_")[2] for case in arguments.cases.split(",")}
    peaks = {compute: product_flop_per_second(compute, arguments.device) for compute in computes}
    for case in arguments.cases.split(","):
        part, method, compute = case.split("_")
        pairs = [(theirs(part, method, compute, arguments), ours(part, method, compute, arguments))
                 for _ in range(arguments.repeats)]
        blocks = ours(part, method, compute, arguments, "blocks")
        python = statistics.median(p[0][0] for p in pairs)
        cpp = statistics.median(p[1][0] for p in pairs)
        row = {"case": case, "python_seconds": python, "triphase_seconds": cpp, "ratio": python / cpp,
               "target": TARGETS.get(case), "python_mib": max(p[0][1] for p in pairs),
               "triphase_mib": max(p[1][1] for p in pairs), "triphase_blocks_mib": blocks[1],
               "triphase_blocks_seconds": blocks[0],
               "needed_flop": needed_flop(part, method, arguments), "product_flop_per_second": peaks[compute],
               "operators": pairs[-1][1][2]}
        rows.append(row)
        print(f"{case:22} {python:10.3f} s {cpp:10.3f} s {row['ratio']:7.2f} {row['target'] or 0:7.1f} "
              f"{row['python_mib']:10.0f} {row['triphase_mib']:9.0f} {blocks[1]:10.0f} {blocks[0]:9.3f}", flush=True)
    print_limits(rows)
    if arguments.out:
        pathlib.Path(arguments.out).write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
