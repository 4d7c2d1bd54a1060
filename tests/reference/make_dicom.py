# SPDX-License-Identifier: Apache-2.0
"""Writes tests/golden/dicom/: small CT series, each a folder, and expected.safetensors with their voxels and affines as numpy computes
them from what was meant, not from the files. hostile/ holds series that must be refused; hostile.json says with which words.

Needs pydicom, and DCMTK's dcmcrle, dcmcjpeg, dcmcjpls and dcmconv for the compressed copies.
"""

import json
import shutil
import subprocess

import numpy as np
import pydicom
from golden_io import GOLDEN_FOLDER, record, save_tensors
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, JPEG2000Lossless, RLELossless

FOLDER = GOLDEN_FOLDER / "dicom"
SERIES = "1.2.826.0.1.3680043.8.498.1"
NAME = "PLANTED^ROSA"


def slice_of(stored, position, orientation=(1, 0, 0, 0, 1, 0), spacing=(0.75, 0.5), slope=1.0, intercept=-1024.0, *, signed=False,
             stored_bits=16, series=SERIES, number=1):
    """stored: [rows, columns] integers."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = f"{series}.{number}"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = CTImageStorage, f"{series}.{number}"
    data.PatientName, data.PatientID, data.PatientComments = NAME, NAME, NAME
    data.Modality, data.SeriesInstanceUID, data.InstanceNumber = "CT", series, number
    data.ImagePositionPatient = [f"{x:.6g}" for x in position]
    data.ImageOrientationPatient = [f"{x:.10g}" for x in orientation]
    data.PixelSpacing = [f"{x:.6g}" for x in spacing]
    data.RescaleSlope, data.RescaleIntercept = slope, intercept
    data.Rows, data.Columns = stored.shape
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit = (8 if stored_bits <= 8 else 16), stored_bits, stored_bits - 1
    data.PixelRepresentation = int(signed)
    kind = np.uint8 if stored_bits <= 8 else np.uint16
    pixels = (stored.astype(np.int64) & ((1 << stored_bits) - 1)).astype(kind).tobytes()
    data.PixelData = pixels + b"\0" * (len(pixels) % 2)
    data["PixelData"].VR = "OB" if stored_bits <= 8 else "OW"
    return data


def save(folder, slices, names=None):
    path = FOLDER / folder
    path.mkdir(parents=True)
    for k, data in enumerate(slices):
        data.save_as(path / (names[k] if names else f"{k:04d}.dcm"), enforce_file_format=True)
    return path


def affine_of(orientation, spacing, origin, step):
    row, column = np.array(orientation[:3], float), np.array(orientation[3:], float)
    lps = np.eye(4)
    lps[:3, 0], lps[:3, 1], lps[:3, 2], lps[:3, 3] = row * spacing[1], column * spacing[0], step, origin
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ lps


def series(name, rng, *, orientation=(1, 0, 0, 0, 1, 0), spacing=(0.75, 0.5), origin=(-60.5, -70.25, 100), step=None, count=7, rows=10,
           columns=12, low=0, high=4096, slopes=None, intercept=-1024.0, signed=False, stored_bits=16, expected=None, shuffled=True):
    normal = np.cross(orientation[:3], orientation[3:])
    step = normal * 2.5 if step is None else np.array(step, float)
    origin = np.array(origin, float)
    stored = rng.integers(low, high, (count, rows, columns))
    slopes = [1.0] * count if slopes is None else slopes
    slices = [slice_of(stored[k], origin + k * step, orientation, spacing, slopes[k], intercept, signed=signed, stored_bits=stored_bits,
                       number=k + 1) for k in range(count)]
    order = rng.permutation(count) if shuffled else range(count)
    save(name, slices, [f"{order[k]:04d}.dcm" for k in range(count)])
    hu = stored * np.array(slopes).reshape(-1, 1, 1) + intercept
    expected[f"{name}.voxels"] = np.ascontiguousarray(hu.transpose(2, 1, 0)).astype(np.float32)
    expected[f"{name}.affine"] = affine_of(orientation, spacing, origin, step)


def copies(expected):
    """The first series, as DCMTK's own programs store it otherwise."""
    programs = {"rle": ["dcmcrle"], "jpeg": ["dcmcjpeg", "+e1"], "jpeg_process14": ["dcmcjpeg", "+el"], "jpegls": ["dcmcjpls", "+el"],
                "big_endian": ["dcmconv", "+tb"], "implicit": ["dcmconv", "+ti"]}
    for name, program in programs.items():
        (FOLDER / name).mkdir()
        for file in sorted((FOLDER / "axial").glob("*.dcm")):
            subprocess.run([*program, file, FOLDER / name / file.name], check=True)
        for part in ("voxels", "affine"):
            expected[f"{name}.{part}"] = expected[f"axial.{part}"]


def hostile(rng):
    words = {}

    def case(name, expected_words, change=None, positions=None, keep=None):
        stored = rng.integers(0, 4096, (4, 3, 4))
        positions = positions or [(0, 0, 2.5 * k) for k in range(4)]
        slices = [slice_of(stored[k % 4], positions[k], number=k + 1) for k in range(len(positions))]
        if change:
            change(slices)
        save(f"hostile/{name}", slices[:keep])
        words[name] = expected_words

    def setting(**values):
        def change(slices):
            for key, value in values.items():
                setattr(slices[2], key, value)
        return change

    def dropping(key):
        def change(slices):
            delattr(slices[2], key)
        return change

    def raw(key, vr, value):
        def change(slices):
            slices[2].add(pydicom.DataElement(pydicom.datadict.tag_for_keyword(key), vr, value, already_converted=True, validation_mode=0))
        return change

    def huge(slices):
        slices[2].Rows = slices[2].Columns = 65535
        slices[2].PixelData = encapsulate([b"\0" * 64])
        slices[2]["PixelData"].VR = "OB"
        slices[2].file_meta.TransferSyntaxUID = RLELossless

    def fragments(slices):
        slices[2].PixelData = encapsulate([b"\xff" * 70])
        slices[2]["PixelData"].VR = "OB"
        slices[2].file_meta.TransferSyntaxUID = RLELossless

    def jpeg2000(slices):
        slices[2].PixelData = encapsulate([b"\xff\x4f" * 35])
        slices[2]["PixelData"].VR = "OB"
        slices[2].file_meta.TransferSyntaxUID = JPEG2000Lossless

    case("two_series", ["0002.dcm", "another series"], setting(SeriesInstanceUID="1.2.3"))
    case("modality", ["0002.dcm", "modality CT"], setting(Modality="MR"))
    case("frames", ["0002.dcm", "several frames"], setting(NumberOfFrames=2))
    case("colour", ["0002.dcm", "colours"], setting(SamplesPerPixel=3, PhotometricInterpretation="RGB"))
    case("inverted", ["0002.dcm", "inverted"], setting(PhotometricInterpretation="MONOCHROME1"))
    case("size", ["declares 16 voxels and holds 12"], lambda s: [setattr(x, "Rows", 4) for x in s])
    case("other_size", ["0002.dcm", "another size"], setting(Rows=4))
    case("other_orientation", ["0002.dcm", "another orientation"], setting(ImageOrientationPatient=[0, 1, 0, 0, 0, 1]))
    case("other_spacing", ["0002.dcm", "another pixel spacing"], setting(PixelSpacing=[0.9, 0.5]))
    case("orientation_bent", ["right angles"], lambda s: [setattr(x, "ImageOrientationPatient", [1, 0, 0, 1, 0, 0]) for x in s])
    case("spacing_0", ["pixel spacing of 0"], lambda s: [setattr(x, "PixelSpacing", [0, 0.5]) for x in s])
    case("spacing_negative", ["pixel spacing of -1"], lambda s: [setattr(x, "PixelSpacing", [-1, 0.5]) for x in s])
    case("position_nan", ["0002.dcm"], raw("ImagePositionPatient", "DS", "nan\\0\\0"))
    case("position_short", ["0002.dcm", "ImagePositionPatient"], raw("ImagePositionPatient", "DS", "1\\2"))
    case("slope_0", ["0002.dcm", "gives no HU"], setting(RescaleSlope=0))
    case("no_slope", ["0002.dcm", "no RescaleSlope"], dropping("RescaleSlope"))
    case("no_position", ["0002.dcm", "no ImagePositionPatient"], dropping("ImagePositionPatient"))
    case("no_voxels", ["0002.dcm", "declares 12 voxels and holds 0"], dropping("PixelData"))
    case("no_rows", ["0002.dcm", "no Rows"], dropping("Rows"))
    case("rows_0", ["0002.dcm", "0 x 4 voxels"], setting(Rows=0))
    case("rows_text", ["0002.dcm", "no Rows"], raw("Rows", "LO", "three"))
    case("bits_32", ["0002.dcm", "of 32 bits"], setting(BitsAllocated=32))
    case("high_bit", ["0002.dcm", "in a way that CT does not"], setting(HighBit=11))
    case("huge", ["0002.dcm", "65535 x 65535"], huge)
    case("fragments", ["0002.dcm", "cannot be decoded"], fragments)
    case("jpeg2000", ["0002.dcm", "JPEG 2000", "not read here"], jpeg2000)
    case("nested", ["0002.dcm", "more than 500 items"])
    path = FOLDER / "hostile/nested/0002.dcm"
    depth = 1000
    opened = b"\x40\x00\x75\x02SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    closed = b"\xfe\xff\x0d\xe0\0\0\0\0" + b"\xfe\xff\xdd\xe0\0\0\0\0"
    path.write_bytes(path.read_bytes().replace(b"\xe0\x7f\x10\x00OW", opened * depth + closed * depth + b"\xe0\x7f\x10\x00OW"))
    case("duplicate", ["lie at the same place"], positions=[(0, 0, 0), (0, 0, 2.5), (0, 0, 2.5), (0, 0, 5)])
    case("missing", ["1 slice is missing between slices '0002.dcm' and '0003.dcm'"], positions=[(0, 0, 0), (0, 0, 2.5), (0, 0, 5), (0, 0, 10), (0, 0, 12.5)])
    case("uneven", ["a grid with one spacing"], positions=[(0, 0, 0), (0, 0, 2.5), (0, 0, 5.8), (0, 0, 8.3), (0, 0, 10.8)])
    case("moved", ["off the line"], positions=[(0, 0, 0), (0, 0, 2.5), (3, 0, 5), (0, 0, 7.5), (0, 0, 10)])
    case("one_slice", ["has 1 slice"], keep=1)
    for name, content in {"text": b"not a slice\n" * 40, "cut": None, "short": b"DICM"}.items():
        case(name, ["0002.dcm"])
        path = FOLDER / "hostile" / name / "0002.dcm"
        path.write_bytes(path.read_bytes()[:500] if content is None else content)
    (FOLDER / "hostile.json").write_text(json.dumps(words, indent=1) + "\n")


def main():
    shutil.rmtree(FOLDER, ignore_errors=True)
    rng = np.random.default_rng(11)
    expected = {}
    angle = np.deg2rad(20)
    turned = (np.cos(angle), np.sin(angle), 0, -np.sin(angle) * np.cos(angle), np.cos(angle) ** 2, np.sin(angle))
    series("axial", rng, expected=expected)
    series("signed", rng, low=-2000, high=2000, signed=True, intercept=0.0, expected=expected)
    series("signed_12_bits", rng, low=-2048, high=2048, signed=True, stored_bits=12, intercept=-24.0, expected=expected)
    series("bits_8", rng, low=0, high=256, stored_bits=8, rows=5, columns=7, slopes=[4.0] * 7, expected=expected)
    series("slopes_differ", rng, slopes=[0.5, 1.0, 0.25, 2.0, 1.5, 0.75, 1.25], expected=expected)
    series("oblique", rng, orientation=turned, expected=expected)
    series("coronal", rng, orientation=(1, 0, 0, 0, 0, -1), expected=expected)
    series("feet_first", rng, orientation=(-1, 0, 0, 0, 1, 0), expected=expected)
    series("tilted", rng, step=(0, 0.8, 2.4), expected=expected)
    series("two_slices", rng, count=2, expected=expected)
    copies(expected)
    hostile(rng)
    save_tensors("dicom/expected", expected, record(__file__, ["pydicom", "numpy"], {"dcmtk": "3.6.7"}))


if __name__ == "__main__":
    main()
