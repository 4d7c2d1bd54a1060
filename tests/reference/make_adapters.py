# SPDX-License-Identifier: Apache-2.0
"""Adapters: peft's LoRA on the merlin_tiny model of make_towers.py (Conv3d and Linear), with nothing at zero.

Writes three folders by peft's save_pretrained under peft/ (plain: names as targets; rslora: a regular expression as
target, with rank_pattern and alpha_pattern; heads: modules_to_save) and adapters.safetensors: inputs, outputs of each
adapted model, merged outputs, some delta weights, and for "plain" the gradients of all factors.
The only change to what peft writes: adapter_config.json is put in sorted order, since peft saves sets in any order.
"""

import copy
import json

import numpy
import torch
from peft import LoraConfig, get_peft_model

from golden_io import GOLDEN_FOLDER, load_tensors, record, save_tensors
from make_towers import symmetric_infonce
from small_merlin import MERLIN_TINY, small_merlin, wide_softmax

PACKAGES = ["peft", "torch", "transformers", "merlin-vlm", "numpy"]
SEED_OF_TOWERS = 11

CONFIGS = {
    "plain": LoraConfig(r=4, lora_alpha=6, target_modules=["conv1", "conv2", "query", "value"]),
    "rslora": LoraConfig(
        r=3, lora_alpha=5, use_rslora=True,
        target_modules=r".*\.layer[1-4]\.\d+\.(conv2|conv3)|.*\.downsample\.0|.*\.attention\.self\.(query|key)",
        rank_pattern={"layer3.0.conv2": 6, "query": 2}, alpha_pattern={"layer3.0.conv2": 12, "layer1.0.conv3": 2}),
    "heads": LoraConfig(r=2, lora_alpha=2, target_modules=["value", "output.dense", "intermediate.dense", "layer4.0.conv2"],
                        modules_to_save=["contrastive_head", "linear_layer"]),
}


def fill_adapters(model, seed):
    """Draws every factor and saved head, by sorted name."""
    with torch.no_grad():
        for place, (name, parameter) in enumerate(sorted(model.named_parameters())):
            if not parameter.requires_grad:
                continue
            random = numpy.random.default_rng([seed, place])
            drawn = torch.from_numpy(random.standard_normal(tuple(parameter.shape))).float()
            if "modules_to_save" in name:
                parameter += 0.2 * drawn
            elif "lora_A" in name:
                parameter.copy_(drawn / numpy.sqrt(numpy.prod(parameter.shape[1:])))
            else:
                parameter.copy_(0.4 * drawn)


def save_sorted(model, folder):
    """save_pretrained, with adapter_config.json in a fixed order and without the model card."""
    model.save_pretrained(str(folder))
    (folder / "README.md").unlink(missing_ok=True)
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text())
    for key, value in config.items():
        if isinstance(value, list):
            config[key] = sorted(value)
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def delta_weight(layer):
    """scale * B A in the weight's shape, by the formula."""
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    return layer.scaling["default"] * (b.flatten(1) @ a.flatten(1)).view(layer.get_base_layer().weight.shape)


def outputs_of(model, volumes, tokens, mask):
    with torch.no_grad(), wide_softmax():
        image, phenotypes, text = model(volumes, tokens, mask)
    return {"image": image, "phenotype_logits": phenotypes, "text": text}


def merged_outputs(model, volumes, tokens, mask):
    """Outputs after merging by peft, and, as a check, after adding delta_weight() by hand."""
    by_hand = copy.deepcopy(model)
    expected = outputs_of(by_hand, volumes, tokens, mask)
    with torch.no_grad():
        for layer in by_hand.modules():
            if hasattr(layer, "lora_A"):
                delta = delta_weight(layer)
                layer.get_base_layer().weight += delta
                layer.lora_B["default"].weight.zero_()
    hand = outputs_of(by_hand, volumes, tokens, mask)
    assert all((hand[k] - expected[k]).abs().max() < 1e-10 for k in hand)
    try:
        merged = outputs_of(copy.deepcopy(model).merge_and_unload(), volumes, tokens, mask)
    except (RuntimeError, IndexError) as error:
        print("peft cannot merge, formula used:", error)
        return hand
    assert all((merged[k] - expected[k]).abs().max() < 1e-10 for k in merged)
    return merged


def main():
    torch.set_num_threads(1)
    cases, _ = load_tensors(GOLDEN_FOLDER / "towers" / "merlin_tiny_cases.safetensors")
    volumes, tokens, mask = (torch.from_numpy(cases[k])[:2] for k in ("image.volumes", "text.tokens", "text.mask"))
    tensors, layers = {"volumes": volumes, "tokens": tokens, "mask": mask}, {}
    for number, (case, config) in enumerate(CONFIGS.items()):
        model = get_peft_model(small_merlin(MERLIN_TINY, SEED_OF_TOWERS), config).eval()
        fill_adapters(model, 40 + number)
        save_sorted(model, GOLDEN_FOLDER / "peft" / case)
        wide = copy.deepcopy(model).double()
        tensors |= {f"{case}.{k}.f32": v for k, v in outputs_of(model, volumes, tokens, mask).items()}
        tensors |= {f"{case}.{k}.f64": v for k, v in outputs_of(wide, volumes.double(), tokens, mask).items()}
        tensors |= {f"{case}.merged_{k}.f64": v
                    for k, v in merged_outputs(wide, volumes.double(), tokens, mask).items()}
        layers[case] = {}
        for name, layer in wide.named_modules():
            if hasattr(layer, "lora_A"):
                path = name.removeprefix("base_model.model.")
                layers[case][path] = {"rank": layer.r["default"], "alpha": layer.lora_alpha["default"],
                                      "scale": layer.scaling["default"]}
                if path.endswith(("i3_resnet.conv1", "layer2.0.conv1", "layer3.0.conv2", "layer1.0.conv3",
                                  "layer.0.attention.self.query")):
                    tensors[f"{case}.delta.{path}"] = delta_weight(layer)
        if case == "plain":
            with wide_softmax():
                image, _, text = wide(volumes.double(), tokens, mask)
                loss = symmetric_infonce(image, text, torch.tensor(2.0, dtype=torch.float64)) / len(volumes)
                loss.backward()
            tensors["plain.loss_mean"] = loss
            for name, parameter in wide.named_parameters():
                if parameter.grad is not None:
                    path = name.removeprefix("base_model.model.").replace(".default.", ".")
                    tensors[f"plain.gradient.{path}"] = parameter.grad
                assert (parameter.grad is not None) == ("lora_" in name), name
    save_tensors("adapters", tensors, record(__file__, PACKAGES, {
        "base": "towers/merlin_tiny_weights.safetensors", "folders": "peft/<case>", "layers": layers,
        "gradients": "plain.gradient.* of plain.loss_mean with log-scale 2.0 (frozen)"}))


if __name__ == "__main__":
    main()
