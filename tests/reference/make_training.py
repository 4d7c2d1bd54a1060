# SPDX-License-Identifier: Apache-2.0
"""Training: torch's AdamW with gradient clipping, and the symmetric InfoNCE with its gradients, in float64.

Writes training/adamw.safetensors and training/infonce.safetensors. Note that torch's clip_grad_norm_ multiplies by
max_norm / (norm + 1e-6), and only where that is below 1.
"""

import math

import numpy
import torch

from golden_io import record, save_tensors

PACKAGES = ["torch", "numpy"]
STEPS = 20
# Merlin's names, so that an optimizer that sorts parameters by name can be fed; value: shape.
PARAMETERS = {
    "encode_image.i3_resnet.layer1.0.conv1.weight": (3, 2, 1, 1, 1),
    "encode_image.i3_resnet.layer1.0.bn1.weight": (4,),
    "encode_image.i3_resnet.layer1.0.conv2.lora_A.weight": (2, 2, 3, 3, 3),
    "encode_image.i3_resnet.layer1.0.conv2.lora_B.weight": (3, 2, 1, 1, 1),
    "encode_text.text_encoder.encoder.layer.0.attention.self.query.weight": (3, 3),
    "encode_text.text_encoder.encoder.layer.0.attention.self.query.bias": (3,),
    "encode_text.linear_layer.weight": (2, 3),
    "logit_scale": (),
}
BASE = {"betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0.01, "grad_clip_norm": 1.0, "lora_plus_ratio": 1.0,
        "lr": 1e-2}
CASES = {
    "plain": BASE,
    "groups": BASE | {"betas": [0.85, 0.95], "eps": 1e-6, "weight_decay": 0.2, "grad_clip_norm": 2.5,
                      "lora_plus_ratio": 4.0, "lr_image": 3e-2, "lr_text": 1e-3, "lr_heads": 7e-3, "lr_scale": 5e-2},
    "no_clip": BASE | {"grad_clip_norm": 0.0, "weight_decay": 0.0, "lr": 0.3},
}


def part_of(name):
    if name == "logit_scale":
        return "scale"
    if "linear_layer" in name or "contrastive_head" in name:
        return "heads"
    return "image" if name.startswith("encode_image") else "text"


def write_adamw():
    random = numpy.random.default_rng(51)
    tensors = {}
    # From far below the clipping norm to far above it.
    sizes = numpy.exp(random.uniform(-5, 2, STEPS))
    for name, shape in PARAMETERS.items():
        tensors[f"initial.{name}"] = random.standard_normal(shape)
        tensors[f"gradients.{name}"] = sizes.reshape(-1, *[1] * len(shape)) * random.standard_normal((STEPS, *shape))
    factors = numpy.array([(i + 1) / 5 if i < 5 else 0.5 * (1 + math.cos(math.pi * (i - 5) / 15)) for i in range(STEPS)])
    tensors["lr_factors"] = factors
    for case, options in CASES.items():
        parameters = {name: torch.nn.Parameter(torch.tensor(tensors[f"initial.{name}"])) for name in PARAMETERS}
        groups = []
        for name, parameter in parameters.items():
            lr = options.get(f"lr_{part_of(name)}", options["lr"])
            lr *= options["lora_plus_ratio"] if "lora_B" in name else 1.0
            groups.append({"params": [parameter], "base_lr": lr, "lr": lr,
                           "weight_decay": options["weight_decay"] if parameter.dim() >= 2 else 0.0})
        optimizer = torch.optim.AdamW(groups, betas=tuple(options["betas"]), eps=options["eps"], foreach=False)
        norms = []
        for step in range(STEPS):
            for name, parameter in parameters.items():
                parameter.grad = torch.tensor(tensors[f"gradients.{name}"][step])
            limit = options["grad_clip_norm"] or math.inf
            norms.append(torch.nn.utils.clip_grad_norm_(parameters.values(), limit).item())
            for group in optimizer.param_groups:
                group["lr"] = group["base_lr"] * factors[step]
            optimizer.step()
            if step + 1 in (1, 5, STEPS):
                tensors |= {f"{case}.after_{step + 1}.{n}": p.detach().clone() for n, p in parameters.items()}
        tensors[f"{case}.norms"] = numpy.array(norms)
        for name, parameter in parameters.items():
            tensors[f"{case}.exp_avg.{name}"] = optimizer.state[parameter]["exp_avg"]
            tensors[f"{case}.exp_avg_sq.{name}"] = optimizer.state[parameter]["exp_avg_sq"]
    save_tensors("training/adamw", tensors, record(__file__, PACKAGES, {
        "options": CASES, "decayed": [n for n, s in PARAMETERS.items() if len(s) >= 2],
        "clipping": "gradients times min(1, grad_clip_norm / (norm + 1e-6)); 0: none",
        "lr": "the group's, times lora_plus_ratio for lora_B, times lr_factors[step]"}))


def unit_rows(rows):
    return rows / numpy.linalg.norm(rows, axis=1, keepdims=True)


def write_infonce():
    random = numpy.random.default_rng(52)
    tensors, scales = {}, {}

    def add(case, image, text, scale):
        image, text = torch.tensor(image, requires_grad=True), torch.tensor(text, requires_grad=True)
        log_scale = torch.tensor(math.log(scale), dtype=torch.float64, requires_grad=True)
        logits = log_scale.exp() * image @ text.T
        target = torch.arange(len(image))
        entropy = torch.nn.functional.cross_entropy
        loss = 0.5 * (entropy(logits, target) + entropy(logits.T, target))
        loss.backward()
        tensors.update({f"{case}.image": image, f"{case}.text": text, f"{case}.log_scale": log_scale,
                        f"{case}.loss": loss, f"{case}.d_image": image.grad, f"{case}.d_text": text.grad,
                        f"{case}.d_log_scale": log_scale.grad})
        scales[case] = scale

    for size, width, scale in ((1, 4, 10.0), (2, 3, math.e), (3, 5, 1 / 0.07), (4, 8, 1 / 0.07), (6, 4, 1.0),
                               (8, 16, 1 / 0.07), (12, 8, 100.0), (24, 12, 100.0), (24, 6, 1 / 0.368)):
        add(f"random_{size}_{width}_{scale:.0f}", unit_rows(random.standard_normal((size, width))),
            unit_rows(random.standard_normal((size, width))), scale)
    image = unit_rows(random.standard_normal((12, 8)))
    near = unit_rows(image + 0.05 * random.standard_normal(image.shape))
    add("aligned_100", image, near, 100.0)
    add("equal_100", image, image.copy(), 100.0)
    add("opposed_100", image, -near, 100.0)
    add("shifted_100", image, numpy.roll(near, 1, axis=0), 100.0)
    add("twins_14", numpy.repeat(image[:6], 2, axis=0), numpy.repeat(near[:6], 2, axis=0), 1 / 0.07)
    add("collapsed_100", numpy.repeat(image[:1], 8, axis=0), numpy.repeat(near[:1], 8, axis=0), 100.0)
    save_tensors("training/infonce", tensors, record(__file__, PACKAGES, {
        "loss": "1/(2B) * sum of row and column cross entropies of exp(log_scale) * image @ text.T",
        "gradients": "with respect to the rows as given (not through a normalisation)", "scales": scales}))


if __name__ == "__main__":
    torch.set_num_threads(1)
    write_adamw()
    write_infonce()
