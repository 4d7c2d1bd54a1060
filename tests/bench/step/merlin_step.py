# SPDX-License-Identifier: Apache-2.0
"""Times a training step of merlin-vlm (and peft) as a Python user has it today: the peer of `triphase bench step`.

The networks are merlin-vlm's own I3ResNet (resnet152 inflated) and transformers' own Longformer in
Clinical-Longformer's sizes, with random weights: no download is needed. One case a process, so that the greatest
resident memory is that of the case. Prints one JSON object.

What stands for "as released": train mode (batch statistics), merlin-vlm's checkpointing of stages and blocks, the
Longformer's gradient checkpointing and its padding to a multiple of 512 tokens, torch.optim.AdamW.
"""

import argparse
import json
import resource
import statistics
import time
import warnings

import merlin
import peft
import torch
import torchvision
import transformers
from merlin.models import i3res

warnings.filterwarnings("ignore")
transformers.logging.set_verbosity_error()


class Image(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.i3_resnet = i3res.I3ResNet(torchvision.models.resnet152(weights=None), class_nb=1692, conv_class=True)

    def forward(self, volumes):
        return self.i3_resnet(volumes)[0]


class Text(torch.nn.Module):
    def __init__(self):
        super().__init__()
        config = transformers.LongformerConfig(
            vocab_size=50265, hidden_size=768, num_hidden_layers=12, num_attention_heads=12, intermediate_size=3072,
            attention_window=[512] * 12, max_position_embeddings=4098, type_vocab_size=1, pad_token_id=1,
            layer_norm_eps=1e-5)
        self.text_encoder = transformers.LongformerModel(config)
        self.text_encoder.gradient_checkpointing_enable()
        self.linear_layer = torch.nn.Linear(768, 512)

    def forward(self, tokens, mask):
        return self.linear_layer(self.text_encoder(input_ids=tokens, attention_mask=mask).last_hidden_state[:, 0, :])


class Both(torch.nn.Module):
    def __init__(self, part):
        super().__init__()
        self.encode_image = Image() if part != "text" else None
        self.encode_text = Text() if part != "image" else None
        self.logit_scale = torch.nn.Parameter(torch.tensor(1.0))

    def loss(self, part, volumes, tokens, mask):
        if part == "image":
            return self.encode_image(volumes).sum()
        if part == "text":
            return self.encode_text(tokens, mask).sum()
        image = torch.nn.functional.normalize(self.encode_image(volumes), dim=1)
        text = torch.nn.functional.normalize(self.encode_text(tokens, mask), dim=1)
        logits = self.logit_scale.exp() * image @ text.t()
        target = torch.arange(len(logits), device=logits.device)
        entropy = torch.nn.functional.cross_entropy
        return (entropy(logits, target) + entropy(logits.t(), target)) / 2


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--part", choices=["both", "image", "text"], default="both")
    parser.add_argument("--method", choices=["full", "peft"], default="full")
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--pairs", type=int, default=2)
    parser.add_argument("--volume", default="112,112,80")
    parser.add_argument("--tokens", type=int, default=300)
    parser.add_argument("--compute", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--iterations", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--tf32", action="store_true", help="TensorFloat-32 in convolutions and products alike")
    arguments = parser.parse_args()
    part = arguments.part

    on_gpu = arguments.device != "cpu"
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = arguments.tf32
    torch.manual_seed(0)
    model = Both(part)
    if arguments.method == "peft":
        targets = [] if part == "text" else ["conv2"]
        targets += [] if part == "image" else ["query", "value"]
        options = peft.LoraConfig(r=arguments.rank, lora_alpha=2 * arguments.rank, target_modules=targets)
        model = peft.get_peft_model(model, options).base_model.model
    model.train().to(arguments.device)
    volumes = torch.randn(arguments.pairs, 1, *[int(n) for n in arguments.volume.split(",")])
    tokens = torch.randint(3, 250, (arguments.pairs, arguments.tokens))
    mask = torch.ones_like(tokens)
    batch = [part.pin_memory() if on_gpu else part for part in (volumes, tokens, mask)]
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4)

    seconds = []
    for _ in range(arguments.iterations + 1):
        begin = time.perf_counter()
        volumes, tokens, mask = (part.to(arguments.device, non_blocking=True) for part in batch)
        # merlin-vlm's checkpoints lose every gradient behind a frozen stem unless the input asks for one.
        volumes.requires_grad_(arguments.method == "peft")
        optimizer.zero_grad()
        with torch.autocast(arguments.device, torch.bfloat16, enabled=arguments.compute == "bfloat16"):
            loss = model.loss(part, volumes, tokens, mask)
        loss.backward()
        optimizer.step()
        if on_gpu:
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - begin)
    moved = [p for p in trained if p.grad is not None]
    print(json.dumps({
        "part": part, "method": arguments.method, "compute": arguments.compute, "pairs": arguments.pairs,
        "seconds": statistics.median(seconds[1:]), "all_seconds": seconds[1:],
        "device": torch.cuda.get_device_name() if on_gpu else "cpu",
        "peak_gpu_mib": torch.cuda.max_memory_allocated() / 2**20 if on_gpu else None,
        "peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "num_trained": sum(p.numel() for p in moved),
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__, "peft": peft.__version__,
                     "merlin_vlm": getattr(merlin, "__version__", "0.0.7")},
    }))


if __name__ == "__main__":
    main()
