# SPDX-License-Identifier: Apache-2.0
"""Times our all-reduce beside MPI_Allreduce alone and torch.distributed's gloo, float32 sums.

    tests/bench/collectives/compare.py [--ranks 2] [--repeats 5] [--iterations 21] [--build release] [--out FILE.json]

Run it with a Python that has torch; needs a build, mpicxx, and an idle machine with a core for each rank. In each repeat the
three programs take turns; a figure is the median over repeats of a process's median over iterations, of the slowest rank.
Printed are microseconds and how many times as fast ours is. Asserts nothing.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[2]
SIZES = [4 * 1024 * 4**k for k in range(8)]  # 4 KiB to 64 MiB
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "OMPI_MCA_hwloc_base_binding_policy": "core"}


def mpirun(ranks, command):
    command = ["mpirun", "-np", str(ranks), *map(str, command)]
    return subprocess.run(command, check=True, capture_output=True, text=True, env=ENVIRONMENT).stdout


def ours(arguments, folder):
    out = folder / "ours.json"
    mpirun(arguments.ranks, [ROOT / f"build/{arguments.build}/bin/triphase", "bench", "collectives", "--quiet", "--min-bytes",
                             SIZES[0], "--max-bytes", SIZES[-1], "--factor", 4, "--iterations", arguments.iterations,
                             "--out", out])
    return [t["seconds"] for t in json.loads(out.read_text())["timings"] if t["operation"] == "all_reduce"]


def raw(arguments, folder):
    lines = mpirun(arguments.ranks, [folder / "raw_mpi", arguments.iterations, *SIZES]).splitlines()
    return [float(line.split()[1]) for line in lines]


def gloo_rank(rank, arguments, folder):
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[rank % os.cpu_count()]})
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=arguments.ranks)
    medians = []
    for size in SIZES:
        values = torch.zeros(size // 4)
        times = []
        for k in range(arguments.iterations + 1):
            dist.barrier()
            start = time.perf_counter()
            dist.all_reduce(values)
            seconds = torch.tensor(time.perf_counter() - start, dtype=torch.float64)
            dist.all_reduce(seconds, dist.ReduceOp.MAX)
            if k > 0:
                times.append(seconds.item())
        medians.append(statistics.median(times))
    if rank == 0:
        (folder / "gloo.json").write_text(json.dumps(medians))
    dist.barrier()
    dist.destroy_process_group()  # or a thread of gloo's may abort the process as it ends


def gloo(arguments, folder):
    import torch.multiprocessing as processes

    (folder / "meet").unlink(missing_ok=True)
    processes.spawn(gloo_rank, (arguments, folder), nprocs=arguments.ranks)
    return json.loads((folder / "gloo.json").read_text())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--iterations", type=int, default=21)
    parser.add_argument("--build", default="release")
    parser.add_argument("--out")
    arguments = parser.parse_args()
    programs = {"ours": ours, "raw": raw, "gloo": gloo}
    found = {name: [] for name in programs}
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        subprocess.run(["mpicxx", "-O2", HERE / "raw_mpi.cpp", "-o", folder / "raw_mpi"], check=True)
        for repeat in range(arguments.repeats):
            for program, run in programs.items():
                found[program].append(run(arguments, folder))
            print(f"repeat {repeat + 1} of {arguments.repeats}", file=sys.stderr)
    medians = {name: [statistics.median(times) for times in zip(*runs)] for name, runs in found.items()}
    print(f"{'bytes':>10} {'ours us':>10} {'raw us':>10} {'gloo us':>10} {'raw/ours':>9} {'gloo/ours':>9}")
    for size, mine, mpi, their in zip(SIZES, medians["ours"], medians["raw"], medians["gloo"]):
        print(f"{size:>10} {mine * 1e6:>10.1f} {mpi * 1e6:>10.1f} {their * 1e6:>10.1f} {mpi / mine:>9.2f} {their / mine:>9.2f}")
    if arguments.out:
        figures = {"ranks": arguments.ranks, "bytes": SIZES, "seconds": medians, "runs": found}
        pathlib.Path(arguments.out).write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
