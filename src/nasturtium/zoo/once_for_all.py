"""Once-for-All: the MobileNetV3, ProxylessNAS and ResNet-50D spaces, and the networks specialised from them.

Level: network. Task: image classification. Depth, kernel and expansion of every stage and block are open; one supernet
holds the weights of all. The resolution is that of the task's images; with `resolutions=RESOLUTIONS` it is open too,
and the images are resized to it. Then a supernet's blocks have 25 times the variants: the ResNet-50D space needs
`lower(..., limit=1000)`.

Reference:
    Cai et al. (2020), "Once-for-All: Train One Network and Specialize it for Efficient Deployment", arXiv 1908.09791,
    section 3.1, and the authors' code.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from nasturtium.blocks import (
    Bottleneck,
    Classifier,
    Conv,
    MaxPool,
    MBConv,
    Repeat,
    Sequential,
    conv_norm_act,
    make_divisible,
    repeat,
)
from nasturtium.errors import InvalidArchitectureError, InvalidInputError, UnknownNameError
from nasturtium.graph import tensor as ops
from nasturtium.graph.operations import Opaque
from nasturtium.graph.tensor import Tensor
from nasturtium.space import Architecture, Block, Choice, Open, Prefix, Space, one_of
from nasturtium.zoo.checks import check_kernel, check_positive, check_whole
from nasturtium.zoo.listing import CLASSES, Family, Row
from nasturtium.zoo.searched_resolution import Resolution, at_resolutions

KERNELS = (3, 5, 7)
EXPANSIONS = (3, 4, 6)
DEPTHS = (2, 3, 4)
RESOLUTIONS = tuple(range(128, 225, 4))
"""The 25 resolutions, in pixels (section 3.1)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backbone:
    """What distinguishes the two mobile families. All widths are those at multiplier 1."""

    stem: int
    first: int
    widths: tuple[int, ...]
    strides: tuple[int, ...]
    acts: tuple[str, ...]
    squeeze: tuple[bool, ...]
    final_expand: int | None
    features: int
    eps: float


MOBILENETV3 = Backbone(
    stem=16,
    first=16,
    widths=(24, 40, 80, 112, 160),
    strides=(2, 2, 2, 1, 2),
    acts=("relu", "relu", "hardswish", "hardswish", "hardswish"),
    squeeze=(False, True, False, True, True),
    final_expand=960,
    features=1280,
    eps=1e-5,
)
PROXYLESS = Backbone(
    stem=32,
    first=16,
    widths=(24, 40, 80, 96, 192, 320),
    strides=(2, 2, 2, 1, 2, 1),
    acts=("relu6",) * 6,
    squeeze=(False,) * 6,
    final_expand=None,
    features=1280,
    eps=1e-3,
)


def _block(backbone: Backbone, stage: int, width: int, stride: int, kernel: Any, expand: Any) -> MBConv:
    return MBConv(
        width,
        kernel,
        stride,
        expand,
        se=0.25 if backbone.squeeze[stage] else None,
        act=backbone.acts[stage],
        divisor=8,
        se_divisor=8,
        se_gate="hardsigmoid",
        eps=backbone.eps,
    )


def _network(
    backbone: Backbone,
    stem: int,
    first: MBConv,
    stages: Sequence[Block],
    head: tuple[int | None, int],
    classes: int | None,
) -> Sequential:
    final_expand, features = head
    act = "relu6" if final_expand is None else "hardswish"
    begin = (Conv(stem, stride=2, act=act, eps=backbone.eps), first, *stages)
    if final_expand is None:
        return Sequential(*begin, Conv(features, 1, act=act, eps=backbone.eps), Classifier(classes, 0.1))
    classifier = Classifier(classes, 0.1, features=features, act=act, features_bias=False)
    return Sequential(*begin, Conv(final_expand, 1, act=act, eps=backbone.eps), classifier)


def _from_options(
    backbone: Backbone, width: float, kernel: Any, expand: Any, depth: Any, classes: int | None
) -> Sequential:
    """The network of a backbone with kernel, expansion and depth made by functions, so that each place is its own."""
    stages: list[Block] = []
    for i, (channels, stride) in enumerate(zip(backbone.widths, backbone.strides, strict=True)):
        block = _block(backbone, i, make_divisible(channels * width), 1, kernel(), expand())
        times = 1 if i == 5 else depth()
        stages.append(repeat(block, times, stride=stride))
    act = "relu6" if backbone.final_expand is None else "relu"
    first = MBConv(make_divisible(backbone.first * width), expand=1, act=act, eps=backbone.eps)
    expanded = None if backbone.final_expand is None else make_divisible(backbone.final_expand * width)
    features = make_divisible(backbone.features * width) if width > 1 else backbone.features
    return _network(backbone, make_divisible(backbone.stem * width), first, stages, (expanded, features), classes)


def mobilenetv3_space(
    input_shape: tuple[int, ...] = (3, 224, 224), width: float = 1.0, *, resolutions: Sequence[int] | None = None
) -> Space:
    """The MobileNetV3 space.

    Kernel and expansion of a block are active where the depth of its stage reaches it.

    Args:
        input_shape: `(channels, height, width)`; the network halves it five times, whatever it is.
        width: Multiplier of all widths; 1.0 and 1.2 are published.
        resolutions: To choose from; None takes the images' own.

    Returns:
        (9^2 + 9^3 + 9^4)^5 = 21,758,655,492,572,485,851 architectures (the paper says about 2e19), times the
        resolutions: with the 25 of `RESOLUTIONS` 543,966,387,314,312,146,275.
    """
    del input_shape
    quoted = None if resolutions else 2 * 10**19
    return Space(at_resolutions(_open(MOBILENETV3, width), resolutions), quoted_size=quoted)


def proxyless_space(
    input_shape: tuple[int, ...] = (3, 224, 224), width: float = 1.3, *, resolutions: Sequence[int] | None = None
) -> Space:
    """The ProxylessNAS space, whose sixth stage is one block.

    Kernel and expansion of a block are active where the depth of its stage reaches it.

    Args:
        input_shape: `(channels, height, width)`; the network halves it five times, whatever it is.
        width: Multiplier of all widths; 1.3 is published.
        resolutions: To choose from; None takes the images' own.

    Returns:
        (9^2 + 9^3 + 9^4)^5 * 9 = 195,827,899,433,152,372,659 architectures, times the resolutions.
    """
    del input_shape
    return Space(at_resolutions(_open(PROXYLESS, width), resolutions))


def _open(
    backbone: Backbone,
    width: float,
    *,
    kernels: Sequence[int] = KERNELS,
    expansions: Sequence[int] = EXPANSIONS,
    depths: Sequence[int] = DEPTHS,
) -> Sequential:
    return _from_options(
        backbone, width, lambda: one_of(*kernels), lambda: one_of(*expansions), lambda: one_of(*depths), None
    )


def uniform(
    backbone: Backbone, width: float, *, kernel: int, expand: int, depth: int, classes: int | None = None
) -> Sequential:
    """The network with one kernel, expansion and depth everywhere.

    Raises:
        InvalidInputError: an even kernel, an expansion that is not positive, or a depth below 1.
    """
    check_kernel("`kernel`", kernel)
    check_positive("`expand`", expand)
    check_whole("`depth`", depth)
    return _from_options(backbone, width, lambda: kernel, lambda: expand, lambda: depth, classes)


MAXIMUM = max(DEPTHS)
"""Places of a stage in the authors' lists, whatever its depth."""


def architecture(config: Mapping[str, Any], space: Space) -> Architecture:
    """The architecture of a mobile space that the authors' lists name.

    Args:
        config: "ks" and "e", the kernels and expansions of all places (four a stage; the sixth stage of ProxylessNAS
            has one), of which those beyond a stage's depth are not read; "d", the depths of the stages (that of the
            sixth may be missing); "r", the resolution, where the space leaves it open (a list of one, or a number).
        space: `mobilenetv3_space` or `proxyless_space`.

    Raises:
        InvalidInputError: a list is missing or of another length, or the space is no mobile space.
        InvalidArchitectureError: a value is not among the space's.

    Example:
        >>> import nasturtium as nas
        >>> from nasturtium.zoo import once_for_all
        >>> config = {"ks": [7] * 20, "e": [6] * 20, "d": [4] * 5}
        >>> largest = once_for_all.architecture(config, once_for_all.mobilenetv3_space())
        >>> nas.trace(largest, (3, 224, 224), classes=1000).params
        7664760
    """
    stages = _stages(space.block)
    places = [MAXIMUM if isinstance(stage.blocks, Prefix) else 1 for stage in stages]
    lists = {key: list(config.get(key, ())) for key in ("ks", "e", "d")}
    if len(lists["d"]) == places.count(MAXIMUM):
        lists["d"] += [1] * places.count(1)
    for key, length in (("ks", sum(places)), ("e", sum(places)), ("d", len(places))):
        if len(lists[key]) != length:
            raise InvalidInputError(f"{key!r} must have {length} entries for this space, got {lists[key]!r}.")
    decisions: dict[str | Choice, object] = {}
    start = 0
    for stage, count, depth in zip(stages, places, lists["d"], strict=True):
        blocks = stage.blocks
        if isinstance(blocks, Prefix):
            decisions[cast("Choice", blocks.length)] = depth
        for i, block in enumerate(_items(stage)[: min(depth, count)]):
            decisions |= {block.kernel: lists["ks"][start + i], block.expand: lists["e"][start + i]}
        start += count
    if any(decision.name == "resolution" for decision in space.decisions):
        size = config.get("r")
        decisions["resolution"] = size[0] if isinstance(size, (list, tuple)) and size else size
    return space.architecture(decisions)


def to_config(architecture: Architecture | Block) -> dict[str, list[int]]:
    """The authors' lists of an architecture or network of a mobile space.

    Returns:
        "ks", "e", "d" as `architecture` takes them, with 0 in places beyond a stage's depth; and "r" where the network
        resizes its images.

    Raises:
        InvalidArchitectureError: it is no closed network of a mobile space.
    """
    block = architecture if isinstance(architecture, Block) else architecture.block
    try:
        stages = _stages(block)
    except InvalidInputError:
        stages = ()
    if not stages or block.is_open:
        raise InvalidArchitectureError(f"Expected a closed network of a mobile space, got {architecture!r}.")
    found: dict[str, list[int]] = {"ks": [], "e": [], "d": [len(stage.blocks) for stage in stages]}
    for i, stage in enumerate(stages):
        absent = [0] * ((MAXIMUM if i < len(MOBILENETV3.widths) else 1) - len(stage.blocks))
        found["ks"] += [layer.kernel for layer in stage.blocks] + absent
        found["e"] += [layer.expand for layer in stage.blocks] + absent
    if isinstance(block.layers[0], Resolution):  # type: ignore[attr-defined]
        found["r"] = [block.layers[0].size]  # type: ignore[attr-defined]
    return found


def _stages(block: Block | Open) -> tuple[Repeat, ...]:
    """The stages of a mobile network, open or closed."""
    layers = getattr(block, "layers", ())
    if layers and isinstance(layers[0], Resolution):
        layers = layers[1].layers
    stages = tuple([layer for layer in layers if isinstance(layer, Repeat)])
    blocks = [item for stage in stages for item in _items(stage)]
    if len(stages) not in (len(MOBILENETV3.widths), len(PROXYLESS.widths)) or not all(
        isinstance(item, MBConv) for item in blocks
    ):
        raise InvalidInputError(f"Expected a mobile space of five or six stages of inverted residuals, got {block!r}.")
    return stages


def _items(stage: Repeat) -> tuple[Any, ...]:
    """All blocks that a stage may have."""
    blocks = stage.blocks
    return blocks.items if isinstance(blocks, Prefix) else tuple(blocks)


class KernelTransform(Block):
    """The weights by which a supernet makes its smaller kernels out of the largest; hands on its input.

    A 25x25 matrix for 7 to 5 and a 9x9 one for 5 to 3, shared by the channels of a layer. It stands for parameters
    only: such a network can be costed, not built.

    Reference:
        Cai et al. (2020), arXiv 1908.09791, section 3.3, "Elastic Kernel Size".
    """

    kernels: tuple[int, ...] = KERNELS

    def forward(self, x: Tensor) -> Tensor:
        """Count the matrices."""
        count = sum(kernel**4 for kernel in self.kernels[:-1])
        operation = Opaque(
            target="nasturtium.supernets.once_for_all:KernelTransform",
            arguments=json.dumps({"kernels": self.kernels}),
            output=x.shape,
            parameters=count,
        )
        return x.tracer.apply(operation, (x,), "kernel_transform")


def supernet(backbone: Backbone, width: float, *, classes: int | None = None) -> Sequential:
    """The weights of the authors' supernet: the largest network and a `KernelTransform` for each searched block."""
    largest = uniform(backbone, width, kernel=max(KERNELS), expand=max(EXPANSIONS), depth=max(DEPTHS), classes=classes)
    transform = KernelTransform()
    layers = [
        Repeat(tuple(part for block in layer.blocks for part in (block, transform)))
        if isinstance(layer, Repeat)
        else layer
        for layer in largest.layers
    ]
    return Sequential(*layers)


def specialised(config: Mapping[str, Any], *, classes: int | None = None) -> Sequential:
    """A network of the authors' `net.config`, in the form of the reference values.

    Args:
        config: Keys "stem", "first_block", "stages" (each "width", "stride", "d", "ks", "e"), "final_expand",
            "feature_mix".
        classes: Number of classes; None takes it from the task.

    Raises:
        InvalidInputError: the stages are not those of a backbone, a stage has fewer kernels or expansions than
            blocks, or a number is out of range.
    """
    backbone = PROXYLESS if config["final_expand"] is None else MOBILENETV3
    if len(config["stages"]) != len(backbone.widths):
        raise InvalidInputError(
            f"A network of this backbone has {len(backbone.widths)} stages, got {config['stages']!r}."
        )
    first = config["first_block"]
    stages: list[Block] = []
    for i, stage in enumerate(config["stages"]):
        rows = _stage_rows(stage, f"stage {i}")
        stages.append(
            Repeat(
                tuple(
                    _block(backbone, i, stage["width"], 1 if j else stage["stride"], kernel, expand)
                    for j, (kernel, expand) in enumerate(rows)
                )
            )
        )
    act = "relu6" if backbone is PROXYLESS else "relu"
    begin = MBConv(first["cout"], first["k"], first["s"], first["e"], act=act, mid=first["mid"], eps=backbone.eps)
    head = (config["final_expand"], config["feature_mix"])
    return _network(backbone, config["stem"], begin, stages, head, classes)


def _stage_rows(stage: Mapping[str, Any], where: str) -> list[tuple[int, float]]:
    """Kernel and expansion of each block of a stage, checked."""
    kernels, expansions, depth = list(stage["ks"]), list(stage["e"]), stage["d"]
    check_whole(f"The depth 'd' of {where}", depth)
    check_whole(f"The width of {where}", stage["width"])
    check_whole(f"The stride of {where}", stage["stride"])
    if len(kernels) != len(expansions) or len(kernels) < depth:
        raise InvalidInputError(
            f"A stage needs equally many kernels 'ks' and expansions 'e', at least its depth, got {len(kernels)} and "
            f"{len(expansions)} for depth {depth} in {where}."
        )
    rows = list(zip(kernels, expansions, strict=True))[:depth]
    for kernel, expand in rows:
        check_kernel(f"A kernel of {where}", kernel)
        check_positive(f"An expansion of {where}", expand)
    return rows


RESNET_DEPTHS = (2, 2, 4, 2)
RESNET_WIDTHS = (256, 512, 1024, 2048)
RESNET_MULTIPLIERS = (0.65, 0.8, 1.0)
RESNET_RATIOS = (0.2, 0.25, 0.35)


class ResidualStem(Block):
    """Stem of ResNet-50D: a 3x3 convolution of stride 2, optionally a residual 3x3 one, and a 3x3 one.

    Args:
        width: Output channels.
        mid: Channels before.
        residual: Whether the middle convolution is there.
    """

    width: int
    mid: int
    residual: bool = True

    def forward(self, x: Tensor) -> Tensor:
        """Halve the size."""
        x = conv_norm_act(x, self.mid, 3, stride=2, name="first")
        if self.residual:
            x = ops.add(x, conv_norm_act(x, self.mid, 3, name="second"))
        return conv_norm_act(x, self.width, 3, name="third")


def resnet50d(
    *,
    depth: int | Sequence[int] = 2,
    ratio: float | Sequence[float] = 0.35,
    width: int | Sequence[int] = 2,
    classes: int | None = None,
) -> Sequential:
    """A network of the ResNet-50D space.

    Args:
        depth: Further blocks in each stage, 0 to 2; a sequence has one for the stem first (2 keeps its middle
            convolution) and one for each of four stages.
        ratio: Hidden width of a block as a ratio of its output's; a sequence has one for each of the at most 18
            blocks, those of left-out blocks included.
        width: Index of the width multiplier (0.65, 0.8, 1); a sequence has one for the stem's middle, its output, and
            each stage.
        classes: Number of classes; None takes it from the task.

    Raises:
        InvalidInputError: a value is out of range, or a sequence of another length.
    """
    blocks = sum(RESNET_DEPTHS) + 2 * len(RESNET_DEPTHS)
    depths = [depth] * 5 if isinstance(depth, int) else list(depth)
    widths = [width] * 6 if isinstance(width, int) else list(width)
    given = [ratio] * blocks if isinstance(ratio, (int, float)) else list(ratio)
    for name, values, length in (("depth", depths, 5), ("width", widths, 6), ("ratio", given, blocks)):
        if len(values) != length:
            raise InvalidInputError(f"`{name}` must be one number or {length}, got {len(values)}: {values!r}.")
        for i, value in enumerate(values):
            if name == "ratio":
                check_positive(f"`ratio` of block {i}", value)
            else:
                check_whole(f"`{name}` at place {i}", value, least=0, most=2)
    ratios = iter(given)
    scale = [RESNET_MULTIPLIERS[i] for i in widths]
    stages: list[Block] = []
    for i, (base, channels) in enumerate(zip(RESNET_DEPTHS, RESNET_WIDTHS, strict=True)):
        own = [next(ratios) for _ in range(base + 2)][: base + depths[i + 1]]
        out = make_divisible(channels * scale[i + 2])
        stages.append(
            Repeat(
                tuple(
                    Bottleneck(
                        out,
                        stride=2 if i and not j else 1,
                        mid=make_divisible(round(out * r)),
                        shortcut="pool",
                    )
                    for j, r in enumerate(own)
                )
            )
        )
    stem = ResidualStem(make_divisible(64 * scale[1]), make_divisible(32 * scale[0]), depths[0] == 2)
    return Sequential(stem, MaxPool(3, 2), *stages, Classifier(classes))


def resnet50d_space(input_shape: tuple[int, ...] = (3, 224, 224), *, resolutions: Sequence[int] | None = None) -> Space:
    """The ResNet-50D space.

    Open are the stem's middle width, its output width and whether its middle convolution is there; of each stage its
    width (0.65, 0.8 or 1 of ResNet-50's) and depth (up to two blocks more than the least); of each block the ratio of
    its hidden width. Multipliers that round to one width are one option (of the stem's middle, 24 channels).

    Args:
        input_shape: `(channels, height, width)`; the network halves it five times, whatever it is.
        resolutions: To choose from; None takes the images' own.

    Returns:
        2 * 3 * 2 * 3^4 * (3^2 + 3^3 + 3^4)^3 * (3^4 + 3^5 + 3^6) = 1,639,276,531,308 architectures, times the
        resolutions.
    """
    del input_shape

    def widths(channels: int) -> Any:
        return one_of(*dict.fromkeys(make_divisible(channels * scale) for scale in RESNET_MULTIPLIERS))

    stages = []
    for i, (base, channels) in enumerate(zip(RESNET_DEPTHS, RESNET_WIDTHS, strict=True)):
        block = Bottleneck(ratio=one_of(*RESNET_RATIOS), divisor=8, shortcut="pool")
        depth = one_of(base, base + 1, base + 2)
        stages.append(repeat(block, depth, width=widths(channels), stride=2 if i else 1))
    stem = ResidualStem(widths(64), widths(32), one_of(False, True))
    return Space(at_resolutions(Sequential(stem, MaxPool(3, 2), *stages, Classifier()), resolutions))


def _uniform_row(row: Row) -> Block:
    """Networks of one kernel, expansion and depth, and the supernets."""
    name, config = str(row["name"]), row["config"]
    if name.startswith("ofa_resnet50"):
        if config == "supernet":
            return resnet50d(classes=CLASSES)
        return resnet50d(depth=config["d"], ratio=config["e"], width=config["w"], classes=CLASSES)
    match = re.match(r"ofa_(mbv3|proxyless)_w(\d\.\d+)", name)
    if match is None:
        raise UnknownNameError("Once-for-All network", name, ("ofa_mbv3_wN.N", "ofa_proxyless_wN.N", "ofa_resnet50"))
    backbone = MOBILENETV3 if match[1] == "mbv3" else PROXYLESS
    width = float(match[2])
    if config == "supernet":
        return supernet(backbone, width, classes=CLASSES)
    return uniform(backbone, width, kernel=config["ks"], expand=config["e"], depth=config["d"], classes=CLASSES)


def _specialised_row(row: Row) -> Block:
    return specialised(row["config"], classes=CLASSES)


_PAPER = 'Cai et al. 2020, "Once-for-All", arXiv 1908.09791'

FAMILIES = (
    Family(
        name="ofa_mobilenetv3",
        title="Once-for-All, MobileNetV3",
        paper=_PAPER,
        space=mobilenetv3_space,
        size=21_758_655_492_572_485_851,
        quoted_size="2e19",
        rows={"OFA": _uniform_row, "OFA-MobileNetV3": _specialised_row},
    ),
    Family(
        name="ofa_proxyless",
        title="Once-for-All, ProxylessNAS",
        paper=_PAPER,
        space=proxyless_space,
        size=195_827_899_433_152_372_659,
        rows={"OFA-ProxylessNASNets": _specialised_row},
    ),
    Family(
        name="ofa_resnet50d",
        title="Once-for-All, ResNet-50D",
        paper=_PAPER + ", and the authors' code",
        space=resnet50d_space,
        size=1_639_276_531_308,
    ),
)
