"""Cells: blocks with branches inside, each drawn once, and what makes two of them the same."""

from __future__ import annotations

import re
from collections.abc import Hashable
from dataclasses import dataclass, field

from nasturtium.graph import operations as ops
from nasturtium.graph.captions import label_of, plain, words
from nasturtium.graph.levels import Level, Record, Step
from nasturtium.graph.operations import Shape
from nasturtium.graph.parts import Part, scope_name
from nasturtium.graph.trace import snake_case


@dataclass(slots=True, eq=False)
class Cell:
    """A block with branches inside, drawn once."""

    level: Level
    title: str
    parts: list[Part]
    inputs: list[str]
    """Names of the inputs."""
    outputs: list[int]
    """Numbers of the parts that it returns; -1 - i for an input."""
    adapters: dict[int, tuple[int, str]] = field(default_factory=dict)
    """What only fits an input: {number of the input: (part that the others read instead, text)}."""
    hidden: set[int] = field(default_factory=set)
    """Parts that the adapters' texts tell."""
    is_pyramid: bool = False
    """Whether it stands on a grid of resolutions."""
    places: int = 0
    """How often it stands in the network."""


def title_of(cell: Cell) -> str:
    """What people call a cell: its label, its place's name, or its class."""
    level = cell.level
    inner = [s.level for s in level.steps if s.level is not None]
    if level.block is None and len(inner) == 1:
        level = inner[0]
    name = re.sub(r"(?<=[^s])s$", "", scope_name(level)) or level.name.rpartition(".")[2]
    own = label_of(level)
    if own:
        return own
    kind = type(level.block).__name__
    if name and not name.isdigit() and not re.fullmatch(rf"{snake_case(kind)}(_\d+)?", name):
        text = words(name)
        plain_name = cell.places == 1 or cell.is_pyramid or level.block is None or "cell" in text.lower()
        return text if plain_name else f"{text} cell"
    return words(kind)


def is_pyramid(level: Level, parts: list[Part], record: Record) -> bool:
    """Whether its parts stand at three resolutions or more, one each, and also go from coarse to fine."""
    sizes = {record.shapes[v][1] for v in level.inputs if len(record.shapes[v]) == 3}
    rises = False
    for part in parts:
        made = {record.shapes[v][1:] for v in part.outputs}
        given = [record.shapes[v][1] for v in part.inputs if len(record.shapes[v]) == 3]
        if len(made) != 1 or not given:
            return False
        height = max((0, *made.pop()[:1]))
        rises = rises or height > min(given)
        sizes.add(height)
    return rises and len({size for size in sizes if size > 1}) >= 3


def set_adapter(cell: Cell, number: int, shapes: list[Shape]) -> None:
    """Finds what only brings an input to the cell's size and width: 1x1 convolutions, resizing, no window."""
    parts, source = cell.parts, -1 - number
    inside: set[int] = set()
    for n, part in enumerate(parts):
        if not part.sources or any(s != source and s not in inside for s in part.sources) or not _fits_only(cell, part):
            continue
        if n in cell.outputs:
            return
        inside.add(n)
        loose = [m for m in (source, *inside) if _is_read_outside(parts, m, inside)]
        if len(loose) == 1 and loose[0] == n and (part.level is not None or _has_weights(parts, inside)):
            text = "" if part.caption.sort == "skip" else part.caption.text
            if len(inside) > 1:
                text = "1×1 convs" + (
                    "" if shapes[part.outputs[0]][1:] == shapes[cell.level.inputs[number]][1:] else " /2"
                )
            cell.adapters[number] = (n, text)
            cell.hidden |= inside
            return


def _fits_only(cell: Cell, part: Part) -> bool:
    plain = (ops.BatchNorm, ops.GroupNorm, ops.Activation, ops.Pad, ops.Concat, ops.Resize, ops.Slice)

    def fits(step: Step) -> bool:
        operation = step.operation
        window = isinstance(operation, (ops.Conv, ops.AvgPool)) and operation.kernel == (1, 1)
        return window or isinstance(operation, plain)

    owner = part.owner
    own = owner is cell.level or (owner is not None and all(map(fits, owner.operations())))
    return own and all(map(fits, part.steps))


def _has_weights(parts: list[Part], inside: set[int]) -> bool:
    return any(isinstance(s.operation, ops.Conv) for n in inside for s in parts[n].steps)


def _is_read_outside(parts: list[Part], n: int, inside: set[int]) -> bool:
    return any(n in p.sources for m, p in enumerate(parts) if m not in inside)


def value_key(cell: Cell) -> Hashable:
    """Equal for the same block at other widths, sizes and strides."""
    block = cell.level.block
    try:
        value: Hashable = hash(block) if block is not None else id(cell)
    except TypeError:
        value = id(block)
    inner = sum(p.level is not None and p.owner is not cell.level for p in cell.parts)
    boxes = sum(n not in cell.hidden and not p.join for n, p in enumerate(cell.parts))
    return ("value", type(block), value, inner or boxes)


def structure_key(cell: Cell) -> Hashable:
    """Equal for cells that look the same."""
    instead = {n: -1 - i for i, (n, _) in cell.adapters.items()}
    rows = tuple(
        (n, p.join, plain(p.caption.text), tuple(instead.get(s, s) for s in p.sources))
        for n, p in enumerate(cell.parts)
        if n not in cell.hidden
    )
    first = rows[0][0] if rows else 0
    return (
        "structure",
        type(cell.level.block),
        tuple((n - first, *rest) for n, *rest in rows),
        tuple(n - first for n in cell.outputs),
    )


def stride_of(cell: Cell, shapes: list[Shape]) -> float:
    """By how much it makes the image smaller."""
    given = max((shapes[v][1] for v in cell.level.inputs if len(shapes[v]) == 3), default=1)
    made = min((shapes[v][1] for v in cell.level.outputs if len(shapes[v]) == 3), default=given)
    return given / made
