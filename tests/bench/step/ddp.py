# SPDX-License-Identifier: Apache-2.0
"""Times a training step on several ranks beside torch's DistributedDataParallel on gloo with open_clip's exact loss.

    tests/bench/step/ddp.py [--ranks 2] [--preset merlin_small] [--pairs 8] [--volume 56,40,32] [--tokens 512]
        [--threads 1] [--overlap auto] [--wire-dtype gradient] [--repeats 3] [--iterations 5] [--build release] [--out FILE.json]

Run it with a Python that has tests/reference/requirements.txt and open_clip_torch (3.3.0); needs a build and an idle
machine of as many cores as ranks times threads. First `triphase bench step --save` leaves weights, each rank's pairs and the
summed gradients; the peer loads them and its gradients must be equal, else the script ends with 1 and times nothing. Then
both programs take turns; each process times --iterations full steps (AdamW included) after one that warms up. Printed are
medians over all steps of a rank's seconds, ours also by phase, and the ratio.

The peer: the same network (merlin-vlm's I3ResNet without its checkpoints, transformers' Longformer; BatchNorm frozen as
ours; no dropout, which ours draws in the preset merlin), DDP with static_graph and gradient_as_bucket_view, ClipLoss with
local_loss and gather_with_grad, fused AdamW. With --tokens a multiple of 512, the Longformer's window, it computes on no
padding that ours does without.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
import types
import warnings

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[2]


def ours(arguments, save=None):
    """Seconds by phase, and seconds that reductions were on their way."""
    with tempfile.NamedTemporaryFile(suffix=".json") as out:
        command = ["mpirun", "-np", str(arguments.ranks), ROOT / f"build/{arguments.build}/bin/triphase", "bench", "step",
                   "--quiet", "--preset", arguments.preset, "--pairs", str(arguments.pairs), "--volume", arguments.volume,
                   "--tokens", str(arguments.tokens), "--memory-format", "channels_last_3d", "--overlap", arguments.overlap,
                   "--wire-dtype", "gradient" if save else arguments.wire_dtype, "--iterations",
                   "1" if save else str(arguments.iterations), "--out", out.name]
        if save:
            command += ["--save", save]
        environment = {**os.environ, "OMP_NUM_THREADS": str(arguments.threads),
                       "OMPI_MCA_hwloc_base_binding_policy": "none"}
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
        figures = json.load(open(out.name))
    return {**figures["seconds"], "reduce_on_the_way": figures["reduce_seconds"], "bytes_reduced": figures["bytes_reduced"]}


def peer_model(preset):
    """Of merlin-vlm and transformers, in evaluation mode: running statistics, no dropout."""
    sys.path.insert(0, str(ROOT / "tests/reference"))
    import merlin.models.i3res as i3res
    import small_merlin
    from small_merlin import MERLIN_SMALL, MERLIN_TINY, Sizes, SmallMerlin

    assert small_merlin.I3ResNet is i3res.I3ResNet
    i3res.checkpoint = types.SimpleNamespace(checkpoint=lambda function, *inputs: function(*inputs))
    full = Sizes(blocks=(3, 8, 36, 3), base_width=64, embedding_size=512, num_phenotypes=1692, vocabulary_size=50265,
                 hidden_size=768, num_layers=12, num_heads=12, intermediate_size=3072, attention_window=512,
                 max_positions=4098)
    tiny = Sizes(**{**MERLIN_TINY.__dict__, "vocabulary_size": 1024})
    return SmallMerlin({"merlin_tiny": tiny, "merlin_small": MERLIN_SMALL, "merlin": full}[preset]).eval()


def distance(model, gradients):
    """The largest of all parameters' greatest difference, as a share of the tensor's largest element or of 1e-3 of the
    largest of all, if that is more; and the parameter's name."""
    largest = max(tensor.abs().max().item() for tensor in gradients.values())
    found = ("", -1.0)
    for name, parameter in model.named_parameters():
        if name not in gradients:
            continue
        true = gradients[name]
        apart = (parameter.grad - true).abs().max().item() / max(true.abs().max().item(), 1e-3 * largest)
        found = max(found, (name, apart), key=lambda pair: pair[1])
    return found


def peer_rank(arguments):
    """One rank of the peer: compares gradients with those in --saved, or times steps. Rank 0 prints JSON."""
    import torch
    import torch.distributed
    from open_clip.loss import ClipLoss
    from safetensors.torch import load_file

    warnings.filterwarnings("ignore")
    rank, ranks = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    torch.set_num_threads(arguments.threads)
    torch.distributed.init_process_group("gloo")
    saved = load_file(pathlib.Path(arguments.saved) / f"rank-{rank}.safetensors")
    part = lambda prefix: {n[len(prefix):]: t for n, t in saved.items() if n.startswith(prefix)}  # noqa: E731
    model = peer_model(arguments.preset)
    lacking = model.load_state_dict(part("weights."), strict=False).missing_keys
    assert all("position_ids" in name for name in lacking), lacking
    gradients, batch = part("gradient."), part("batch.")
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in gradients)
    assert gradients.keys() == {n for n, p in model.named_parameters() if p.requires_grad}
    unused = sorted(name for name in gradients if gradients[name].abs().max() == 0)  # DDP would wait for them
    for name in unused:
        model.get_parameter(name).requires_grad_(False)
        del gradients[name]
    del saved
    parallel = torch.nn.parallel.DistributedDataParallel(model, static_graph=True, gradient_as_bucket_view=True)
    contrast = ClipLoss(local_loss=True, gather_with_grad=True, rank=rank, world_size=ranks)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4, fused=True)

    def forward_and_backward():
        image, _, text = parallel(batch["volumes"], batch["tokens"], batch["mask"])
        contrast(image, text, model.logit_scale.exp()).backward()

    if arguments.compare:
        forward_and_backward()
        name, apart = distance(model, gradients)
        figures = {"worst": name, "apart": apart, "unused": unused, "num_trained": sum(t.numel() for t in gradients.values())}
    else:
        seconds = []
        for _ in range(arguments.iterations + 1):
            begin = time.perf_counter()
            optimizer.zero_grad(set_to_none=False)
            forward_and_backward()
            optimizer.step()
            seconds.append(time.perf_counter() - begin)
        figures = {"seconds": seconds[1:]}
    if rank == 0:
        print(json.dumps(figures))
    torch.distributed.destroy_process_group()


def theirs(arguments, saved, compare=False):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(arguments.ranks),
               str(HERE / "ddp.py"), "--peer", "--saved", saved, "--preset", arguments.preset, "--threads",
               str(arguments.threads), "--iterations", str(arguments.iterations)] + ["--compare"] * compare
    environment = {**os.environ, "OMP_NUM_THREADS": str(arguments.threads)}
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
                      .stdout.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--preset", default="merlin_small")
    parser.add_argument("--pairs", type=int, default=8)
    parser.add_argument("--volume", default="56,40,32")
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--overlap", default="auto")
    parser.add_argument("--wire-dtype", default="gradient")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--iterations", type=int, default=5)
    parser.add_argument("--build", default="release")
    parser.add_argument("--out")
    for name, options in {"--peer": {"action": "store_true"}, "--compare": {"action": "store_true"}, "--saved": {}}.items():
        parser.add_argument(name, help=argparse.SUPPRESS, **options)
    arguments = parser.parse_args()
    if arguments.peer:
        return peer_rank(arguments)

    with tempfile.TemporaryDirectory() as saved:
        ours(arguments, save=saved)
        equal = theirs(arguments, saved, compare=True)
        print(f"{equal['num_trained']} trained numbers; gradients at most {equal['apart']:.1e} apart ({equal['worst']}); "
              f"no gradient on either side: {', '.join(equal['unused']) or 'none'}")
        # Two float32 programs with other orders of sums; a wrong factor (1/2, 2) would be 0.5 or more.
        if not equal["apart"] < 1e-3:
            sys.exit("the gradients differ, so nothing is timed")
        peer, own = [], []
        for _ in range(arguments.repeats):
            peer += theirs(arguments, saved)["seconds"]
            own.append(ours(arguments))
    medians = {phase: statistics.median(run[phase] for run in own) for phase in own[0]}
    ratio = statistics.median(peer) / medians["step"]
    print(f"{'peer, s':>10} {'ours, s':>10} {'ratio':>7}   ours by phase")
    print(f"{statistics.median(peer):10.4f} {medians['step']:10.4f} {ratio:7.2f}   " +
          ", ".join(f"{phase} {value:.4f}" for phase, value in medians.items() if phase not in ("step", "bytes_reduced")))
    print(f"{medians['bytes_reduced']:.0f} bytes reduced a step")
    if arguments.out:
        json.dump({"gradients": equal, "peer_seconds": peer, "ours": own, "ratio": ratio, "options": vars(arguments)},
                  open(arguments.out, "w"), indent=1)


if __name__ == "__main__":
    main()
