# SPDX-License-Identifier: Apache-2.0
"""Measures building and reading a cache with `triphase bench data`, at 1 and 2 ranks, with and without compression.

    tests/bench/cache/measure.py [--volumes 24] [--repeats 5] [--build release] [--out FILE.json] [--folder DIR]

Needs build/release and an idle machine; the cache (16 MB a volume, merlin's grid, made of a phantom cohort) should fit
into the memory that the system keeps files in, or the disk is what is measured. Each repeat runs every case once, in
turn; printed are medians over the repeats. Asserts nothing.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[3]
MPI = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", "OMPI_MCA_rmaps_base_oversubscribe": "1",
       "OMPI_MCA_hwloc_base_binding_policy": "none", "OMP_NUM_THREADS": "1"}
# Column: where in the JSON of `bench data`.
COLUMNS = {"build/s": ("build", "volumes_per_second"), "MB": ("stored_bytes_per_volume",),
           "pread ms": ("pread", "milliseconds_per_volume"), "read ms": ("read", "milliseconds_per_volume"),
           "of pread": ("read_over_pread",), "loader/s": ("loader", "volumes_per_second"), "wait %": ("wait", "share")}


def run(program, ranks, *arguments):
    command = (["mpirun", "-np", str(ranks)] if ranks > 1 else []) + [program, *map(str, arguments)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=os.environ | MPI)


def figure(figures, path):
    for key in path:
        figures = figures[key]
    return figures


def make_cohort(program, folder, volumes):
    """So many studies of a phantom cohort, which has a few sites with so many patients each."""
    run(program, 1, "phantom", "--quiet", "--patients", -(-volumes // 3), "--out", folder / "cohort")
    manifest = folder / "cohort" / "manifest.csv"
    rows = manifest.read_text().splitlines(keepends=True)
    manifest.write_text("".join(rows[: volumes + 1]))
    return manifest


def measure(program, folder, arguments):
    manifest = make_cohort(program, folder, arguments.volumes)
    cases = [(compression, ranks) for compression in ("none", "zstd") for ranks in (1, 2)]
    for compression in ("none", "zstd"):
        run(program, 2, "cache", "build", "--quiet", "--manifest", manifest, "--out", folder / compression,
            "--preset", "merlin", "--set", f"cache.compression={compression}")
    found = {case: [] for case in cases}
    for _ in range(arguments.repeats):
        for compression, ranks in cases:
            out = folder / "figures.json"
            run(program, ranks, "bench", "data", "--cache", folder / compression, "--batch", 4, "--step-ms", 100,
                "--manifest", manifest, "--scratch", folder, "--out", out)
            found[compression, ranks].append(json.loads(out.read_text()))
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--volumes", type=int, default=24)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--build", default="release")
    parser.add_argument("--folder", type=pathlib.Path, help="where the cohort and caches are made and deleted")
    parser.add_argument("--out", type=pathlib.Path)
    arguments = parser.parse_args()
    program = ROOT / "build" / arguments.build / "bin" / "triphase"
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        found = measure(program, pathlib.Path(folder), arguments)
    print(f"{'':12}" + "".join(f"{name:>10}" for name in COLUMNS))
    summary = {}
    for (compression, ranks), repeats in found.items():
        row = {name: statistics.median(figure(figures, path) for figures in repeats) for name, path in COLUMNS.items()}
        row["MB"] /= 1e6
        row["wait %"] *= 100
        summary[f"{compression}, {ranks}"] = row
        print(f"{compression + ', ' + str(ranks):12}" + "".join(f"{value:10.2f}" for value in row.values()))
    for compression in ("none", "zstd"):
        one, two = (summary[f"{compression}, {ranks}"]["build/s"] for ranks in (1, 2))
        print(f"{compression}: two ranks build {two / one:.2f} times as fast as one")
    if arguments.out:
        arguments.out.write_text(json.dumps(summary, indent=1) + "\n")


if __name__ == "__main__":
    main()
