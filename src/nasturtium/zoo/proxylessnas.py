"""ProxylessNAS: the space for ImageNet, and networks given as lists of blocks.

Level: network. Task: image classification. Each of 21 blocks chooses kernel (3, 5, 7) and expansion (3, 6); a block
that does not begin a stage may also be left out.

Reference:
    Cai et al. (2019), "ProxylessNAS: Direct Neural Architecture Search on Target Task and Hardware", arXiv 1812.00332,
    section 4.2, and the authors' code.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nasturtium.blocks import Classifier, Conv, Identity, MBConv, Repeat, Sequential, make_divisible
from nasturtium.errors import InvalidInputError
from nasturtium.space import Block, Space, one_of
from nasturtium.zoo.listing import CLASSES, Family, Row
from nasturtium.zoo.searched_resolution import at_resolutions

STAGES = ((24, 4, 2), (40, 4, 2), (80, 4, 2), (96, 4, 1), (192, 4, 2), (320, 1, 1))
"""Width, blocks and stride of each searched stage."""
NORM: dict[str, Any] = {"eps": 1e-3}


def proxylessnas(
    input_shape: tuple[int, ...] = (3, 224, 224), width: float = 1.0, *, resolutions: Sequence[int] | None = None
) -> Space:
    """The space.

    Kernel and expansion of a block are active where it is not left out.

    Args:
        input_shape: `(channels, height, width)`; the network halves it five times, whatever it is.
        width: Multiplier of all widths.
        resolutions: To which the images may be resized, in pixels; None takes the images' own.

    Returns:
        6^6 x 7^15 = 221,502,229,807,900,608 architectures, times the resolutions.
    """
    del input_shape
    stages = []
    for channels, count, stride in STAGES:
        blocks: list[Any] = []
        for i in range(count):
            block = MBConv(
                make_divisible(channels * width),
                kernel=one_of(3, 5, 7),
                stride=1 if i else stride,
                expand=one_of(3, 6),
                **NORM,
            )
            blocks.append(one_of(block, Identity()) if i else block)
        stages.append(Repeat(tuple(blocks)))
    network = Sequential(
        Conv(make_divisible(32 * width), stride=2, act="relu6", **NORM),
        MBConv(make_divisible(16 * width), expand=1, **NORM),
        *stages,
        Conv(make_divisible(1280 * width) if width > 1 else 1280, 1, act="relu6", **NORM),
        Classifier(),
    )
    return Space(at_resolutions(network, resolutions))


def from_blocks(
    stem: int,
    blocks: Sequence[Any],
    features: int | None,
    *,
    norm: dict[str, Any] | None = None,
    classes: int | None = None,
) -> Sequential:
    """A network given as a list of blocks.

    Args:
        stem: Channels of the first convolution.
        blocks: Each "zero" (left out), or [kernel, expand, channels in, channels out, stride] and then, optionally,
            the hidden width, or a text that says whether there is a residual ("skip" or "").
        features: Channels of the last 1x1 convolution; None, or the last block's own, for none.
        norm: Fields of the norms.
        classes: Number of classes; None takes it from the task.

    Raises:
        InvalidInputError: a block's input channels are not its predecessor's output.
    """
    fields = NORM if norm is None else norm
    channels = stem
    layers: list[Block] = [Conv(stem, stride=2, act="relu6", **fields)]
    for row in blocks:
        if row == "zero":
            layers.append(Identity())
            continue
        kernel, expand, before, after, stride, *rest = row
        if before != channels:
            raise InvalidInputError(f"A block takes {before} channels, but its predecessor gives {channels}: {row!r}.")
        mid = rest[0] if rest and isinstance(rest[0], int) else None
        residual = not (rest and rest[0] == "")
        layers.append(MBConv(after, kernel, stride, expand, mid=mid, residual=residual, **fields))
        channels = after
    if features is not None and features != channels:
        layers.append(Conv(features, 1, act="relu6", **fields))
    return Sequential(*layers, Classifier(classes))


def from_row(row: Row) -> Block:
    """The network of a row whose config is a list of blocks.

    Raises:
        InvalidInputError: it has none.
    """
    config = row["config"]
    key = next((key for key in config if key.startswith("blocks_k_e_")), None)
    if key is None:
        raise InvalidInputError(f"A row of {row['space']!r} needs a list of blocks, got {config!r}.")
    features = config.get("last", config.get("classifier_in"))
    return from_blocks(config["stem"], config[key], features, norm=config.get("bn"), classes=CLASSES)


FAMILIES = (
    Family(
        name="proxylessnas",
        title="ProxylessNAS for ImageNet",
        paper='Cai et al. 2019, "ProxylessNAS", arXiv 1812.00332',
        space=proxylessnas,
        size=221_502_229_807_900_608,
        rows={"ProxylessNAS": from_row},
    ),
)
