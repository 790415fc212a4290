"""The cell of ENAS: branches, nodes and the cell of the micro space, and the heads of its networks.

In an open cell it depends on all nodes which states are free. `forward` must not ask that of each choice, or its
lowering would have as many variants as there are cells. So a mark, a tensor, goes with each state from node to node:
the stem while nobody has read the state, and then a state; what tells them apart is the number of channels.

Reference:
    Pham, Guan, Zoph, Le, Dean (2018), "Efficient Neural Architecture Search via Parameter Sharing", arXiv 1802.03268,
    section 2.4; details as in the authors' code (`micro_child.py`).
"""

from __future__ import annotations

from typing import Any

from nasturtium.blocks.darts_cell import INPUTS, factorized_reduction, relu_conv_norm
from nasturtium.errors import ShapeError
from nasturtium.graph import tensor as ops
from nasturtium.graph.tensor import Tensor
from nasturtium.space.block import Block


class Identity(Block):
    """The identity; with a stride a factorised reduction without activation. Never dropped."""

    def forward(self, x: Tensor, stride: int = 1, drop_path: float = 0.0) -> Tensor:
        """Return the input, or reduce it."""
        del drop_path
        return x if stride == 1 else factorized_reduction(x, x.channels, act="identity")


class Branch(Block):
    """One of the two inputs of a node: an earlier state and the operation on it.

    Args:
        source: Number of the state.
        operation: Called with the state, the stride and the rate of drop path.
    """

    source: int
    operation: Any

    def forward(
        self, states: tuple[Tensor, ...], marks: tuple[Tensor, ...], stride: int, drop_path: float
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Compute on the state and mark it as read. Only the cell's inputs have the stride."""
        y = self.operation(states[self.source], stride if self.source < INPUTS else 1, drop_path)
        return y, tuple([states[0] if i == self.source else mark for i, mark in enumerate(marks)])


class Node(Block):
    """The sum of two branches.

    Args:
        first: A `Branch`.
        second: A `Branch`.
    """

    first: Any
    second: Any

    def forward(
        self, states: tuple[Tensor, ...], marks: tuple[Tensor, ...], stride: int, drop_path: float
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Add up the branches."""
        x, marks = self.first(states, marks, stride, drop_path)
        y, marks = self.second(states, marks, stride, drop_path)
        return ops.add(x, y), marks


# What depends on the widths of earlier cells, or on which states are free, stands in blocks of its own: the variants
# of an open cell's lowering then end with them.


class Fit(Block):
    """An input of a cell brought to the cell's size and width; what fits already stays.

    Args:
        width: Channels of the states.
        halve: Whether the input is twice as large as the other.
    """

    width: int
    halve: bool = False

    def forward(self, x: Tensor) -> Tensor:
        """Fit."""
        if self.halve:
            return factorized_reduction(x, self.width)
        return x if x.channels == self.width else relu_conv_norm(x, self.width)


class Join(Block):
    """The concatenation of the states that no node has read.

    Args:
        final: Whether inputs of a cell with a stride are reduced; in the search there is no stride.
    """

    final: bool = False

    def forward(self, states: tuple[Tensor, ...], marks: tuple[Tensor, ...], width: int, stride: int) -> Tensor:
        """Concatenate."""
        free = []
        for i, (state, mark) in enumerate(zip(states, marks, strict=True)):
            if mark.channels == width:
                continue
            if self.final and stride > 1 and i < INPUTS:
                state = factorized_reduction(state, width, act="identity", name=f"reduce_{i}")
            free.append(state)
        return ops.concat(*free)


class Combine(Block):
    """The 1x1 convolution that ends a cell in the search.

    Args:
        width: Output channels.
    """

    width: int

    def forward(self, x: Tensor) -> Tensor:
        """Convolve."""
        return relu_conv_norm(x, self.width)


class Cell(Block):
    """Two inputs brought to one size and width, nodes, and the states that no node reads.

    Args:
        nodes: In order; a node may read the inputs and the nodes before it.
        final: As in the final network: one more 1x1 convolution on the second input, and the concatenation as it is.
            Otherwise as in the search: the concatenation goes through a 1x1 convolution to the cell's width.
    """

    nodes: tuple[Any, ...]
    final: bool = False

    def forward(
        self,
        before: Tensor,
        previous: Tensor,
        stem: Tensor,
        width: int,
        halve: bool = False,
        stride: int = 1,
        drop_path: float = 0.0,
    ) -> Tensor:
        """Compute the cell.

        Args:
            before: Output of the cell before the previous one.
            previous: Output of the previous cell.
            stem: Output of the stem, of which only the shape is used: no state has as many channels.
            width: Channels of every state.
            halve: Whether `before` is twice as large as `previous`.
            stride: 2 halves the size (final networks only).
            drop_path: Rate at which an operation other than the identity is dropped in training.
        """
        with before.scope("before"):
            states = [Fit(width, halve)(before)]
        with before.scope("previous"):
            states.append(Fit(width)(previous))
        if self.final:
            states[1] = relu_conv_norm(states[1], width, name="base")
        marks: tuple[Tensor, ...] = (stem, stem)
        for node in self.nodes:
            state, marks = node(tuple(states), marks, stride, drop_path)
            states.append(state)
            marks = (*marks, stem)
        y: Tensor = Join(self.final)(tuple(states), marks, width, stride)
        return y if self.final else Combine(width)(y)


class Head(Block):
    """ReLU, mean, dropout, linear layer without bias.

    Args:
        classes: Number of classes.
        dropout: Rate.
    """

    classes: int
    dropout: float = 0.0

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        x = ops.flatten(ops.global_pool(ops.activation(x)))
        return ops.linear(ops.dropout(x, self.dropout), self.classes, bias=False)


class AuxiliaryHead(Block):
    """The authors' auxiliary classifier; its second convolution is as large as the image.

    Args:
        classes: Number of classes.
    """

    classes: int

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        if min(x.height, x.width) < 5:
            raise ShapeError(
                f"The auxiliary head needs at least 5x5 pixels in the last stage, got {x.height}x{x.width}: give "
                "larger images, or `auxiliary=False`."
            )
        x = ops.avg_pool(ops.activation(x), 5, stride=3, padding=0)
        x = ops.activation(ops.batch_norm(ops.conv(x, 128, 1, name="project"), name="project_norm"))
        top, left = (x.height - 1) // 2, (x.width - 1) // 2
        around = (top, x.height - 1 - top, left, x.width - 1 - left)
        x = ops.conv(x, 768, (x.height, x.width), padding=around, name="features")
        x = ops.activation(ops.batch_norm(x, name="features_norm"))
        return ops.linear(ops.flatten(ops.global_pool(x)), self.classes, bias=False)
