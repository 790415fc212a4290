"""The outline of a network, as people draw one: a column of units with runs of equal ones collapsed, and its cells.

What a unit is follows from the structure. A block that only runs others after each other is not drawn itself, its
parts are; a block with branches inside is a cell, a unit of the outline with a figure of its own; anything else is a
unit that its caption tells.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, replace
from itertools import pairwise

from nasturtium.graph import operations as ops
from nasturtium.graph.captions import Sort, caption, label_of, plain, words
from nasturtium.graph.cells import Cell, is_pyramid, set_adapter, stride_of, structure_key, title_of, value_key
from nasturtium.graph.levels import Level, Record
from nasturtium.graph.operations import Shape
from nasturtium.graph.parts import Part, Parts, parts_of, scope_name

MOST_PARTS, MOST_CELLS, MOST_FIGURES = 48, 8, 4
"""Parts of one figure: blocks inside stay closed beyond. Cells of a network that are all drawn; of more, only so
many of those made of blocks are, the most frequent first."""


@dataclass(slots=True, eq=False)
class Unit:
    """One box of the outline."""

    part: Part
    title: str
    sort: Sort
    known: bool
    shape: Shape
    sources: list[int]
    """Numbers of the units that it reads; negative: inputs."""
    cell: Cell | None = None
    count: int = 1
    is_side: bool = False
    """Whether it serves training alone."""
    levels: int = 1
    """Resolutions of what it makes."""
    is_residual: bool = False
    """Whether its input is added to, or concatenated with, its output beside it."""
    members: list[Part] = field(default_factory=list)


@dataclass(slots=True)
class Outline:
    """Units from the input on, and the cells to draw beside; a network that is no column is one cell."""

    units: list[Unit]
    cells: list[Cell]
    single: list[Unit]
    """The units with their runs not collapsed."""
    hidden: int = 0
    """Cells that are too many to be drawn."""


def outline(record: Record) -> Outline:
    """The outline of a network."""
    look = _Look(record)
    root = record.root
    if look.role(root) != "chain":
        names = ["input" if len(record.inputs) == 1 else record.inputs[v] for v in root.inputs]
        return Outline([], [look.cell(root, "", names)], [])
    found = parts_of(record, root, look.is_chain, scopes=True)
    sides = _sides(found)
    units = [look.unit(part, number in sides) for number, part in enumerate(found.parts)]
    units = _without_ways(units, _ways(found.parts))
    look.name_cells(units)
    single = _dressed(units)
    cells = list(dict.fromkeys(u.cell for u in single if u.cell is not None))
    return Outline(_collapsed([replace(u, members=list(u.members)) for u in single]), cells, single, look.hidden)


class _Look:
    """Decides what is a chain, a cell, or a unit; every level is looked at once."""

    def __init__(self, record: Record) -> None:
        self.record = record
        self.shapes = record.shapes
        self.roles: dict[int, str] = {}
        self.cells: dict[Hashable, Cell] = {}
        self.hidden = 0

    def role(self, level: Level) -> str:
        """One of "chain", "cell" and "unit"."""
        found = self.roles.get(id(level))
        if found is None:
            found = self.roles[id(level)] = self._role(level)
        return found

    def is_chain(self, level: Level) -> bool:
        """Whether it only runs others after each other."""
        return self.role(level) == "chain"

    def _role(self, level: Level) -> str:
        is_root = level is self.record.root
        steps = list(level.operations())
        named = bool(label_of(level)) or caption(steps, self.shapes, level).known
        if not steps or (named and not is_root):
            return "unit"
        found = parts_of(self.record, level, lambda _: False, scopes=True)
        if len(level.inputs) > 1 and _is_skip_sum(found.parts):
            return "chain"
        if any(step.level is not None for step in level.steps):
            return "chain" if _is_spine(found) and (is_root or not _is_small_sum(found)) else "cell"
        flat = parts_of(self.record, level, lambda _: False).parts
        joins = len(flat) > 2 and any(p.join for p in flat)
        if _is_spine(found) and (_repeats(found) or (is_root and not joins)):
            return "chain"
        return "cell" if joins or _is_branchy(flat) else "unit"

    def expands(self, level: Level) -> bool:
        """Whether the figure of a cell looks inside a called block."""
        if label_of(level):
            return False
        calls = any(step.level is not None for step in level.steps)
        return len(level.inputs) > 1 or (calls and not caption(list(level.operations()), self.shapes, level).known)

    def cell(self, level: Level, title: str, names: list[str]) -> Cell:
        """The figure of a level; `names` are those of its inputs."""
        shapes = self.shapes
        found = parts_of(self.record, level, lambda _: False)
        pyramid = is_pyramid(level, found.parts, self.record)
        if not pyramid:
            opened = parts_of(self.record, level, self.expands)
            found = opened if len(opened.parts) <= MOST_PARTS else found
        made = Cell(level, title, found.parts, names, found.outputs, is_pyramid=pyramid)
        if len(level.inputs) > 1:
            for i in range(len(level.inputs)):
                set_adapter(made, i, shapes)
        return made

    def unit(self, part: Part, is_side: bool) -> Unit:
        """The unit of a part of the outline."""
        level = part.level
        text, sort, known = part.caption
        scope = words(scope_name(level))
        if level is not None and known and scope and "." not in level.name and scope.lower() not in text.lower():
            text = f"{scope}: {text}"
        cell = None
        if level is not None and self.role(level) == "cell":
            cell = self._known_cell(level)
            cell.places += 1
        out = (part.outputs or part.inputs)[-1]
        unit = Unit(part, text, sort, known, self.shapes[out], part.sources, cell, is_side=is_side, members=[part])
        unit.levels = len({self.shapes[v][1:] for v in part.outputs})
        steps = part.steps
        unit.is_residual = len(part.inputs) == 1 and any(
            isinstance(s.operation, ops.Add) and part.inputs[0] in s.inputs for s in steps
        )
        return unit

    def _known_cell(self, level: Level) -> Cell:
        made = self.cell(level, "", ["input"] * len(level.inputs))
        for key in (value_key(made), structure_key(made)):
            known = self.cells.get(key)
            if known is not None:
                if len(level.inputs) > len(known.level.inputs) or stride_of(known, self.shapes) > stride_of(
                    made, self.shapes
                ):
                    known.level, known.parts, known.inputs = made.level, made.parts, made.inputs
                    known.outputs, known.adapters, known.hidden = made.outputs, made.adapters, made.hidden
                return known
        self.cells[value_key(made)] = self.cells[structure_key(made)] = made
        return made

    def name_cells(self, units: list[Unit]) -> None:
        """Titles of the cells, and names of their inputs: what the outline calls those that make them."""
        cells = self.chosen(units)
        for named in (title_of, self.longer_title):
            for same in _alike(cells, named):
                for letter, cell in zip("ABCDEFGHIJKLMNOPQRSTUVWXYZ", same, strict=False):
                    cell.title = named(cell) if len(same) == 1 else f"{named(cell)} {letter}"
            cells = [cell for same in _alike(cells, named) if len(same) > 1 for cell in same]
        done: set[Cell] = set()
        for typical in (True, False):
            for number, unit in enumerate(units):
                if unit.cell is None or unit.cell in done or len(unit.sources) != len(unit.cell.inputs):
                    continue
                names = [_input_name(units, number, source) for source in unit.sources]
                if not typical or all("cell" in n for n in names):
                    keys = [unit.cell.level.keys.get(v, "") for v in unit.cell.level.inputs]
                    shapes = [self.shapes[v] for v in unit.part.inputs]
                    unit.cell.inputs = keys if all(keys) else _distinct(names, shapes)
                    done.add(unit.cell)
        strides: dict[Cell, set[bool]] = {}
        for unit in units:
            if unit.cell is not None:
                strides.setdefault(unit.cell, set()).add(_halves(unit, self.shapes))
        for unit in units:
            if unit.cell is not None:
                strided = len(strides[unit.cell]) > 1 and _halves(unit, self.shapes)
                unit.title, unit.sort, unit.known = unit.cell.title + (" /2" if strided else ""), "other", True
                unit.is_residual = False

    def longer_title(self, cell: Cell) -> str:
        """The title with what tells it from others of its name."""
        text = plain(caption(list(cell.level.operations()), self.shapes, cell.level).text)
        return text if text.startswith(title_of(cell)) else title_of(cell)

    def chosen(self, units: list[Unit]) -> list[Cell]:
        """The cells worth a figure: those made of blocks; of those made of operations only, if they are few."""
        cells = list(dict.fromkeys(u.cell for u in units if u.cell is not None))
        made = [c for c in cells if any(s.level is not None for s in c.level.steps)]
        made.sort(key=lambda c: -c.places)
        kept = cells if len(cells) <= MOST_CELLS else made[:MOST_FIGURES]
        self.hidden = len(cells) - len(kept)
        for unit in units:
            if unit.cell not in kept:
                unit.cell = None
        return kept


def _alike(cells: list[Cell], named: Callable[[Cell], str]) -> list[list[Cell]]:
    """Cells of one title together, the most frequent first."""
    groups: dict[str, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(named(cell), []).append(cell)
    return [sorted(same, key=lambda c: -c.places) for same in groups.values()]


def _halves(unit: Unit, shapes: list[Shape]) -> bool:
    given = [shapes[v][1] for v in unit.part.inputs[:2] if len(shapes[v]) == 3]
    return len(unit.shape) == 3 and bool(given) and min(given) > unit.shape[1]


def _is_spine(found: Parts) -> bool:
    """Whether each part reads the one before it, leaving aside what serves training alone."""
    sides = _sides(found)
    before: int | None = None
    for number, part in enumerate(found.parts):
        if number in sides:
            continue
        if before is not None and before not in part.sources:
            return False
        before = number
    return True


def _is_small_sum(found: Parts) -> bool:
    """Whether few parts end in a sum with what they began with: a residual block made of blocks."""
    return len(found.parts) <= 8 and any(p.join and min(p.sources) < n - 2 for n, p in enumerate(found.parts))


def _is_skip_sum(parts: list[Part]) -> bool:
    """Whether it adds earlier values, or zeros in their place, to one part's output."""
    ways = _ways(parts)
    rest = [p for n, p in enumerate(parts) if n not in ways]
    return 0 < len(rest) <= 2 and bool(rest[-1].join) and (len(rest) == 1 or len(set(rest[0].inputs)) == 1)


def _ways(parts: list[Part]) -> set[int]:
    """Parts that only bring an earlier value, or zeros, to a sum that has something else as well."""
    ways = {n for n, p in enumerate(parts) if p.caption.sort in ("none", "skip")}
    joined = {s for p in parts if p.join == "+" and not set(p.sources) <= ways for s in p.sources}
    return ways & joined


def _without_ways(units: list[Unit], ways: set[int]) -> list[Unit]:
    """The units without these; what read one that only passes a value on reads that value."""
    number: dict[int, int] = {}
    kept: list[Unit] = []
    for n, unit in enumerate(units):
        unit.sources = [number.get(s, s) for s in unit.sources if s not in ways or s in number]
        if n not in ways:
            number[n] = len(kept)
            kept.append(unit)
        elif unit.sort == "skip" and unit.sources:
            number[n] = unit.sources[0]
    return kept


def _repeats(found: Parts) -> bool:
    """Whether scopes with the same operations follow each other: layers of a stage that no block names."""
    kinds = [
        tuple(type(s.operation) for s in p.steps) for p in found.parts if p.level is not None and p.level.block is None
    ]
    return any(a == b and len(a) > 3 for a, b in pairwise(kinds))


def _sides(found: Parts) -> set[int]:
    """Parts that lead to no output but those for training only."""
    training = {v for p in found.parts for s in p.steps if isinstance(s.operation, ops.TrainingOnly) for v in s.outputs}
    needed = set(found.values) - training
    sides: set[int] = set()
    ways = _ways(found.parts)
    for number in range(len(found.parts) - 1, -1, -1):
        part = found.parts[number]
        if number in ways:
            sides.add(number)
        elif needed & set(part.outputs):
            needed.update(part.inputs)
        else:
            sides.add(number)
    return sides if len(sides) < len(found.parts) else set()


def _is_branchy(parts: list[Part]) -> bool:
    """Whether values are joined otherwise than by a shortcut of one of them."""
    for part in parts:
        sources = list(dict.fromkeys(part.sources))
        if not part.join or len(sources) < 2:
            continue
        if len(sources) > 2:
            return True
        a, b = sources
        if part.join == "concat" and min(a, b) < 0:
            continue
        if part.join == "concat" or (not _is_shortcut(parts, a, b) and not _is_shortcut(parts, b, a)):
            return True
    return False


def _is_shortcut(parts: list[Part], side: int, other: int) -> bool:
    """Whether a side of a sum is what the other side was made of, at most pooled or through 1x1 convolutions."""
    before: set[int] = set()
    waiting = [other]
    while waiting:
        n = waiting.pop()
        if n not in before:
            before.add(n)
            waiting += parts[n].sources if n >= 0 else []
    while side not in before:
        part = parts[side]
        if part.caption.sort not in ("pointwise", "avg pool", "max pool", "none") or len(part.sources) != 1:
            return False
        side = part.sources[0]
    return True


def _input_name(units: list[Unit], number: int, source: int) -> str:
    if source < 0:
        return "input"
    maker = units[source]
    if maker.cell is None:
        return plain(maker.title.partition(":")[0]).lower()
    if maker.cell.places == 1:
        return maker.cell.title.lower()
    order = [n for n in range(number) if units[n].cell is not None]
    if source == order[-1]:
        return "previous cell"
    return "cell before" if len(order) > 1 and source == order[-2] else maker.cell.title.lower()


def _distinct(names: list[str], shapes: list[Shape]) -> list[str]:
    """Names of inputs; with the size where several come from one place."""
    if len(names) == 1:
        return ["input"]
    if len(set(names)) == len(names):
        return names
    return [f"{name}, {shape[1]} px" if len(shape) == 3 else name for name, shape in zip(names, shapes, strict=True)]


def _dressed(units: list[Unit]) -> list[Unit]:
    """Without the sums and concatenations that join a unit's output with its own input: they belong to the unit."""
    kept: list[Unit] = []
    number: dict[int, int] = {}
    for n, unit in enumerate(units):
        sources = [number.get(s, s) for s in unit.sources]
        before = kept[-1] if kept else None
        if unit.part.join and before is not None and len(kept) - 1 in sources:
            others = [s for s in sources if s != len(kept) - 1]
            if all(s in before.sources for s in others) or unit.part.join == "+":
                before.is_residual = before.is_residual or all(s in before.sources for s in others)
                before.sources = list(dict.fromkeys([*before.sources, *others]))
                before.shape = unit.shape
                before.members.append(unit.part)
                number[n] = len(kept) - 1
                continue
        unit.sources = sources
        number[n] = len(kept)
        kept.append(unit)
    return kept


def _collapsed(units: list[Unit]) -> list[Unit]:
    """Runs of equal neighbours are one unit with a count."""
    kept: list[Unit] = []
    number: dict[int, int] = {}
    for n, unit in enumerate(units):
        before = kept[-1] if kept else None
        if before is not None and _same(before, unit):
            before.count += 1
            before.members += unit.members
            before.shape = unit.shape
            before.sources += [number[s] for s in unit.sources if s >= 0 and number[s] != len(kept) - 1]
            number[n] = len(kept) - 1
            continue
        unit.sources = [number[s] if s >= 0 else s for s in unit.sources]
        number[n] = len(kept)
        kept.append(unit)
    for unit in kept:
        unit.sources = list(dict.fromkeys(unit.sources))
    return kept


def _same(a: Unit, b: Unit) -> bool:
    same_size = a.shape == b.shape or (_grows(b) and a.shape[1:] == b.shape[1:])
    return (
        same_size
        and (a.cell, a.title, a.sort, a.is_residual, a.is_side) == (b.cell, b.title, b.sort, b.is_residual, b.is_side)
        and len(a.part.steps) > 0
        and not a.is_side
    )


def _grows(unit: Unit) -> bool:
    """Whether its input is concatenated with what it makes of that."""
    last = unit.members[-1].steps[-1]
    return isinstance(last.operation, ops.Concat) and unit.part.inputs[0] in last.inputs
