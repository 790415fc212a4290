"""Repetition of a block, with fixed or open depth."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

from nasturtium.errors import InvalidInputError, InvalidSpaceError
from nasturtium.graph.tensor import Tensor
from nasturtium.space.block import Block
from nasturtium.space.choice import Choice, IntRange, OneOf, Prefix, fresh_copy


class Repeat(Block):
    """Blocks one after the other, made by `repeat`.

    Args:
        blocks: The copies; an open depth makes this a `Prefix` of the deepest.
    """

    depth_fields: ClassVar[tuple[str, ...]] = ("blocks",)
    blocks: Any = ()

    def forward(self, x: Tensor) -> Tensor:
        """Run the copies in order."""
        for block in self.blocks:
            x = block(x)
        return x


def repeat(block: Any, times: Any, *, shared: bool = False, **first: Any) -> Repeat:
    """Stack copies of a block: a stage of a network.

    Each copy decides its open fields anew, except with `shared=True`. With an open depth the first copies stay and
    the last ones go (Cai et al. 2020, "Once-for-All", arXiv 1908.09791, section 3.2).

    Args:
        block: A block, open or closed, or a choice between blocks.
        times: Number of copies, at least 0, or a choice of such (`one_of(2, 3, 4)`, `int_range(1, 3)`).
        shared: Whether all copies share the decisions of the first.
        **first: Fields of the first copy that differ, for example `stride=2`. For a choice between blocks they apply
            to each option that has such a field.

    Raises:
        InvalidInputError: `first` names a field that the block does not have.
        InvalidSpaceError: `times` is not a number of copies.

    Example:
        >>> import nasturtium as nas
        >>> stage = nas.repeat(nas.MBConv(24, kernel=nas.one_of(3, 5)), times=nas.one_of(2, 3), stride=2)
        >>> nas.Space(stage).size
        12
    """
    depth = _deepest(times)
    copies: list[Any] = []
    for position in range(depth):
        copy = _override(block, first) if position == 0 and first else block
        copies.append(copy if shared else fresh_copy(copy))
    return Repeat(Prefix(copies, times) if isinstance(times, Choice) else tuple(copies))


def _deepest(times: Any) -> int:
    values = [times]
    if isinstance(times, Choice):
        if not isinstance(times, (OneOf, IntRange)):
            raise InvalidSpaceError(f"`times` must be an integer or a choice of integers, got {times!r}.")
        values = [times.value_at(i) for i in range(times.count)]
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise InvalidSpaceError(f"`times` must be an integer of at least 0 or a choice of such, got {value!r}.")
    return max(values)


def _override(block: Any, first: dict[str, Any]) -> Any:
    if isinstance(block, OneOf):
        options = tuple(_override(option, _known(option, first)) for option in block.options)
        return OneOf(options, block.name)
    if not isinstance(block, Block):
        raise InvalidInputError(f"`repeat` takes a block or a choice between blocks, got {block!r}.")
    unknown = sorted(set(first) - set(block._field_names))
    if unknown:
        raise InvalidInputError(
            f"`repeat` cannot set {', '.join(unknown)} in the first copy: {type(block).__name__} has the fields "
            f"{', '.join(block._field_names) or 'none'}."
        )
    return replace(block, **first)  # type: ignore[type-var]


def _known(option: Any, first: dict[str, Any]) -> dict[str, Any]:
    names = option._field_names if isinstance(option, Block) else ()
    return {name: value for name, value in first.items() if name in names}
