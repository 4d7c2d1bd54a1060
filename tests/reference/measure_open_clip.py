# SPDX-License-Identifier: Apache-2.0
"""Measures what open_clip's distributed losses give after DDP, against the gradient of the one-process loss.

    tests/reference/measure_open_clip.py [--ranks 2,3]

Needs torch, torchvision and open_clip_torch (3.3.0). Each mode runs open_clip's own ClipLoss or SigLipLoss on gloo
ranks in float64. Two linear towers stand for the encoders; gradients are averaged over ranks as DDP does. Printed are
the factors on the towers' and the log-scale's gradient (the projection on the true one) and how far a tower's gradient
is from that multiple of the true one, relatively: 0 when only the factor differs, otherwise the direction is wrong.
"""

import argparse
import math
import os
import tempfile

import torch
import torch.distributed
import torch.multiprocessing
from open_clip.loss import ClipLoss, SigLipLoss

PAIRS, INPUTS, WIDTH = 4, 6, 5  # pairs a rank
MODES = {
    "global loss (default)": (ClipLoss, {}),
    "--gather-with-grad": (ClipLoss, {"gather_with_grad": True}),
    "--local-loss": (ClipLoss, {"local_loss": True}),
    "--local-loss --gather-with-grad": (ClipLoss, {"local_loss": True, "gather_with_grad": True}),
    **{f"SigLIP, {how}": (SigLipLoss, {"dist_impl": how}) for how in ("bidir", "shift", "reduce", "gather")},
}


def make_inputs(ranks):
    generator = torch.Generator().manual_seed(7)
    draw = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
    return draw(ranks * PAIRS, INPUTS), draw(ranks * PAIRS, INPUTS), draw(INPUTS, WIDTH), draw(INPUTS, WIDTH)


def gradients(loss, inputs, rows, siglip):
    images, texts, *weights = inputs
    weights = [w.clone().requires_grad_() for w in weights]
    log_scale = torch.tensor(math.log(10.0), dtype=torch.float64, requires_grad=True)
    bias = torch.tensor(-3.0, dtype=torch.float64, requires_grad=True)
    normalize = torch.nn.functional.normalize
    embedded = [normalize(part[rows] @ weight, dim=1) for part, weight in zip((images, texts), weights)]
    extra = {"logit_bias": bias} if siglip else {}
    loss(*embedded, logit_scale=log_scale.exp(), **extra).backward()
    return [weights[0].grad, weights[1].grad, log_scale.grad]


def run(rank, ranks, store, results):
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=ranks)
    inputs = make_inputs(ranks)
    mine = slice(rank * PAIRS, (rank + 1) * PAIRS)
    for name, (kind, options) in MODES.items():
        siglip = kind is SigLipLoss
        true = gradients(kind(rank=0, world_size=1), inputs, slice(None), siglip)
        got = gradients(kind(rank=rank, world_size=ranks, **options), inputs, mine, siglip)
        for grad in got:
            torch.distributed.all_reduce(grad)
            grad /= ranks
        if rank == 0:
            tower_got, tower_true = (torch.cat([g.flatten() for g in grads[:2]]) for grads in (got, true))
            factor = (tower_got @ tower_true / (tower_true @ tower_true)).item()
            off = ((tower_got - factor * tower_true).norm() / tower_got.norm()).item()
            results[name] = (factor, off, (got[2] / true[2]).item())
    torch.distributed.destroy_process_group()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--ranks", default="2,3")
    arguments = parser.parse_args()
    print(f"{'mode':34} {'ranks':>5} {'encoders':>9} {'direction':>10} {'log-scale':>10}")
    for ranks in map(int, arguments.ranks.split(",")):
        with tempfile.TemporaryDirectory() as folder, torch.multiprocessing.Manager() as manager:
            results = manager.dict()
            torch.multiprocessing.spawn(run, (ranks, os.path.join(folder, "store"), results), nprocs=ranks)
            for name, (factor, off, scale) in results.items():
                print(f"{name:34} {ranks:5} {factor:9.4f} {off:10.1e} {scale:10.4f}")


if __name__ == "__main__":
    main()
