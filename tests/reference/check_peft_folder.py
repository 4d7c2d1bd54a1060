# SPDX-License-Identifier: Apache-2.0
"""Loads a peft folder written by Triphase into Python peft and compares outputs. Exit code 0 when they agree.

The cases are either a safetensors file with volumes [B,1,X,Y,Z], tokens [B,L], mask [B,L] and, from Triphase, image
[B,E] and text [B,E] (unit rows of the adapted model), or what the program writes: the HDF5 file of `triphase embed`
and, by --cache, the cache it was made from. For example:

  triphase weights export --config run.toml --checkpoint runs/peft --out adapter
  triphase embed --config run.toml --checkpoint runs/peft --out rows.h5
  python check_peft_folder.py adapter base.safetensors rows.h5 --cache cohort/cache

With --again, peft saves what it has loaded into that folder for Triphase to read.
"""

import argparse
import dataclasses
import pathlib
import sys

import h5py
import numpy
import torch
from peft import PeftModel
from safetensors.torch import load_file

from small_merlin import MERLIN_ODD, MERLIN_SMALL, MERLIN_TINY, SmallMerlin

MODELS = {"merlin_tiny": MERLIN_TINY, "merlin_odd": MERLIN_ODD, "merlin_small": MERLIN_SMALL}
WORDS = "encode_text.text_encoder.embeddings.word_embeddings.weight"


def cases_of_cache(embeddings, cache):
    """The tensors of a cases file, from what `triphase embed` wrote and the cache whose studies these are."""
    studies = {}
    for shard in sorted(cache.glob("shard-*.h5")):
        with h5py.File(shard) as file:
            scale, offset = float(file["volumes"].attrs["scale"]), float(file["volumes"].attrs["offset"])
            for i, name in enumerate(file["id"][...]):
                volume = file["volumes"][i].astype(numpy.float64) * scale + offset
                studies[name] = volume, file["tokens"][i], int(file["token_count"][i])
    with h5py.File(embeddings) as file:
        chosen = [studies[name] for name in file["id"][...]]
        cases = {key: torch.from_numpy(file[key][...]) for key in ("image", "text")}
    longest = max(count for _, _, count in chosen)
    cases["volumes"] = torch.from_numpy(numpy.stack([volume for volume, _, _ in chosen])[:, None])
    cases["mask"] = torch.tensor([[int(i < count) for i in range(longest)] for _, _, count in chosen])
    # Each shard is as wide as its own longest report.
    rows = [numpy.pad(tokens[:count], (0, longest - count), constant_values=1) for _, tokens, count in chosen]
    cases["tokens"] = torch.from_numpy(numpy.stack(rows)).long()
    return cases


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path, help="adapter_config.json and adapter_model.safetensors")
    parser.add_argument("base", type=pathlib.Path, help="safetensors file with the base weights")
    parser.add_argument("cases", type=pathlib.Path, help="inputs and Triphase's outputs, or with --cache embeddings")
    parser.add_argument("--cache", type=pathlib.Path, help="the cache that the embeddings were made from")
    parser.add_argument("--model", choices=sorted(MODELS), default="merlin_tiny")
    parser.add_argument("--tolerance", type=float, default=1e-5)
    parser.add_argument("--again", type=pathlib.Path, help="folder for peft's own save of what it loaded")
    arguments = parser.parse_args()
    torch.set_num_threads(1)

    weights = load_file(str(arguments.base))
    base = SmallMerlin(dataclasses.replace(MODELS[arguments.model], vocabulary_size=len(weights[WORDS])))
    base.load_state_dict(weights, strict=True)
    factors = load_file(str(arguments.folder / "adapter_model.safetensors"))
    model = PeftModel.from_pretrained(base, str(arguments.folder)).eval()
    loaded = {name.replace(".default.", ".").replace(".modules_to_save.default", ""): value
              for name, value in model.state_dict().items() if ".default" in name}
    loaded = {name.replace(".modules_to_save", ""): value for name, value in loaded.items()}
    wrong = [name for name, value in factors.items() if name not in loaded or not torch.equal(loaded[name], value)]
    wrong += [name for name in loaded if name not in factors]

    if arguments.again:
        model.save_pretrained(str(arguments.again))
    cases = cases_of_cache(arguments.cases, arguments.cache) if arguments.cache else load_file(str(arguments.cases))
    with torch.no_grad():
        image, _, text = model(cases["volumes"].float(), cases["tokens"].long(), cases["mask"].long())
    errors = {"image": (image - cases["image"]).abs().max().item(), "text": (text - cases["text"]).abs().max().item()}
    print(f"{len(factors)} tensors, {len(wrong)} not as in the file {wrong[:5]}; largest differences {errors}")
    sys.exit(0 if not wrong and max(errors.values()) <= arguments.tolerance else 1)


if __name__ == "__main__":
    main()
