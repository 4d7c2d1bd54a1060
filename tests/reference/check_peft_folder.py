# SPDX-License-Identifier: Apache-2.0
"""Loads a peft folder written by Triphase into Python peft and compares outputs. Exit code 0 when they agree.

The cases file is a safetensors file with volumes [B,1,X,Y,Z], tokens [B,L], mask [B,L] and, from Triphase, image [B,E]
and text [B,E] (unit rows of the adapted model).
"""

import argparse
import pathlib
import sys

import torch
from peft import PeftModel
from safetensors.torch import load_file

from small_merlin import MERLIN_ODD, MERLIN_TINY, SmallMerlin

MODELS = {"merlin_tiny": MERLIN_TINY, "merlin_odd": MERLIN_ODD}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path, help="adapter_config.json and adapter_model.safetensors")
    parser.add_argument("base", type=pathlib.Path, help="safetensors file with the base weights")
    parser.add_argument("cases", type=pathlib.Path, help="safetensors file with inputs and Triphase's outputs")
    parser.add_argument("--model", choices=sorted(MODELS), default="merlin_tiny")
    parser.add_argument("--tolerance", type=float, default=2e-5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)

    base = SmallMerlin(MODELS[arguments.model])
    base.load_state_dict(load_file(str(arguments.base)), strict=True)
    factors = load_file(str(arguments.folder / "adapter_model.safetensors"))
    model = PeftModel.from_pretrained(base, str(arguments.folder)).eval()
    loaded = {name.replace(".default.", ".").replace(".modules_to_save.default", ""): value
              for name, value in model.state_dict().items() if ".default" in name}
    loaded = {name.replace(".modules_to_save", ""): value for name, value in loaded.items()}
    wrong = [name for name, value in factors.items() if name not in loaded or not torch.equal(loaded[name], value)]
    wrong += [name for name in loaded if name not in factors]

    cases = load_file(str(arguments.cases))
    with torch.no_grad():
        image, _, text = model(cases["volumes"].float(), cases["tokens"].long(), cases["mask"].long())
    errors = {"image": (image - cases["image"]).abs().max().item(), "text": (text - cases["text"]).abs().max().item()}
    print(f"{len(factors)} tensors, {len(wrong)} not as in the file {wrong[:5]}; largest differences {errors}")
    sys.exit(0 if not wrong and max(errors.values()) <= arguments.tolerance else 1)


if __name__ == "__main__":
    main()
