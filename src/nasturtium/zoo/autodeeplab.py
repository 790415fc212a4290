"""Auto-DeepLab: a cell, and the path of strides along which it is repeated, for semantic segmentation.

Level: cell and network. Task: semantic segmentation. A cell of five blocks works on the outputs of the last two layers;
a network is a path of twelve layers through the strides 4, 8, 16 and 32. ASPP and a decoder turn the last layer into
logits for each pixel of the image.

Reference:
    Liu et al. 2019, "Auto-DeepLab: Hierarchical Neural Architecture Search for Semantic Image Segmentation",
    arXiv 1901.02985, sections 3.1 and 3.2; operations and resampling as in the authors' code (`nas_cell`,
    `nas_network`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from nasturtium.blocks.heads import DeepLabHead, PixelClassifier, bilinear
from nasturtium.blocks.layers import conv_norm_act
from nasturtium.blocks.trellis import EPS, Atrous, NoConnection, Pool, Separable, Skip, Trellis
from nasturtium.errors import InvalidArchitectureError, InvalidInputError, UnknownNameError
from nasturtium.graph import tensor as ops
from nasturtium.graph.operations import Shape
from nasturtium.graph.tensor import Tensor
from nasturtium.space import Architecture, Block, Space, one_of, walk
from nasturtium.zoo.listing import SEGMENTATION, Family, Row

STRIDES = (4, 8, 16, 32)
"""Of the trellis."""

CITYSCAPES = 19
"""Classes of Cityscapes, for which the networks are published."""


OPERATIONS: dict[str, Block] = {
    "separable_3x3_2": Separable(3),
    "separable_5x5_2": Separable(5),
    "atrous_3x3": Atrous(3),
    "atrous_5x5": Atrous(5),
    "avg_pool_3x3": Pool("avg"),
    "max_pool_3x3": Pool("max"),
    "none": Skip(),
    "zero": NoConnection(),
}
"""The candidate operations in the paper's order. The names are those of the authors' code, where "none" is the skip
connection; it has no name for the missing connection, which is "zero" here."""


class CellBlock(Block):
    """Sum of an operation on one state of a cell and an operation on another (or the same).

    Args:
        first_input: State of the first operation: 0 the last layer, 1 the one before it, 2 the cell's first block …
        first: The operation, called as `first(x, stride, drop_path)`.
        second_input: State of the second operation.
        second: The operation.
    """

    first_input: int
    first: Any
    second_input: int
    second: Any

    def forward(self, states: tuple[Tensor, ...], stride: int, drop_path: float) -> Tensor:
        """Return the block's output; only the layers' outputs are still to be sub-sampled."""
        a, b = self.first_input, self.second_input
        return ops.add(
            self.first(states[a], stride if a < 2 else 1, drop_path),
            self.second(states[b], stride if b < 2 else 1, drop_path),
        )


class AutoDeepLabCell(Block):
    """A cell: blocks on two layers' outputs and on each other; the output is their concatenation.

    Args:
        blocks: Each a `CellBlock`.
        used: For the two inputs and each block, 1 where the state stays out of the concatenation; None: all blocks
            are concatenated.

    Raises:
        InvalidArchitectureError: a block reads a state that does not come before it, or `used` does not fit.
    """

    blocks: tuple[Any, ...]
    used: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for number, block in enumerate(self.blocks):
            for place in ("first_input", "second_input"):
                state = getattr(block, place, 0)
                if isinstance(state, int) and not 0 <= state < number + 2:
                    raise InvalidArchitectureError(
                        f"`{place}` of block {number} must be one of the {number + 2} states before it, 0 to "
                        f"{number + 1}, got {state!r}."
                    )
        if self.used is not None and (len(self.used) != len(self.blocks) + 2 or all(self.used)):
            raise InvalidArchitectureError(
                f"`used` must hold 0 or 1 for each of {len(self.blocks) + 2} states, and a 0 where a state is in the "
                f"output, got {self.used!r}."
            )

    def forward(self, x: Tensor, before: Tensor, width: int, stride: int, drop_path: float = 0.0) -> Tensor:
        """Return `(len(blocks) * width, …)`.

        Args:
            x: Output of the last layer.
            before: Output of the layer before it, at any size.
            width: Channels of each block.
            stride: 1 or 2.
            drop_path: Rate of stochastic depth on each operation.
        """
        before = bilinear(before, x.shape[1:])
        if before.channels != width:
            before = _project(before, width, "before")
        states = [_project(x, width, "last"), before]
        for block in self.blocks:
            states.append(block(tuple(states), stride, drop_path))
        used = (1, 1, *[0] * len(self.blocks)) if self.used is None else self.used
        return ops.concat(*[state for state, flag in zip(states, used, strict=True) if not flag])


def _project(x: Tensor, width: int, name: str) -> Tensor:
    with x.scope(name):
        return ops.batch_norm(ops.conv(ops.activation(x), width, 1), eps=EPS)


class AutoDeepLab(Block):
    """The network: a stem of three 3x3 convolutions to stride 4, the trellis, the head.

    Args:
        trellis: Layers along a path.
        head: Called with the last layer's output, the finest features and the image's size; None returns the last
            layer's output: the backbone alone.
        stem: Channels of the stem's convolutions; the first and last have stride 2.
    """

    width_fields: ClassVar[tuple[str, ...]] = ("stem",)
    trellis: Any
    head: Any = DeepLabHead()
    stem: tuple[int, int, int] = (64, 64, 128)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits `(classes, height, width)` at the image's size."""
        size = x.shape[1:]
        with x.scope("stem"):
            x = conv_norm_act(x, self.stem[0], 3, stride=2, eps=EPS, name="convs.0")
            before = conv_norm_act(x, self.stem[1], 3, act="identity", eps=EPS, name="convs.1")
            x = ops.activation(before)
            x = conv_norm_act(x, self.stem[2], 3, stride=2, act="identity", eps=EPS, name="convs.2")
        x, fine = self.trellis(x, before)
        if self.head is None:
            return x
        return self.head(ops.activation(x), fine, size)


def space(
    input_shape: Shape | None = None,
    *,
    filters: int = 8,
    layers: int = 12,
    blocks: int = 5,
    strides: Sequence[int] = STRIDES,
    free_start: bool = False,
    drop_path: float = 0.0,
) -> Space:
    """The search space: cells times paths.

    Cells: a block has two inputs among the i + 2 states before it and two of 8 operations, so
    `prod_{i=0..4} (i + 2)^2 * 8^2` = (2*3*4*5*6)^2 * 8^10 = 556,627,761,561,600. Paths: 28,657 walks of twelve layers
    through four strides in steps of at most one, the first at stride 4 (75,025 where it may be 8). The space is the
    product, 15,951,281,763,070,771,200; every decision is always active.

    Args:
        input_shape: Of the task's images, `(channels, height, width)`: any size from 1 pixel on, because features are
            resampled to the image's size divided by the stride, rounded up. Below 32 pixels the coarsest strides have
            one position each.
        filters: F, the channels of each block at stride 4; the paper searches with 8 and trains with 20, 32 and 48.
        layers: Length of the path.
        blocks: Blocks in a cell.
        strides: Of the trellis, each twice the one before; it begins with 4, the stem's.
        free_start: Whether the first layer may have stride 8 too. The decision "path" then begins with the stem's 4.
        drop_path: Rate of stochastic depth at the last layer.

    Raises:
        InvalidInputError: the shape is not that of images, or an option is out of range.
    """
    if input_shape is not None and len(input_shape) != 3:
        raise InvalidInputError(f"`input_shape` must be (channels, height, width), got {input_shape!r}.")
    if tuple(strides) != tuple(STRIDES[0] * 2**level for level in range(len(strides))) or not strides:
        raise InvalidInputError(f"`strides` must begin with 4 and double, as {STRIDES}, got {tuple(strides)!r}.")
    if blocks < 1 or filters < 1:
        raise InvalidInputError(f"`blocks` and `filters` must be at least 1, got {blocks!r} and {filters!r}.")
    names = tuple(OPERATIONS.values())
    cell = []
    for i in range(blocks):
        at, states = f"cell.blocks.{i}", range(i + 2)
        cell.append(
            CellBlock(
                one_of(*states, name=f"{at}.first_input"),
                one_of(*names, name=f"{at}.first"),
                one_of(*states, name=f"{at}.second_input"),
                one_of(*names, name=f"{at}.second"),
            )
        )
    path = walk(tuple(strides), layers + free_start, start=strides[0], name="path")
    trellis = Trellis(AutoDeepLabCell(tuple(cell)), path, filters, strides[0], drop_path, free_start)
    return Space(AutoDeepLab(trellis))


def operation(name: str) -> Block:
    """The operation of a name of the authors' code, or "zero".

    Args:
        name: One of `OPERATIONS`, or such a name with another (odd) kernel or number of layers: "separable_7x7_1".

    Raises:
        UnknownNameError: it has another form.
    """
    if name in OPERATIONS:
        return OPERATIONS[name]
    match = re.fullmatch(r"(separable|atrous|avg_pool|max_pool)_(\d)x\2(?:_(\d+))?", name)
    if match is None or int(match[2]) % 2 == 0 or (match[1] == "separable") != (match[3] is not None):
        raise UnknownNameError("Auto-DeepLab operation", name, OPERATIONS)
    kernel = int(match[2])
    if match[1] == "separable":
        return Separable(kernel, int(match[3]))
    return Atrous(kernel) if match[1] == "atrous" else Pool(match[1][:3], kernel)


def _name(block: object) -> str:
    match block:
        case Separable(kernel=k, layers=n):
            return f"separable_{k}x{k}_{n}"
        case Atrous(kernel=k):
            return f"atrous_{k}x{k}"
        case Pool(function=function, kernel=k):
            return f"{function}_pool_{k}x{k}"
        case Skip():
            return "none"
        case NoConnection():
            return "zero"
    raise InvalidArchitectureError(f"Expected an operation of an Auto-DeepLab cell, got {block!r}.")


Config = Mapping[str, Any]
"""The authors' form: "backbone_levels" (0 is stride 4), "cell_operations", "hiddenstate_indices" (two for each block),
and optionally "used_hiddenstates"."""

PUBLISHED: dict[str, Any] = {
    "backbone_levels": [0, 0, 0, 1, 2, 1, 2, 2, 3, 3, 2, 1],
    "cell_operations": [
        "atrous_5x5", "separable_3x3_2", "separable_3x3_2", "atrous_3x3", "separable_3x3_2", "separable_3x3_2",
        "separable_5x5_2", "separable_5x5_2", "separable_5x5_2", "atrous_5x5",
    ],
    "hiddenstate_indices": [1, 0, 1, 0, 3, 1, 4, 2, 3, 5],
    "used_hiddenstates": [1, 1, 0, 0, 0, 0, 0],
}  # fmt: skip
"""The architecture that the paper found, as in the authors' code (`hnasnet`)."""


def network(
    config: Config = PUBLISHED,
    *,
    filters: int = 20,
    stem: Sequence[int] = (64, 64, 128),
    classes: int | None = None,
    head: bool = True,
) -> AutoDeepLab:
    """The closed network of the authors' form.

    Args:
        config: See `Config`; by default the published architecture.
        filters: F: 20, 32 and 48 are Auto-DeepLab-S, -M and -L.
        stem: Channels of the three convolutions of the stem.
        classes: Number of classes; None takes it from the task.
        head: Whether ASPP, decoder and classifier follow; otherwise it returns the last layer's output.

    Raises:
        InvalidArchitectureError: the lists do not fit each other, or the path leaps.
        UnknownNameError: an unknown operation.
    """
    names, inputs = list(config["cell_operations"]), list(config["hiddenstate_indices"])
    if len(names) != len(inputs) or len(names) % 2:
        raise InvalidArchitectureError(
            f"`cell_operations` and `hiddenstate_indices` must hold two entries for each block, got {len(names)} and "
            f"{len(inputs)}."
        )
    blocks = [
        CellBlock(inputs[i], operation(names[i]), inputs[i + 1], operation(names[i + 1]))
        for i in range(0, len(names), 2)
    ]
    used = config.get("used_hiddenstates")
    if used is not None and list(used) == [1, 1] + [0] * len(blocks):
        used = None
    cell = AutoDeepLabCell(tuple(blocks), None if used is None else tuple(used))
    path = tuple(STRIDES[0] * 2**level for level in config["backbone_levels"])
    first, second, third = stem
    return AutoDeepLab(
        Trellis(cell, path, filters, STRIDES[0]),
        DeepLabHead(classifier=PixelClassifier(classes)) if head else None,
        (first, second, third),
    )


def to_config(architecture: Architecture | Block) -> dict[str, list[Any]]:
    """The authors' form of an architecture or closed network; see `Config`.

    Raises:
        InvalidArchitectureError: it is not a closed Auto-DeepLab.
    """
    block = architecture if isinstance(architecture, Block) else architecture.block
    if not isinstance(block, AutoDeepLab) or block.is_open:
        raise InvalidArchitectureError(f"Expected a closed Auto-DeepLab, got {architecture!r}.")
    cell: AutoDeepLabCell = block.trellis.cell
    return {
        "backbone_levels": [(stride // STRIDES[0]).bit_length() - 1 for stride in block.trellis.strides],
        "cell_operations": [_name(op) for b in cell.blocks for op in (b.first, b.second)],
        "hiddenstate_indices": [i for b in cell.blocks for i in (b.first_input, b.second_input)],
        "used_hiddenstates": [1, 1, *[0] * len(cell.blocks)] if cell.used is None else list(cell.used),
    }


def architecture(config: Config, space: Space) -> Architecture:
    """The architecture of an Auto-DeepLab space that the authors' form names.

    Raises:
        InvalidArchitectureError: it is not in the space.
    """
    block = network(config)
    if block.trellis.cell.used is not None:
        raise InvalidArchitectureError("The cells of the space concatenate all their blocks; `used_hiddenstates` not.")
    from_input = isinstance(space.block, AutoDeepLab) and space.block.trellis.from_input
    decisions: dict[Any, Any] = {"path": (*STRIDES[:1], *block.trellis.path) if from_input else block.trellis.path}
    for i, b in enumerate(block.trellis.cell.blocks):
        decisions |= {f"cell.blocks.{i}.{name}": getattr(b, name) for name in b._field_names}
    return space.architecture(decisions)


def published(row: Row) -> AutoDeepLab:
    """The network of a row of the space "Auto-DeepLab".

    Its config holds "filter_multiplier_F" and the authors' lists: the whole network, for the classes that "decoder"
    names ("19-way") or Cityscapes; or it is a text like "hnasnet F=20": the published backbone alone.
    """
    config = row["config"]
    if isinstance(config, str):
        match = re.search(r"\bF=(\d+)", config)
        if match is None:
            raise InvalidInputError(f"A backbone is written 'hnasnet F=20', got {config!r}.")
        return network(filters=int(match[1]), head=False)
    ways = re.search(r"(\d+)-way", str(config.get("decoder", "")))
    return network(
        config,
        filters=config["filter_multiplier_F"],
        stem=config.get("stem", (64, 64, 128)),
        classes=int(ways[1]) if ways else CITYSCAPES,
    )


FAMILIES: tuple[Family, ...] = (
    Family(
        name="autodeeplab",
        title="Auto-DeepLab: cells and paths of strides",
        task=SEGMENTATION,
        paper='Liu et al. 2019, "Auto-DeepLab", arXiv 1901.02985',
        space=space,
        input_shape=(3, 321, 321),
        size=556_627_761_561_600 * 28_657,
        quoted_size="10^19",
        rows={"Auto-DeepLab": published},
    ),
)
