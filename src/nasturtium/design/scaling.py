"""Scaling of a closed network: more or fewer blocks in its stages, wider or narrower, for larger or smaller images.

`scale` knows no block by name. A block says itself what can be scaled: `Block.width_fields` names the fields that hold
widths, `Block.depth_fields` those that hold the blocks of a stage or their number. `Repeat` is a stage.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Any, Generic, Literal, TypeVar, cast, get_args

from nasturtium.blocks import make_divisible
from nasturtium.errors import InvalidInputError, UnknownNameError
from nasturtium.space import Architecture, Block

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

    Depth: a stage grows by copies of its last block, with stride 1, and shrinks by dropping its last blocks, never
    below one. Stages inside a block that has stages of its own keep their depth. Width: channels are multiplied and
    rounded to multiples of `divisor`, never below 0.9 of the product; where a block has `groups`, to multiples of
    these too (groups that equal a width, a depthwise convolution, follow it). Fields that are None, ratios and
    expansions follow by themselves. The number of classes never changes, nor does what no block names.

    Args:
        network: A closed block or an architecture.
        depth: Multiplier of the blocks in each stage.
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
        InvalidInputError: a multiplier is not a positive number; the network is open; it has no stage or no width to
            scale, or no stage that tells what to keep; there is no `input_shape` to scale.
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
    _check(depth=depth, width=width, resolution=resolution, divisor=divisor, round_depth=round_depth, keep=keep)
    block = network if isinstance(network, Block) else network.block
    if block.is_open:
        raise InvalidInputError(
            f"Only a closed network can be scaled, but this {type(block).__name__} has open choices: draw an "
            "architecture with `Space(block).sample(rng)` and scale that."
        )
    shape = _scaled_shape(input_shape, resolution, pixels)
    if depth == 1 and width == 1:
        return Scaled(network, shape)
    work = _Scaling(depth, width, divisor, ROUNDINGS[round_depth], frozenset(keep), total=_stages(block))
    scaled = work.block(block)
    work.check(block)
    return Scaled(cast("Network", scaled if isinstance(network, Block) else Architecture.of(scaled)), shape)


def _check(
    *, depth: float, width: float, resolution: float, divisor: int, round_depth: str, keep: Collection[Part]
) -> None:
    for name, value in (("depth", depth), ("width", width), ("resolution", resolution)):
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not number or not math.isfinite(value) or value <= 0:
            raise InvalidInputError(f"`{name}` must be a positive multiplier, got {value!r}.")
    if isinstance(divisor, bool) or not isinstance(divisor, int) or divisor < 1:
        raise InvalidInputError(f"`divisor` must be an integer of at least 1, got {divisor!r}.")
    if round_depth not in ROUNDINGS:
        raise UnknownNameError("rounding of depths", round_depth, ROUNDINGS)
    for part in keep:
        if part not in ENDS:
            raise UnknownNameError("part to keep", part, ENDS)


def _scaled_shape(input_shape: tuple[int, ...] | None, resolution: float, pixels: int | None) -> tuple[int, ...] | None:
    if input_shape is None:
        if resolution != 1 or pixels is not None:
            raise InvalidInputError(
                "`resolution` and `pixels` scale the network's input: give `input_shape=(channels, height, width)` too."
            )
        return None
    if len(input_shape) != 3 or any(isinstance(n, bool) or not isinstance(n, int) or n < 1 for n in input_shape):
        raise InvalidInputError(f"`input_shape` must be (channels, height, width), got {input_shape!r}.")
    channels, *sides = input_shape
    if pixels is None:
        return (channels, *[max(1, round(side * resolution)) for side in sides])
    if resolution != 1:
        raise InvalidInputError(f"Give `resolution` or `pixels`, not both, got {resolution!r} and {pixels!r}.")
    if isinstance(pixels, bool) or not isinstance(pixels, int) or pixels < 1:
        raise InvalidInputError(f"`pixels` must be an integer of at least 1, got {pixels!r}.")
    return (channels, *[round(side * pixels / min(sides)) for side in sides])


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
    divisor: int
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
            InvalidInputError: there was no stage, or no width, in the network.
        """
        name = type(block).__name__
        if (self.depth != 1 or self.keep) and not self.total:
            wanted = "depth to scale" if self.depth != 1 else f"stage that tells {', '.join(sorted(self.keep))}"
            raise InvalidInputError(
                f"This {name} has no {wanted}: it holds no `Repeat` and no other block with `depth_fields`. Make its "
                "stages with `nas.repeat`, or name the fields of your block that hold them in its `depth_fields`."
            )
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
        groups = getattr(block, "groups", 1)
        groups = groups if isinstance(groups, int) and groups > 1 else 1
        depthwise = any(getattr(block, name) == groups > 1 for name in known)
        multiple = math.lcm(self.divisor, 1 if depthwise else groups)
        changes = {}
        for name in known:
            value = getattr(block, name)
            made = self._widened(value, multiple)
            if made != value:
                changes[name] = made
                if depthwise and value == groups:
                    changes["groups"] = made
        return changes

    def _widened(self, value: Any, multiple: int) -> Any:
        if isinstance(value, tuple):
            return tuple([self._widened(item, multiple) for item in value])
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return value
        self.widths += 1
        if self.width == 1:
            return value
        return value * self.width if isinstance(value, float) else make_divisible(value * self.width, multiple)


def _unstrided(block: Any) -> Any:
    """A copy to stand after a block: where that halves the size, this one does not."""
    return replace(block, stride=1) if getattr(block, "stride", 1) != 1 else block
