# SPDX-License-Identifier: Apache-2.0
"""Small models of Merlin's architecture, built with merlin-vlm's own I3ResNet and transformers' own Longformer.

What is taken from merlin-vlm as it stands: inflate.py and i3res.py (every convolution, norm, pool and the forward
pass). What is put together again here, because the original downloads pretrained weights or has its sizes built in:
the 2-D Bottleneck ResNet that is inflated (torchvision's Bottleneck blocks with a narrower stem), the two heads (sizes
2048 and 512 are literals in i3res.py, so they are replaced after construction by heads of the same kind), and the
outer modules ImageEncoder, TextEncoder and MerlinArchitecture, whose few lines are repeated with the same names, so
that the state_dict has Merlin's names. The text tower takes token ids, not strings.
"""

import contextlib
import dataclasses
import warnings

import numpy
import torch
from merlin.models.i3res import I3ResNet
from torchvision.models.resnet import Bottleneck, ResNet
from transformers import LongformerConfig, LongformerModel

warnings.filterwarnings("ignore", message=".*use_reentrant.*")
warnings.filterwarnings("ignore", message=".*requires_grad=True.*")


@dataclasses.dataclass(frozen=True)
class Sizes:
    """Everything that decides a small model's shape; the same fields as the C++ options."""

    blocks: tuple
    base_width: int = 4
    embedding_size: int = 16
    num_phenotypes: int = 16
    vocabulary_size: int = 64
    hidden_size: int = 32
    num_layers: int = 2
    num_heads: int = 2
    intermediate_size: int = 64
    attention_window: int = 8
    max_positions: int = 130


MERLIN_TINY = Sizes(blocks=(1, 1, 1, 1))
MERLIN_ODD = Sizes(blocks=(1, 2, 1, 1), embedding_size=12, num_phenotypes=5, vocabulary_size=40, hidden_size=24,
                   num_layers=1, num_heads=3, intermediate_size=40, attention_window=16, max_positions=34)
# As the program's preset of this name.
MERLIN_SMALL = Sizes(blocks=(1, 1, 1, 1), base_width=16, embedding_size=64, vocabulary_size=1024, hidden_size=96,
                     num_layers=2, num_heads=4, intermediate_size=192, attention_window=512, max_positions=514)


class NarrowResNet(ResNet):
    """torchvision's ResNet with another base width (64 is a literal there)."""

    def __init__(self, blocks, base_width):
        super().__init__(Bottleneck, list(blocks))
        self.inplanes = base_width
        self.conv1 = torch.nn.Conv2d(3, base_width, kernel_size=7, stride=2, padding=3, bias=False)
        self.bn1 = torch.nn.BatchNorm2d(base_width)
        self.layer1 = self._make_layer(Bottleneck, base_width, blocks[0])
        self.layer2 = self._make_layer(Bottleneck, 2 * base_width, blocks[1], stride=2)
        self.layer3 = self._make_layer(Bottleneck, 4 * base_width, blocks[2], stride=2)
        self.layer4 = self._make_layer(Bottleneck, 8 * base_width, blocks[3], stride=2)


class ImageEncoder(torch.nn.Module):
    def __init__(self, sizes):
        super().__init__()
        self.i3_resnet = I3ResNet(NarrowResNet(sizes.blocks, sizes.base_width), class_nb=sizes.num_phenotypes,
                                  conv_class=True)
        features = 32 * sizes.base_width
        self.i3_resnet.classifier = torch.nn.Conv3d(features, sizes.num_phenotypes, 1, bias=True)
        self.i3_resnet.contrastive_head = torch.nn.Conv3d(features, sizes.embedding_size, 1, bias=True)

    def forward(self, volumes):
        return self.i3_resnet(volumes)


class TextEncoder(torch.nn.Module):
    def __init__(self, sizes):
        super().__init__()
        self.text_encoder = LongformerModel(LongformerConfig(
            attention_window=[sizes.attention_window] * sizes.num_layers, vocab_size=sizes.vocabulary_size,
            hidden_size=sizes.hidden_size, num_hidden_layers=sizes.num_layers, num_attention_heads=sizes.num_heads,
            intermediate_size=sizes.intermediate_size, max_position_embeddings=sizes.max_positions,
            layer_norm_eps=1e-5, type_vocab_size=1, hidden_act="gelu", pad_token_id=1, bos_token_id=0,
            eos_token_id=2, sep_token_id=2))
        self.linear_layer = torch.nn.Linear(sizes.hidden_size, sizes.embedding_size)

    def forward(self, tokens, mask):
        cls = self.text_encoder(input_ids=tokens, attention_mask=mask).last_hidden_state[:, 0, :]
        return self.linear_layer(cls)


class SmallMerlin(torch.nn.Module):
    """MerlinArchitecture; forward returns unit image rows, phenotype logits, unit text rows."""

    def __init__(self, sizes):
        super().__init__()
        self.sizes = sizes
        self.encode_image = ImageEncoder(sizes)
        self.encode_text = TextEncoder(sizes)
        self.logit_scale = torch.nn.Parameter(torch.ones([]) * 2.0)

    def forward(self, volumes, tokens, mask):
        image, phenotypes = self.encode_image(volumes)
        text = self.encode_text(tokens, mask)
        return normalised(image), phenotypes, normalised(text)


def normalised(rows):
    """Rows divided by their length, with no epsilon, as Merlin does."""
    return rows / rows.norm(dim=-1, keepdim=True)


def drawn_weight(name, shape, random):
    """A seeded weight that is nowhere trivially 0 or 1, of a size that keeps activations near 1."""
    last = name.rsplit(".", 1)[-1]
    if name == "logit_scale":
        return numpy.float64(2.0)
    if last == "num_batches_tracked":
        return numpy.int64(7)
    if last == "running_mean":
        return 0.2 * random.standard_normal(shape)
    if last == "running_var":
        return random.uniform(0.5, 2.0, shape)
    if last == "bias":
        return 0.1 * random.standard_normal(shape)
    if len(shape) == 1:
        return random.uniform(0.5, 1.5, shape)
    if "embeddings" in name:
        return 0.7 * random.standard_normal(shape)
    fan_in = numpy.prod(shape[1:])
    # Wide queries and keys: attention that prefers some keys, so that a wrong window or mask shows.
    gain = 2.0 if ".query" in name or ".key" in name else 1.4
    return gain / numpy.sqrt(fan_in) * random.standard_normal(shape)


def small_merlin(sizes, seed):
    """A float32 model in eval mode with seeded weights. The draw of each weight depends on the seed and its place
    in the sorted list of names only."""
    model = SmallMerlin(sizes).eval()
    state = model.state_dict()
    for place, name in enumerate(sorted(state)):
        random = numpy.random.default_rng([seed, place])
        value = numpy.asarray(drawn_weight(name, tuple(state[name].shape), random))
        state[name] = torch.tensor(value).to(state[name].dtype).reshape(state[name].shape)
    model.load_state_dict(state, strict=True)
    return model


def keyed_bits(key, count):
    """The first numbers of base/random.hpp's KeyedRandom under this key: 64-bit words of SplitMix64."""
    gamma, mask = 0x9E3779B97F4A7C15, 2**64 - 1

    def mixed(x):
        x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 & mask
        x = (x ^ (x >> 27)) * 0x94D049BB133111EB & mask
        return x ^ (x >> 31)

    state = 0x243F6A8885A308D3
    for part in key:
        state = mixed((state ^ mixed(part + gamma & mask)) + gamma & mask)
    with numpy.errstate(over="ignore"):
        x = numpy.uint64(state) + numpy.arange(1, count + 1, dtype=numpy.uint64) * numpy.uint64(gamma)
        x = (x ^ (x >> numpy.uint64(30))) * numpy.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> numpy.uint64(27))) * numpy.uint64(0x94D049BB133111EB)
        return x ^ (x >> numpy.uint64(31))


def keyed_uniform(key, shape):
    """KeyedRandom::uniform() for each element in row-major order: [0, 1), the same doubles in both languages."""
    count = int(numpy.prod(shape))
    return ((keyed_bits(key, count) >> numpy.uint64(11)).astype(numpy.float64) * 2.0**-53).reshape(shape)


def ruled_range(name, shape, branch_gain):
    """Bounds of a weight's uniform draw by the rule that tests/models/ruled_model.cpp repeats. The last norm of every
    block takes branch_gain, so that the sum over many blocks stays of the size of its terms."""
    last = name.rsplit(".", 1)[-1]
    if last == "running_mean":
        return -0.4, 0.4
    if last == "running_var":
        return 0.5, 2.0
    if last == "bias":
        return -0.2, 0.2
    if name.endswith("bn3.weight"):
        return 0.5 * branch_gain, 1.5 * branch_gain
    if len(shape) == 1:
        return 0.5, 1.5
    if "embeddings" in name:
        return -1.2, 1.2
    bound = 2.4 / numpy.sqrt(float(numpy.prod(shape[1:])))
    return -bound, bound


def fill_by_rule(model, seed):
    """Gives a model weights that C++ can draw as well, so that no file has to hold them: uniform by ruled_range(),
    keyed by the seed and the weight's place in the sorted list of names."""
    state = model.state_dict()
    branch_gain = 2.0 / numpy.sqrt(float(sum(name.endswith("bn3.weight") for name in state)))
    with torch.no_grad():
        for place, name in enumerate(sorted(state)):
            shape = tuple(state[name].shape)
            if name == "logit_scale":
                state[name].fill_(2.0)
            elif name.endswith("num_batches_tracked"):
                state[name].fill_(7)
            else:
                low, high = ruled_range(name, shape, branch_gain)
                state[name].copy_(torch.from_numpy(low + (high - low) * keyed_uniform([seed, place], shape)))
    return model


def ruled_merlin(sizes, seed):
    """A float32 model in eval mode with weights by the rule."""
    return fill_by_rule(SmallMerlin(sizes).eval(), seed)


def ruled_volumes(seed, place, shape):
    """float32 volumes [B,1,X,Y,Z] in [0, 1): cubes of 32 voxels, each of one value, and a third as much noise. Noise
    alone would look the same to a pooled feature in every volume."""
    coarse_shape = (*shape[:2], *(-(-size // 32) for size in shape[2:]))
    volumes = torch.from_numpy(keyed_uniform([seed, place, 0], coarse_shape).astype(numpy.float32))
    for axis in (2, 3, 4):
        volumes = volumes.repeat_interleave(32, axis).narrow(axis, 0, shape[axis])
    noise = torch.from_numpy(keyed_uniform([seed, place, 1], shape).astype(numpy.float32))
    return volumes.mul(0.75) + noise.mul(0.25)


def ruled_tokens(seed, place, lengths, vocabulary_size):
    """Token ids [B, longest] between <s> = 0 and </s> = 2, padded on the right with 1, and the mask."""
    longest = max(lengths)
    drawn = keyed_bits([seed, place, 2], len(lengths) * longest) % numpy.uint64(vocabulary_size - 3)
    tokens = drawn.astype(numpy.int64).reshape(len(lengths), longest) + 3
    mask = numpy.zeros_like(tokens)
    for row, length in enumerate(lengths):
        tokens[row, 0], tokens[row, length - 1], tokens[row, length:] = 0, 2, 1
        mask[row, :length] = 1
    return torch.from_numpy(tokens), torch.from_numpy(mask)


@contextlib.contextmanager
def wide_softmax():
    """Longformer casts its attention scores to float32 for the softmax, in a float64 model as well. Inside this
    context that cast is left out for float64, so that float64 results are float64 throughout."""
    original = torch.nn.functional.softmax

    def softmax(input, dim=None, dtype=None):
        return original(input, dim=dim, dtype=input.dtype if input.dtype == torch.float64 else dtype)

    torch.nn.functional.softmax = softmax
    try:
        yield
    finally:
        torch.nn.functional.softmax = original


def seeded_tokens(random, vocabulary_size, lengths, padded_length):
    """Token ids [B, padded_length] between <s> = 0 and </s> = 2, padded on the right with 1, and the mask."""
    tokens = numpy.full((len(lengths), padded_length), 1, dtype=numpy.int64)
    mask = numpy.zeros_like(tokens)
    for row, length in enumerate(lengths):
        tokens[row, :length] = random.integers(3, vocabulary_size, length)
        tokens[row, 0], tokens[row, length - 1] = 0, 2
        mask[row, :length] = 1
    return torch.from_numpy(tokens), torch.from_numpy(mask)
