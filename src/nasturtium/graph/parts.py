"""The parts of a level that a drawing shows: one box an operation as people count them, one circle a sum.

A convolution with its norm and activation is one part; so are the depthwise and 1x1 convolutions of a separable one,
and the operations of a gate. What a called block does is one part too, or several where the drawing looks inside.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from nasturtium.graph import operations as ops
from nasturtium.graph.captions import JOINS, QUIET, Caption, Sort, caption, sort_of
from nasturtium.graph.levels import Level, Record, Step, by_scope, scope_of
from nasturtium.graph.memory import is_depthwise

NOTHING = Caption("", "other")

HEAD: frozenset[Sort] = frozenset({"avg pool", "max pool", "classifier"})
"""Sorts that a linear layer makes a classifier of."""


@dataclass(slots=True, eq=False)
class Part:
    """A box or a circle of a drawing."""

    path: str
    steps: list[Step]
    """All its operations, however deep."""
    inputs: list[int]
    outputs: list[int]
    level: Level | None = None
    """The called block that it is, if it is one."""
    owner: Level | None = None
    """The block whose `forward` it stands in."""
    caption: Caption = NOTHING
    sources: list[int] = field(default_factory=list)
    """Numbers of the parts that it reads, in order; an input of the level has the number -1 - its place."""

    @property
    def join(self) -> str:
        """One of "+", "×" and "concat" where it joins several values, else nothing."""
        if self.level is not None or len(set(self.inputs)) < 2:
            return ""  # so many values come from outside
        kinds = {type(s.operation) for s in self.steps if isinstance(s.operation, JOINS)}
        if len(kinds) != 1 or sum(not isinstance(s.operation, QUIET) for s in self.steps) != 1:
            return ""
        return {ops.Add: "+", ops.Multiply: "×", ops.Concat: "concat"}[kinds.pop()]


class Parts(NamedTuple):
    """The parts of a level in order of execution."""

    parts: list[Part]
    values: list[int]
    """The values that the level returns."""
    outputs: list[int]
    """Numbers of the parts that make them; an input of the level has the number -1 - its place."""


def parts_of(record: Record, level: Level, expand: Callable[[Level], bool], *, scopes: bool = False) -> Parts:
    """The parts of a level in order of execution.

    Args:
        record: The network.
        level: The level.
        expand: Whether to look inside a called block.
        scopes: Whether steps under one scope are one part, as in the outline of a network.
    """
    alias: dict[int, int] = {}
    source = record if scopes else None
    parts = [p for p in _unmerged(level, "", expand, alias, source) if not _is_truncation(p, record, alias)]
    work = _Merging(record, [_resolved(p, alias) for p in parts], [_find(alias, v) for v in level.outputs])
    work.followers()
    if scopes:
        work.heads()
    else:
        work.gates()
        work.reductions()
        work.splits()
        work.pairs()
    parts = work.parts
    place = {v: -1 - i for i, v in enumerate(level.inputs)}
    for number, part in enumerate(parts):
        part.caption = caption(part.steps, record.shapes, part.level, scope_name(part.level) if scopes else "")
        part.sources = [place[v] for v in part.inputs if v in place]
        place.update(dict.fromkeys(part.outputs, number))
    outputs = [_find(alias, v) for v in level.outputs]
    return Parts(parts, outputs, [place[v] for v in dict.fromkeys(outputs) if v in place])


def _unmerged(
    level: Level, prefix: str, expand: Callable[[Level], bool], alias: dict[int, int], grouping: Record | None
) -> list[Part]:
    """One part a step, with those of the blocks that are looked into; `grouping`: by scope, in this record."""
    found: list[Part] = []
    for step in (level if grouping is None else by_scope(grouping, level)).steps:
        path = prefix + step.path
        inner = step.level
        if inner is None:
            found.append(Part(path, [step], list(step.inputs), list(step.outputs), owner=level))
        elif expand(inner):
            alias.update((a, b) for a, b in zip(inner.inputs, step.inputs, strict=True) if a != b)
            found += _unmerged(inner, path + ".", expand, alias, grouping)
            alias.update((a, b) for a, b in zip(step.outputs, inner.outputs, strict=True) if a != b)
        else:
            outputs = list(dict.fromkeys(step.outputs))
            if not outputs and not step.inputs:
                continue  # it only hands on what it is given, in a tuple or a dict: nothing to draw
            found.append(Part(path, list(inner.operations()), list(step.inputs), outputs, inner, level))
    return found


def _is_truncation(part: Part, record: Record, alias: dict[int, int]) -> bool:
    """Whether it only drops the last channels so that a sum fits: nothing to draw."""
    operation = part.steps[0].operation if part.steps else None
    if part.level is not None or not isinstance(operation, ops.Slice) or operation.start:
        return False
    if operation.stop * 4 < record.shapes[part.inputs[0]][0] * 3:
        return False
    alias[part.outputs[0]] = part.inputs[0]
    return True


def _resolved(part: Part, alias: dict[int, int]) -> Part:
    part.inputs = [_find(alias, v) for v in part.inputs]
    return part


def _find(alias: dict[int, int], value: int) -> int:
    while value in alias:
        value = alias[value]
    return value


def scope_name(level: Level | None) -> str:
    """The name of a scope without its number; "" for a block."""
    if level is None or level.block is not None:
        return ""
    names = [name for name in level.name.split(".") if not name.isdigit()]
    return names[-1].rstrip("0123456789").rstrip("_") if names else "part"


class _Merging:
    """Joins parts that a reader sees as one."""

    def __init__(self, record: Record, parts: list[Part], outputs: Sequence[int]) -> None:
        self.shapes = record.shapes
        self.parts = parts
        self.outputs = set(outputs)
        self.index()

    def index(self) -> None:
        """Who makes and who reads each value."""
        self.maker = {v: p for p in self.parts for v in p.outputs}
        self.readers: dict[int, list[Part]] = {}
        for part in self.parts:
            for v in dict.fromkeys(part.inputs):
                self.readers.setdefault(v, []).append(part)

    def only_reader(self, part: Part) -> Part | None:
        """The one part that reads this one's one output, if nothing else does."""
        if len(part.outputs) != 1 or part.outputs[0] in self.outputs:
            return None
        readers = self.readers.get(part.outputs[0], [])
        return readers[0] if len(readers) == 1 else None

    def into_earlier(self, earlier: Part, later: Part) -> None:
        """Make two parts one, which stands where the earlier stood."""
        inner = set(earlier.outputs)
        earlier.steps = earlier.steps + later.steps
        earlier.inputs += [v for v in later.inputs if v not in inner and v not in earlier.inputs]
        earlier.outputs = [v for v in earlier.outputs if self._outside(v, later)] + later.outputs
        self.parts.remove(later)
        self.index()

    def into_later(self, earlier: Part, later: Part) -> None:
        """Make two parts one, which stands where the later stood."""
        later.steps = earlier.steps + later.steps
        later.path = earlier.path if later.level is None else later.path
        later.inputs = [w for v in later.inputs for w in (earlier.inputs if v in earlier.outputs else [v])]
        later.outputs = [v for v in earlier.outputs if self._outside(v, later)] + later.outputs
        self.parts.remove(earlier)
        self.index()

    def _outside(self, value: int, merged: Part) -> bool:
        return value in self.outputs or any(p is not merged for p in self.readers.get(value, []))

    def followers(self) -> None:
        """Norms and activations belong to what they follow, or to the convolution that follows them."""
        for part in list(self.parts):
            if not _is_quiet(part) or len(part.inputs) != 1:
                continue
            source = self.maker.get(part.inputs[0])
            if source is not None and source in self.parts and self.only_reader(source) is part:
                self.into_earlier(source, part)
        for part in reversed(list(self.parts)):
            reader = self.only_reader(part)
            if _is_quiet(part) and reader is not None and reader.level is None and not reader.join:
                self.into_later(part, reader)

    def gates(self) -> None:
        """Squeeze-and-excitation: what computes a gate from a value, and the product with that value."""
        for product in list(self.parts):
            if product.level is not None or not isinstance(product.steps[0].operation, ops.Multiply):
                continue
            for gate in product.inputs:
                chain = self._gate_chain(gate, set(product.inputs) - {gate})
                for part in reversed(chain):
                    self.into_later(part, product)
                if chain:
                    product.inputs = list(dict.fromkeys(product.inputs))
                    break

    def _gate_chain(self, gate: int, sources: set[int]) -> list[Part]:
        if self.shapes[gate][1:] not in ((1, 1), ()):
            return []
        chain: list[Part] = []
        value = gate
        while value not in sources:
            part = self.maker.get(value)
            if part is None or part.level is not None or len(part.inputs) != 1 or self.only_reader(part) is None:
                return []
            chain.insert(0, part)
            value = part.inputs[0]
        return chain

    def reductions(self) -> None:
        """1x1 convolutions of one value side by side, concatenated: a factorised reduction."""
        for part in list(self.parts):
            if part.join != "concat" or part.level is not None or not all(v in self.maker for v in part.inputs):
                continue
            sides = [self.maker[v] for v in part.inputs]
            sources = {self._source(side) for side in sides}
            if len(sources) != 1 or not all(self._is_projection(side) for side in sides):
                continue
            for side in reversed(sides):
                self.into_later(side, part)
            part.inputs = list(dict.fromkeys(part.inputs))
            self._take_activation(part)

    def _source(self, part: Part) -> int:
        return part.inputs[0] if len(part.inputs) == 1 else -1

    def _is_projection(self, part: Part) -> bool:
        telling = _telling(part)
        return (
            part.level is None
            and self.only_reader(part) is not None
            and len(telling) == 1
            and isinstance(telling[0].operation, ops.Conv)
            and telling[0].operation.kernel == (1, 1)
        )

    def _take_activation(self, part: Part) -> None:
        source = self.maker.get(part.inputs[0])
        if source is not None and _is_quiet(source) and self.only_reader(source) is part:
            self.into_later(source, part)

    def splits(self) -> None:
        """Several slices of one value are one split."""
        for part in list(self.parts):
            if part not in self.parts or not _is_slice(part):
                continue
            for other in [p for p in self.readers[part.inputs[0]] if p is not part and _is_slice(p)]:
                part.steps = part.steps + other.steps
                part.outputs = part.outputs + other.outputs
                self.parts.remove(other)
        self.index()

    def pairs(self) -> None:
        """A depthwise convolution with the 1x1 convolution after it; two halves of one larger window."""
        for rule in (self._is_separable, self._is_crossed, self._is_turn):
            for part in list(self.parts):
                while part in self.parts:
                    reader = self.only_reader(part)
                    if reader is None or reader.level is not None or part.level is not None or not rule(part, reader):
                        break
                    self.into_earlier(part, reader)

    def _is_separable(self, first: Part, second: Part) -> bool:
        a, b = _telling(first), _telling(second)
        if len(a) != 1 or len(b) != 1 or not isinstance(b[0].operation, ops.Conv):
            return False
        conv = a[0].operation
        return (
            conv is not None
            and is_depthwise(conv, [self.shapes[v] for v in a[0].inputs])
            and b[0].operation.kernel == (1, 1)
        )

    def _is_crossed(self, first: Part, second: Part) -> bool:
        a, b = _telling(first), _telling(second)
        if len(a) != 1 or len(b) != 1:
            return False
        one, two = a[0].operation, b[0].operation
        if not isinstance(one, ops.Conv) or not isinstance(two, ops.Conv):
            return False
        return one.kernel == two.kernel[::-1] and one.kernel[0] != one.kernel[1]

    def _is_turn(self, first: Part, second: Part) -> bool:
        """Whether a separable convolution is done twice under one scope."""
        scope = scope_of(first.steps[0])
        if not scope or scope != scope_of(second.steps[0]):
            return False
        one, two = (caption(p.steps, self.shapes) for p in (first, second))
        return one.sort == two.sort and one.sort in ("separable", "dilated") and one.known and two.known

    def heads(self) -> None:
        """A pooling and the linear layer after it are a classifier."""
        for part in list(self.parts):
            while part in self.parts and part.level is None:
                after = self.only_reader(part)
                if after is None or after.level is not None or not self._is_head(part, after):
                    break
                self.into_earlier(part, after)

    def _is_head(self, part: Part, after: Part) -> bool:
        sorts = {sort_of(s, self.shapes) for s in part.steps}
        linear = any(isinstance(s.operation, ops.Linear) for s in after.steps)
        return linear and bool(sorts & HEAD)


def _is_quiet(part: Part) -> bool:
    quiet = tuple(kind for kind in QUIET if kind is not ops.Slice)
    return part.level is None and all(isinstance(s.operation, quiet) for s in part.steps)


def _is_slice(part: Part) -> bool:
    return part.level is None and all(isinstance(s.operation, ops.Slice) for s in part.steps)


def _telling(part: Part) -> list[Step]:
    return [s for s in part.steps if not isinstance(s.operation, QUIET)]
