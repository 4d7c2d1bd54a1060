# SPDX-License-Identifier: Apache-2.0
"""Full size: outputs of merlin-vlm's own MerlinArchitecture, ResNet-152 and Clinical-Longformer, in float32 on a CPU.

Nothing of the network is put together here: build.py of merlin-vlm makes it, with the two downloads inside replaced by
the same architectures without weights. The weights (271 million), volumes and tokens follow from a rule that the test
repeats (small_merlin.py), so that towers/merlin_cases.safetensors holds outputs alone.
"""

import unittest.mock

import torch
import torchvision
from merlin.models import build
from transformers import LongformerConfig, LongformerModel

from golden_io import record, save_tensors
from make_towers import PACKAGES, image_outputs, text_outputs
from small_merlin import fill_by_rule, ruled_tokens, ruled_volumes

SEED = 17
VOCABULARY_SIZE = 50265
VOLUMES = {"image_64": (2, 1, 64, 64, 48), "image_112": (2, 1, 112, 112, 80)}
# Every length once, alone as the longest or padded: around the band's half width and window, and the most that is used.
TEXTS = {"text_1024": (1024, 3), "text_513": (513, 512), "text_300": (300, 258, 257)}


def full_merlin():
    """merlin-vlm's network in eval mode, its weights not yet set."""
    # As the config.json of yikuan8/Clinical-Longformer.
    config = LongformerConfig(
        attention_window=[512] * 12, vocab_size=VOCABULARY_SIZE, hidden_size=768, num_hidden_layers=12,
        num_attention_heads=12, intermediate_size=3072, max_position_embeddings=4098, layer_norm_eps=1e-5,
        type_vocab_size=1, hidden_act="gelu", pad_token_id=1, bos_token_id=0, eos_token_id=2, sep_token_id=2)
    bare_resnet = torchvision.models.resnet152
    with unittest.mock.patch.object(torchvision.models, "resnet152", lambda pretrained: bare_resnet(weights=None)), \
            unittest.mock.patch.object(build.AutoTokenizer, "from_pretrained", lambda name: None), \
            unittest.mock.patch.object(build.AutoModel, "from_pretrained", lambda name: LongformerModel(config)):
        return build.MerlinArchitecture().eval()


def check_difference(case, rows):
    """Rows of one case must not be nearly the same: a tower that mixes them up would pass unseen."""
    first, last = rows[0].double(), rows[-1].double()
    difference = ((first - last).abs().max() / rows.abs().max()).item()
    print(f"{case}: rows differ by {difference:.2f} of the largest value, {rows.abs().max():.3g}")
    assert torch.isfinite(rows).all() and difference > 0.05


def main():
    model = fill_by_rule(full_merlin(), SEED)
    assert sum(p.numel() for p in model.parameters()) == 270_935_389 and len(model.state_dict()) == 1208
    tensors = {}
    for place, (case, shape) in enumerate(VOLUMES.items()):
        outputs = image_outputs(model, ruled_volumes(SEED, 1_000_000 + place, shape))
        for key in ("features", "projection", "phenotype_logits"):
            tensors[f"{case}.{key}"] = outputs[key]
            check_difference(f"{case}.{key}", outputs[key])
    for place, (case, lengths) in enumerate(TEXTS.items()):
        tokens, mask = ruled_tokens(SEED, 2_000_000 + place, lengths, VOCABULARY_SIZE)
        outputs = text_outputs(model, tokens, mask)
        for key in ("cls", "projection"):
            tensors[f"{case}.{key}"] = outputs[key]
            check_difference(f"{case}.{key}", outputs[key])
    save_tensors("towers/merlin_cases", tensors, record(__file__, PACKAGES, {
        "model": "MerlinArchitecture", "seed": SEED, "mode": "eval", "dtype": "float32", "volumes": VOLUMES,
        "texts": TEXTS, "weights": "fill_by_rule() of small_merlin.py"}))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
