"""Feature pyramids: several backbone outputs at once, merging cells between levels, and stacks of such pyramids.

A pyramid is a dict from "P3", "P4", … to features; level l has the image's size divided by 2^l, rounded up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nasturtium.blocks.conv import Sequential
from nasturtium.blocks.heads import Laterals, Size, shrink
from nasturtium.errors import InvalidArchitectureError, InvalidInputError
from nasturtium.graph import tensor as ops
from nasturtium.graph.tensor import Tensor
from nasturtium.graph.trace import trace
from nasturtium.space.block import Block

Pyramid = Mapping[str, Tensor]


class Features(Block):
    """Layers one after the other, of which several give an output.

    Args:
        layers: The layers, open or closed.
        taps: Numbers of the layers whose outputs are returned, increasing.
        first_level: The outputs are named "C3", "C4", … from it on.

    Raises:
        InvalidInputError: the taps are not increasing numbers of layers.
    """

    layers: tuple[Any, ...]
    taps: tuple[int, ...]
    first_level: int = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        taps = list(self.taps)
        if not taps or taps != sorted(set(taps)) or not 0 <= taps[0] <= taps[-1] < len(self.layers):
            raise InvalidInputError(
                f"`taps` must be increasing numbers of the {len(self.layers)} layers, got {self.taps!r}."
            )

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Return {"C3": …} of an image."""
        found: dict[str, Tensor] = {}
        for number, layer in enumerate(self.layers[: self.taps[-1] + 1]):
            x = layer(x)
            if number in self.taps:
                found[f"C{self.first_level + len(found)}"] = x
        return found


def backbone_features(
    network: Sequential, *, strides: Sequence[int] = (8, 16, 32), input_shape: tuple[int, int, int] = (3, 256, 256)
) -> Features:
    """A classifier's stages as the backbone of a pyramid: the last output at each stride, without what follows.

    Args:
        network: A closed sequence of layers, for example `zoo.resnet.resnet(50)`.
        strides: Where to take an output, increasing powers of two.
        input_shape: Images on which the strides are found; the backbone takes any.

    Raises:
        InvalidInputError: the network is open (state `Features(layers, taps)` then), or has no output at a stride.

    Example:
        >>> import nasturtium as nas
        >>> from nasturtium.blocks.pyramid import backbone_features
        >>> from nasturtium.zoo.resnet import resnet
        >>> graph = nas.trace(backbone_features(resnet(18)), (3, 64, 64))
        >>> [(o.name, graph.nodes[o.node].shape) for o in graph.outputs]
        [('C3', (128, 8, 8)), ('C4', (256, 4, 4)), ('C5', (512, 2, 2))]
    """
    if network.is_open:
        raise InvalidInputError(
            "The strides of an open network are not known: say where its outputs are with `Features(layers, taps)`."
        )
    probe = trace(Features(network.layers, tuple(range(len(network.layers)))), input_shape, classes=2)
    shapes = [probe.nodes[output.node].shape for output in probe.outputs]
    taps = []
    for stride in strides:
        size = tuple(-(-extent // stride) for extent in input_shape[1:])
        found = [number for number, shape in enumerate(shapes) if len(shape) == 3 and shape[1:] == size]
        if not found:
            raise InvalidInputError(f"The network has no output at stride {stride}; its layers give {shapes}.")
        taps.append(found[-1])
    return Features(network.layers[: taps[-1] + 1], tuple(taps), strides[0].bit_length() - 1)


class BlankFeatures(Block):
    """Zeros in the place of a backbone's features: without parameters and MACs, to count what follows alone.

    Args:
        channels: Of each output, finest first.
        first_level: Level l has the image's size divided by 2^l; the outputs are named "C3", … from it on.
    """

    channels: tuple[int, ...]
    first_level: int = 3

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Return {"C3": …} of an image's shape."""
        levels = enumerate(self.channels, start=self.first_level)
        return {f"C{level}": ops.zero(x, stride=2**level, channels=width, name=f"c{level}") for level, width in levels}


class MergeSum(Block):
    """Merge two features by their sum."""

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        return ops.add(coarse, fine)


class MergeAttention(Block):
    """Merge two features: the coarser one, and the finer one scaled by a gate from the coarser one's global maximum.

    Reference:
        Ghiasi et al. (2019), "NAS-FPN", arXiv 1904.07392, figure 4 (global pooling); which input gates and the maximum
        are as in the authors' code (`global_attention`).
    """

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        gate = ops.activation(ops.global_pool(coarse, "max"), "sigmoid", name="gate")
        return ops.add(coarse, ops.multiply(fine, gate, name="scale"))


class Merge(Block):
    """A merging cell: two features at one level, merged; then activation, 3x3 convolution, norm.

    Args:
        inputs: Numbers of the two features: those of the pyramid below first, finest first, then earlier cells'. Their
            order only tells which one gates where both have one level.
        operation: `MergeSum`, `MergeAttention`, or any block called with the coarser and the finer feature.
        level: Of the output; None where the pyramid's `outputs` say it.
        eps: Of the norm.
        momentum: Of the norm, weight of the new batch; the authors' is 0.003.
    """

    inputs: tuple[int, ...]
    operation: Any = MergeSum()
    level: int | None = None
    eps: float = 1e-4
    momentum: float = 0.1

    def forward(
        self, coarse: Tensor, fine: Tensor, shifts: tuple[int, int], size: Size, dangling: tuple[Tensor, ...] = ()
    ) -> Tensor:
        """Return the merged feature.

        Args:
            coarse: The feature of the coarser level.
            fine: The other.
            shifts: By how many levels each is to become coarser.
            size: Height and width of the output.
            dangling: Further features of the output's level, which are added.
        """
        pair = [
            resample(x, shift, size, name=name)
            for x, shift, name in ((coarse, shifts[0], "coarse"), (fine, shifts[1], "fine"))
        ]
        x = ops.add(self.operation(*pair), *dangling, name="dangling")
        x = ops.conv(ops.activation(x), x.channels, 3, bias=True)
        return ops.batch_norm(x, eps=self.eps, momentum=self.momentum)


def resample(x: Tensor, shift: int, size: Size, *, name: str = "resample") -> Tensor:
    """Bring a feature to a level and size: max pooling where it becomes coarser, otherwise nearest neighbours.

    Args:
        x: The feature.
        shift: By how many levels it becomes coarser; negative: finer.
        size: Height and width of the output.
        name: Name of the scope.
    """
    with x.scope(name):
        if shift > 0:
            x = shrink(x, 2**shift)
        return ops.resize(x, (size[0], size[1]))


class MergingPyramid(Block):
    """A pyramid made of another by merging cells; in and out have the same levels.

    Features are brought to a cell's level by nearest neighbours or max pooling. The last cells give one output each;
    to an output, all features of its level are added that no cell has read so far.

    Args:
        merges: `Merge` blocks; as many as there are levels, the last ones, are outputs.
        outputs: Levels of the outputs, in the order of their cells.
        levels: Levels of the pyramid below, increasing.

    Raises:
        InvalidArchitectureError: the outputs are not each level once, an intermediate cell has no level among them,
            or an input does not come before its cell.

    Reference:
        Ghiasi et al. (2019), "NAS-FPN", arXiv 1904.07392, section 3.2 and figure 3; as in the authors' code.
    """

    merges: tuple[Any, ...]
    outputs: tuple[int, ...]
    levels: tuple[int, ...] = (3, 4, 5, 6, 7)

    def __post_init__(self) -> None:
        super().__post_init__()
        first = len(self.merges) - len(self.levels)
        if isinstance(self.outputs, (tuple, list)) and sorted(self.outputs) != sorted(self.levels):
            raise InvalidArchitectureError(
                f"`outputs` must hold each of the levels {tuple(self.levels)} once, got {self.outputs!r}."
            )
        if first < 0:
            raise InvalidArchitectureError(
                f"A pyramid of {len(self.levels)} levels needs at least as many merging cells, got {len(self.merges)}."
            )
        for number, merge in enumerate(self.merges):
            if isinstance(merge, Merge):
                self._check(merge, number, intermediate=number < first)

    def _check(self, merge: Merge, number: int, *, intermediate: bool) -> None:
        known = len(self.levels) + number
        inputs = merge.inputs
        if isinstance(inputs, tuple) and (len(set(inputs)) != 2 or not all(0 <= i < known for i in inputs)):
            raise InvalidArchitectureError(
                f"`inputs` of merging cell {number} must be two different features of the {known} before it (0 to "
                f"{known - 1}), got {inputs!r}."
            )
        if intermediate and (merge.level is None or (isinstance(merge.level, int) and merge.level not in self.levels)):
            raise InvalidArchitectureError(
                f"`level` of merging cell {number}, which is no output, must be one of {tuple(self.levels)}, got "
                f"{merge.level!r}."
            )

    def forward(self, pyramid: Pyramid) -> dict[str, Tensor]:
        """Return {"P3": …} of the same levels."""
        values = [(level, pyramid[f"P{level}"]) for level in self.levels]
        sizes = {level: x.shape[1:] for level, x in values}
        first = len(self.merges) - len(self.levels)
        read: set[int] = set()
        for number, merge in enumerate(self.merges):
            level = merge.level if number < first else self.outputs[number - first]
            a, b = merge.inputs
            (high, coarse), (low, fine) = (
                (values[a], values[b]) if values[a][0] >= values[b][0] else (values[b], values[a])
            )
            read |= {a, b}
            loose = [i for i, (at, _) in enumerate(values) if number >= first and at == level and i not in read]
            read.update(loose)
            dangling = tuple(values[i][1] for i in loose)
            values.append((level, merge(coarse, fine, (level - high, level - low), sizes[level], dangling)))
        last = dict(values[-len(self.levels) :])
        return {f"P{level}": last[level] for level in self.levels}


class PyramidStack(Block):
    """Laterals, then one pyramid some times, each with weights of its own.

    Every pyramid has the levels of the one below it, so each prefix of the stack is a neck too: the network of fewer
    repeats has the same weights at the same paths.

    Args:
        pyramid: From {"P3": …} to the same levels; one decision wherever it stands.
        laterals: From a backbone's features to {"P3": …}.
        repeats: How many pyramids, at least 1; may be a choice.
        every: Whether to return a tuple of all pyramids' outputs, instead of the last one's.

    Reference:
        Ghiasi et al. (2019), "NAS-FPN", arXiv 1904.07392, sections 3.2 and 3.3.
    """

    pyramid: Any
    laterals: Any = Laterals()
    repeats: int = 7
    every: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.repeats, int) and self.repeats < 1:
            raise InvalidInputError(f"`repeats` must be at least 1, got {self.repeats!r}.")

    def forward(self, features: Any) -> Any:
        """Return {"P3": …}, or a tuple of such."""
        pyramid = self.laterals(features)
        found = []
        for number in range(self.repeats):
            with next(iter(pyramid.values())).scope(f"repeats.{number}"):
                pyramid = self.pyramid(pyramid)
            found.append(pyramid)
        return tuple(found) if self.every else pyramid


class Detector(Block):
    """A one-stage detector: backbone, neck, head.

    Args:
        backbone: From an image to its features, as a dict or tuple.
        neck: From these to a pyramid, or a tuple of pyramids, the last of which counts; the others then get heads of
            their own in training (deep supervision), whose outputs are marked training-only.
        head: From a pyramid to a dict of outputs; None returns the pyramid.

    Reference:
        Lin et al. (2017), "Focal Loss for Dense Object Detection", arXiv 1708.02002, section 4; deep supervision:
        Ghiasi et al. (2019), "NAS-FPN", arXiv 1904.07392, section 3.3.
    """

    backbone: Any
    neck: Any
    head: Any

    def forward(self, x: Tensor) -> dict[str, Any]:
        """Return the head's outputs, and under "repeats" those of the other pyramids, in training."""
        pyramids = self.neck(self.backbone(x))
        if not isinstance(pyramids, tuple):
            pyramids = (pyramids,)
        outputs = dict(self._outputs(pyramids[-1]))
        supervised = []
        for number, pyramid in enumerate(pyramids[:-1]):
            with x.scope(f"supervision.{number}"):
                supervised.append(_training_only(self._outputs(pyramid)))
        return {**outputs, "repeats": tuple(supervised)} if supervised else outputs

    def _outputs(self, pyramid: Any) -> Any:
        return pyramid if self.head is None else self.head(pyramid)


def _training_only(value: Any) -> Any:
    if isinstance(value, Tensor):
        return ops.training_only(value)
    if isinstance(value, Mapping):
        return {key: _training_only(item) for key, item in value.items()}
    return tuple(map(_training_only, value))
