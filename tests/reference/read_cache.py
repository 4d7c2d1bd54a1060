# SPDX-License-Identifier: Apache-2.0
"""Reads a Triphase cache (a folder or one shard) with h5py alone and checks that it is laid out as promised.

Exit code 0: as promised, 65: not (one line for each fault), 66: nothing there. Chunk and specification hashes are
checked when the package xxhash is installed; without it a line says that they were not. Caches of compression "zstd"
need the package hdf5plugin. --compare FILE: float32 voxels of volume --index of the first shard, as Triphase read
them, which must be those that h5py reads, decoded by scale and offset.
"""

import argparse
import json
import pathlib
import sys

import h5py
import numpy

try:
    import xxhash
except ImportError:
    xxhash = None
try:
    import hdf5plugin  # noqa: F401 (makes h5py know the filter)
except ImportError:
    hdf5plugin = None

ZSTD_FILTER = "32015"  # registered with The HDF Group

VOXEL_TYPES = {"uint16": "<u2", "float16": "<f2", "float32": "<f4"}
# Name: type ("text" for variable-length UTF-8) and shape, n volumes and f findings; None is free.
DATASETS = {
    "id": ("text", ("n",)), "patient_id": ("text", ("n",)), "site": ("text", ("n",)), "split": ("text", ("n",)),
    "report": ("text", ("n",)), "tokens": ("i4", ("n", None)), "token_count": ("i4", ("n",)),
    "labels": ("i1", ("n", "f")), "affine": ("f8", ("n", 4, 4)), "source_hash": ("u8", ("n",)),
    "source_bytes": ("i8", ("n",)), "source_mtime_ns": ("i8", ("n",)), "chunk_hash": ("u8", ("n",)),
}


def as_text(value):
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)


def dataset_faults(file, n, num_findings):
    """Names, types and shapes of everything but the voxels."""
    faults = []
    for name, (kind, shape) in DATASETS.items():
        if name not in file:
            faults.append(f"/{name} is missing")
            continue
        dataset = file[name]
        wanted = tuple({"n": n, "f": num_findings}.get(s, s) for s in shape)
        if len(dataset.shape) != len(wanted) or any(w not in (None, s) for w, s in zip(wanted, dataset.shape)):
            faults.append(f"/{name} has shape {dataset.shape}, not {wanted}")
        is_text = h5py.check_string_dtype(dataset.dtype) is not None
        if is_text != (kind == "text") or (not is_text and dataset.dtype != numpy.dtype(kind)):
            faults.append(f"/{name} is of type {dataset.dtype}, not {kind}")
    return faults


def value_faults(file, spec):
    """What the numbers must satisfy."""
    faults = []
    counts, tokens, labels = file["token_count"][...], file["tokens"][...], file["labels"][...]
    if (counts < 2).any() or (counts > tokens.shape[1]).any() or tokens.shape[1] > spec["max_text_tokens"]:
        faults.append("/token_count does not fit /tokens")
    elif any(len(set(tokens[i, c:].tolist())) > 1 for i, c in enumerate(counts)):
        faults.append("/tokens is not padded with one value")
    if not numpy.isin(labels, (-1, 0, 1)).all():
        faults.append("/labels holds something else than -1, 0, 1")
    affine = file["affine"][...]
    if not numpy.isfinite(affine).all() or not (affine[:, 3] == [0, 0, 0, 1]).all():
        faults.append("/affine is not an affine matrix")
    ids = [as_text(i) for i in file["id"][...]]
    if len(set(ids)) != len(ids):
        faults.append("/id is not unique")
    return faults


def volume_faults(volumes, spec, hashes):
    """One plain chunk a volume, decoded values in the output range, hashes as stored."""
    faults = []
    preprocess = spec["preprocess"]
    wanted = numpy.dtype(VOXEL_TYPES[preprocess["storage"]])
    if volumes.dtype != wanted or list(volumes.shape[1:]) != preprocess["volume_shape"]:
        return [f"/volumes is {volumes.dtype} {volumes.shape}, the specification says {preprocess}"]
    filters = {"none": [], "zstd": ["shuffle", ZSTD_FILTER]}[spec.get("compression", "none")]
    if volumes.chunks != (1, *volumes.shape[1:]) or list(volumes._filters) != filters:
        faults.append(f"/volumes is stored in chunks of {volumes.chunks} with the filters {list(volumes._filters)}")
    if filters and hdf5plugin is None:
        return faults + ["/volumes is compressed by zstd: install hdf5plugin to read it"]
    scale, offset = float(volumes.attrs["scale"]), float(volumes.attrs["offset"])
    low, high = preprocess["output_range"]
    # Padding is 0 whatever the range.
    low, high = min(low, 0), max(high, 0)
    for i in range(len(volumes)):
        stored = volumes[i]
        values = stored.astype(numpy.float64) * scale + offset
        if not numpy.isfinite(values).all() or values.min() < low - 1e-3 or values.max() > high + 1e-3:
            faults.append(f"/volumes[{i}] runs from {values.min()} to {values.max()}, outside [{low}, {high}]")
        chunk = volumes.id.read_direct_chunk((i, 0, 0, 0))[1]
        if xxhash and xxhash.xxh3_64_intdigest(chunk) != int(hashes[i]):
            faults.append(f"/volumes[{i}] does not have the hash of /chunk_hash[{i}]")
    return faults


def shard_faults(path):
    """All faults of one shard, and how many volumes it holds."""
    with h5py.File(path, "r") as file:
        missing = [a for a in ("format", "spec", "spec_hash") if a not in file.attrs]
        if missing or as_text(file.attrs["format"]) != "triphase-cache":
            return [f"not a Triphase cache (missing {missing})"], 0
        text = as_text(file.attrs["spec"])
        spec = json.loads(text)
        faults = []
        if xxhash and xxhash.xxh3_64_hexdigest(text.encode()) != as_text(file.attrs["spec_hash"]):
            faults.append("spec_hash is not the hash of spec")
        if "volumes" not in file or len(file["volumes"].shape) != 4:
            return faults + ["/volumes is missing or not of rank 4"], 0
        n = len(file["volumes"])
        findings = file["labels"].attrs.get("findings") if "labels" in file else None
        if findings is None:
            faults.append("/labels has no findings attribute")
        num_findings = findings.shape[0] if getattr(findings, "shape", None) else 0
        faults += dataset_faults(file, n, num_findings)
        if not faults:
            faults += value_faults(file, spec) + volume_faults(file["volumes"], spec, file["chunk_hash"][...])
        return faults, n


def comparison_faults(shard, index, other):
    """Decoding rounds twice in float32: to within 2^-23 of the largest value."""
    with h5py.File(shard, "r") as file:
        volumes = file["volumes"]
        values = volumes[index].astype(numpy.float64) * volumes.attrs["scale"] + volumes.attrs["offset"]
    theirs = numpy.fromfile(other, "<f4").reshape(values.shape)
    worst = float(numpy.abs(values - theirs).max())
    print(f"largest difference {worst}")
    return [] if worst <= 2.0**-22 * max(1.0, float(numpy.abs(values).max())) else [f"/volumes[{index}] differs by {worst}"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path", type=pathlib.Path, help="cache folder or shard")
    parser.add_argument("--compare", type=pathlib.Path, help="float32 voxels of one volume")
    parser.add_argument("--index", type=int, default=0)
    arguments = parser.parse_args()
    path = arguments.path
    shards = sorted(path.glob("shard-*.h5")) if path.is_dir() else [path]
    if not shards or not all(s.exists() for s in shards):
        print(f"no shard at {path}")
        sys.exit(66)
    found, total = [], 0
    if path.is_dir():
        try:
            json.loads((path / "cache.json").read_text())
        except (OSError, ValueError) as error:
            found.append(f"cache.json: {error}")
    for shard in shards:
        try:
            faults, n = shard_faults(shard)
        except (OSError, KeyError, ValueError) as error:
            faults, n = [str(error)], 0
        found += [f"{shard.name}: {fault}" for fault in faults]
        total += n
    if arguments.compare:
        found += comparison_faults(shards[0], arguments.index, arguments.compare)
    print("\n".join(found) if found else f"{len(shards)} shards, {total} volumes, laid out as promised"
          + ("" if xxhash else " (hashes not checked: no xxhash)"))
    sys.exit(65 if found else 0)


if __name__ == "__main__":
    main()
