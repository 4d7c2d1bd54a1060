# SPDX-License-Identifier: Apache-2.0
"""Loads weights that Triphase wrote strictly into Python's network and compares outputs. Exit code 0 when they agree.

The weights are a safetensors file (`triphase weights convert`). The cases are a safetensors file with volumes
[B,1,X,Y,Z], tokens [B,L], mask [B,L] and, from Triphase, image [B,E] and text [B,E] (unit rows); where volumes are
float64 the network computes in float64. With --again, Python's own files of the same weights are written into that
folder for Triphase to read: weights.pt (torch.save of the state_dict) and weights.safetensors.
"""

import argparse
import pathlib
import sys

import torch
from safetensors.torch import load_file, save_file

from small_merlin import MERLIN_ODD, MERLIN_SMALL, MERLIN_TINY, SmallMerlin, wide_softmax

MODELS = {"merlin_tiny": MERLIN_TINY, "merlin_odd": MERLIN_ODD, "merlin_small": MERLIN_SMALL}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("weights", type=pathlib.Path, help="safetensors file written by Triphase")
    parser.add_argument("cases", type=pathlib.Path, help="inputs and Triphase's outputs")
    parser.add_argument("--model", choices=sorted(MODELS), default="merlin_odd")
    parser.add_argument("--tolerance", type=float, default=1e-5, help="of the outputs, which are unit rows")
    parser.add_argument("--again", type=pathlib.Path, help="existing folder for Python's files of the same weights")
    arguments = parser.parse_args()
    torch.set_num_threads(1)

    model = SmallMerlin(MODELS[arguments.model]).eval()
    model.load_state_dict(load_file(str(arguments.weights)), strict=True)
    cases = load_file(str(arguments.cases))
    if arguments.again:
        torch.save(model.state_dict(), arguments.again / "weights.pt")
        save_file(model.state_dict(), str(arguments.again / "weights.safetensors"))
    model = model.to(cases["volumes"].dtype)
    with torch.no_grad(), wide_softmax():
        image, _, text = model(cases["volumes"], cases["tokens"], cases["mask"])
    errors = {"image": (image - cases["image"]).abs().max().item(), "text": (text - cases["text"]).abs().max().item()}
    print(f"largest differences {errors}")
    sys.exit(0 if max(errors.values()) <= arguments.tolerance else 1)


if __name__ == "__main__":
    main()
