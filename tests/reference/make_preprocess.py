# SPDX-License-Identifier: Apache-2.0
"""Preprocessing: MONAI's own transforms in Merlin's order, on small made-up NIfTI files and on real scans.

Writes nifti/*.nii[.gz], preprocess/files.safetensors + preprocess/files.json (those files, read and preprocessed),
preprocess/volumes.safetensors + preprocess/volumes.json (volumes without a file: all 48 orientations, and sizes and
spacings drawn at random), and, when --scans names a folder, preprocess/scans.safetensors + preprocess/scans.json
(samples of each *.nii.gz there under Merlin's preset).
"""

import argparse
import gzip
import hashlib
import itertools
import pathlib
import tempfile
import warnings

import monai.transforms as mt
import nibabel
import numpy
import torch

from golden_io import GOLDEN_FOLDER, record, save_json, save_tensors

PACKAGES = ["monai", "nibabel", "numpy", "torch"]
MERLIN = {"spacing_mm": [1.5, 1.5, 3.0], "volume_shape": [224, 224, 160], "window_hu": [-1000, 1000],
          "output_range": [0, 1]}
TARGETS = {
    "small": MERLIN | {"volume_shape": [10, 9, 8]},
    "other": {"spacing_mm": [2.0, 1.25, 1.75], "volume_shape": [7, 12, 9], "window_hu": [-160, 240],
              "output_range": [-1, 1]},
}


def merlin_chain(options):
    """Merlin's monai_transforms.py with its numbers as arguments (ToTensord left out: it changes no value)."""
    low, high = options["window_hu"]
    to_low, to_high = options["output_range"]
    keys = ["image"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return mt.Compose([
            mt.LoadImaged(keys), mt.EnsureChannelFirstd(keys), mt.Orientationd(keys, axcodes="RAS"),
            mt.Spacingd(keys, pixdim=tuple(options["spacing_mm"]), mode="bilinear"),
            mt.ScaleIntensityRanged(keys, a_min=low, a_max=high, b_min=to_low, b_max=to_high, clip=True),
            mt.SpatialPadd(keys, spatial_size=options["volume_shape"]),
            mt.CenterSpatialCropd(keys, roi_size=options["volume_shape"])])


def run_chain(path, options):
    """Expected voxels [X,Y,Z] float32 and affine 4x4 float64 of the new grid (pad and crop included)."""
    image = merlin_chain(options)({"image": str(path)})["image"]
    assert image.dtype == torch.float32 and list(image.shape) == [1, *options["volume_shape"]]
    return image.as_tensor()[0].contiguous().numpy(), image.affine.numpy().astype(numpy.float64)


def rotation(degrees_z, degrees_x=0.0):
    """A turn about z, then about x."""
    z, x = numpy.deg2rad([degrees_z, degrees_x])
    about_z = numpy.array([[numpy.cos(z), -numpy.sin(z), 0], [numpy.sin(z), numpy.cos(z), 0], [0, 0, 1]])
    about_x = numpy.array([[1, 0, 0], [0, numpy.cos(x), -numpy.sin(x)], [0, numpy.sin(x), numpy.cos(x)]])
    return about_x @ about_z


def affine_of(matrix, offset=(-7.25, 3.5, 11.0)):
    """4x4 from a 3x3 matrix (or three spacings) and the first voxel's place."""
    matrix = numpy.asarray(matrix, dtype=float)
    result = numpy.eye(4)
    result[:3, :3] = numpy.diag(matrix) if matrix.ndim == 1 else matrix
    result[:3, 3] = offset
    return result


def hounsfield(random, shape):
    """A smooth field plus noise, from about -1150 to 1350, so that the window clips at both ends."""
    grid = numpy.meshgrid(*[numpy.linspace(0, 1, n) for n in shape], indexing="ij")
    smooth = numpy.sin(5 * grid[0] + 1) * numpy.cos(4 * grid[1]) + 0.5 * grid[2]
    return 700 * smooth + 250 * random.standard_normal(shape)


def write_nifti(path, stored, sform=None, qform=None, codes=(0, 0), pixdim=None, slope=numpy.nan, inter=numpy.nan,
                big_endian=False, version=1, extension=b"", trailing_axis=False):
    """A file with just these header fields. `codes`: sform_code, qform_code. `pixdim` overrides the spacing, which is
    else the qform's, else the column norms of the sform. nibabel makes the header; the bytes are put down here, so
    that it repairs nothing."""
    header = {1: nibabel.Nifti1Header, 2: nibabel.Nifti2Header}[version](endianness=">" if big_endian else "<")
    header.set_data_shape(stored.shape + ((1,) if trailing_axis else ()))
    header.set_data_dtype(stored.dtype)
    if qform is not None:
        header.set_qform(qform, code=codes[1], strip_shears=True)
    if sform is not None:
        header.set_sform(sform, code=codes[0])
        if qform is None and pixdim is None:
            pixdim = numpy.linalg.norm(numpy.asarray(sform)[:3, :3], axis=0)
    header["sform_code"], header["qform_code"] = codes
    if pixdim is not None:
        header["pixdim"][1:4] = pixdim
    header["scl_slope"], header["scl_inter"] = slope, inter
    padding = b"\0\0\0\0"
    if extension:
        # esize counts itself, ecode and data, and is a multiple of 16; code 6 is a plain comment.
        size = (8 + len(extension) + 15) // 16 * 16
        order = ">" if big_endian else "<"
        padding = (b"\1\0\0\0" + numpy.array([size, 6], dtype=order + "i4").tobytes()
                   + extension.ljust(size - 8, b"\0"))
    header["vox_offset"] = len(header.binaryblock) + len(padding)
    header["magic"] = {1: b"n+1", 2: b"n+2\0\r\n\x1a\n"}[version]
    data = stored.astype(stored.dtype.newbyteorder(">" if big_endian else "<")).tobytes(order="F")
    content = header.binaryblock + padding + data
    path.write_bytes(gzip.compress(content, mtime=0) if path.name.endswith(".gz") else content)


def nifti_files(random):
    """Name and arguments of write_nifti for every small file."""
    def hu(shape, dtype="int16"):
        return numpy.round(hounsfield(random, shape)).astype(dtype)

    plain = affine_of([1.2, 1.6, 2.5])
    turned = affine_of(rotation(12, -9) @ numpy.diag([0.9, 1.7, 2.2]))
    steep = affine_of(rotation(40, 25) @ numpy.diag([-1.4, 1.1, 2.6]))
    shear = affine_of(numpy.array([[1.3, 0.25, 0.1], [0, 1.6, -0.2], [0, 0, 2.4]]))
    tilt = affine_of(numpy.array([[1.5, 0, 0], [0, 1.5, 0.6], [0, 0, 2.939387691339814]]))
    lps = affine_of([-1.2, -1.6, 2.5])
    sform, qform = {"codes": (1, 0)}, {"codes": (0, 1)}
    return {
        # Types and their scaling.
        "int16.nii": dict(stored=hu((9, 7, 5)), sform=plain, **sform),
        "int16_gz.nii.gz": dict(stored=hu((10, 8, 6)), sform=plain, **sform),
        "uint8_slope.nii.gz": dict(stored=random.integers(0, 256, (9, 8, 7)).astype("uint8"), sform=plain, slope=9.3,
                                   inter=-1100.0, **sform),
        "int8_slope.nii.gz": dict(stored=random.integers(-128, 128, (8, 8, 5)).astype("int8"), sform=plain, slope=8.5,
                                  inter=100.0, **sform),
        "uint16_inter.nii.gz": dict(stored=(hu((9, 9, 6)) + 1200).clip(0).astype("uint16"), sform=plain, slope=1.0,
                                    inter=-1200.0, **sform),
        "int32.nii.gz": dict(stored=hu((7, 9, 6), "int32"), sform=plain, **sform),
        "uint32_slope.nii.gz": dict(stored=random.integers(0, 2**32, (6, 7, 5)).astype("uint32"), sform=plain,
                                    slope=6e-7, inter=-1150.0, **sform),
        "int64.nii.gz": dict(stored=hu((6, 7, 5), "int64"), sform=plain, **sform),
        "float32.nii.gz": dict(stored=hounsfield(random, (9, 7, 6)).astype("float32"), sform=plain, **sform),
        "float32_slope.nii.gz": dict(stored=hounsfield(random, (7, 7, 6)).astype("float32"), sform=plain, slope=0.37,
                                     inter=-12.7, **sform),
        "float64.nii.gz": dict(stored=hounsfield(random, (8, 7, 5)), sform=plain, **sform),
        "slope_zero.nii.gz": dict(stored=hu((7, 6, 5)), sform=plain, slope=0.0, inter=55.0, **sform),
        "slope_negative.nii.gz": dict(stored=hu((7, 6, 5)), sform=plain, slope=-0.5, inter=20.0, **sform),
        # Byte order and layout.
        "big_endian.nii": dict(stored=hu((9, 7, 5)), sform=plain, big_endian=True, slope=0.8, inter=-30.0, **sform),
        "big_endian_float32.nii.gz": dict(stored=hounsfield(random, (7, 8, 5)).astype("float32"), qform=turned,
                                          big_endian=True, **qform),
        "extension.nii": dict(stored=hu((8, 7, 5)), sform=plain, extension=b"made-up comment", **sform),
        "nifti2.nii.gz": dict(stored=hu((8, 7, 6)), sform=turned, qform=turned, version=2, codes=(1, 1)),
        "nifti2_big_endian.nii": dict(stored=hu((5, 7, 6)), sform=plain, version=2, big_endian=True, **sform),
        # With an sform alone MONAI takes a 4-D file's translation for a fourth spacing and falls back to the empty
        # qform. With both forms it keeps the sform.
        "trailing_axis.nii.gz": dict(stored=hu((8, 7, 6)), sform=lps, qform=lps, trailing_axis=True, codes=(1, 1)),
        # Which affine.
        "qform_only.nii.gz": dict(stored=hu((9, 8, 6)), qform=turned, **qform),
        "qform_flipped.nii.gz": dict(stored=hu((9, 8, 6)), qform=affine_of(
            rotation(170, 10) @ numpy.diag([1.1, 1.4, -2.0])), **qform),
        "both_differ.nii.gz": dict(stored=hu((9, 8, 6)), sform=plain, qform=affine_of([-1.2, -1.6, 2.5], (4, 5, 6)),
                                   codes=(2, 1)),
        "neither.nii.gz": dict(stored=hu((9, 8, 6)), pixdim=[1.3, 1.8, 2.6]),
        "pixdim_wrong_no_qform.nii.gz": dict(stored=hu((9, 8, 6)), sform=lps, pixdim=[1.0, 1.0, 1.0], **sform),
        "pixdim_wrong_qform.nii.gz": dict(stored=hu((9, 8, 6)), sform=plain, qform=affine_of(
            rotation(8) @ numpy.diag([-1.4, 1.5, 2.0])), codes=(1, 1)),
        # Orientation and geometry.
        "lps.nii.gz": dict(stored=hu((11, 9, 6)), sform=lps, **sform),
        "las.nii.gz": dict(stored=hu((11, 10, 7)), sform=affine_of([-0.9, 0.9, 2.0]), **sform),
        "coronal_pir.nii.gz": dict(stored=hu((8, 6, 11)), sform=affine_of(
            numpy.array([[0, 0, 1.1], [-1.3, 0, 0], [0, -2.7, 0]])), **sform),
        "sagittal_asl.nii.gz": dict(stored=hu((9, 12, 5)), sform=affine_of(
            numpy.array([[0, 0, -2.2], [1.4, 0, 0], [0, 1.9, 0]])), **sform),
        "oblique.nii.gz": dict(stored=hu((10, 9, 7)), sform=turned, **sform),
        "oblique_steep.nii.gz": dict(stored=hu((11, 10, 7)), sform=steep, **sform),
        "sheared.nii.gz": dict(stored=hu((10, 9, 7)), sform=shear, **sform),
        "gantry_tilt.nii.gz": dict(stored=hu((9, 9, 8)), sform=tilt, **sform),
        "thick_slices.nii.gz": dict(stored=hu((14, 11, 3)), sform=affine_of([0.7, 0.7, 8.0]), **sform),
        "thin_slices.nii.gz": dict(stored=hu((6, 5, 14)), sform=affine_of([2.2, 2.2, 0.6]), **sform),
        "large.nii.gz": dict(stored=hu((14, 11, 8)), sform=affine_of([2.0, 2.5, 4.0]), **sform),
        "spacing_kept.nii.gz": dict(stored=hu((9, 11, 8)), sform=affine_of([1.5, 1.5, 3.0]), **sform),
        "spacing_almost.nii.gz": dict(stored=hu((9, 11, 8)), sform=affine_of([1.5006, 1.4993, 3.0008]), **sform),
        "spacing_not_quite.nii.gz": dict(stored=hu((9, 11, 8)), sform=affine_of([1.5025, 1.4975, 3.004]), **sform),
        "slight_shear.nii.gz": dict(stored=hu((9, 8, 8)), sform=affine_of(
            numpy.array([[1.5, 0, 0], [0, 1.5, 0.0021], [0, 0, 3.0]])), **sform),
        # Affines differ by more than 1e-3, index to index they do not: left as it is.
        "slight_shear_kept.nii.gz": dict(stored=hu((9, 8, 2)), sform=affine_of(
            numpy.array([[1.5, 0, 0], [0, 1.5, 0.0012], [0, 0, 3.0]])), **sform),
        "one_slice.nii.gz": dict(stored=hu((9, 8, 1)), sform=plain, **sform),
        "half_to_even.nii.gz": dict(stored=hu((4, 6, 3)), sform=affine_of([0.75, 0.75, 4.5]), **sform),
    }


def write_files():
    """The small files and what MONAI makes of them."""
    random = numpy.random.default_rng(21)
    folder = GOLDEN_FOLDER / "nifti"
    folder.mkdir(parents=True, exist_ok=True)
    tensors, cases = {}, {}
    for name, arguments in nifti_files(random).items():
        path = folder / name
        write_nifti(path, **arguments)
        case = name.split(".")[0]
        image = nibabel.load(path)
        loaded = mt.LoadImage()(str(path))
        raw = loaded.as_tensor().numpy().reshape(image.shape[:3])
        scaled = numpy.asarray(image.dataobj).astype(numpy.float32).reshape(raw.shape)
        assert numpy.array_equal(raw, scaled)
        tensors[f"{case}.raw"] = raw
        tensors[f"{case}.affine_nibabel"] = image.affine
        tensors[f"{case}.affine"] = loaded.affine.numpy().astype(numpy.float64)
        for target, options in TARGETS.items():
            voxels, affine = run_chain(path, options)
            tensors[f"{case}.{target}"], tensors[f"{case}.{target}_affine"] = voxels, affine
        cases[case] = {"file": f"nifti/{name}", "shape": list(raw.shape), "type": str(image.get_data_dtype()),
                       "repaired": bool(not numpy.allclose(image.affine, loaded.affine.numpy()))}
    about = record(__file__, PACKAGES, {
        "tensors": "<case>.raw [X,Y,Z] as read; .affine_nibabel as nibabel sees it; .affine as MONAI uses it after its "
                   "repair; .<target> expected voxels; .<target>_affine of the final grid"})
    save_tensors("preprocess/files", tensors, about)
    save_json("preprocess/files", about | {"targets": TARGETS, "cases": cases})


def chain_of_volume(voxels, affine, options):
    """The chain on a float32 volume with this affine, through a temporary file."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "volume.nii"
        # A NIfTI file holds the affine in float32: round it first, so that both sides see the same one.
        affine = affine.astype(numpy.float32).astype(numpy.float64)
        write_nifti(path, voxels, sform=affine, codes=(1, 0))
        assert numpy.array_equal(mt.LoadImage()(str(path)).affine.numpy(), affine)
        return affine, *run_chain(path, options)


def write_volumes():
    """Volumes that need no file: 48 orientations, and random sizes, spacings and targets."""
    random = numpy.random.default_rng(22)
    tensors, cases = {}, {}

    def add(case, voxels, affine, options):
        affine, expected, new_affine = chain_of_volume(voxels, affine, options)
        tensors.update({f"{case}.affine": affine, f"{case}.expected": expected, f"{case}.expected_affine": new_affine})
        cases[case] = options

    tensors["orientation.voxels"] = hounsfield(random, (6, 5, 4)).astype(numpy.float32)
    options = {"spacing_mm": [1.0, 1.4, 2.0], "volume_shape": [7, 6, 5], "window_hu": [-1000, 1000],
               "output_range": [0, 1]}
    for axes in itertools.permutations(range(3)):
        for signs in itertools.product((1, -1), repeat=3):
            matrix = numpy.zeros((3, 3))
            for column, (axis, sign, spacing) in enumerate(zip(axes, signs, (1.25, 1.0, 1.5))):
                matrix[axis, column] = sign * spacing
            name = "".join("RAS"[a] if s > 0 else "LPI"[a] for a, s in zip(axes, signs))
            add(f"orientation.{name}", tensors["orientation.voxels"], affine_of(matrix), options)
    for number in range(48):
        shape = tuple(int(n) for n in random.integers(1, 13, 3))
        spacing = random.uniform(0.5, 4.0, 3)
        matrix = numpy.diag(spacing * random.choice([-1, 1], 3))
        if number % 3 == 1:
            matrix = rotation(*random.uniform(-180, 180, 2)) @ matrix
        if number % 3 == 2:
            # Quarters only: sizes fall on exact halves, and many affines are shared with the target.
            spacing = random.choice([0.75, 1.0, 1.5, 2.25, 3.0], 3)
            matrix = numpy.diag(spacing * random.choice([-1, 1], 3))[:, random.permutation(3)]
        target = random.choice([0.5, 1.0, 1.5, 2.0, 3.0], 3) if number % 3 == 2 else random.uniform(0.6, 3.5, 3).round(2)
        options = {"spacing_mm": [float(t) for t in target],
                   "volume_shape": [int(n) for n in random.integers(3, 13, 3)],
                   "window_hu": [-1000, 1000], "output_range": [0, 1]}
        voxels = hounsfield(random, shape).astype(numpy.float32)
        tensors[f"random.{number:02d}.voxels"] = voxels
        add(f"random.{number:02d}", voxels, affine_of(matrix, random.uniform(-200, 200, 3).round(2)), options)
    about = record(__file__, PACKAGES, {
        "tensors": "<case>.voxels [X,Y,Z] (orientation.*: orientation.voxels for all), .affine, .expected, "
                   ".expected_affine; options by case in the JSON file"})
    save_tensors("preprocess/volumes", tensors, about)
    save_json("preprocess/volumes", about | {"cases": cases}, indent=None)


def write_scans(folder):
    """Samples of real scans under Merlin's preset: whole outputs are too large to keep."""
    random = numpy.random.default_rng(23)
    tensors, cases = {}, {}
    for path in sorted(folder.glob("*.nii.gz")):
        case = path.name.split(".")[0]
        loaded = mt.LoadImage()(str(path))
        voxels, affine = run_chain(path, MERLIN)
        shape = numpy.array(voxels.shape)
        inside = numpy.argwhere(voxels > 0)
        positions = numpy.concatenate([random.integers(0, shape, (2048, 3)),
                                       inside[random.integers(0, len(inside), 2048)]]).astype(numpy.int32)
        tensors |= {f"{case}.affine": loaded.affine.numpy().astype(numpy.float64), f"{case}.expected_affine": affine,
                    f"{case}.positions": positions, f"{case}.values": voxels[tuple(positions.T)],
                    f"{case}.every_10_10_7": voxels[::10, ::10, ::7]}
        wide = voxels.astype(numpy.float64)
        raw = loaded.as_tensor().numpy().astype(numpy.float64)
        cases[case] = {"file": path.name, "file_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
                       "shape": list(raw.shape), "raw_mean": raw.mean(), "raw_min": raw.min(), "raw_max": raw.max(),
                       "mean": wide.mean(), "std": wide.std(), "min": wide.min(), "max": wide.max(),
                       "num_nonzero": int((voxels != 0).sum()), "sha256": hashlib.sha256(voxels.tobytes()).hexdigest()}
    about = record(__file__, PACKAGES, {
        "tensors": "<case>.positions [N,3] x,y,z and .values [N] of the output; .every_10_10_7 = output[::10,::10,::7]",
        "sha256": "of MONAI's float32 output; another implementation may differ in last bits"})
    save_tensors("preprocess/scans", tensors, about)
    save_json("preprocess/scans", about | {"options": MERLIN, "cases": cases})


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scans", type=pathlib.Path, help="folder with real *.nii.gz scans; without it they are kept")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    write_files()
    write_volumes()
    if arguments.scans:
        write_scans(arguments.scans)


if __name__ == "__main__":
    main()
