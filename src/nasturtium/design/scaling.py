"""Scaling of a closed network: more or fewer blocks in its stages, wider or narrower, for larger or smaller images.

`scale` knows no block by name. A block says itself what can be scaled: `Block.width_fields` names the fields that hold
widths, `Block.depth_fields` those that hold the blocks of a stage or their number. `Repeat` is a stage. A name there
that is a property and no field says that the block computes it from several fields: such a block is refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Generic, Literal, TypeVar, cast, get_args

from nasturtium.blocks import make_divisible
from nasturtium.design.multipliers import check_multipliers
from nasturtium.errors import InvalidInputError, UnknownNameError
from nasturtium.space import Architecture, Block, Space

Network = TypeVar("Network", bound=Block | Architecture)

Part = Literal["stem", "first", "last", "head"]

ENDS: tuple[Part, ...] = get_args(Part)
"""What EfficientNet-Lite does not scale: widths of stem and head, and the depths of the first and the last stage."""

ROUNDINGS: dict[str, Callable[[float], int]] = {"ceil": math.ceil, "round": round}
"""How a number of blocks is rounded."""


@dataclass(frozen=True, slots=True)
class Scaled(Generic[Network]):
    """A scaled network and the input that it is for."""

    network: Network
    """Of the type that was given; an architecture has no decisions any more."""
    input_shape: tuple[int, ...] | None = None
    """`(channels, height, width)`, or None where none was given."""


def scale(
    network: Network,
    depth: float = 1.0,
    width: float = 1.0,
    resolution: float = 1.0,
    *,
    input_shape: tuple[int, ...] | None = None,
    pixels: int | None = None,
    divisor: int = 8,
    round_depth: str = "ceil",
    keep: Collection[Part] = (),
) -> Scaled[Network]:
    """Scale a network's depth, width and input; at 1, 1, 1 it is the same network.

    Depth: a stage grows by copies of its last block, and shrinks by dropping its last blocks, never below one. In a
    copy every field `stride`, also of the blocks inside it, is 1; a block that halves the size without such a field
    halves it again. Stages inside a block that has stages of its own keep their depth. Width: channels are multiplied
    and rounded to multiples of `divisor`, never below 0.9 of the product; where blocks of the network have `groups`,
    all widths are rounded to multiples of the least common multiple of these too, since a width may be another
    block's input (groups that equal a width, a depthwise convolution, follow it). Fields that are None, ratios and
    expansions follow by themselves. The number of classes never changes, nor does what no block names.

    Args:
        network: A closed block or an architecture; of a space, also a closed one, take an architecture.
        depth: Multiplier of the blocks in each stage; each multiplier is at most `multipliers.LARGEST`.
        width: Multiplier of the channels.
        resolution: Multiplier of the height and width of the input, each rounded to whole pixels.
        input_shape: `(channels, height, width)` before scaling; `resolution` needs it.
        pixels: The shorter side of the scaled input, instead of `resolution`.
        divisor: See `blocks.make_divisible`.
        round_depth: "ceil" or "round".
        keep: Parts that are not scaled: "stem", the widths before the first stage; "first" and "last", the depths of
            these stages; "head", the widths after the last stage. `ENDS` is all of them.

    Returns:
        The network, of the type given, and the scaled `input_shape`.

    Raises:
        InvalidInputError: a multiplier is not a positive number; the network is no block, or open; it has no stage or
            no width to scale, or no stage that tells what to keep, or a block computes what is to be scaled from
            several fields; there is no `input_shape` to scale.
        UnknownNameError: no such part to keep or way to round.

    Example:
        >>> import nasturtium as nas
        >>> stage = nas.repeat(nas.MBConv(16), 2, stride=2)
        >>> scaled = nas.design.scale(stage, depth=1.2, width=1.5)
        >>> len(scaled.network.blocks), scaled.network.blocks[-1].width
        (3, 24)

    Reference:
        Tan, Le (2019), "EfficientNet: Rethinking Model Scaling for CNNs", arXiv 1905.11946, section 3.3; rounding as
        in the authors' code; `ENDS` as in their EfficientNet-Lite.
    """
    check_multipliers(depth=depth, width=width, resolution=resolution)
    _check(divisor, round_depth)
    kept = _kept(keep)
    block = _block_of(network)
    shape = _scaled_shape(input_shape, resolution, pixels)
    total = _stages(block)
    _check_stages(block, total, depth, kept)
    if depth == 1 and width == 1:
        return Scaled(network, shape)
    _refuse_computed(block, type(block).__name__, depth, width)
    multiple = math.lcm(divisor, *_groups(block))
    work = _Scaling(depth, width, multiple, ROUNDINGS[round_depth], kept, total)
    scaled = work.block(block)
    work.check(block)
    return Scaled(cast("Network", scaled if isinstance(network, Block) else Architecture.of(scaled)), shape)


def _check(divisor: int, round_depth: str) -> None:
    if isinstance(divisor, bool) or not isinstance(divisor, int) or divisor < 1:
        raise InvalidInputError(f"`divisor` must be an integer of at least 1, got {divisor!r}.")
    if not isinstance(round_depth, str):
        raise InvalidInputError(f"`round_depth` must be one of {', '.join(ROUNDINGS)}, got {round_depth!r}.")
    if round_depth not in ROUNDINGS:
        raise UnknownNameError("rounding of depths", round_depth, ROUNDINGS)


def _kept(keep: Collection[Part]) -> frozenset[Part]:
    if isinstance(keep, str) or not isinstance(keep, Collection) or any(not isinstance(part, str) for part in keep):
        example = keep if isinstance(keep, str) and keep in ENDS else ENDS[0]
        raise InvalidInputError(
            f"`keep` must be a collection of the parts {', '.join(ENDS)}, for example `keep=({example!r},)`, got "
            f"{keep!r}."
        )
    for part in keep:
        if part not in ENDS:
            raise UnknownNameError("part to keep", part, ENDS)
    return frozenset(keep)


def _block_of(network: object) -> Block:
    """The closed block to scale."""
    if isinstance(network, Architecture):
        return network.block
    if not isinstance(network, Block):
        shown = "a Space" if isinstance(network, Space) else f"{network!r} of type {type(network).__name__}"
        hint = "draw one with `space.sample(rng)`" if isinstance(network, Space) else "give for example a `Sequential`"
        raise InvalidInputError(f"`network` must be a closed block or an architecture, got {shown}: {hint}.")
    if network.is_open:
        raise InvalidInputError(
            f"Only a closed network can be scaled, but this {type(network).__name__} has open choices: draw an "
            "architecture with `Space(block).sample(rng)` and scale that."
        )
    return network


def _check_stages(block: Block, total: int, depth: float, keep: frozenset[Part]) -> None:
    """Refuse a network without stages where one is needed."""
    if (depth == 1 and not keep) or total:
        return
    wanted = "depth to scale" if depth != 1 else f"stage that tells {', '.join(sorted(keep))}"
    raise InvalidInputError(
        f"This {type(block).__name__} has no {wanted}: it holds no `Repeat` and no other block with `depth_fields`. "
        "Make its stages with `nas.repeat`, or name the fields of your block that hold them in its `depth_fields`."
    )


def _refuse_computed(block: Block, path: str, depth: float, width: float) -> None:
    """Refuse a block that names a property, which it computes from several fields, as a width or a stage."""
    for multiplier, what, names in ((depth, "depth", block.depth_fields), (width, "width", block.width_fields)):
        computed = [
            n for n in names if n not in block._field_names and isinstance(getattr(type(block), n, None), property)
        ]
        if multiplier != 1 and computed:
            raise InvalidInputError(
                f"The {what} of {path} cannot be scaled: {type(block).__name__} computes `{computed[0]}` from its "
                f"fields {', '.join(block._field_names)} together. Make a network of other values of these instead."
            )
    for name, value in zip(block._field_names, block.values, strict=True):
        for place, child in _blocks(f"{path}.{name}", value):
            _refuse_computed(child, place, depth, width)


def _blocks(path: str, value: object) -> Iterator[tuple[str, Block]]:
    """The outermost blocks in a field's value, with their places."""
    if isinstance(value, Block):
        yield path, value
    elif isinstance(value, tuple):
        for i, item in enumerate(value):
            yield from _blocks(f"{path}.{i}", item)


def _groups(block: Block) -> Iterator[int]:
    """Numbers of groups in a network, but for those of depthwise convolutions, which follow the width."""
    groups = _own_groups(block)
    if groups > 1 and not _is_depthwise(block, groups):
        yield groups
    for value in block.values:
        for _, child in _blocks("", value):
            yield from _groups(child)


def _own_groups(block: Block) -> int:
    groups = getattr(block, "groups", 1) if "groups" in block._field_names else 1
    return groups if isinstance(groups, int) and groups > 1 else 1


def _is_depthwise(block: Block, groups: int) -> bool:
    return groups > 1 and any(getattr(block, n) == groups for n in block.width_fields if n in block._field_names)


def _scaled_shape(input_shape: tuple[int, ...] | None, resolution: float, pixels: int | None) -> tuple[int, ...] | None:
    if input_shape is None:
        if resolution != 1 or pixels is not None:
            raise InvalidInputError(
                "`resolution` and `pixels` scale the network's input: give `input_shape=(channels, height, width)` too."
            )
        return None
    if (
        not isinstance(input_shape, (tuple, list))
        or len(input_shape) != 3
        or any(isinstance(n, bool) or not isinstance(n, int) or n < 1 for n in input_shape)
    ):
        raise InvalidInputError(f"`input_shape` must be (channels, height, width), got {input_shape!r}.")
    channels, *sides = input_shape
    if pixels is None:
        return (channels, *[max(1, round(side * resolution)) for side in sides])
    if resolution != 1:
        raise InvalidInputError(f"Give `resolution` or `pixels`, not both, got {resolution!r} and {pixels!r}.")
    if isinstance(pixels, bool) or not isinstance(pixels, int) or pixels < 1:
        raise InvalidInputError(f"`pixels` must be an integer of at least 1, got {pixels!r}.")
    return (channels, *[round(Fraction(side * pixels, min(sides))) for side in sides])


def _stages(value: object) -> int:
    """Outermost stages in a field's value."""
    if isinstance(value, tuple):
        return sum(map(_stages, value))
    if not isinstance(value, Block):
        return 0
    own = sum(_is_stage(getattr(value, name)) for name in value.depth_fields)
    return own or sum(map(_stages, value.values))


def _is_stage(value: object) -> bool:
    """Whether a depth field holds something to scale: blocks, a number of them, or a multiplier."""
    return bool(value) and not isinstance(value, bool) and isinstance(value, (tuple, int, float))


@dataclass
class _Scaling:
    """One walk through a network, in the order of its fields."""

    depth: float
    width: float
    multiple: int
    """Of which the scaled widths are multiples."""
    rounded: Callable[[float], int]
    keep: frozenset[Part]
    total: int
    """Stages in the whole network."""
    passed: int = 0
    """Stages seen so far."""
    inside: int = 0
    """Stages around the block at hand."""
    widths: int = 0
    """Widths seen so far."""

    def block(self, block: Any) -> Any:
        """The block scaled; the same object where nothing in it changes."""
        stages = [n for n in block.depth_fields if not self.inside and _is_stage(getattr(block, n))]
        changes = {} if not stages and self._place() in self.keep else self._own_widths(block)
        self.inside += bool(stages)
        for name in block._field_names:
            value = changes.get(name, getattr(block, name))
            made = self._stage(value) if name in stages else self._inner(value)
            if made is not value:
                changes[name] = made
        self.inside -= bool(stages)
        return replace(block, **changes) if changes else block

    def check(self, block: Block) -> None:
        """Refuse what could not be done.

        Raises:
            InvalidInputError: there was no width in the network.
        """
        name = type(block).__name__
        if self.width != 1 and not self.widths:
            fields = ", ".join(Block.width_fields)
            raise InvalidInputError(
                f"This {name} has no width to scale: none of its blocks states a number of channels in a field called "
                f"{fields}. Name the fields of your block that hold widths in its `width_fields`."
            )

    def _inner(self, value: Any) -> Any:
        if isinstance(value, Block):
            return self.block(value)
        if isinstance(value, tuple):
            made = tuple([self._inner(item) for item in value])
            return value if all(a is b for a, b in zip(made, value, strict=True)) else made
        return value

    def _stage(self, value: Any) -> Any:
        """A stage: its blocks widened, then as many as the depth says."""
        self.passed += 1
        kept = {"first"} if self.passed == 1 else set()
        kept |= {"last"} if self.passed == self.total else set()
        depth = 1.0 if kept & self.keep else self.depth
        if isinstance(value, float):
            return value * depth
        if isinstance(value, int):
            return self._count(value, depth)
        if all(isinstance(item, int) for item in value):
            return tuple([self._count(count, depth) for count in value])
        blocks = self._inner(value)
        more = self._count(len(blocks), depth) - len(blocks)
        return blocks[:more] if more < 0 else (*blocks, *[_unstrided(blocks[-1])] * more) if more else blocks

    def _count(self, count: int, depth: float) -> int:
        return max(1, self.rounded(count * depth))

    def _place(self) -> Part | None:
        """Which end of the network the block at hand belongs to; None between the stages and inside them."""
        if self.inside or not self.total:
            return None
        return "stem" if self.passed == 0 else "head" if self.passed == self.total else None

    def _own_widths(self, block: Block) -> dict[str, Any]:
        known = [n for n in block.width_fields if n in block._field_names]
        groups = _own_groups(block)
        depthwise = _is_depthwise(block, groups)
        changes: dict[str, Any] = {}
        for name in known:
            value = getattr(block, name)
            made = self._widened(value)
            if made != value:
                changes[name] = made
                if depthwise and value == groups:
                    changes["groups"] = made
        return changes

    def _widened(self, value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple([self._widened(item) for item in value])
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return value
        self.widths += 1
        if self.width == 1:
            return value
        return value * self.width if isinstance(value, float) else make_divisible(value * self.width, self.multiple)


def _unstrided(block: Any) -> Any:
    """A copy to stand after a block: its strides, also those of the blocks inside it, are 1."""
    if isinstance(block, tuple):
        made = tuple([_unstrided(item) for item in block])
        return block if all(a is b for a, b in zip(made, block, strict=True)) else made
    if not isinstance(block, Block):
        return block
    changes = {}
    for name, value in zip(block._field_names, block.values, strict=True):
        new = 1 if name == "stride" and isinstance(value, (int, tuple)) else _unstrided(value)
        if new is not value and new != value:
            changes[name] = new
    return replace(cast("Any", block), **changes) if changes else block
