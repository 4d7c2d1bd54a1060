# SPDX-License-Identifier: Apache-2.0
"""Times `triphase cache build` beside Merlin's own way into a cache, MONAI's chain and torch.save, on the same scans.

    tests/bench/cache/compare.py [--scans 4] [--repeats 5] [--build release] [--folder DIR] [--out FILE.json]

Run it by a Python that has torch, monai, nibabel, numpy and h5py (tests/reference/requirements.txt), on an idle machine. Scans
of 512 x 512 x 180 int16 voxels, 0.8 x 0.8 x 1.5 mm, `.nii.gz` at gzip's level 6, shaped like a body with noise of 20 HU.
Both sides use one core and one thread, read the same files from the system's memory, and write a volume of 224 x 224 x 160;
the peer's start (imports) is not counted, ours (a hundredth of a second) is not either. Each repeat runs, in turn: the peer,
plain inflating of the same files (Python's zlib), ours on one rank, and ours on two ranks over twice as many scans. Printed:
medians of seconds a scan, their ratios by repeat, and the largest difference between the two sides' voxels. Asserts nothing.
"""

import argparse
import gzip
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[3]
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
MPI = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", "OMPI_MCA_rmaps_base_oversubscribe": "1"}
SHAPE, SPACING_MM = (512, 512, 180), (0.8, 0.8, 1.5)


def write_scan(path, seed):
    import nibabel
    import numpy

    draw = numpy.random.default_rng(seed)
    x, y, z = (numpy.linspace(-1, 1, n, dtype=numpy.float32) for n in SHAPE)
    radius = (x[:, None, None] / 0.8) ** 2 + (y[None, :, None] / 0.6) ** 2 + 0.1 * z[None, None, :] ** 2
    hu = numpy.where(radius < 1, 60 - 40 * radius, -1000).astype(numpy.float32)
    hu += draw.normal(0, 20, SHAPE).astype(numpy.float32)
    image = nibabel.Nifti1Image(hu.round().astype(numpy.int16), numpy.diag([*SPACING_MM, 1]))
    path.write_bytes(gzip.compress(image.to_bytes(), 6))


def write_inputs(folder, count):
    """`count` scans and twice as many rows: the second half are copies, which cost the same to read."""
    rows = ["id,patient_id,site,split,image,report"]
    for i in range(count):
        path = folder / f"scan{i}.nii.gz"
        write_scan(path, i)
        (folder / f"scan{count + i}.nii.gz").write_bytes(path.read_bytes())
    for n, name in ((count, "one.csv"), (2 * count, "two.csv")):
        lines = rows + [f"s{i},p{i},site,train,scan{i}.nii.gz,The liver is normal." for i in range(n)]
        (folder / name).write_text("\n".join(lines) + "\n")
    return [folder / f"scan{i}.nii.gz" for i in range(count)]


def peer(out, scans):
    """Merlin's transforms and cache file for each scan. Prints seconds a scan."""
    import shutil

    import torch
    from monai.transforms import (CenterSpatialCropd, Compose, EnsureChannelFirstd, LoadImaged, Orientationd,
                                  ScaleIntensityRanged, Spacingd, SpatialPadd, ToTensord)

    torch.set_num_threads(1)
    key, size = "image", [224, 224, 160]
    chain = Compose([
        LoadImaged(keys=key), EnsureChannelFirstd(keys=key), Orientationd(keys=key, axcodes="RAS"),
        Spacingd(keys=key, pixdim=(1.5, 1.5, 3), mode="bilinear"),
        ScaleIntensityRanged(keys=key, a_min=-1000, a_max=1000, b_min=0, b_max=1, clip=True),
        SpatialPadd(keys=key, spatial_size=size), CenterSpatialCropd(keys=key, roi_size=size), ToTensord(keys=key)])
    chain({key: scans[0]})  # what is loaded on first use is not counted
    seconds = []
    for i, scan in enumerate(scans):
        start = time.perf_counter()
        result = chain({key: scan})
        torch.save(result, out / "unfinished")
        shutil.move(out / "unfinished", out / f"{i}.pt")
        seconds.append(time.perf_counter() - start)
    print(json.dumps(seconds))


def time_peer(python, scans, out):
    out.mkdir(exist_ok=True)
    command = ["taskset", "-c", "0", python, "-W", "ignore", __file__, "--peer", out, *scans]
    result = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=os.environ | ONE_THREAD)
    if result.returncode != 0:  # it has said why
        sys.exit(f"the peer ended with {result.returncode}")
    return sum(json.loads(result.stdout.splitlines()[-1]))


def time_inflate(scans):
    start = time.perf_counter()
    for scan in scans:
        gzip.decompress(scan.read_bytes())
    return time.perf_counter() - start


def time_ours(program, manifest, tokenizer, out, ranks):
    subprocess.run(["rm", "-rf", out], check=True)
    launch = ["mpirun", "-np", str(ranks), "--bind-to", "core"] if ranks > 1 else ["taskset", "-c", "0"]
    command = [*launch, program, "cache", "build", "--quiet", "--manifest", manifest, "--tokenizer", tokenizer, "--out", out]
    result = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ | ONE_THREAD | MPI)
    return float(re.search(r"^\s*seconds\s+([\d.]+)", result.stdout, re.M).group(1))


def largest_difference(peer_folder, cache, count):
    import h5py
    import torch

    worst = 0.0
    for shard in sorted(cache.glob("shard-*.h5")):
        with h5py.File(shard) as file:
            scale, offset = file["volumes"].attrs["scale"], file["volumes"].attrs["offset"]
            for row, name in enumerate(file["id"].asstr()[:]):
                if int(name[1:]) >= count:
                    continue
                theirs = torch.load(peer_folder / f"{name[1:]}.pt", weights_only=False)["image"][0].numpy()
                worst = max(worst, float(abs(file["volumes"][row] * scale + offset - theirs).max()))
    return worst


def median(values):
    return statistics.median(values)


def report(found, count, difference):
    per_scan = {name: [seconds / (2 * count if name == "two ranks" else count) for seconds in repeats]
                for name, repeats in found.items()}
    for name, seconds in per_scan.items():
        print(f"{name:10} {median(seconds):8.3f} s a scan   ({min(seconds):.3f} to {max(seconds):.3f})")
    against = [a / b for a, b in zip(per_scan["peer"], per_scan["ours"])]
    scaling = [a / b for a, b in zip(per_scan["ours"], per_scan["two ranks"])]
    print(f"ours is {median(against):.2f} times as fast as the peer ({min(against):.2f} to {max(against):.2f})")
    print(f"two ranks are {median(scaling):.2f} times as fast as one ({min(scaling):.2f} to {max(scaling):.2f})")
    print(f"largest difference of a voxel: {difference:.2e} of the range (uint16 storage alone: {1 / 131070:.2e})")
    return {"seconds_per_scan": per_scan, "speedup": against, "scaling": scaling, "largest_difference": difference}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scans", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--build", default="release")
    parser.add_argument("--folder", type=pathlib.Path, help="where scans and caches are made and deleted")
    parser.add_argument("--tokenizer", type=pathlib.Path, default=ROOT / "tests/golden/tokenizer/small")
    parser.add_argument("--out", type=pathlib.Path)
    parser.add_argument("--peer", nargs="+", type=pathlib.Path, help=argparse.SUPPRESS)  # its folder, then scans
    arguments = parser.parse_args()
    if arguments.peer:
        return peer(arguments.peer[0], arguments.peer[1:])
    count = arguments.scans
    program = ROOT / "build" / arguments.build / "bin" / "triphase"
    found = {name: [] for name in ("peer", "inflate", "ours", "two ranks")}
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = pathlib.Path(name)
        scans = write_inputs(folder, count)
        for _ in range(arguments.repeats):
            found["peer"].append(time_peer(sys.executable, scans, folder / "peer"))
            found["inflate"].append(time_inflate(scans))
            found["ours"].append(time_ours(program, folder / "one.csv", arguments.tokenizer, folder / "cache", 1))
            found["two ranks"].append(time_ours(program, folder / "two.csv", arguments.tokenizer, folder / "cache2", 2))
        figures = report(found, count, largest_difference(folder / "peer", folder / "cache", count))
    if arguments.out:
        arguments.out.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
