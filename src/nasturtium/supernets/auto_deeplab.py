"""The relaxation of Auto-DeepLab: mixtures of operations in cells (alpha), and of paths through strides (beta)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from nasturtium.blocks.layers import conv_norm_act
from nasturtium.blocks.trellis import EPS
from nasturtium.errors import IncompatibleError, InvalidInputError
from nasturtium.graph import tensor as ops
from nasturtium.graph import trace
from nasturtium.graph.operations import Shape
from nasturtium.graph.tensor import Tensor as Symbol
from nasturtium.model.build import Network, build
from nasturtium.space import Architecture, Block, Space
from nasturtium.supernets import trellis
from nasturtium.tasks import Task
from nasturtium.zoo import autodeeplab

NAMES = tuple(autodeeplab.OPERATIONS)
NOTHING = NAMES.index("zero")
"""The missing connection, which a decoded cell never has."""


class _Stem(Block):
    """As in `zoo.autodeeplab.AutoDeepLab`: stride 4, and what is before the last convolution."""

    widths: tuple[int, int, int]

    def forward(self, x: Symbol) -> tuple[Symbol, Symbol]:
        x = conv_norm_act(x, self.widths[0], 3, stride=2, eps=EPS, name="convs.0")
        before = conv_norm_act(x, self.widths[1], 3, act="identity", eps=EPS, name="convs.1")
        y = ops.activation(before)
        return conv_norm_act(y, self.widths[2], 3, stride=2, act="identity", eps=EPS, name="convs.2"), before


class _Project(Block):
    width: int

    def forward(self, x: Symbol) -> Symbol:
        return ops.batch_norm(ops.conv(ops.activation(x), self.width, 1), eps=EPS)


class _Candidate(Block):
    operation: Any
    stride: int

    def forward(self, x: Symbol) -> Symbol:
        y: Symbol = self.operation(x, self.stride, 0.0)
        return y


def edges(blocks: int) -> Iterator[tuple[int, int]]:
    """The edges of a cell in the order of alpha's rows: (block, state that it reads), blocks from 0."""
    return ((block, state) for block in range(blocks) for state in range(block + 2))


class MixedCell(nn.Module):
    """A cell in which every block adds up all states before it, each through all operations.

    `H_i = sum over j < i of sum over k of alpha[j -> i, k] O_k(H_j)` (equations 1 to 3); the output is the blocks'
    concatenation.

    Args:
        source: Shape of the last layer's output.
        before: Shape of the one before it.
        size: `(height, width)` of the output.
        width: Channels of each block.
        blocks: How many.
        stride: 2 where the input is at half the stride, else 1 (a coarser input is enlarged first).
        seed: Of the weights.
    """

    def __init__(
        self, source: Shape, before: Shape, size: tuple[int, int], width: int, blocks: int, stride: int, seed: int
    ) -> None:
        super().__init__()
        given = source[1:] if stride == 2 else size
        self.given, self.size = given, size
        self.last = _made(_Project(width), source, seed)
        self.earlier = _made(_Project(width), before, seed + 1)
        self.operations = nn.ModuleList()
        for block, state in edges(blocks):
            step = stride if state < 2 else 1
            shape = (width, *(given if state < 2 else size))
            candidates = [
                _made(_Candidate(operation, step), shape, seed + 2 + 97 * block + 11 * state + number)
                for number, operation in enumerate(autodeeplab.OPERATIONS.values())
            ]
            self.operations.append(nn.ModuleList(candidates))
        self.blocks = blocks

    def forward(self, x: Tensor, before: Tensor, alpha: Tensor) -> Tensor:
        """Mix.

        Args:
            x: `(batch, *source)`.
            before: `(batch, *before)`, any size.
            alpha: `(edges, operations)`, probabilities.
        """
        states = [self.last(_resized(x, self.given)), self.earlier(_resized(before, self.given))]
        row = 0
        for block in range(self.blocks):
            parts = []
            for state in range(block + 2):
                mixed: Any = self.operations[row]
                parts += [alpha[row, k] * each(states[state]) for k, each in enumerate(mixed) if k != NOTHING]
                row += 1
            states.append(torch.stack(parts).sum(0))
        return torch.cat(states[2:], 1)


class AutoDeepLabSupernet(nn.Module):
    """The trellis of all paths, with mixed cells; trained like DARTS, weights and (alpha, beta) on two halves.

    Each edge of the trellis has a cell with weights of its own; alpha is one for all. Memory and time grow with the
    product of edges, blocks and operations: for small trellises.

    Args:
        space: From `zoo.autodeeplab.space`.
        inputs: Shape of the images.
        classes: Of the pixels.
        seed: Of the weights, and of alpha and beta, which start at 0.001 times normal numbers.

    Raises:
        InvalidInputError: the space is another one.

    Reference:
        Liu et al. (2019), "Auto-DeepLab", arXiv 1901.02985, section 4. Differs from the paper: each level ends in a
        1x1 convolution to the classes, not in a reduced ASPP; weights are not shared between the edges into a node;
        where a stride is not there two layers before, the next finer one stands for it.
    """

    def __init__(self, space: Space, inputs: Shape, *, classes: int, seed: int = 0) -> None:
        super().__init__()
        block = space.block
        if not isinstance(block, autodeeplab.AutoDeepLab):
            raise InvalidInputError(
                f"The relaxation is of the space `nas.zoo.autodeeplab.space(...)`, got one of {type(block).__name__}."
            )
        path = space.decision("path").choice
        self.space = space
        self.blocks = len(block.trellis.cell.blocks)
        self.levels = len(path.levels)  # type: ignore[attr-defined]
        self.first = not block.trellis.from_input
        steps = path.length - 1  # type: ignore[attr-defined]
        generator = torch.Generator().manual_seed(seed)
        count = sum(1 for _ in edges(self.blocks))
        self.alpha = nn.Parameter(1e-3 * torch.randn(count, len(NAMES), generator=generator))
        """`(edges, operations)`, logits."""
        self.beta = nn.Parameter(1e-3 * torch.randn(steps, self.levels, 3, generator=generator))
        """`(transitions, levels, 3)`, logits; see `trellis.MOVES`."""
        self.stem = _made(_Stem(block.stem), inputs, seed)
        self.cells = nn.ModuleDict()
        self.heads = nn.ModuleDict()
        self._build(_shapes(_Stem(block.stem), inputs), block.trellis.filters, classes, seed)

    def _build(self, given: list[Shape], filters: int, classes: int, seed: int) -> None:
        """Make the cells by a walk of shapes through the trellis."""
        x, before = given
        sizes = [(x[1], x[2])]
        for _ in range(1, self.levels):
            sizes.append((-(-sizes[-1][0] // 2), -(-sizes[-1][1] // 2)))

        def cell(layer: int, source: int, target: int, x: Tensor, before: Tensor) -> Tensor:
            width = filters * 2**target
            made = MixedCell(
                tuple(x.shape[1:]), tuple(before.shape[1:]), sizes[target], width, self.blocks,
                2 if target > source else 1, seed + 7919 * (layer * 64 + source * 8 + target + 1),
            )  # fmt: skip
            self.cells[f"{layer}_{source}_{target}"] = made
            return torch.zeros(1, width * self.blocks, *sizes[target])

        with torch.no_grad():
            stem = [torch.zeros(1, *s) for s in (x, before)]
            last = trellis.relax(torch.zeros(self.beta.shape), stem[0], stem[1], cell, first=self.first)
        for level, features in last.items():
            generator = torch.Generator().manual_seed(seed + level)
            head = nn.Conv2d(features.shape[1], classes, 1)
            with torch.no_grad():
                head.weight.normal_(0.0, features.shape[1] ** -0.5, generator=generator)
                assert head.bias is not None
                head.bias.zero_()
            self.heads[str(level)] = head

    def probabilities(self) -> tuple[Tensor, Tensor]:
        """Alpha `(edges, operations)` and beta `(transitions, levels, 3)`; each sums to 1 over its last axis."""
        return torch.softmax(self.alpha, -1), trellis.transitions(self.beta)

    def features(self, images: Tensor) -> dict[int, Tensor]:
        """The last layer's output at each level, `(batch, blocks * filters * 2^level, height, width)`."""
        alpha, beta = self.probabilities()
        x, before = self.stem(images)

        def cell(layer: int, source: int, target: int, x: Tensor, before: Tensor) -> Tensor:
            y: Tensor = self.cells[f"{layer}_{source}_{target}"](x, before, alpha)
            return y

        return trellis.relax(beta, x, before, cell, first=self.first)

    def forward(self, images: Tensor) -> Tensor:
        """Logits `(batch, classes, height, width)` at the images' size: the levels' logits, enlarged and added."""
        size = (images.shape[2], images.shape[3])
        maps = [_resized(self.heads[str(s)](functional.relu(y)), size) for s, y in self.features(images).items()]
        return torch.stack(maps).sum(0)

    def architecture_parameters(self) -> list[nn.Parameter]:
        """Alpha and beta: for the optimiser of the architecture."""
        return [self.alpha, self.beta]

    def weight_parameters(self) -> list[nn.Parameter]:
        """All others."""
        return [p for p in self.parameters() if p is not self.alpha and p is not self.beta]

    def decode(self) -> Architecture:
        """The most probable path with the strongest cell, an ordinary architecture of the space."""
        alpha, beta = self.probabilities()
        path, _ = trellis.most_probable(beta)
        operations, states = decode_cell(alpha, self.blocks)
        config = {
            "backbone_levels": list(path if self.first else path[1:]),
            "cell_operations": operations,
            "hiddenstate_indices": states,
        }
        return autodeeplab.architecture(config, self.space)


@dataclass(frozen=True, slots=True)
class AutoDeepLab:
    """What Auto-DeepLab goes with: so far only a user's own loop over images whose pixels have labels."""

    def check(self, space: Space, task: Task) -> None:
        """Raise: there is no searcher for the tasks of this library.

        Raises:
            IncompatibleError: always; says why, and what to do.
        """
        if not isinstance(space.block, autodeeplab.AutoDeepLab):
            raise IncompatibleError(
                "Auto-DeepLab relaxes a trellis of strides, and this space has none: take "
                "`nas.zoo.autodeeplab.space(...)`, or DARTS for cells and chains."
            )
        raise IncompatibleError(
            f"Auto-DeepLab learns from images whose pixels have labels, but the task {task.name!r} has one class for "
            "each image, as all tasks here. Train `nas.supernets.AutoDeepLabSupernet(space, ...)` in a loop of your "
            "own (weights and `architecture_parameters()` in turns), then `decode()` gives the architecture."
        )


def decode_cell(alpha: Tensor, blocks: int) -> tuple[list[str], list[int]]:
    """For each block the two states whose strongest operation is strongest, with that operation.

    Args:
        alpha: `(edges, operations)`, probabilities (their softmax matters: edges are compared); the missing connection
            does not count. Operations are those of `zoo.autodeeplab.OPERATIONS`, edges those of `edges`.
        blocks: Of the cell.

    Returns:
        Names of operations and numbers of states, two for each block, the stronger first; of equals the earlier.
    """
    strengths = alpha.detach().clone()
    strengths[:, NOTHING] = -1.0
    best, which = strengths.max(1)
    names: list[str] = []
    states: list[int] = []
    start = 0
    for block in range(blocks):
        rows = range(start, start + block + 2)
        chosen = sorted(rows, key=lambda row: -float(best[row]))[:2]
        names += [NAMES[int(which[row])] for row in chosen]
        states += [row - start for row in chosen]
        start += block + 2
    return names, states


def _made(block: Block, shape: Shape, seed: int) -> Network:
    return build(trace(block, shape), seed=seed)


def _shapes(block: Block, shape: Shape) -> list[Shape]:
    graph = trace(block, shape)
    return [graph.nodes[output.node].shape for output in graph.outputs]


def _resized(x: Tensor, size: tuple[int, ...]) -> Tensor:
    if tuple(x.shape[2:]) == tuple(size):
        return x
    return functional.interpolate(x, size=tuple(size), mode="bilinear", align_corners=True)
