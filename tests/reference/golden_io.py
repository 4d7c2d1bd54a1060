# SPDX-License-Identifier: Apache-2.0
"""Writing golden files: safetensors and JSON, the same bytes whenever the same numbers come out."""

import importlib.metadata
import json
import pathlib

import numpy
from safetensors import safe_open
from safetensors.numpy import save_file

GOLDEN_FOLDER = pathlib.Path(__file__).resolve().parent.parent / "golden"


def versions(packages):
    """Installed version of each package, for the record kept in every golden file."""
    return {name: importlib.metadata.version(name) for name in packages}


def record(generator, packages, notes=None):
    """What made a golden file: script, package versions, and notes for whoever reads it."""
    return {"generator": pathlib.Path(generator).name, "packages": versions(packages), "notes": notes or {}}


def as_array(value):
    """A contiguous numpy array of a torch tensor, array or number; 0-dim stays 0-dim."""
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    return numpy.array(value, order="C", copy=True)


def save_tensors(name, tensors, about):
    """Writes golden/<name>.safetensors. `about` goes into the metadata key "golden" as one line of JSON.

    One metadata key only: the library writes several in no fixed order.
    """
    path = GOLDEN_FOLDER / f"{name}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {key: as_array(value) for key, value in tensors.items()}
    save_file(arrays, str(path), metadata={"golden": json.dumps(about, sort_keys=True)})
    print(f"{path.relative_to(GOLDEN_FOLDER)}: {len(arrays)} tensors, {path.stat().st_size} bytes")


def load_tensors(path):
    """All tensors of a safetensors file as numpy arrays, and its metadata."""
    with safe_open(str(path), framework="numpy") as file:
        return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}


def save_json(name, content, indent=1):
    """Writes golden/<name>.json: sorted keys, ASCII only (other characters escaped), numbers with all their digits."""
    path = GOLDEN_FOLDER / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(content, sort_keys=True, indent=indent, ensure_ascii=True, allow_nan=False)
    path.write_text(text + "\n")
    print(f"{path.relative_to(GOLDEN_FOLDER)}: {path.stat().st_size} bytes")


def save_json_cases(name, about, cases):
    """Writes golden/<name>.json as {"about": ..., "cases": [...]} with one case per line."""
    path = GOLDEN_FOLDER / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    line = lambda value: json.dumps(value, sort_keys=True, ensure_ascii=True, allow_nan=False)
    path.write_text('{"about": ' + line(about) + ',\n "cases": [\n' + ",\n".join(map(line, cases)) + "\n]}\n")
    print(f"{path.relative_to(GOLDEN_FOLDER)}: {len(cases)} cases, {path.stat().st_size} bytes")
