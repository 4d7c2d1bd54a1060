# SPDX-License-Identifier: Apache-2.0
"""Files that Python's torch.save writes, in the forms in which weights are handed around, under torch/.

One .pt a form: an OrderedDict, a plain dict, Parameters, views of shared storages, every dtype, a module's state_dict
with its _metadata, "state_dict" and "model" wrappers, and forms that must be refused.
merlin_odd.pt holds the model of make_towers.py in bfloat16, wrapped by "state_dict" and the prefix "module.", as a
training program of many ranks leaves it; merlin_odd.safetensors the same weights as they stand, and
merlin_odd_outputs.safetensors what the model computes in float64 from either, once loaded into Python.
expected.safetensors holds what each must read as: <file>/<name>.
"""

import json
from collections import OrderedDict

import torch
from safetensors.torch import load_file, save_file

from golden_io import GOLDEN_FOLDER, record, save_tensors
from small_merlin import MERLIN_ODD, SmallMerlin, ruled_tokens, ruled_volumes, wide_softmax

FOLDER = GOLDEN_FOLDER / "torch"
SEED = 2026


class NoWeights:
    """An object of a program's own: reading it would run that program's code."""


def views():
    """Tensors that share storages, begin inside them, and lie in other orders than their shape's."""
    base = torch.randn(6, 8)
    return OrderedDict(
        base=base, transposed=base.t(), inner=base[2:5, 1:7:2], row=base[3], scalar=base[5, 7],
        channels_last=torch.randn(2, 3, 2, 2, 2).contiguous(memory_format=torch.channels_last_3d),
        narrow=torch.arange(100, dtype=torch.int64)[40:44])


def every_dtype():
    values = torch.tensor([0.0, 1.0, 2.5, -3.25, 100.0])
    kinds = {"float64": torch.float64, "float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16,
             "int64": torch.int64, "int32": torch.int32, "int16": torch.int16, "int8": torch.int8}
    tensors = {name: values.to(kind) for name, kind in kinds.items()}
    tensors["uint8"] = values.abs().to(torch.uint8)
    tensors["bool"] = values > 0.5
    return tensors


def network():
    return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Conv3d(1, 2, (1, 2, 3)))


def merlin_odd():
    weights = load_file(str(GOLDEN_FOLDER / "towers" / "merlin_odd_weights.safetensors"))
    return {name: value.to(torch.bfloat16) if value.is_floating_point() else value for name, value in sorted(weights.items())}


def outputs_of(weights):
    """float64 outputs of a strictly loaded model; volumes and tokens by the rule of small_merlin.py."""
    model = SmallMerlin(MERLIN_ODD).eval()
    model.load_state_dict(weights, strict=True)
    tokens, mask = ruled_tokens(SEED, 2_000_000, (21, 9), MERLIN_ODD.vocabulary_size)
    with torch.no_grad(), wide_softmax():
        image, phenotypes, text = model.double()(ruled_volumes(SEED, 1_000_000, (2, 1, 34, 33, 20)).double(), tokens, mask)
    return {"image": image, "phenotype_logits": phenotypes, "text": text}


def write_outputs():
    """Of both files, read back as a user of Python reads them."""
    save_file(merlin_odd(), str(FOLDER / "merlin_odd.safetensors"))
    archive = torch.load(FOLDER / "merlin_odd.pt", weights_only=True)["state_dict"]
    outputs = outputs_of({name.removeprefix("module."): value for name, value in archive.items()})
    again = outputs_of(load_file(str(FOLDER / "merlin_odd.safetensors")))
    assert all(torch.equal(outputs[key], again[key]) for key in outputs)
    save_tensors("torch/merlin_odd_outputs", outputs, record(
        __file__, ["torch", "torchvision", "transformers", "merlin-vlm", "safetensors", "numpy"], {"seed": SEED}))


def forms():
    """File name -> (what is saved, what its tensors must read as)."""
    torch.manual_seed(SEED)
    state = network().state_dict()
    plain = {"weight": torch.randn(3, 2), "Größe": torch.randn(1), "empty": torch.empty(0, 3), "zero_dim": torch.tensor(7.5)}
    parameters = OrderedDict((name, torch.nn.Parameter(torch.randn(2, 3))) for name in ("a", "b"))
    shared = torch.arange(300, dtype=torch.float32)
    many = {f"layers.{i}.bias": shared[i:i + 1] for i in range(300)}  # memo indices and offsets beyond one byte
    odd = merlin_odd()
    prefixed = OrderedDict(("module." + name, value) for name, value in odd.items())
    return {
        "ordered_dict": (state, state),
        "plain_dict": (plain, plain),
        "parameters": (parameters, parameters),
        "views": (views(),) * 2,
        "dtypes": (every_dtype(),) * 2,
        "many": (many, many),
        "model_wrapper": ({"model": state, "epoch": 3, "loss": 0.25, "note": "x", "seen": 2**40, "below": -2**35, "best": None, "done": True}, state),
        "merlin_odd": ({"state_dict": prefixed, "epoch": 70_000}, prefixed),
    }


def main():
    FOLDER.mkdir(parents=True, exist_ok=True)
    expected = {}
    for file, (saved, tensors) in forms().items():
        torch.save(saved, FOLDER / f"{file}.pt")
        if file != "merlin_odd":  # the tests have its values already
            expected.update({f"{file}/{name}": value.detach().contiguous().clone() for name, value in tensors.items()})
    state = {"weight": torch.ones(2)}
    torch.save({"state_dict": state, "args": NoWeights()}, FOLDER / "refused_object.pt")
    torch.save({"state_dict": state, "losses": [0.5, 0.25]}, FOLDER / "refused_list.pt")
    torch.save(state, FOLDER / "refused_protocol.pt", pickle_protocol=4)
    torch.save({"weight": torch.ones(1).expand(5)}, FOLDER / "refused_expanded.pt")
    write_outputs()
    about = record(__file__, ["torch", "safetensors", "numpy"])
    save_file(expected, str(FOLDER / "expected.safetensors"), metadata={"golden": json.dumps(about, sort_keys=True)})
    sizes = {path.name: path.stat().st_size for path in sorted(FOLDER.iterdir())}
    print(sizes, sum(sizes.values()))


if __name__ == "__main__":
    main()
