"""MCUNet and TinyNAS: 108 spaces for microcontrollers, one for each width multiplier and resolution, and its networks.

Level: network. Task: image classification. The backbone is ProxylessNAS's without its last 1x1 convolution: stem,
a block without expansion, six stages of inverted residuals (strides 2, 2, 2, 1, 2, 1), classifier. Open are kernel and
expansion of each block and the depth of each stage but the last. TinyNAS first chooses the space, by the costs of what
fits the device, then the network. What fits is a matter of `Graph.peak_memory` and `Graph.flash_memory`.

Reference:
    Lin et al. (2020), "MCUNet: Tiny Deep Learning on IoT Devices", arXiv 2007.10319, sections 3.1 and 3.2, and the
    authors' code (mit-han-lab/mcunet, mit-han-lab/tinyml).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any, cast

from nasturtium.blocks import Classifier, Conv, MBConv, Repeat, Sequential, make_divisible, repeat
from nasturtium.errors import InvalidArchitectureError, InvalidInputError
from nasturtium.space import Architecture, Block, Choice, Prefix, Space, one_of
from nasturtium.zoo.listing import Family
from nasturtium.zoo.proxylessnas import NORM, STAGES, from_row
from nasturtium.zoo.searched_resolution import Resolution, at_resolutions

WIDTHS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Width multipliers of the 108 spaces (section 3.1)."""
RESOLUTIONS = tuple(range(48, 225, 16))
"""Their resolutions, in pixels (section 3.1)."""
KERNELS = (3, 5, 7)
EXPANSIONS = (3, 4, 6)
"""As in Once-for-All, which trains the supernet."""
PUBLISHED_EXPANSIONS = (3, 4, 5, 6)
"""Those of the published networks, which also have 5."""
DEPTHS = (2, 3, 4)


def mcunet(
    input_shape: tuple[int, ...] = (3, 160, 160),
    *,
    width: float = 0.5,
    resolutions: int | Sequence[int] | None = None,
    expansions: Sequence[int] = EXPANSIONS,
) -> Space:
    """One of the spaces.

    Kernel and expansion of a block are active where the depth of its stage reaches it.

    Args:
        input_shape: `(channels, height, width)`; the network halves it five times, whatever it is.
        width: Multiplier of all widths, which are rounded to multiples of 8.
        resolutions: To which the images are resized, in pixels; several are to choose from; None: the images' own.
        expansions: To choose from; the published networks of the chosen spaces stand in those of
            `PUBLISHED_EXPANSIONS`.

    Returns:
        With m = 3 * len(expansions), (m^2 + m^3 + m^4)^5 * m architectures, times the resolutions: for three
        expansions 7371^5 * 9 = 195,827,899,433,152,372,659, for four 22608^5 * 12 =
        70,874,819,941,346,328,969,216. The paper's 3.3e25 is not reproduced by either.

    Raises:
        InvalidInputError: the width is not positive, or a resolution is not a positive integer.
    """
    del input_shape
    if not width > 0:
        raise InvalidInputError(f"`width` must be a positive multiplier, got {width!r}.")
    stages = []
    for channels, count, stride in STAGES:
        block = MBConv(
            make_divisible(channels * width), one_of(*KERNELS), expand=one_of(*expansions), divisor=8, **NORM
        )
        stages.append(repeat(block, 1 if count == 1 else one_of(*DEPTHS), stride=stride))
    network = Sequential(
        Conv(make_divisible(32 * width), stride=2, act="relu6", **NORM),
        MBConv(make_divisible(16 * width), expand=1, **NORM),
        *stages,
        Classifier(),
    )
    return Space(at_resolutions(network, [resolutions] if isinstance(resolutions, int) else resolutions))


def tinynas_spaces(expansions: Sequence[int] = EXPANSIONS) -> Mapping[tuple[float, int], Space]:
    """The 108 spaces by (width multiplier, resolution), narrow and small ones first; each resizes its images.

    A space's networks cost what they cost on images of its resolution: `trace(network, (3, resolution, resolution))`.
    """
    return {
        (width, resolution): mcunet(width=width, resolutions=resolution, expansions=expansions)
        for width in WIDTHS
        for resolution in RESOLUTIONS
    }


def architecture(network: Block, space: Space) -> Architecture:
    """The architecture of a space that a published network is: equal kernels, expansions and depths.

    Args:
        network: A closed network, as `from_row` makes it.
        space: `mcunet` of the network's width, with the expansions that it has.

    Raises:
        InvalidArchitectureError: the network does not stand in the space; the message says where it differs.
    """
    theirs: list[Any] = [layer for layer in getattr(network, "layers", ()) if isinstance(layer, (Conv, MBConv))]
    begin, stages = _parts(space)
    plan = [(layer.width, layer.stride) for layer in theirs]
    for depths in product(*[_depths(stage) for stage in stages]):
        blocks = [block for stage, depth in zip(stages, depths, strict=True) for block in _items(stage)[:depth]]
        if plan == [(layer.width, layer.stride) for layer in (*begin, *blocks)]:
            break
    else:
        raise InvalidArchitectureError(
            f"No depths of this space give the network's widths and strides {plan}; the space's stages have "
            f"{[(block.width, block.stride) for stage in stages for block in _items(stage)[:1]]}."
        )
    decisions: dict[str | Choice, object] = {
        cast("Choice", stage.blocks.length): depth
        for stage, depth in zip(stages, depths, strict=True)
        if isinstance(stage.blocks, Prefix)
    }
    channels = begin[-1].width
    for open_block, block in zip(blocks, theirs[len(begin) :], strict=True):
        if block.mid not in (None, make_divisible(channels * block.expand)):
            raise InvalidArchitectureError(
                f"The hidden width of {block!r} is not its expansion of {channels} channels."
            )
        decisions |= {open_block.kernel: block.kernel, open_block.expand: block.expand}
        channels = block.width
    return space.architecture(decisions)


def _parts(space: Space) -> tuple[tuple[Any, ...], tuple[Repeat, ...]]:
    """The layers before the stages, and the stages."""
    layers = getattr(space.block, "layers", ())
    if layers and isinstance(layers[0], Resolution):
        layers = layers[1].layers
    stages = tuple([layer for layer in layers if isinstance(layer, Repeat)])
    if len(stages) != len(STAGES):
        raise InvalidInputError(f"Expected a space of `mcunet`, got {space!r}.")
    return layers[: len(layers) - len(stages) - 1], stages


def _items(stage: Repeat) -> tuple[Any, ...]:
    return stage.blocks.items if isinstance(stage.blocks, Prefix) else tuple(stage.blocks)


def _depths(stage: Repeat) -> tuple[int, ...]:
    return stage.blocks.lengths if isinstance(stage.blocks, Prefix) else (len(stage.blocks),)


FAMILIES = (
    Family(
        name="mcunet",
        title="MCUNet, TinyNAS",
        paper='Lin et al. 2020, "MCUNet: Tiny Deep Learning on IoT Devices", arXiv 2007.10319',
        space=mcunet,
        input_shape=(3, 160, 160),
        size=195_827_899_433_152_372_659,
        quoted_size="3.3e25",
        rows={"MCUNet/TinyNAS": from_row},
    ),
)
