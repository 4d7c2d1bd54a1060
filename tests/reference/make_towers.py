# SPDX-License-Identifier: Apache-2.0
"""Towers: weights, inputs and outputs of small models of Merlin's architecture.

Writes towers/<model>_weights.safetensors (exactly the state_dict) and towers/<model>_cases.safetensors (inputs and
outputs); of merlin_small, whose weights and volumes follow from a rule, towers/merlin_small_cases.safetensors alone.
See small_merlin.py for what is Merlin's own code, make_gradients.py for gradients, make_full_size.py for full size.
Outputs ending in .f32 come from the model as it stands in float32, those ending in .f64 from the same weights in
float64 (softmax in float64 too). The script also checks the text tower against plain banded attention.
"""

import dataclasses
import math

import numpy
import torch

from golden_io import record, save_tensors
from small_merlin import (MERLIN_ODD, MERLIN_SMALL, MERLIN_TINY, keyed_uniform, normalised, ruled_merlin, seeded_tokens,
                          small_merlin, wide_softmax)

PACKAGES = ["torch", "torchvision", "transformers", "merlin-vlm", "numpy"]


def image_outputs(model, volumes):
    """Everything the image tower computes, by name; volumes in the model's dtype."""
    resnet = model.encode_image.i3_resnet
    kept = {}

    def keep(name):
        # A copy: the ReLU that follows works in place.
        return lambda module, inputs, output: kept.__setitem__(name, output.detach().clone())

    hooks = [getattr(resnet, name).register_forward_hook(keep(name))
             for name in ("conv1", "maxpool", "layer1", "layer2", "layer3", "layer4", "avgpool")]
    with torch.no_grad():
        projection, phenotypes = model.encode_image(volumes)
    for hook in hooks:
        hook.remove()
    features = kept.pop("avgpool").flatten(1)
    kept = {f"stage.{name}": value for name, value in kept.items()}
    return {"projection": projection, "embedding": normalised(projection), "features": features,
            "phenotype_logits": phenotypes} | kept


def text_outputs(model, tokens, mask):
    """Everything the text tower computes, by name."""
    with torch.no_grad():
        output = model.encode_text.text_encoder(input_ids=tokens, attention_mask=mask, output_hidden_states=True)
        hidden = output.last_hidden_state
        projection = model.encode_text.linear_layer(hidden[:, 0, :])
    # transformers leaves the internal padding on the intermediate states.
    states = {f"hidden.{i}": h[:, : tokens.shape[1]] for i, h in enumerate(output.hidden_states[:-1])}
    return {"cls": hidden[:, 0, :], "projection": projection, "embedding": normalised(projection),
            "last_hidden_state": hidden} | states


def plain_text_cls(model, tokens, mask):
    """The CLS vectors by ordinary attention with a band mask, in float64: the check on the sliding-chunk code."""
    sizes, w = model.sizes, {k: v.double() for k, v in model.encode_text.text_encoder.state_dict().items()}
    positions = torch.cumsum(tokens != 1, dim=1) * (tokens != 1) + 1
    norm = lambda x, name: torch.nn.functional.layer_norm(x, x.shape[-1:], w[name + ".weight"], w[name + ".bias"], 1e-5)
    linear = lambda x, name: x @ w[name + ".weight"].T + w[name + ".bias"]
    x = norm(w["embeddings.word_embeddings.weight"][tokens] + w["embeddings.position_embeddings.weight"][positions]
             + w["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
    batch, length = tokens.shape
    place = torch.arange(length)
    allowed = ((place[:, None] - place[None, :]).abs() <= sizes.attention_window // 2) & (mask[:, None, :] != 0)
    heads = lambda t: t.view(batch, length, sizes.num_heads, -1).transpose(1, 2)
    for i in range(sizes.num_layers):
        at = f"encoder.layer.{i}."
        q, k, v = (heads(linear(x, at + "attention.self." + n)) for n in ("query", "key", "value"))
        scores = (q / math.sqrt(q.shape[-1])) @ k.transpose(-1, -2)
        # Finite, so that padding rows without any key stay finite; they are set to zero below.
        scores = scores.masked_fill(~allowed[:, None], -1e300)
        context = torch.softmax(scores, -1) * (mask[:, None, :, None] != 0) @ v
        context = context.transpose(1, 2).reshape(batch, length, -1)
        x = norm(linear(context, at + "attention.output.dense") + x, at + "attention.output.LayerNorm")
        inner = torch.nn.functional.gelu(linear(x, at + "intermediate.dense"))
        x = norm(linear(inner, at + "output.dense") + x, at + "output.LayerNorm")
    return x[:, 0]


def symmetric_infonce(image, text, log_scale):
    """Sum over pairs of half the row and half the column cross entropy. Divided by B it is Triphase's loss."""
    logits = log_scale.exp() * image @ text.T
    target = torch.arange(len(image))
    entropy = torch.nn.functional.cross_entropy
    return 0.5 * (entropy(logits, target, reduction="sum") + entropy(logits.T, target, reduction="sum"))


def write_model(name, sizes, seed, volume_shapes, token_cases):
    """Weights and cases of one model."""
    model = small_merlin(sizes, seed)
    wide = small_merlin(sizes, seed).double()
    random = numpy.random.default_rng(seed + 1000)
    about = record(__file__, PACKAGES, {"model": name, "sizes": dataclasses.asdict(sizes), "seed": seed,
                                        "mode": "eval", "pad_id": 1, "layer_norm_eps": 1e-5})
    save_tensors(f"towers/{name}_weights", model.state_dict(), about)

    tensors = {}
    for case, shape in volume_shapes.items():
        volumes = torch.from_numpy(random.uniform(0.0, 1.0, shape).astype(numpy.float32))
        tensors[f"{case}.volumes"] = volumes
        for suffix, network, x in (("f32", model, volumes), ("f64", wide, volumes.double())):
            for key, value in image_outputs(network, x).items():
                # Whole activations are for finding a fault: one precision is enough.
                if not key.startswith("stage."):
                    tensors[f"{case}.{key}.{suffix}"] = value
                elif suffix == "f64":
                    tensors[f"{case}.{key}"] = value.float()
    for case, (lengths, padded) in token_cases.items():
        tokens, mask = seeded_tokens(random, sizes.vocabulary_size, lengths, padded)
        tensors[f"{case}.tokens"], tensors[f"{case}.mask"] = tokens, mask
        for suffix, network in (("f32", model), ("f64", wide)):
            with wide_softmax():
                outputs = text_outputs(network, tokens, mask)
            for key, value in outputs.items():
                if key in ("cls", "projection", "embedding"):
                    tensors[f"{case}.{key}.{suffix}"] = value
                elif suffix == "f64":
                    tensors[f"{case}.{key}"] = value.float()
        error = (plain_text_cls(model, tokens, mask) - tensors[f"{case}.cls.f64"]).abs().max().item()
        print(f"{name} {case}: plain banded attention differs by {error:.1e}")
        assert error < 1e-12
    save_tensors(f"towers/{name}_cases", tensors, about)


def write_ruled(name, sizes, seed, volume_shapes, token_cases):
    """Outputs of a model whose weights and volumes are drawn by a rule that the test repeats."""
    model, wide = ruled_merlin(sizes, seed), ruled_merlin(sizes, seed).double()
    random = numpy.random.default_rng(seed + 1000)
    tensors = {}
    for place, (case, shape) in enumerate(volume_shapes.items()):
        volumes = torch.from_numpy(keyed_uniform([seed, 1_000_000 + place], shape).astype(numpy.float32))
        for suffix, network, x in (("f32", model, volumes), ("f64", wide, volumes.double())):
            outputs = image_outputs(network, x)
            tensors |= {f"{case}.{k}.{suffix}": v for k, v in outputs.items() if not k.startswith("stage.")}
    for case, (lengths, padded) in token_cases.items():
        tokens, mask = seeded_tokens(random, sizes.vocabulary_size, lengths, padded)
        tensors[f"{case}.tokens"], tensors[f"{case}.mask"] = tokens, mask
        for suffix, network in (("f32", model), ("f64", wide)):
            with wide_softmax():
                outputs = text_outputs(network, tokens, mask)
            tensors |= {f"{case}.{k}.{suffix}": outputs[k] for k in ("cls", "projection", "embedding")}
        error = (plain_text_cls(model, tokens, mask) - tensors[f"{case}.cls.f64"]).abs().max().item()
        print(f"{name} {case}: plain banded attention differs by {error:.1e}")
        assert error < 1e-12
    save_tensors(f"towers/{name}_cases", tensors, record(__file__, PACKAGES, {
        "model": name, "sizes": dataclasses.asdict(sizes), "seed": seed, "mode": "eval", "pad_id": 1,
        "layer_norm_eps": 1e-5, "volume_shapes": volume_shapes, "weights": "ruled_merlin() of small_merlin.py"}))


def main():
    torch.set_num_threads(1)
    write_model("merlin_tiny", MERLIN_TINY, 11, {"image": (2, 1, 24, 20, 16)},
                {"text": ([37, 20, 6], 37), "text_full": ([128], 128), "text_short": ([5, 3], 5),
                 "text_even": ([40, 33], 40)})
    # "image_deep": layer4 is 2x2x2, so that strides, padding and pooling of the last stage matter.
    write_model("merlin_odd", MERLIN_ODD, 12, {"image": (2, 1, 21, 18, 15), "image_deep": (1, 1, 34, 33, 20)},
                {"text": ([9, 4], 9), "text_long": ([32, 29], 32)})
    # The phantom cohort's volumes and reports; and the longest text that the window takes.
    write_ruled("merlin_small", MERLIN_SMALL, 13, {"image": (2, 1, 56, 40, 32)},
                {"text": ([61, 33, 7], 61), "text_full": ([512], 512)})


if __name__ == "__main__":
    main()
