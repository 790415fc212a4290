"""Plans of progressive shrinking: which options are open when.

Reference:
    Cai et al. (2020), "Once-for-All", arXiv 1908.09791, section 3.3; epochs, learning rates and sub-networks a step are
    those of the authors' code (`train_ofa_net.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from nasturtium.errors import IncompatibleError, InvalidInputError
from nasturtium.graph.operations import Conv, Operation, Resize
from nasturtium.space import Prefix, Space
from nasturtium.space.diagram import Diagram
from nasturtium.space.open_graph import OpenGraph
from nasturtium.space.stated import Statement
from nasturtium.space.structure import Decision

Options = Mapping[str, tuple[int, ...]]
"""Indices of the options that are open, by decision; of a decision that is not named all are."""
Kind = Literal["kernel", "depth", "width", "other"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """A part of a progressive shrinking.

    Args:
        name: For people.
        epochs: At least 1.
        options: Which are open.
        rate: Peak learning rate, relative to that of the recipe.
        warmup: Share of the phase's steps over which the learning rate rises, in [0, 1).
        paths: Sub-networks drawn in each step.
        sort: Whether channels are sorted by importance before the phase; prefixes that the phase before had stay.
        distill: Weight of the teacher's loss, at least 0; without effect in the first phase unless the teacher is
            "step".
        teacher: "first": the largest network as the first phase left it. "step": the largest network in its present
            state, whose outputs in this step teach the others ("inplace distillation"); needs `sandwich`.
        sandwich: Whether each step also trains the largest network of the space and the smallest that is open.
    """

    name: str
    epochs: int
    options: Options = field(default_factory=dict)
    rate: float = 1.0
    warmup: float = 0.0
    paths: int = 1
    sort: bool = False
    distill: float = 1.0
    teacher: Literal["first", "step"] = "first"
    sandwich: bool = False

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.paths < (0 if self.sandwich else 1):
            raise InvalidInputError(
                f"Phase {self.name!r} must have epochs and sub-networks a step, got epochs={self.epochs!r} and "
                f"paths={self.paths!r}."
            )
        if not self.rate > 0 or not 0 <= self.warmup < 1 or not self.distill >= 0:
            raise InvalidInputError(
                f"Phase {self.name!r} must have `rate` above 0, `warmup` in [0, 1) and `distill` of 0 or more, got "
                f"{self.rate!r}, {self.warmup!r} and {self.distill!r}."
            )
        if self.teacher not in ("first", "step") or (self.teacher == "step" and not self.sandwich):
            raise InvalidInputError(
                f"Phase {self.name!r}: `teacher` must be 'first', or 'step' with `sandwich=True`, got {self.teacher!r}."
            )

    def check(self, space: Space) -> None:
        """Raise where the options are not those of a space.

        Raises:
            UnknownNameError: there is no such decision.
            InvalidInputError: an index is out of range, or a decision has none.
        """
        for name, indices in self.options.items():
            count = space.decision(name).count
            if not indices or not all(0 <= index < count for index in indices):
                raise InvalidInputError(
                    f"Phase {self.name!r} must open indices below {count} of {name!r}, at least one, got {indices!r}."
                )

    def smallest(self, space: Space) -> dict[str, int]:
        """Index of each decision in the smallest network that is open."""
        found = {}
        for decision in space.decisions:
            indices = self.options.get(decision.name, tuple(range(decision.count)))
            sizes = _numbers(decision)
            found[decision.name] = indices[0] if sizes is None else min(indices, key=lambda i: sizes[i])
        return found

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        options = {name: list(indices) for name, indices in self.options.items()}
        return {name: getattr(self, name) for name in self.__slots__} | {"options": options}


def largest_options(space: Space) -> dict[str, tuple[int, ...]]:
    """For each decision the index of its largest option; of options that are no numbers, of the first."""
    found: dict[str, tuple[int, ...]] = {}
    for decision in space.decisions:
        sizes = _numbers(decision)
        found[decision.name] = (0 if sizes is None else max(range(decision.count), key=lambda i: sizes[i]),)
    return found


def _numbers(decision: Decision) -> list[float] | None:
    """Its options, where all are numbers."""
    options = decision.options
    if not all(isinstance(o, (int, float)) and not isinstance(o, bool) for o in options):
        return None
    return [float(o) for o in options]  # type: ignore[arg-type]


def kind_of(decision: Decision) -> Kind:
    """What a decision is, as far as its space tells: a depth, by its name a kernel, or another number (a width).

    A depth is the length of a `repeat`. A resolution, by its name, and options that are no numbers are of kind "other",
    open from the start. `kinds_of` goes by what decisions do instead, whatever their names.
    """
    last = decision.name.rpartition(".")[2]
    if _numbers(decision) is None:
        return "other"
    if _is_length(decision):
        return "depth"
    return "other" if last == "resolution" else "kernel" if last == "kernel" else "width"


def kinds_of(graph: OpenGraph) -> Callable[[Decision], Kind]:
    """What each decision of a graph is, by what it does there.

    Of decisions between numbers, the length of a `repeat` is a depth; what the kernel of a convolution depends on is a
    kernel; what a resized image's size depends on is of kind "other", and all others are widths.

    Args:
        graph: Of the space.

    Raises:
        TraceError: an architecture cannot be traced.
    """
    names = [decision.name for decision in graph.decisions]
    kernels = {names[p] for f in _by_path(graph, Conv, lambda o: o.kernel) for p in _telling(f)}
    sizes = {names[p] for f in _by_path(graph, Resize, lambda o: o.size) for p in f.support}

    def kind(decision: Decision) -> Kind:
        if _numbers(decision) is None:
            return "other"
        if _is_length(decision):
            return "depth"
        if decision.name in kernels:
            return "kernel"
        return "other" if decision.name in sizes else "width"

    return kind


def _is_length(decision: Decision) -> bool:
    return any(isinstance(node.source, Prefix) for node in decision.nodes)


def _by_path(graph: OpenGraph, kind: type[Operation], value: Callable[[Any], Hashable]) -> list[Diagram]:
    """For each path of closed networks the values of the operations of a kind there, as a function of decisions.

    A value is a set, empty where no such operation stands.
    """
    found: dict[str, list[Statement]] = {}
    for statement in graph.statements:
        if isinstance(statement.form.operation, kind):
            found.setdefault(statement.form.path, []).append(statement)
    return [
        graph.record.diagrams.combine(
            lambda *times, here=here: frozenset(value(s.form.operation) for s, n in zip(here, times, strict=True) if n),
            *[s.times for s in here],
        )
        for here in found.values()
    ]


def _telling(function: Diagram) -> set[int]:
    """Positions of the decisions that tell values apart, rather than whether there are any."""
    found: set[int] = set()
    waiting, known = [function], set()
    while waiting:
        part = waiting.pop()
        if part.is_leaf or part.number in known:
            continue
        known.add(part.number)
        waiting.extend(part.children)
        outcomes = {frozenset(child.leaves()) - {frozenset()} for child in part.children} - {frozenset()}
        if len(outcomes) > 1:
            found.add(part.variable)
    return found


STAGES: tuple[tuple[str, Kind | None, bool, int, int, float, int], ...] = (
    ("full", None, True, 180, 0, 2.6, 1),
    ("kernel", "kernel", True, 120, 5, 0.96, 1),
    ("depth 1", "depth", False, 25, 5, 0.08, 2),
    ("depth 2", "depth", True, 120, 5, 0.24, 2),
    ("width 1", "width", False, 25, 5, 0.08, 4),
    ("width 2", "width", True, 120, 5, 0.24, 4),
)
"""Name, kind of decision that opens, whether all its options (else the two largest), epochs, warm-up epochs, peak
learning rate at a batch of 2,048, and sub-networks a step: the published training."""


def shrinking_phases(
    space: Space,
    *,
    epochs: int = 615,
    distill: float = 1.0,
    sandwich: bool = False,
    kinds: Callable[[Decision], Kind] = kind_of,
    paths: Mapping[str, int] | None = None,
    rates: Mapping[str, float] | None = None,
) -> tuple[Phase, ...]:
    """The plan of Once-for-All for a space: the largest network, then kernels, depths and widths.

    A phase that would open nothing (no decision of the kind, or none with a third option) is left out; its epochs go to
    the others.

    Args:
        space: With decisions that are numbers.
        epochs: Of the whole, 615 in the authors' code; phases have their shares of it, each at least 1.
        distill: Weight of the teacher's loss.
        sandwich: Whether the steps after the first phase also train the largest and the smallest network.
        kinds: What each decision is, by its name or, as `kinds_of(graph)` has it, by what it does; those of kind
            "other" are open from the start.
        paths: Sub-networks a step of phases by name, instead of the authors' 1, 1, 2, 2, 4, 4.
        rates: Learning rates of phases by name, relative to the recipe's, instead of the authors' (relative to that of
            the largest network's training: 1, 0.37, 0.03, 0.09, 0.03, 0.09).

    Raises:
        IncompatibleError: no decision of the space is elastic.
        InvalidInputError: fewer epochs than phases.
    """
    by_kind: dict[str, list[Decision]] = {"kernel": [], "depth": [], "width": [], "other": []}
    for decision in space.decisions:
        if decision.count > 1:
            by_kind[kinds(decision)].append(decision)
    if not any(by_kind[kind] for kind in ("kernel", "depth", "width")):
        raise IncompatibleError(
            "Progressive shrinking needs decisions that are numbers: a kernel, a depth (`repeat(..., one_of(2, 3))`) "
            "or a width. This space has none: train single paths, or give `kinds`."
        )
    largest = largest_options(space)
    options = {d.name: largest[d.name] for kind in ("kernel", "depth", "width") for d in by_kind[kind]}
    planned: list[tuple[str, Options, int, int, float, int]] = []
    for name, kind, whole, long, warm, rate, count in STAGES:
        before = dict(options)
        for decision in by_kind.get(kind or "", []):
            options[decision.name] = tuple(range(decision.count)) if whole else _two_largest(decision)
        if kind is None or (options != before and (whole or any(d.count > 2 for d in by_kind[kind]))):
            planned.append((name, dict(options), long, warm, rate, count))
        else:
            options = before
    lengths = _shares([long + warm for _, _, long, warm, _, _ in planned], epochs)
    reference = STAGES[0][5]
    return tuple(
        Phase(
            name=name, epochs=length, options=opened, rate=(rates or {}).get(name, rate / reference),
            warmup=warm / (long + warm), paths=(paths or {}).get(name, count), sort=name.startswith("width"),
            distill=distill, sandwich=sandwich and name != "full",
        )
        for (name, opened, long, warm, rate, count), length in zip(planned, lengths, strict=True)
    )  # fmt: skip


def _two_largest(decision: Decision) -> tuple[int, ...]:
    sizes = _numbers(decision)
    assert sizes is not None
    return tuple(sorted(sorted(range(decision.count), key=lambda i: sizes[i])[-2:]))


def _shares(weights: Sequence[int], total: int) -> list[int]:
    """Whole numbers in proportion to the weights that add up to the total, each at least 1."""
    if total < len(weights):
        raise InvalidInputError(f"A plan of {len(weights)} phases needs as many epochs at least, got {total!r}.")
    left, rest, found = total, sum(weights), []
    for number, weight in enumerate(weights):
        fair = round(left * weight / rest)
        found.append(min(max(1, fair), left - (len(weights) - number - 1)))
        left, rest = left - found[-1], rest - weight
    return found
