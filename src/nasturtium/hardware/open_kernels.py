"""The kernels of a whole space: of every architecture, without going through the architectures.

Exactly by the open graph of the space, where that can be lowered: which operations there are, and which of them become
one kernel, are functions of decisions. Elsewhere by sampling, with the share of fresh architectures that is covered.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

from nasturtium.errors import InvalidInputError, TraceError
from nasturtium.graph.operations import Input, Operation, TrainingOnly
from nasturtium.graph.trace import Inputs, trace
from nasturtium.hardware.kernels import FOLLOWERS, Kernel, kernels, runs
from nasturtium.space import Space
from nasturtium.space.conditions import wilson
from nasturtium.space.diagram import Diagram, Diagrams
from nasturtium.space.lowering import lower
from nasturtium.space.open_graph import Form, OpenGraph
from nasturtium.space.stated import costed, statements

LIMIT = 2_000_000
"""Most nodes of decision diagrams that an exact list may cost."""


class Placed(NamedTuple):
    """A kernel at one place, and when an architecture has it there."""

    kernel: Kernel
    when: Diagram
    """Condition on decisions."""


class NotExactError(InvalidInputError):
    """The kernels of a space cannot be listed from its open graph; sampling can."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelList:
    """The distinct kernels of a space."""

    kernels: tuple[Kernel, ...]
    exact: bool
    """Whether every architecture is covered for certain."""
    coverage: float = 1.0
    """Share of fresh architectures all of whose kernels are listed: 1 where `exact`."""
    interval: tuple[float, float] = (1.0, 1.0)
    """95 % interval of that share."""
    samples: int = 0
    """Architectures drawn for the list; as many fresh ones were drawn for the coverage."""
    reason: str = ""
    """Why it is not exact."""

    @property
    def text(self) -> str:
        """For people."""
        if self.exact:
            return f"{len(self.kernels)} distinct kernels, of all architectures"
        low, high = self.interval
        return (
            f"{len(self.kernels)} distinct kernels, of {self.samples} drawn architectures; they cover "
            f"{self.coverage:.1%} of as many fresh ones (95 % interval {low:.1%} to {high:.1%}), because {self.reason}"
        )


def space_kernels(
    space: Space, inputs: Inputs, *, samples: int = 1000, seed: int = 0, context: Mapping[str, object] | None = None
) -> KernelList:
    """The distinct kernels of the architectures of a space, conditions (`where`) and rows of a table left aside.

    Args:
        space: The space.
        inputs: As for `trace`.
        samples: Architectures drawn where the list cannot be exact: half of them uniform, half hierarchical.
        seed: Of the draw.
        context: What the task tells the network, for example `{"classes": 10}`.

    Raises:
        TraceError: no architecture can be traced.
    """
    given = dict(context or {})
    try:
        graph = lower(space, inputs, **given)  # type: ignore[arg-type]
        found = dict.fromkeys([placed.kernel for placed in open_kernels(graph)])
        return KernelList(kernels=tuple(found), exact=True)
    except (TraceError, NotExactError) as error:
        return _sampled(space, inputs, samples, seed, given, str(error))


def _sampled(
    space: Space, inputs: Inputs, samples: int, seed: int, context: Mapping[str, object], reason: str
) -> KernelList:
    if samples < 2:
        raise InvalidInputError(f"`samples` must be at least 2, got {samples!r}.")
    drawn = _draws(space, inputs, Random(seed), context)
    found: dict[Kernel, None] = {}
    for _ in range(samples):
        found.update(dict.fromkeys(next(drawn)))
    fresh = [next(drawn) for _ in range(samples)]
    covered = sum([all(kernel in found for kernel in each) for each in fresh])
    for each in fresh:
        found.update(dict.fromkeys(each))
    return KernelList(
        kernels=tuple(found),
        exact=False,
        coverage=covered / samples,
        interval=wilson(covered, samples, 0.95),
        samples=samples,
        reason=reason,
    )


def _draws(space: Space, inputs: Inputs, rng: Random, context: Mapping[str, object]) -> Iterator[tuple[Kernel, ...]]:
    """Kernels of one architecture after another."""
    failed = number = 0
    while True:
        number += 1
        sampler = "uniform" if number % 2 else "hierarchical"
        try:
            yield kernels(trace(space.sample(rng, sampler), inputs, **context))  # type: ignore[arg-type]
        except TraceError:
            failed += 1
            if failed >= 1000 and failed > 0.99 * number:
                raise


def open_kernels(graph: OpenGraph, fixed: Mapping[int, int] | None = None) -> tuple[Placed, ...]:
    """Every kernel of every architecture, with when it runs; one entry for each place where it stands.

    For each architecture those whose condition holds are exactly the kernels of its traced graph:
    `kernels(trace(architecture, ...))`.

    Args:
        graph: Of `nasturtium.space.lowering.lower`.
        fixed: Index of decisions, by position, that are decided already.

    Raises:
        TraceError: an architecture cannot be traced.
        NotExactError: a block is called again on the same tensors, so that readers cannot be told apart; or the
            conditions are too many.
    """
    return _Fusing(graph, fixed).run()


class _Stated(NamedTuple):
    """A form of a node, and when it is stated."""

    form: Form
    when: Diagram


class _Fusing:
    """Which operations become one kernel, and when."""

    def __init__(self, graph: OpenGraph, fixed: Mapping[int, int] | None) -> None:
        self.diagrams: Diagrams = graph.record.diagrams
        self.start = self.diagrams.leaf(("start of fusing",)).number
        values = [value for _, value in graph.outputs]
        stated = costed(graph.record, statements(graph.record, fixed), values)
        self.kinds = {s.node.number: s.node.kind for s in stated}
        self.forms: dict[int, dict[Form, Diagram]] = {}
        false = self.diagrams.false
        for node, form, times in stated:
            if any(isinstance(n, int) and n > 1 for n in times.leaves()):
                raise NotExactError(f"`{node.path}` is stated several times on the same tensors")
            here = self.forms.setdefault(node.number, {})
            here[form] = self._either(here.get(form, false), self.diagrams.combine(bool, times))
        self.where = {number: self._any(list(forms.values())) for number, forms in self.forms.items()}
        self.readers: dict[int, list[tuple[int, int, Diagram]]] = {}
        """Reader, number of its input, and when; -1 for the graph's outputs."""
        for number, node in {s.node.number: s.node for s in stated}.items():
            for slot, value in enumerate(node.inputs):
                self._read(number, slot, value, self.where[number])
        for slot, value in enumerate(values):
            self._read(-1, slot, value, self.diagrams.true)

    def _read(self, reader: int, slot: int, value: Diagram, when: Diagram) -> None:
        for read in value.leaves():
            if isinstance(read, int) and read in self.where:
                both = self._both(self._both(when, self.diagrams.equals(value, read)), self.where[read])
                if both is not self.diagrams.false:
                    self.readers.setdefault(read, []).append((reader, slot, both))

    def run(self) -> tuple[Placed, ...]:
        """See `open_kernels`."""
        extensions = {number: self._extensions(number) for number in self.forms}
        fused = dict.fromkeys(self.forms, self.diagrams.false)
        for number, found in extensions.items():
            if self.kinds[number] is not Input:
                for reader, when in found:
                    fused[reader] = self._either(fused[reader], when)
        placed: list[Placed] = []
        for number, forms in self.forms.items():
            if self.kinds[number] in (Input, TrainingOnly):
                continue
            alone = self._not(fused[number])
            for form, when in forms.items():
                for operations, times in self._chains(number, form, self._both(when, alone), extensions):
                    if runs(operations):
                        placed.append(Placed(Kernel.of(operations, form.inputs), times))
        return tuple(placed)

    def _extensions(self, number: int) -> list[tuple[int, Diagram]]:
        """The nodes that become part of a node's kernel, and when: they alone read it."""
        reads = self.readers.get(number, [])
        following = [i for i, (reader, slot, _) in enumerate(reads) if self._follows(reader, slot)]
        if not following:
            return []
        false = self.diagrams.false
        after = [false]
        for _, _, when in reversed(reads):
            after.append(self._either(after[-1], when))
        found, before = [], false
        for place, (reader, slot, when) in enumerate(reads):
            if self._follows(reader, slot):
                others = self._either(before, after[len(reads) - place - 1])
                alone = self._both(when, self._not(others))
                if alone is not false:
                    found.append((reader, alone))
            before = self._either(before, when)
        return found

    def _follows(self, reader: int, slot: int) -> bool:
        return slot == 0 and reader >= 0 and self.kinds[reader] in FOLLOWERS

    def _chains(
        self, number: int, form: Form, when: Diagram, extensions: Mapping[int, list[tuple[int, Diagram]]]
    ) -> Iterator[tuple[tuple[Operation, ...], Diagram]]:
        """Every kernel that begins with a node, and when."""
        stack: list[tuple[int, tuple[Operation, ...], Diagram]] = [(number, (form.operation,), when)]
        while stack:
            at, operations, here = stack.pop()
            if here is self.diagrams.false:
                continue
            rest = here
            for reader, alone in extensions[at]:
                both = self._both(here, alone)
                if both is self.diagrams.false:
                    continue
                rest = self._both(rest, self._not(alone))
                for following, stated in self.forms[reader].items():
                    stack.append((reader, (*operations, following.operation), self._both(both, stated)))
            if rest is not self.diagrams.false:
                yield operations, rest

    def _any(self, conditions: list[Diagram]) -> Diagram:
        found = self.diagrams.false
        for condition in conditions:
            found = self._either(found, condition)
        return found

    def _either(self, a: Diagram, b: Diagram) -> Diagram:
        return self._check(self.diagrams.where(a, self.diagrams.true, b))

    def _both(self, a: Diagram, b: Diagram) -> Diagram:
        return self._check(self.diagrams.both(a, b))

    def _not(self, a: Diagram) -> Diagram:
        return self.diagrams.where(a, self.diagrams.false, self.diagrams.true)

    def _check(self, made: Diagram) -> Diagram:
        if made.number - self.start > LIMIT:
            raise NotExactError(f"the conditions on its decisions take over {LIMIT:,} steps")
        return made
