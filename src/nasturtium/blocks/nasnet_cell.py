"""The cell of NASNet, AmoebaNet and PNASNet: blocks that join two hidden states, and what frames them.

Hidden states are numbered 0 for the current input, 1 for the previous cell's output, 2, 3, … for the blocks in
order. A cell reduces where it is called with stride 2: only what reads states 0 and 1 is strided.

Reference:
    Zoph et al. 2018, "Learning Transferable Architectures for Scalable Image Recognition", arXiv 1707.07012, section
    3.1 and figure 3; mechanics as in the authors' code (`nasnet_utils.NasNetABaseCell`), and for AmoebaNet's
    operations `network_utils.BaseCell` (Real et al. 2019, arXiv 1802.01548).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil
from typing import Any

from nasturtium.errors import InvalidInputError
from nasturtium.graph import tensor as ops
from nasturtium.graph.tensor import Tensor
from nasturtium.space.block import Block

PADDINGS = ("same", "tf_same", "pad_then_crop")
"""How strided operations are padded: "same" symmetric; "tf_same" as the authors' TensorFlow code, one pixel more at
the bottom and right of even sizes; "pad_then_crop" as Cadene's port, which has the outputs of "tf_same", but computes
the first half of a reduction cell's separable convolutions on a map one pixel larger, and crops it."""

COMBINERS = ("add", "concat")
"""How a block joins its two halves. "concat" is followed by ReLU, 1x1 convolution and norm back to the cell's width:
the paper gives no detail, and so every state of a cell has one width."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What the network tells a cell at its place.

    Attributes:
        width: Channels F of every state of the cell.
        stride: 2 in a reduction.
        padding: One of `PADDINGS`.
        drop_path: Rate, on every operation but the identity.
        eps: Of the norms.
        momentum: Of the norms.
    """

    width: int
    stride: int = 1
    padding: str = "same"
    drop_path: float = 0.0
    eps: float = 1e-3
    momentum: float = 0.1

    def norm(self, x: Tensor) -> Tensor:
        """Batch normalisation."""
        return ops.batch_norm(x, eps=self.eps, momentum=self.momentum)

    def project(self, x: Tensor, *, act: bool = True, stride: int = 1, width: int | None = None) -> Tensor:
        """ReLU, 1x1 convolution, norm."""
        x = ops.activation(x, "relu") if act else x
        return self.norm(ops.conv(x, self.width if width is None else width, 1, stride=stride))

    def conv(
        self, x: Tensor, width: int, kernel: tuple[int, int], stride: tuple[int, int], *, dilation: int = 1
    ) -> Tensor:
        """A convolution padded by the setting's rule."""
        sides = [
            _sides(extent, k, s, dilation, tf=self.padding != "same")
            for extent, k, s in zip(x.shape[1:], kernel, stride, strict=True)
        ]
        return ops.conv(x, width, kernel, stride=stride, padding=(*sides[0], *sides[1]), dilation=dilation, name="conv")


def _sides(extent: int, kernel: int, stride: int, dilation: int, *, tf: bool) -> tuple[int, int]:
    """Padding before and after, for `ceil(extent / stride)` outputs."""
    if not tf:
        side = dilation * (kernel - 1) // 2
        return (side, side)
    total = max((ceil(extent / stride) - 1) * stride + dilation * (kernel - 1) + 1 - extent, 0)
    return (total // 2, total - total // 2)


class Skip(Block):
    """The identity ("none" in the authors' lists): a strided 1x1 convolution where size or channels change."""

    def forward(self, x: Tensor, setting: Setting) -> Tensor:
        if setting.stride == 1 and x.channels == setting.width:
            return x
        return setting.project(x, stride=setting.stride)


class Pool(Block):
    """Pooling, and a 1x1 convolution with norm where the channels change.

    Args:
        kind: "avg" or "max".
        kernel: In pixels.
    """

    kind: str = "max"
    kernel: int = 3

    def forward(self, x: Tensor, setting: Setting) -> Tensor:
        x = _pool(x, self.kind, self.kernel, setting)
        if x.channels != setting.width:
            x = setting.project(x, act=False)
        return ops.drop_path(x, setting.drop_path)


def _pool(x: Tensor, kind: str, kernel: int, setting: Setting) -> Tensor:
    """Pooling to `ceil(size / stride)`. Padding never counts, so that it need only begin at the right pixel."""
    pool = ops.max_pool if kind == "max" else ops.avg_pool
    if setting.padding == "same" and kernel % 2:
        return pool(x, kernel, stride=setting.stride)
    if setting.stride == 1 and kernel % 2 == 0:  # the windows' padding is at the end: pool one more, drop the first
        y = pool(x, kernel, padding=kernel // 2)
        return ops.pad(y, (-1, 0, -1, 0), name="crop")
    sides = [_sides(extent, kernel, setting.stride, 1, tf=True) for extent in x.shape[1:]]
    return pool(x, kernel, stride=setting.stride, padding=(sides[0][0], sides[1][0]), ceil_mode=True)


class Separable(Block):
    """(ReLU, depthwise convolution, 1x1 convolution, norm), several times; only the first is strided.

    Args:
        kernel: Odd, in pixels.
        repeats: How often.
        dilation: Distance between taps.
    """

    kernel: int = 3
    repeats: int = 2
    dilation: int = 1

    def forward(self, x: Tensor, setting: Setting) -> Tensor:
        stride = setting.stride
        for number in range(self.repeats):
            with x.scope(f"layer_{number}"):
                x = ops.activation(x, "relu")
                if number == 0 and setting.padding == "pad_then_crop":
                    x = self._cropped(x, setting)
                else:
                    sides = [
                        _sides(extent, self.kernel, stride, self.dilation, tf=setting.padding != "same")
                        for extent in x.shape[1:]
                    ]
                    x = self._layer(x, setting, stride, (*sides[0], *sides[1]))
                x = setting.norm(x)
                stride = 1
        return ops.drop_path(x, setting.drop_path)

    def _layer(self, x: Tensor, setting: Setting, stride: int, padding: tuple[int, ...]) -> Tensor:
        x = ops.conv(
            x,
            x.channels,
            self.kernel,
            stride=stride,
            padding=padding,
            dilation=self.dilation,
            groups=x.channels,
            name="depthwise",
        )
        return ops.conv(x, setting.width, 1, name="pointwise")

    def _cropped(self, x: Tensor, setting: Setting) -> Tensor:
        """One row and column of zeros before, and cropped off after; an odd size that is halved needs none."""
        more = [int(setting.stride == 1 or extent % 2 == 0) for extent in x.shape[1:]]
        side = self.dilation * (self.kernel - 1) // 2
        x = ops.pad(x, (more[0], 0, more[1], 0))
        x = self._layer(x, setting, setting.stride, (side, side, side, side))
        return ops.pad(x, (-more[0], 0, -more[1], 0), name="crop")


class Convolution(Block):
    """ReLU, convolution, norm; as in AmoebaNet's code, between 1x1 convolutions to fewer channels and back.

    Args:
        kernel: Odd, in pixels; 1 is a plain 1x1 convolution, which has no bottleneck.
        factorized: Whether it is 1xk, norm, ReLU, kx1 instead of kxk.
        dilation: Distance between taps.
        bottleneck: Channels inside in eighths of the cell's width, rounded down; 8, or a width that leaves none,
            is no bottleneck.
    """

    kernel: int = 3
    factorized: bool = False
    dilation: int = 1
    bottleneck: int = 2

    def forward(self, x: Tensor, setting: Setting) -> Tensor:
        inner = setting.width * self.bottleneck // 8
        if self.kernel == 1:
            x = setting.project(x, stride=setting.stride)
        elif self.bottleneck == 8 or inner < 1:
            x = self._middle(x, setting, setting.width)
        else:
            with x.scope("reduce"):
                x = setting.project(x, width=inner)
            with x.scope("middle"):
                x = self._middle(x, setting, inner)
            with x.scope("expand"):
                x = setting.project(x)
        return ops.drop_path(x, setting.drop_path)

    def _middle(self, x: Tensor, setting: Setting, width: int) -> Tensor:
        stride, kernel = setting.stride, self.kernel
        x = ops.activation(x, "relu")
        if not self.factorized:
            return setting.norm(setting.conv(x, width, (kernel, kernel), (stride, stride), dilation=self.dilation))
        with x.scope("horizontal"):
            x = ops.activation(setting.norm(setting.conv(x, width, (1, kernel), (1, stride))), "relu")
        with x.scope("vertical"):
            return setting.norm(setting.conv(x, width, (kernel, 1), (stride, 1)))


def factorized_reduction(x: Tensor, setting: Setting, *, stride: int = 2) -> Tensor:
    """Halve the size by two strided 1x1 convolutions, the second shifted by one pixel; at stride 1 a 1x1 convolution.

    The second takes the extra channel of an odd width (the authors' code refuses odd widths, but PNASNet mobile has
    them).
    """
    if stride == 1:
        return setting.norm(ops.conv(x, setting.width, 1))
    first = ops.conv(x, setting.width // 2, 1, stride=2, name="first") if setting.width > 1 else None
    shifted = ops.pad(x, (-1, 1, -1, 1), name="shift")
    second = ops.conv(shifted, setting.width - setting.width // 2, 1, stride=2, name="second")
    return setting.norm(second if first is None else ops.concat(first, second))


class NASNetBlock(Block):
    """One block of a cell: two hidden states, an operation on each, and how the two are joined.

    Args:
        first_hidden_state: Number of a state.
        second_hidden_state: Number of a state; it may be the same.
        first_operation: A block that is called with a state and a `Setting`.
        second_operation: As the first.
        combiner: One of `COMBINERS`.
    """

    first_hidden_state: Any
    second_hidden_state: Any
    first_operation: Any
    second_operation: Any
    combiner: Any = "add"

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.combiner, str) and self.combiner not in COMBINERS:
            raise InvalidInputError(f"`combiner` must be one of {', '.join(COMBINERS)}, got {self.combiner!r}.")

    def forward(
        self, states: tuple[Tensor, ...], marks: tuple[Tensor, ...], read: Tensor, setting: Setting
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The new state, and the states' marks, where those that were read here are marked `read`."""
        numbers = (self.first_hidden_state, self.second_hidden_state)
        kept = replace(setting, stride=1)
        first, second = (states[i] for i in numbers)
        first = self.first_operation(first, setting if numbers[0] < 2 else kept)
        second = self.second_operation(second, setting if numbers[1] < 2 else kept)
        with first.scope("combine"):
            adds = self.combiner == "add"
            state = first + second if adds else setting.project(ops.concat(first, second))
        return state, tuple([read if i in numbers else mark for i, mark in enumerate(marks)])


class PreviousState(Block):
    """The previous cell's output, brought to the current input's size and to the cell's width."""

    def forward(self, x: Tensor, previous: Tensor, setting: Setting) -> Tensor:
        if x.shape[1:] != previous.shape[1:]:
            return factorized_reduction(ops.activation(previous, "relu"), setting)
        return previous if previous.channels == setting.width else setting.project(previous)


class CurrentState(Block):
    """The current input at the cell's width."""

    def forward(self, x: Tensor, setting: Setting) -> Tensor:
        return setting.project(x)


class CellOutput(Block):
    """Concatenation of states; one of another size or width than the last block's is brought to these first.

    It is a block of its own so that it alone depends on which states are used.
    """

    def forward(
        self,
        states: tuple[Tensor, ...],
        marks: tuple[Tensor, ...],
        read: Tensor,
        chosen: tuple[int, ...] | None,
        setting: Setting,
    ) -> Tensor:
        """Concatenate the chosen states, or those that are not marked `read`."""
        last = states[-1]
        if chosen is None:
            chosen = tuple([i for i, mark in enumerate(marks) if mark.shape != read.shape])
        parts = []
        for number in chosen:
            state = states[number]
            if number < 2 and state.shape != last.shape:  # blocks are all alike
                with state.scope(f"match_{number}"):
                    state = factorized_reduction(state, setting, stride=2 if state.shape[1:] != last.shape[1:] else 1)
            parts.append(state)
        return ops.concat(*parts)


class NASNetCell(Block):
    """Blocks, each of which reads two earlier states; the output concatenates some states.

    Args:
        blocks: `NASNetBlock`s; block b reads states 0 to b + 1.
        output: "unused" concatenates the states that no block reads, the cell's inputs among them; "blocks" all
            blocks' states; or numbers of states, as the official cells have them.

    Raises:
        InvalidInputError: a block reads a state that does not come before it, or `output` is none of these.
    """

    blocks: tuple[Any, ...]
    output: Any = "unused"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.blocks:
            raise InvalidInputError("A cell needs at least one block, got none.")
        for number, block in enumerate(self.blocks):
            for name in ("first_hidden_state", "second_hidden_state"):
                state = getattr(block, name, None)
                if isinstance(state, int) and not 0 <= state < number + 2:
                    raise InvalidInputError(
                        f"`{name}` of block {number} must be a state from 0 to {number + 1}, got {state!r}."
                    )
        last = len(self.blocks) + 2
        if isinstance(self.output, str):
            known = self.output in ("unused", "blocks")
        else:
            known = bool(self.output) and all(isinstance(i, int) and 0 <= i < last for i in self.output)
        if not known:
            raise InvalidInputError(
                f"`output` must be 'unused', 'blocks' or numbers of states from 0 to {last - 1}, got {self.output!r}."
            )

    def forward(self, x: Tensor, previous: Tensor | None, marks: tuple[Tensor, Tensor], setting: Setting) -> Tensor:
        """Run the cell.

        Args:
            x: The current input.
            previous: The output of the cell before; None, in the first cell, is `x` itself.
            marks: Two tensors of different shapes. The first marks a state that no block has read, the second one
                that has been read: so a supernet knows for each state by itself whether it is concatenated, and need
                not go through the combinations of what all blocks read. Nothing is computed with them.
            setting: What the network tells this place.
        """
        unread, read = marks
        before = x if previous is None else PreviousState()(x, previous, setting)
        states: tuple[Tensor, ...] = (CurrentState()(x, setting), before)
        chosen = None if self.output == "unused" else self.concatenated
        found: tuple[Tensor, ...] = (unread, unread)
        for block in self.blocks:
            state, found = block(states, found if chosen is None else (), read, setting)
            states, found = (*states, state), (*found, unread)
        return CellOutput()(states, found, read, chosen, setting)

    @property
    def concatenated(self) -> tuple[int, ...]:
        """Numbers of the states that the output concatenates."""
        if self.output == "unused":
            read = {state for b in self.blocks for state in (b.first_hidden_state, b.second_hidden_state)}
            return tuple([state for state in range(len(self.blocks) + 2) if state not in read])
        return tuple(range(2, len(self.blocks) + 2)) if self.output == "blocks" else tuple(self.output)
