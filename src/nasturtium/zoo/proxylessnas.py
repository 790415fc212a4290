"""ProxylessNAS: the space for ImageNet, networks given as lists of blocks, and the tree network for CIFAR-10.

Level: network. Task: image classification. For ImageNet each of 21 blocks chooses kernel (3, 5, 7) and expansion
(3, 6); a block that does not begin a stage may also be left out. For CIFAR-10 each 3x3 convolution of a PyramidNet is
a tree of operations, each of which is chosen.

Reference:
    Cai et al. (2019), "ProxylessNAS: Direct Neural Architecture Search on Target Task and Hardware", arXiv 1812.00332,
    sections 4.1 and 4.2, and the authors' code (mit-han-lab/proxylessnas, han-cai/files).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nasturtium.blocks import AvgPool, Classifier, Conv, Identity, MaxPool, MBConv, Repeat, Sequential, make_divisible
from nasturtium.errors import InvalidArchitectureError, InvalidInputError
from nasturtium.graph import tensor as ops
from nasturtium.graph.tensor import Tensor
from nasturtium.space import Architecture, Block, Space, one_of
from nasturtium.zoo.checks import check_kernel, check_positive, check_whole
from nasturtium.zoo.listing import CLASSES, Family, Row, classes_of
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
        InvalidInputError: there is no block, one is malformed, or its input channels are not its predecessor's output.
    """
    if not blocks:
        raise InvalidInputError("A network needs at least one block, got an empty list.")
    fields = NORM if norm is None else norm
    check_whole("The width of the stem", stem)
    channels = stem
    layers: list[Block] = [Conv(stem, stride=2, act="relu6", **fields)]
    for row in blocks:
        if row == "zero":
            layers.append(Identity())
            continue
        kernel, expand, before, after, stride, *rest = _block_row(row)
        if before != channels:
            raise InvalidInputError(f"A block takes {before} channels, but its predecessor gives {channels}: {row!r}.")
        mid = rest[0] if rest and not isinstance(rest[0], str) else None
        residual = not (rest and rest[0] == "")
        layers.append(MBConv(after, kernel, stride, expand, mid=mid, residual=residual, **fields))
        channels = after
    if features is not None and features != channels:
        layers.append(Conv(features, 1, act="relu6", **fields))
    return Sequential(*layers, Classifier(classes))


def _block_row(row: Any) -> Sequence[Any]:
    """A block's row, checked."""
    if isinstance(row, str) or not isinstance(row, Sequence) or len(row) not in (5, 6):
        raise InvalidInputError(
            "A block is 'zero' or [kernel, expand, channels in, channels out, stride] and, optionally, its hidden "
            f"width, 'skip' or '', got {row!r}."
        )
    kernel, expand, _, after, stride, *rest = row
    check_kernel(f"The kernel of the block {row!r}", kernel)
    check_positive(f"The expansion of the block {row!r}", expand)
    check_whole(f"The output width of the block {row!r}", after)
    check_whole(f"The stride of the block {row!r}", stride)
    if rest and isinstance(rest[0], str):
        if rest[0] not in ("", "skip"):
            raise InvalidInputError(f"A block's residual is 'skip', or '' for none, got {rest[0]!r} in {row!r}.")
    elif rest and rest[0] is not None:
        check_whole(f"The hidden width of the block {row!r}", rest[0])
    return row


def from_row(row: Row) -> Block:
    """The network of a row whose config is a list of blocks.

    It has the classes that `classes_of` reads from the row; else two where the row's name ends in "_vww" (visual wake
    words), and those of ImageNet.

    Raises:
        InvalidInputError: it has none, or one is malformed; see `from_blocks`.
    """
    config = row["config"]
    key = next((key for key in config if key.startswith("blocks_k_e_")), None)
    if key is None:
        raise InvalidInputError(f"A row of {row['space']!r} needs a list of blocks, got {config!r}.")
    features = config.get("last", config.get("classifier_in"))
    classes = classes_of(row, 2 if str(row.get("name", "")).endswith("_vww") else CLASSES)
    return from_blocks(config["stem"], config[key], features, norm=config.get("bn"), classes=classes)


class TreeConv(Block):
    """Norm, ReLU, depthwise convolution, 1x1 convolution: a convolution on an edge of a tree.

    Args:
        kernel: Of the depthwise convolution, odd, in pixels.
        dilation: Of the depthwise convolution.
    """

    kernel: int = 3
    dilation: int = 1

    def forward(self, x: Tensor) -> Tensor:
        """Convolve, keeping the shape."""
        x = ops.activation(ops.batch_norm(x), "relu")
        x = ops.conv(x, x.channels, self.kernel, dilation=self.dilation, groups=x.channels, name="depthwise")
        return ops.conv(x, x.channels, 1, name="pointwise")


TREE_OPERATIONS: dict[str, Block] = {
    "i": Identity(),
    "3": TreeConv(3),
    "5": TreeConv(5),
    "7": TreeConv(7),
    "d": TreeConv(3, dilation=2),
    "a": AvgPool(),
    "m": MaxPool(),
}
"""The operations on a tree's edges by a letter each: identity, separable convolutions 3x3, 5x5, 7x7 and 3x3 with
dilation 2, average and maximum pooling 3x3."""

TREE_EDGES = 12
"""Edges of a block's tree: in each half of the channels two, and two below each of them."""


class TreeBlock(Block):
    """Residual block of the tree network.

    1x1 convolution, 3x3 convolution of two groups to twice the width, the tree, 1x1 convolution to four times the
    width. The tree splits the channels in half. Each half is the sum of two edges, each followed by the sum of two
    further edges; it is normalised and added to its input, and the halves are summed.

    Args:
        edges: The 12 operations: of each half its two edges, then the two below the first, then the two below the
            second.
        width: Channels of the tree, even.
        stride: Of the 3x3 convolution; the shortcut is pooled then.

    Raises:
        InvalidInputError: there are not 12 operations.
    """

    edges: tuple[Any, ...]
    width: int
    stride: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.edges) != TREE_EDGES:
            raise InvalidInputError(f"A tree has {TREE_EDGES} operations, got {len(self.edges)}: {self.edges!r}.")

    def forward(self, x: Tensor) -> Tensor:
        """Add the branch to the shortcut, which is padded with zero channels."""
        with x.scope("entry"):
            y = ops.conv(ops.batch_norm(x), self.width, 1)
        with x.scope("widen"):
            y = ops.activation(ops.batch_norm(y), "relu")
            y = ops.channel_shuffle(ops.conv(y, 2 * self.width, 3, stride=self.stride, groups=2), 2)
        halves = []
        for half in range(2):
            part = ops.channel_slice(y, half * self.width, (half + 1) * self.width, name=f"half_{half}")
            with x.scope(f"half_{half}"):
                halves.append(ops.add(ops.batch_norm(self._tree(part, 6 * half)), part))
        with x.scope("out"):
            y = ops.activation(ops.batch_norm(ops.add(*halves)), "relu")
            y = ops.batch_norm(ops.conv(y, 4 * self.width, 1), name="final_norm")
        if self.stride > 1:
            x = ops.avg_pool(x, self.stride, stride=self.stride, padding=0, ceil_mode=True, name="shortcut")
        more = y.channels - x.channels
        return ops.add(y, ops.concat(x, ops.zero(x, channels=more), name="pad") if more else x)

    def _tree(self, x: Tensor, start: int) -> Tensor:
        branches = []
        for branch in range(2):
            y = self.edges[start + branch](x)
            below = start + 2 + 2 * branch
            branches.append(ops.add(self.edges[below](y), self.edges[below + 1](y), name=f"branch_{branch}"))
        return ops.add(*branches, name="tree")


class TreeStem(Block):
    """3x3 convolution and norm.

    Args:
        width: Output channels.
    """

    width: int = 16

    def forward(self, x: Tensor) -> Tensor:
        """Convolve, normalise."""
        return ops.batch_norm(ops.conv(x, self.width))


class TreeHead(Block):
    """Norm, ReLU, mean over positions, linear layer.

    Args:
        classes: Number of classes; None takes it from the task.
    """

    classes: int | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Return the classes' logits, `(classes,)`."""
        x = ops.flatten(ops.global_pool(ops.activation(ops.batch_norm(x), "relu")))
        return ops.linear(x, x.context.classes if self.classes is None else self.classes)


PYRAMID_BLOCKS = 54
PYRAMID_STEM = 16
PYRAMID_GROWTH = 84
"""Channels that the tree's width grows by from the first block to the last."""

PROXYLESS_CIFAR = (
    "7mdi7m5d5577 aiaa3im7didd 7i3a5a3d3ad5 a55d3dd773i7 ai5dd57m7aim 7m7m35a7d3ii dmim777753ii dd5757m5aa37 "
    "7d5miimm3aad 5i3i373i5757 7a7535diadd3 5da533a577d3 mm737d3ma57i 37md7d5di373 dam3ddai5i5i 5id5aad55573 "
    "7555d3idm737 mdii3i7m57id "
    "dm5aa75a73am 7di7i7dm37m5 mda3idmmm5ia da73a33a7idd dmma7i7ddiam 75m7mimiadm7 i5a5m5dd7adm 3iadddd3aaa3 "
    "d7m7immm555d 3773aim737mm 7577a333ida3 5iaia5a73aam i3adi7ia7mid 7m5i7dm7dm77 37m3i353i35i d7d3d73i3dmi "
    "mii55a37aiad 7m75da737555 "
    "aaaada7i5iia m7ia5iiiai7i d37mi5ai3ima 77a5a3mia3mm iia7i7ima5a7 di5im575d7id mmiaamdai53i 77577ad73m7a "
    "dadmd37didm5 adam3mdi7dai mma7335daii3 5d7dimm735mi 773mdam5mm5m m5iad3537377 i3a577i7773a 5m53ai55am5i "
    "3md3mai7md33 773m5i5mm337"
)
"""The published network (Proxyless-G, 2.08 % error): one word a block, one letter of `TREE_OPERATIONS` an edge, as in
`proxylessnas/proxyless_cifar.config` of han-cai/files."""


def _pyramid(blocks: Sequence[Sequence[Any]], classes: int | None = None) -> Sequential:
    """The tree network: three stages of equally many blocks, whose widths grow evenly and are even numbers."""
    count = len(blocks)
    layers = []
    for i, edges in enumerate(blocks):
        width = round(PYRAMID_STEM + PYRAMID_GROWTH * (i + 1) / count) // 2 * 2
        layers.append(TreeBlock(tuple(edges), width, 2 if i and i % (count // 3) == 0 else 1))
    return Sequential(TreeStem(PYRAMID_STEM), Repeat(tuple(layers)), TreeHead(classes))


def proxylessnas_cifar(input_shape: tuple[int, ...] = (3, 32, 32), *, blocks: int = PYRAMID_BLOCKS) -> Space:
    """The tree space for CIFAR-10: each of 12 edges in each block takes one of seven operations.

    Decisions are "edge_b_e" of edge e in block b, all always active.

    Args:
        input_shape: `(channels, height, width)`; the network halves it twice, whatever it is.
        blocks: A multiple of three; a third of them in each stage.

    Returns:
        7^(12 * blocks) architectures: 7^648 for 54 blocks.

    Raises:
        InvalidInputError: the number of blocks is not a positive multiple of three.
    """
    del input_shape
    if isinstance(blocks, bool) or not isinstance(blocks, int) or blocks < 3 or blocks % 3:
        raise InvalidInputError(f"`blocks` must be a positive multiple of three, got {blocks!r}.")
    options = TREE_OPERATIONS.values()
    edges = [[one_of(*options, name=f"edge_{b}_{e}") for e in range(TREE_EDGES)] for b in range(blocks)]
    return Space(_pyramid(edges))


def cifar_network(text: str = PROXYLESS_CIFAR, *, classes: int | None = None) -> Sequential:
    """The closed tree network of a text; by default the published one.

    Args:
        text: Its blocks, a multiple of three, separated by spaces: 12 letters of `TREE_OPERATIONS` each.
        classes: Number of classes; None takes it from the task.

    Raises:
        InvalidArchitectureError: the text is not of this form.
    """
    return _pyramid([[TREE_OPERATIONS[letter] for letter in word] for word in _words(text)], classes)


def cifar_architecture(text: str, space: Space) -> Architecture:
    """The architecture of a `proxylessnas_cifar` space that a text names; see `cifar_network`.

    Raises:
        InvalidArchitectureError: the text is not of this form, or has more or fewer blocks than the space.
    """
    words = _words(text)
    if len(words) * TREE_EDGES != len(space.decisions):
        raise InvalidArchitectureError(
            f"The space has {len(space.decisions) // TREE_EDGES} blocks, got {len(words)}: {text!r}."
        )
    return space.architecture(
        {f"edge_{b}_{e}": TREE_OPERATIONS[letter] for b, word in enumerate(words) for e, letter in enumerate(word)}
    )


def cifar_string(architecture: Architecture | Block) -> str:
    """The text of a tree network or its architecture; see `cifar_network`.

    Raises:
        InvalidArchitectureError: it is not a closed tree network.
    """
    block = architecture if isinstance(architecture, Block) else architecture.block
    layers: tuple[Any, ...] = getattr(block, "layers", ())
    known = {operation: letter for letter, operation in TREE_OPERATIONS.items()}
    if block.is_open or len(layers) != 3 or not isinstance(layers[0], TreeStem):
        raise InvalidArchitectureError(f"Expected a closed tree network, got {architecture!r}.")
    return " ".join("".join(known[edge] for edge in tree.edges) for tree in layers[1].blocks)


def _words(text: str) -> list[str]:
    words = text.split()
    if not words or len(words) % 3 or any(len(w) != TREE_EDGES or not set(w) <= set(TREE_OPERATIONS) for w in words):
        raise InvalidArchitectureError(
            f"A tree network is a multiple of three words of {TREE_EDGES} letters out of "
            f"{''.join(TREE_OPERATIONS)}, got {text!r}."
        )
    return words


def _cifar_row(row: Row) -> Block:
    if not isinstance(row["config"], str) or "proxyless_cifar" not in row["config"]:
        raise InvalidInputError(
            f"The only network of {row['space']!r} has the config 'proxyless_cifar.config', got {row['config']!r}; "
            "`cifar_network` makes others of their text."
        )
    return cifar_network(classes=10)


FAMILIES = (
    Family(
        name="proxylessnas",
        title="ProxylessNAS for ImageNet",
        paper='Cai et al. 2019, "ProxylessNAS", arXiv 1812.00332',
        space=proxylessnas,
        size=221_502_229_807_900_608,
        rows={"ProxylessNAS": from_row},
    ),
    Family(
        name="proxylessnas_cifar",
        title="ProxylessNAS for CIFAR-10, trees in a PyramidNet",
        paper='Cai et al. 2019, "ProxylessNAS", arXiv 1812.00332',
        space=proxylessnas_cifar,
        input_shape=(3, 32, 32),
        size=7**648,
        rows={"ProxylessNAS-CIFAR": _cifar_row},
    ),
)
