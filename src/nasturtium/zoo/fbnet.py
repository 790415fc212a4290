"""FBNet: the search space, the networks found in it by gradient descent for a phone's latency, and FBNetV3.

Level: network. Task: image classification. Each of 22 layers of fixed width chooses one of nine blocks: kernel,
expansion and grouping of an inverted residual, or nothing.

Reference:
    Wu et al. (2019), "FBNet: Hardware-Aware Efficient ConvNet Design via Differentiable Neural Architecture Search",
    arXiv 1812.03443, tables 1 and 2, figures 3 and 4; networks as in the authors' released definitions
    (mobile-vision). FBNetV3: Dai et al. (2021), arXiv 2006.02049, as in timm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from nasturtium.blocks import Classifier, Conv, Identity, MBConv, Repeat, Sequential, conv_norm_act, depthwise
from nasturtium.blocks.layers import make_divisible
from nasturtium.errors import InvalidArchitectureError, UnknownNameError
from nasturtium.graph import tensor as ops
from nasturtium.graph.tensor import Tensor
from nasturtium.space import Architecture, Block, Space, one_of
from nasturtium.zoo.listing import Family, multiplier
from nasturtium.zoo.notation import HARD_SQUEEZE, Style, Table, network, stages
from nasturtium.zoo.resolution import halvings, strides
from nasturtium.zoo.scaling import scaled_depth, scaled_width

TABLE: Table = (
    "ir_r1_k3_s1_e1_c16",
    "ir_r1_k3_s2_e6_c24 ir_r2_k3_s1_e1_c24",
    "ir_r1_k5_s2_e6_c32 ir_r1_k5_s1_e3_c32 ir_r1_k5_s1_e6_c32 ir_r1_k3_s1_e6_c32",
    "ir_r1_k5_s2_e6_c64 ir_r1_k5_s1_e3_c64 ir_r2_k5_s1_e6_c64",
    "ir_r3_k5_s1_e6_c112 ir_r1_k5_s1_e3_c112",
    "ir_r4_k5_s2_e6_c184",
    "ir_r1_k3_s1_e6_c352",
)
"""FBNet-C, its left-out layer left out."""

CANDIDATES: dict[str, dict[str, int]] = {
    "k3_e1": {"kernel": 3, "expand": 1},
    "k3_e1_g2": {"kernel": 3, "expand": 1, "groups": 2},
    "k3_e3": {"kernel": 3, "expand": 3},
    "k3_e6": {"kernel": 3, "expand": 6},
    "k5_e1": {"kernel": 5, "expand": 1},
    "k5_e1_g2": {"kernel": 5, "expand": 1, "groups": 2},
    "k5_e3": {"kernel": 5, "expand": 3},
    "k5_e6": {"kernel": 5, "expand": 6},
}
"""The candidate blocks of table 2; the ninth is "skip"."""

SKIP = "skip"
STEM = 16
STAGES = ((16, 1, False), (24, 4, True), (32, 4, True), (64, 4, True), (112, 4, False), (184, 4, True), (352, 1, False))
"""Width and layers of each stage, and whether its first layer halves the image (table 1)."""

HEAD = 1984
"""Channels of the last convolution, as in FBNet-B and FBNet-C; FBNet-A has 1504."""

FOUND: dict[str, tuple[int, str]] = {
    "a": (
        1504,
        "skip  k3_e3 k3_e1 skip skip  k5_e6 k3_e3 k5_e1 k3_e3  k5_e6 k5_e3 k5_e1_g2 k5_e6  "
        "k3_e6 k5_e1_g2 k5_e3 k3_e1_g2  k5_e6 k5_e6 k5_e3 k5_e6  k5_e6",
    ),
    "b": (
        1984,
        "k3_e1  k3_e6 k5_e1 k3_e1 k3_e1  k5_e6 k5_e3 k3_e6 k5_e6  k5_e6 k5_e6 skip k5_e3  "
        "k5_e6 k3_e1 k5_e1 k5_e3  k5_e6 k5_e1 k5_e6 k5_e6  k3_e6",
    ),
    "c": (
        1984,
        "k3_e1  k3_e6 skip k3_e1 k3_e1  k5_e6 k5_e3 k5_e6 k3_e6  k5_e6 k5_e3 k5_e6 k5_e6  "
        "k5_e6 k5_e6 k5_e6 k5_e3  k5_e6 k5_e6 k5_e6 k5_e6  k3_e6",
    ),
}
"""Head and blocks of the networks that the authors released, layer by layer."""


class FBNetBlock(Block):
    """1x1 convolution, depthwise convolution, 1x1 convolution, and the input added where shapes admit.

    With groups, both 1x1 convolutions have them, and the channels are shuffled after the first.
    Parts: "expand", "shuffle", "depthwise", "project", "add".

    Args:
        width: Output channels; None keeps the input's.
        kernel: Of the depthwise convolution, odd, in pixels.
        stride: Of the depthwise convolution, in pixels.
        expand: Hidden channels by input channel; the first convolution stays at 1.
        groups: Of the 1x1 convolutions.

    Reference:
        Wu et al. (2019), arXiv 1812.03443, figure 3 and table 2.
    """

    width: int | None = None
    kernel: int = 3
    stride: int = 1
    expand: int = 6
    groups: int = 1

    def forward(self, x: Tensor) -> Tensor:
        """Expand, shuffle, filter, project, and add the input."""
        width = x.channels if self.width is None else self.width
        y = conv_norm_act(x, x.channels * self.expand, groups=self.groups, name="expand")
        if self.groups > 1:
            y = ops.channel_shuffle(y, self.groups)
        y = depthwise(y, self.kernel, stride=self.stride)
        y = conv_norm_act(y, width, act="identity", groups=self.groups, name="project")
        return ops.add(x, y) if self.stride == 1 and y.shape == x.shape else y


def space(
    input_shape: tuple[int, ...] = (3, 224, 224), *, width: float = 1.0, depth: float = 1.0, head: int = HEAD
) -> Space:
    """The search space: 22 layers, each with its own choice, always active.

    A layer that keeps width and size has the nine candidates of table 2; the first layer of the six wider stages has
    the eight without "skip", which does not fit there. The paper counts 9^22, about 1e21.

    Args:
        input_shape: `(channels, height, width)`; images below 112 pixels are halved less often.
        width: Multiplier of all widths but the head's.
        depth: Multiplier of the layers in a stage, rounded up.
        head: Channels of the last convolution.

    Returns:
        9^16 x 8^6 = 485,758,124,386,377,007,104 architectures.
    """
    layers = _layers(input_shape, width, depth)
    chosen = [one_of(*_candidates(*layer).values(), name=f"layer_{i}") for i, layer in enumerate(layers)]
    return Space(_network(chosen, width, head, input_shape, None))


def fbnet(
    names: str | Sequence[str],
    *,
    head: int = HEAD,
    width: float = 1.0,
    depth: float = 1.0,
    input_shape: tuple[int, ...] = (3, 224, 224),
    classes: int | None = None,
) -> Sequential:
    """The closed network of the candidates' names.

    Args:
        names: "a", "b" or "c" for a network of the paper; or the name of each layer's block ("k5_e6", "skip" …), as a
            list or separated by spaces.
        head: Channels of the last convolution; a network of the paper has its own.
        width: Multiplier of all widths but the head's.
        depth: Multiplier of the layers in a stage.
        input_shape: Decides the strides.
        classes: Number of classes; None takes it from the task.

    Raises:
        UnknownNameError: no candidate, and no network, of that name.
        InvalidArchitectureError: the number of names is wrong, or "skip" stands where shapes do not admit it.
    """
    if isinstance(names, str) and names in FOUND:
        head, names = FOUND[names]
    listed = names.split() if isinstance(names, str) else list(names)
    layers = _layers(input_shape, width, depth)
    if len(listed) != len(layers):
        raise InvalidArchitectureError(
            f"An FBNet has {len(layers)} layers, so it needs that many names of blocks, got {len(listed)}: {listed!r}."
        )
    blocks = [_block(i, name, _candidates(*layer)) for i, (name, layer) in enumerate(zip(listed, layers, strict=True))]
    return _network(blocks, width, head, input_shape, classes)


def to_names(architecture: Architecture | Block) -> tuple[str, ...]:
    """Names of the blocks of an architecture or a network, layer by layer: what `fbnet` takes.

    Raises:
        InvalidArchitectureError: it is not a closed FBNet.
    """
    block = architecture if isinstance(architecture, Block) else architecture.block
    body = block.layers[1] if isinstance(block, Sequential) and len(block.layers) == 4 else None
    if not isinstance(body, Repeat) or block.is_open:
        raise InvalidArchitectureError(f"Expected a closed FBNet, got {architecture!r}.")
    return tuple(_name(layer) for layer in body.blocks)


def architecture(names: str | Sequence[str], space: Space) -> Architecture:
    """The architecture of an FBNet space that names give, layer by layer; "a", "b", "c" as in `fbnet`."""
    if isinstance(names, str):
        names = FOUND[names][1].split() if names in FOUND else names.split()
    chosen: dict[Any, object] = {}
    if len(names) != len(space.decisions):
        raise InvalidArchitectureError(
            f"The space has {len(space.decisions)} layers, so it needs that many names, got {len(names)}."
        )
    for i, name in enumerate(names):
        decision = space.decision(f"layer_{i}")
        options: dict[str, Any] = {_name(option): option for option in decision.choice.choices}
        chosen[decision.name] = _block(i, name, options)
    return space.architecture(chosen)


def _name(block: object) -> str:
    if isinstance(block, Identity):
        return SKIP
    for name, fields in CANDIDATES.items():
        if isinstance(block, FBNetBlock) and replace(block, **({"groups": 1} | fields)) == block:
            return name
    raise InvalidArchitectureError(f"{block!r} is no candidate of FBNet.")


def _block(number: int, name: str, candidates: dict[str, Block]) -> Block:
    if name == SKIP and name not in candidates:
        raise InvalidArchitectureError(f'Layer {number} changes width or size, so it cannot be "skip".')
    if name not in candidates:
        raise UnknownNameError("FBNet block", name, (*CANDIDATES, SKIP))
    return candidates[name]


def _candidates(channels: int, width: int, stride: int) -> dict[str, Any]:
    blocks: dict[str, Any] = {name: FBNetBlock(width, stride=stride, **fields) for name, fields in CANDIDATES.items()}
    return blocks | ({SKIP: Identity()} if stride == 1 and width == channels else {})


def _layers(input_shape: tuple[int, ...], width: float, depth: float) -> list[tuple[int, int, int]]:
    """Channels in, channels out and stride of each searched layer."""
    steps = iter(_strides(input_shape)[1:])
    layers = []
    channels = scaled_width(STEM, width)
    for base, count, halves in STAGES:
        stride = next(steps) if halves else 1
        for i in range(scaled_depth(count, depth)):
            out = scaled_width(base, width)
            layers.append((channels, out, 1 if i else stride))
            channels = out
    return layers


def _strides(input_shape: tuple[int, ...]) -> tuple[int, ...]:
    return strides(halvings(input_shape), sum(halves for _, _, halves in STAGES))


def _network(
    blocks: Sequence[Any], width: float, head: int, input_shape: tuple[int, ...], classes: int | None
) -> Sequential:
    stem = Conv(scaled_width(STEM, width), stride=_strides(input_shape)[0])
    return Sequential(stem, Repeat(tuple(blocks)), Conv(head, 1), Classifier(classes, 0.2))


def fbnet_c(width: float = 1.0, depth: float = 1.0, *, classes: int | None = None) -> Sequential:
    """FBNet-C, with multipliers of the widths and of the blocks in a stage (rounded up)."""
    style = Style(width=width, depth=depth, always_expand=True)
    return network(TABLE, style, stem=style.channels(16), head=1984, classes=classes)


V3_TABLES: dict[str, tuple[int, Table]] = {
    "b": (
        16,
        (
            "ds_r2_k3_s1_e1_c16",
            "ir_r1_k5_s2_e4_c24 ir_r3_k5_s1_e2_c24",
            "ir_r1_k5_s2_e5_c40_se0.25 ir_r4_k5_s1_e3_c40_se0.25",
            "ir_r1_k5_s2_e5_c72 ir_r4_k3_s1_e3_c72",
            "ir_r1_k3_s1_e5_c120_se0.25 ir_r5_k5_s1_e3_c120_se0.25",
            "ir_r1_k3_s2_e6_c184_se0.25 ir_r5_k5_s1_e4_c184_se0.25 ir_r1_k5_s1_e6_c224_se0.25",
            "cn_r1_k1_s1_c1344",
        ),
    ),
    "d": (
        24,
        (
            "ds_r2_k3_s1_e1_c16",
            "ir_r1_k3_s2_e5_c24 ir_r5_k3_s1_e2_c24",
            "ir_r1_k5_s2_e4_c40_se0.25 ir_r4_k3_s1_e3_c40_se0.25",
            "ir_r1_k3_s2_e5_c72 ir_r4_k3_s1_e3_c72",
            "ir_r1_k3_s1_e5_c128_se0.25 ir_r6_k5_s1_e3_c128_se0.25",
            "ir_r1_k3_s2_e6_c208_se0.25 ir_r5_k5_s1_e5_c208_se0.25 ir_r1_k5_s1_e6_c240_se0.25",
            "cn_r1_k1_s1_c1440",
        ),
    ),
    "g": (
        32,
        (
            "ds_r3_k3_s1_e1_c24",
            "ir_r1_k5_s2_e4_c40 ir_r4_k5_s1_e2_c40",
            "ir_r1_k5_s2_e4_c56_se0.25 ir_r4_k5_s1_e3_c56_se0.25",
            "ir_r1_k5_s2_e5_c104 ir_r4_k3_s1_e3_c104",
            "ir_r1_k3_s1_e5_c160_se0.25 ir_r8_k5_s1_e3_c160_se0.25",
            "ir_r1_k3_s2_e6_c264_se0.25 ir_r6_k5_s1_e5_c264_se0.25 ir_r2_k5_s1_e6_c288_se0.25",
            "cn_r1_k1_s1_c1728",
        ),
    ),
}
"""Stem and stages of FBNetV3."""

V3_LIMIT = 0.95
"""Squeeze-and-excitation is one multiple of 8 wider where rounding would go below this part of a quarter."""


def fbnetv3(variant: str = "b", width: float = 1.0, depth: float = 1.0, *, classes: int | None = None) -> Sequential:
    """FBNetV3, found together with its training recipe by a predictor of accuracy.

    Args:
        variant: "b", "d" or "g".
        width: Multiplier of the widths.
        depth: Multiplier of the blocks in a stage, rounded up.
        classes: Number of classes; None takes it from the task.

    Raises:
        UnknownNameError: no variant of that name.

    Reference:
        Dai et al. (2021), "FBNetV3: Joint Architecture-Recipe Search using Predictor Pretraining", arXiv 2006.02049.
    """
    if variant not in V3_TABLES:
        raise UnknownNameError("FBNetV3 variant", variant, V3_TABLES)
    stem, table = V3_TABLES[variant]
    style = Style(act="hardswish", width=width, depth=depth, se=HARD_SQUEEZE | {"se_act": "hardswish"})
    channels = style.channels(stem)
    body: list[Block] = []
    for stage in stages(table, style):
        blocks = []
        for block in stage.blocks:
            blocks.append(_squeezed(block, channels))
            channels = block.width
        body.append(Repeat(tuple(blocks)))
    head = Classifier(classes, 0.2, features=1984, features_bias=False)
    return Sequential(Conv(style.channels(stem), stride=2, act="hardswish"), *body, head)


def _squeezed(block: Block, channels: int) -> Block:
    """The block with its squeeze-and-excitation of the width that FBNetV3 has: a quarter of the input's, rounded."""
    if not isinstance(block, MBConv) or block.se is None:
        return block
    hidden = make_divisible(channels * block.se, 8, limit=V3_LIMIT)
    return replace(block, se=hidden / channels, se_of="input", se_divisor=1)


FAMILIES = (
    Family(
        name="fbnet",
        title="FBNet: 22 layers with nine candidates; FBNet-A, B, C and FBNetV3",
        paper='Wu et al. 2019, "FBNet", arXiv 1812.03443',
        space=space,
        size=485_758_124_386_377_007_104,
        quoted_size="1e21 (9^22)",
        names={
            "timm": (
                (r"fbnetc_(\d{3})", lambda m, c: fbnet_c(multiplier(m[1]), classes=c)),
                (r"fbnetv3_([bdg])", lambda m, c: fbnetv3(m[1], classes=c)),
            )
        },
        named=("fbnetc_100", "fbnetv3_b, d, g"),
    ),
)
