# SPDX-License-Identifier: Apache-2.0
"""Preprocessing case by case: what MONAI makes of 768 small NIfTI files, and what torch's interpolation makes of 72.

Writes preprocess/parity.safetensors, preprocess/interpolate.safetensors and one JSON file with names beside each. The
files themselves are not kept: their headers are, and their voxels follow from a rule (see stored_voxels), drawn alike in
tests/data/parity_test.cpp. Every output has 80 voxels.
"""

import itertools
import pathlib
import tempfile

import nibabel
import numpy
import torch

from golden_io import record, save_json, save_tensors
from make_preprocess import MERLIN, PACKAGES, affine_of, rotation, run_chain

DTYPES = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float32", "float64"]
# Slope and intercept that bring each type to about -1200 ... 1400 HU.
SCALING = {"int8": (10.2, 100.0), "uint8": (10.2, -1200.0), "uint16": (1.0, -1200.0), "uint32": (1.0, -1200.0),
           "uint64": (1.0, -1200.0)}
SPACINGS = [(0.7, 0.7, 5.0), (0.9, 0.9, 2.5), (1.5, 1.5, 3.0), (1.2, 1.6, 2.5), (2.0, 2.5, 4.0), (0.75, 2.25, 4.5)]
# Of turned scans: where a size falls half-way between two, the last bit of LAPACK's solution decides how it is rounded.
TURNED_SPACINGS = [(0.7, 0.7, 5.0), (0.9, 0.9, 2.5), (1.45, 1.55, 2.9), (1.2, 1.6, 2.5), (2.0, 2.5, 4.0), (0.8, 2.2, 4.4)]
OUTPUT_SHAPES = [(5, 4, 4), (4, 5, 4), (4, 4, 5)]
PLAIN = affine_of([1.2, 1.6, 2.5])


def scrambled(seed, count):
    """`count` whole numbers of 32 bits."""
    h = (numpy.arange(count, dtype=numpy.uint64) * 2654435761 + seed * 40503 + 12345) & 0xFFFFFFFF
    h ^= h >> 15
    h = (h * 2246822519) & 0xFFFFFFFF
    return h ^ (h >> 13)


def stored_voxels(seed, shape, dtype):
    """The voxels of case `seed`, first axis fastest."""
    h = scrambled(seed, int(numpy.prod(shape)))
    hu = ((h >> 16) % 2600).astype(numpy.int64) - 1200
    if dtype == "uint8":
        values = h >> 24
    elif dtype == "int8":
        values = (h >> 24).astype(numpy.int64) - 128
    elif dtype.startswith("uint"):
        values = hu + 1200
    elif dtype.startswith("float"):
        values = hu + (h & 0xFF).astype(numpy.float64) / 256
    else:
        values = hu
    return values.astype(dtype).reshape(shape, order="F")


def header_of(shape, dtype="int16", sform=None, qform=None, codes=(0, 0), pixdim=None, slope=None, inter=None,
              big_endian=False, version=1, extra_axes=()):
    """A header with just these fields, put down as they are."""
    kind = {1: nibabel.Nifti1Header, 2: nibabel.Nifti2Header}[version]
    header = kind(endianness=">" if big_endian else "<")
    header.set_data_shape(tuple(shape) + tuple(extra_axes))
    header.set_data_dtype(dtype)
    if qform is not None:
        header.set_qform(qform, code=1, strip_shears=True)
    if sform is not None:
        header.set_sform(sform, code=1)
        if qform is None:
            header["pixdim"][1:4] = numpy.linalg.norm(numpy.asarray(sform)[:3, :3], axis=0)
    header["sform_code"], header["qform_code"] = codes
    if pixdim is not None:
        header["pixdim"][1:4] = pixdim
    usual = SCALING.get(dtype, (1.0, 0.0))
    header["scl_slope"] = usual[0] if slope is None else slope
    header["scl_inter"] = usual[1] if inter is None else inter
    header["vox_offset"] = len(header.binaryblock) + 4
    header["magic"] = {1: b"n+1", 2: b"n+2\0\r\n\x1a\n"}[version]
    return header


def orientations():
    """All 48 ways in which three axes can run along, or against, the patient's."""
    for axes in itertools.permutations(range(3)):
        for signs in itertools.product((1, -1), repeat=3):
            yield "".join("RAS"[a] if s > 0 else "LPI"[a] for a, s in zip(axes, signs)), axes, signs


def turned(axes, signs, spacing):
    matrix = numpy.zeros((3, 3))
    for column, (axis, sign) in enumerate(zip(axes, signs)):
        matrix[axis, column] = sign * spacing[column]
    return affine_of(matrix)


def monai_cases():
    """Name and arguments of header_of() for every case."""
    only_s, only_q, both = {"codes": (1, 0)}, {"codes": (0, 1)}, {"codes": (1, 1)}
    for (name, axes, signs), (number, spacing), (parity, shape) in itertools.product(
            orientations(), enumerate(SPACINGS), (("odd", (7, 5, 5)), ("even", (6, 8, 4)))):
        yield f"{name} {parity} spacing {number}", dict(shape=shape, sform=turned(axes, signs, spacing), **only_s)
    for dtype, big, scaled, version in itertools.product(DTYPES, (False, True), (False, True), (1, 2)):
        scaling = dict(slope=-0.73 if version == 2 else 1.37, inter=55.5) if scaled else {}
        if dtype in ("int8", "uint8") and scaled:
            scaling["slope"] *= 8
        order = "big" if big else "little"
        yield (f"{dtype} {order} endian, NIfTI-{version}{', scaled' if scaled else ''}",
               dict(shape=(5, 6, 5), dtype=dtype, big_endian=big, version=version, sform=PLAIN, **scaling, **only_s))
    for number in range(24):
        spacing = TURNED_SPACINGS[number % 6]
        matrix = rotation(-85 + 17.3 * number, 11.9 * (number % 7) - 30) @ numpy.diag(spacing)
        yield f"oblique {number}", dict(shape=(7, 6, 5), sform=affine_of(matrix), **only_s)
    for number in range(18):
        spacing = TURNED_SPACINGS[number % 6]
        shear = numpy.diag(spacing)
        shear[[(1, 2), (0, 1), (0, 2)][number % 3]] = 0.3 * (1 + number // 6) * (-1) ** number
        yield f"sheared {number}", dict(shape=(6, 7, 5), sform=affine_of(rotation(7 * (number // 3)) @ shear), **only_s)
    for number in range(18):
        matrix = rotation(20 * number, 15 * (number % 5)) @ numpy.diag(TURNED_SPACINGS[number % 6])
        if number % 2:
            matrix[:, 2] *= -1  # qfac -1
        yield f"qform only {number}", dict(shape=(7, 6, 5), qform=affine_of(matrix), version=1 + number % 2, **only_q)
    for number in range(16):
        spacing = TURNED_SPACINGS[number % 6]
        other = affine_of(rotation(30 * number) @ numpy.diag(spacing), (4, 5, 6))
        sform = affine_of(numpy.diag(numpy.array(spacing) * [-1, -1, 1]))
        # Both agree with pixdim: the sform counts. In every second case its columns do not: the qform does.
        if number % 2:
            sform[:3, :3] *= 1.1
        yield f"sform and qform differ {number}", dict(shape=(6, 7, 5), sform=sform, qform=other, **both)
    for number in range(16):
        spacing = numpy.array(TURNED_SPACINGS[number % 6])
        pixdim = [spacing * 1.5, (1.0, 1.0, 1.0), spacing[[1, 2, 0]], -spacing][number % 4]
        form = affine_of(numpy.diag(spacing * [-1, 1, 1]))
        kind = dict(sform=form, **only_s) if number < 8 else dict(qform=form, **only_q)
        yield f"pixdim differs {number}", dict(shape=(7, 6, 5), pixdim=pixdim, **kind)
    for number, (slope, inter) in enumerate([(0.0, 55.0), (float("nan"), 3.0), (float("inf"), 1.0), (-1.5, 0.0),
                                             (1.0, -24.5), (0.5, float(2**20)), (1e-3, -1000.0), (1.0, 0.0)]):
        yield f"slope and intercept {number}", dict(shape=(6, 6, 5), sform=PLAIN, slope=slope, inter=inter, **only_s)
    for number in range(4):  # Five axes and more MONAI's chain does not take.
        yield f"four axes {number}", dict(shape=(6, 6, 5), dtype=DTYPES[number * 3], sform=PLAIN, qform=PLAIN,
                                          extra_axes=(1,), version=1 + number % 2, **both)
    for number in range(4):
        yield f"no form {number}", dict(shape=(7, 6, 5), pixdim=SPACINGS[number])


def interpolate_cases():
    """Grids on which torch's rule is tried: sizes that grow, shrink, stay, and lose a fraction."""
    spacings = [(0.75, 0.75, 1.5), (0.7, 0.7, 1.0), (0.9, 0.9, 2.5), (1.2, 1.2, 1.2), (0.5, 0.5, 5.0), (1.5, 0.8, 3.0)]
    shapes = [(5, 4, 4), (7, 5, 5), (6, 8, 4), (4, 7, 9)]
    for (number, spacing), (place, shape), axis in itertools.product(enumerate(spacings), enumerate(shapes), range(3)):
        signs = [(1, 1, 1), (-1, -1, 1), (-1, 1, -1)][axis]
        matrix = numpy.diag(numpy.array(spacing) * signs)
        if axis == 2:
            matrix = rotation(25) @ matrix
        yield f"spacing {number} shape {place} way {axis}", dict(shape=shape, sform=affine_of(matrix), codes=(1, 0),
                                                                dtype=DTYPES[(number + place) % 10])


def write_case(path, seed, arguments):
    header = header_of(**arguments)
    dtype = arguments.get("dtype", "int16")
    order = ">" if arguments.get("big_endian") else "<"
    data = stored_voxels(seed, arguments["shape"], dtype).astype(numpy.dtype(dtype).newbyteorder(order))
    path.write_bytes(header.binaryblock + b"\0\0\0\0" + data.tobytes(order="F"))
    return header.binaryblock


def interpolated(path, spacing_mm, shape):
    """CT-CLIP's rule: clip, resize each axis to trunc(N * (s / t)), [-1, 1], crop or pad with -1 about the middle."""
    image = nibabel.load(path)
    hu = torch.from_numpy(image.get_fdata()).clamp(-1000, 1000)
    current = numpy.linalg.norm(image.affine[:3, :3], axis=0)
    size = [int(n * (s / t)) for n, s, t in zip(hu.shape, current, spacing_mm)]
    resized = torch.nn.functional.interpolate(hu[None, None], size=size, mode="trilinear", align_corners=False)[0, 0]
    scaled = (resized / 1000).to(torch.float32)
    result = torch.full(shape, -1.0)
    inside, outside = [], []
    for have, want in zip(size, shape):
        start, before = max((have - want) // 2, 0), max(want - have, 0) // 2
        inside.append(slice(start, start + min(have, want)))
        outside.append(slice(before, before + min(have, want)))
    result[tuple(outside)] = scaled[tuple(inside)]
    return result.numpy()


def packed(prefix, headers):
    """Headers as one of them and the bytes in which others differ."""
    rows = numpy.stack([numpy.frombuffer(header, dtype=numpy.uint8) for header in headers])
    columns = numpy.flatnonzero((rows != rows[0]).any(axis=0)).astype(numpy.int32)
    return {f"{prefix}.header": rows[0], f"{prefix}.columns": columns, f"{prefix}.bytes": rows[:, columns]}


def write(name, cases, expect, about):
    """Runs `expect(path, output_shape)` -> voxels, affine on every case; NIfTI-1 and NIfTI-2 are kept apart."""
    kept = {1: [], 2: []}
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "case.nii"
        for seed, (case, arguments) in enumerate(cases):
            header = write_case(path, seed, arguments)
            try:
                voxels, affine = expect(path, OUTPUT_SHAPES[seed % 3])
            except Exception as error:
                raise RuntimeError(f"case '{case}'") from error
            kept[arguments.get("version", 1)].append((case, seed, header, voxels.reshape(80), affine))
    tensors, names = {}, {}
    for version, rows in kept.items():
        if not rows:
            continue
        prefix = f"nifti{version}"
        names[prefix] = [row[0] for row in rows]
        tensors |= packed(prefix, [row[2] for row in rows])
        tensors[f"{prefix}.seed"] = numpy.array([row[1] for row in rows], dtype=numpy.int32)
        tensors[f"{prefix}.expected"] = numpy.stack([row[3] for row in rows]).astype(numpy.float32)
        if rows[0][4] is not None:
            tensors[f"{prefix}.affine"] = numpy.stack([row[4][:3] for row in rows])
    save_tensors(name, tensors, about)
    save_json(name, about | {"names": names}, indent=None)


def main():
    torch.set_num_threads(1)
    notes = {"tensors": "nifti<version>.header [H], .columns [K], .bytes [N,K]: the N headers; .seed [N] of "
                        "stored_voxels and of the output's shape; .expected [N,80]; .affine [N,3,4] of the final grid"}
    about = record(__file__, PACKAGES, notes)
    write("preprocess/parity", monai_cases(),
          lambda path, shape: run_chain(path, MERLIN | {"volume_shape": list(shape)}), about)
    write("preprocess/interpolate", interpolate_cases(),
          lambda path, shape: (interpolated(path, (0.75, 0.75, 1.5), shape), None), about)


if __name__ == "__main__":
    main()
