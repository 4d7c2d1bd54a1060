# SPDX-License-Identifier: Apache-2.0
"""Gradients: loss, outputs and the gradient of every parameter in float64, with merlin-vlm's own image network,
transformers' own Longformer and peft's own LoRA, by reverse differentiation.

Writes gradients/<model>_<norm>[_adapted].safetensors for merlin_tiny and merlin_odd (make_towers.py), for BatchNorm by
running statistics ("frozen") and by the batch's ("local"), without and with adapters (then base weights and factors
both have gradients); and the folder peft/odd. Volumes and tokens follow from the rule of small_merlin.py. Gradients of
merlin_odd are whole numbers of 2^-31 of the tensor's largest, beside it as "largest.<name>": half the bytes at an error
of 2.4e-10 of the largest value.
Run make_towers.py and make_adapters.py before.
"""

import copy
import dataclasses

import numpy
import torch
from peft import LoraConfig, PeftModel, get_peft_model

from golden_io import GOLDEN_FOLDER, record, save_tensors
from make_adapters import fill_adapters, save_sorted
from make_towers import symmetric_infonce
from small_merlin import MERLIN_ODD, MERLIN_TINY, ruled_tokens, ruled_volumes, small_merlin, wide_softmax

PACKAGES = ["peft", "torch", "torchvision", "transformers", "merlin-vlm", "numpy"]
SEED = 23
# Three volumes with 2x2x2 voxels in layer4: a batch's own statistics of fewer values would be +-1 and no more.
VOLUMES = (3, 1, 34, 33, 20)
MODELS = {"merlin_tiny": (MERLIN_TINY, 11, (37, 20, 6), "rslora"), "merlin_odd": (MERLIN_ODD, 12, (32, 29, 9), "odd")}
ODD = LoraConfig(r=2, lora_alpha=3, rank_pattern={"value": 3}, alpha_pattern={r"layer[34]\.0\.conv3": 5},
                 target_modules=["i3_resnet.conv1", "conv3", "downsample.0", "contrastive_head", "value",
                                 "intermediate.dense", "linear_layer"])
PHENOTYPE_WEIGHT = 0.1


def batch_statistics(model):
    """BatchNorm in training mode, everything else (dropout) as it is."""
    for module in model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.train()


def plain_name(name):
    """Merlin's name of what peft has wrapped."""
    return name.removeprefix("base_model.model.").replace(".base_layer.", ".").replace(".default.", ".")


def quantised(gradient):
    """A gradient in whole numbers of 2^-31 of its largest value, and that value."""
    largest = gradient.abs().max()
    steps = (gradient / largest * (2.0**31 - 1)).round() if largest > 0 else gradient
    return steps.to(torch.int32), largest


def write_case(name, model, inputs, notes, whole):
    volumes, tokens, mask = inputs
    model.requires_grad_(True)
    with wide_softmax():
        with torch.no_grad():
            # merlin-vlm's checkpoints run a block up to three times with gradients, moving the statistics each time.
            moved = copy.deepcopy(model)
            moved(volumes, tokens, mask)
        image, phenotypes, text = model(volumes.clone().requires_grad_(True), tokens, mask)
        scale = dict(model.named_parameters())[notes["prefix"] + "logit_scale"]
        loss = (symmetric_infonce(image, text, scale) / len(volumes) + PHENOTYPE_WEIGHT * phenotypes.square().mean())
        loss.backward()
    tensors = {"loss": loss, "image": image, "text": text, "phenotype_logits": phenotypes}
    if notes["norm"] == "local":
        tensors |= {"buffer." + plain_name(key): value for key, value in moved.named_buffers() if "running" in key}
    without, largest = [], {}
    for key, parameter in model.named_parameters():
        if parameter.grad is None:
            without.append(plain_name(key))
            continue
        assert torch.isfinite(parameter.grad).all()
        largest[plain_name(key)] = parameter.grad.abs().max().item()
        if whole:
            tensors["gradient." + plain_name(key)] = parameter.grad
        else:
            steps, greatest = quantised(parameter.grad)
            tensors["gradient." + plain_name(key)], tensors["largest." + plain_name(key)] = steps, greatest
    print(f"{name}: {len(largest)} gradients; smallest of the largest values:",
          sorted(largest.items(), key=lambda item: item[1])[:3])
    save_tensors(f"gradients/{name}", tensors, record(__file__, PACKAGES, notes | {
        "loss": "symmetric InfoNCE (mean over pairs) + 0.1 mean(phenotype_logits^2)", "without_gradient": without}))


def adapted(sizes, seed, folder):
    """The model with the adapters of a golden peft folder, loaded by peft."""
    base = small_merlin(sizes, seed)
    return PeftModel.from_pretrained(base, str(GOLDEN_FOLDER / "peft" / folder), is_trainable=True).eval()


def main():
    torch.set_num_threads(1)
    model = get_peft_model(small_merlin(MERLIN_ODD, 12), ODD).eval()
    fill_adapters(model, 50)
    save_sorted(model, GOLDEN_FOLDER / "peft" / "odd")
    for place, (name, (sizes, seed, lengths, folder)) in enumerate(MODELS.items()):
        volumes = ruled_volumes(SEED, 1_000_000 + place, VOLUMES).double()
        tokens, mask = ruled_tokens(SEED, 2_000_000 + place, lengths, sizes.vocabulary_size)
        for norm in ("frozen", "local"):
            for suffix in ("", "_adapted"):
                model = (adapted(sizes, seed, folder) if suffix else small_merlin(sizes, seed)).double()
                if norm == "local":
                    batch_statistics(model)
                notes = {"model": name, "sizes": dataclasses.asdict(sizes), "norm": norm, "seed": SEED,
                         "adapters": f"peft/{folder}" if suffix else "none", "lengths": lengths,
                         "prefix": "base_model.model." if suffix else "", "volumes": VOLUMES}
                write_case(f"{name}_{norm}{suffix}", model, (volumes, tokens, mask), notes, name == "merlin_tiny")


if __name__ == "__main__":
    main()
