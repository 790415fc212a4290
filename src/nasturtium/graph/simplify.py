"""The normal form of a graph: what it computes, without what does not matter for that.

Dead branches and identities are gone, exact zeros are pruned, nested sums are one sum, and values that are the same
are one value. Two operations with weights, statistics or randomness are the same only if they are tied (one path) and
read the same input. Only rules that hold for every value of the weights are applied.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from nasturtium.graph import operations as ops
from nasturtium.graph.operations import Operation, Shape

if TYPE_CHECKING:
    from nasturtium.graph.graph import Graph

Terms = frozenset[tuple[int, int]]
"""A sum: (value, how often it is added)."""

CHANNELWISE = (
    ops.BatchNorm, ops.Activation, ops.MaxPool, ops.AvgPool, ops.GlobalPool, ops.AdaptiveAvgPool, ops.Dropout,
    ops.DropPath, ops.Pad, ops.Resize, ops.Flatten,
)  # fmt: skip
"""Operations that treat every channel alike and apart, up to their weights."""

KEEPS_ZERO = (
    ops.MaxPool, ops.AvgPool, ops.GlobalPool, ops.AdaptiveAvgPool, ops.Flatten, ops.Slice, ops.Shuffle, ops.Pad,
    ops.Resize, ops.Dropout, ops.DropPath,
)  # fmt: skip
"""Operations without weights that make zeros of zeros."""

NOT_ZERO_AT_ZERO = ("sigmoid", "hardsigmoid")
IDEMPOTENT = ("relu", "relu6")


class Value(NamedTuple):
    """One value of the normal form."""

    label: str
    """The operation with its settings; for an input its position, for a zero its shape."""
    ordered: bool
    """Whether the order of the inputs matters."""
    inputs: tuple[int, ...]
    """Numbers of earlier values, as often as they count; sorted where the order does not matter."""
    weights: str
    """Path of its weights, statistics or randomness; empty where it has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """Values in an order of execution, every one of which some output needs."""

    values: tuple[Value, ...]
    outputs: tuple[int, ...]

    @property
    def ties(self) -> tuple[tuple[int, ...], ...]:
        """Values that share their weights, in groups of two or more."""
        groups: dict[str, list[int]] = {}
        for number, value in enumerate(self.values):
            if value.weights:
                groups.setdefault(value.weights, []).append(number)
        return tuple(tuple(group) for group in groups.values() if len(group) > 1)


def simplify(graph: Graph) -> Form:
    """The normal form of a graph.

    Training-only outputs stay: networks that differ in them train differently.
    """
    draft = _Draft()
    numbers: list[int] = []
    position = 0
    for operation, inputs, shape, path in graph.nodes:
        if isinstance(operation, ops.Input):
            numbers.append(draft.value(f"input {position} {shape}", operation, (), shape, ""))
            position += 1
        else:
            numbers.append(draft.add(operation, tuple([numbers[i] for i in inputs]), shape, path))
    return _Finish(draft, [numbers[o.node] for o in graph.outputs]).form()


class _Draft:
    """Values under construction: each is stated once. Sums are kept as flat multisets of what they add."""

    def __init__(self) -> None:
        self.labels: list[str] = []
        self.operations: list[Operation] = []
        self.inputs: list[tuple[int, ...]] = []
        self.shapes: list[Shape] = []
        self.weights: list[str] = []
        self.terms: dict[int, Terms] = {}
        self.known: dict[object, int] = {}

    def value(self, label: str, operation: Operation, inputs: tuple[int, ...], shape: Shape, weights: str) -> int:
        """The number of a value, new or known."""
        key = (label, inputs, weights)
        number = self.known.get(key)
        if number is None:
            number = self.known[key] = len(self.labels)
            self.labels.append(label)
            self.operations.append(operation)
            self.inputs.append(inputs)
            self.shapes.append(shape)
            self.weights.append(weights)
        return number

    def add(self, operation: Operation, inputs: tuple[int, ...], shape: Shape, path: str) -> int:
        """The number of what an operation makes of values, after every rule that applies."""
        if isinstance(operation, ops.Add):
            return self.sum(inputs, shape)
        if isinstance(operation, ops.Concat):
            if all(self.is_zero(i) for i in inputs):
                return self.zero(shape)
            inputs = tuple([j for i in inputs for j in self.concatenated(i)])
            if len(inputs) == 1:
                return inputs[0]
        elif isinstance(operation, ops.Zero):
            return self.zero(shape)
        elif isinstance(operation, ops.Multiply):
            if any(self.is_zero(i) for i in inputs):
                return self.zero(shape)
            inputs = tuple(sorted(inputs))
        elif self.is_identity(operation, inputs):
            return inputs[0]
        elif inputs and self.is_zero(inputs[0]) and keeps_zero(operation):
            return self.zero(shape)
        elif isinstance(operation, ops.AdaptiveAvgPool) and tuple(operation.size) == (1, 1):
            operation = ops.GlobalPool("avg")
        return self.value(label_of(operation), operation, inputs, shape, path if has_state(operation) else "")

    def zero(self, shape: Shape) -> int:
        """Zeros, which depend on no input."""
        return self.value(f"zero {shape}", ops.Zero(), (), shape, "")

    def is_zero(self, number: int) -> bool:
        """Whether a value is zero everywhere, whatever the weights."""
        return isinstance(self.operations[number], ops.Zero)

    def sum(self, inputs: tuple[int, ...], shape: Shape) -> int:
        """A sum with nested sums opened and zeros left out."""
        counts: Counter[int] = Counter()
        for i in inputs:
            if i in self.terms:
                counts.update(dict(self.terms[i]))
            elif not self.is_zero(i):
                counts[i] += 1
        if not counts:
            return self.zero(shape)
        if counts.total() == 1:
            return next(iter(counts))
        terms = frozenset(counts.items())
        number = self.known.get(terms)
        if number is None:
            number = self.known[terms] = len(self.labels)
            self.labels.append("sum")
            self.operations.append(ops.Add())
            self.inputs.append(())
            self.shapes.append(shape)
            self.weights.append("")
            self.terms[number] = terms
        return number

    def concatenated(self, number: int) -> tuple[int, ...]:
        """The parts of a concatenation, or the value itself."""
        return self.inputs[number] if isinstance(self.operations[number], ops.Concat) else (number,)

    def is_identity(self, operation: Operation, inputs: tuple[int, ...]) -> bool:
        """Whether an operation returns its input as it is, in training too."""
        if not inputs:
            return False
        shape = self.shapes[inputs[0]]
        match operation:
            case ops.Activation(function=function) if function in IDEMPOTENT:
                return self.operations[inputs[0]] == operation
            case ops.Flatten():
                return len(shape) == 1
            case ops.Dropout(rate=rate) | ops.DropPath(rate=rate):
                return rate == 0
            case ops.Slice(start=start, stop=stop):
                return (start, stop) == (0, shape[0])
            case ops.Shuffle(groups=groups):
                return groups in (1, shape[0])
            case ops.Pad(padding=padding):
                return not any(padding)
            case ops.Resize(size=size) | ops.AdaptiveAvgPool(size=size):
                return tuple(size) == shape[1:]
            case ops.GlobalPool():
                return shape[1:] == (1, 1)
            case ops.MaxPool() | ops.AvgPool():
                return operation.kernel == (1, 1) and operation.stride == (1, 1) and operation.padding == (0, 0)
            case _:
                return False


class _Finish:
    """What remains once the outputs are known: dead values go, sums share parts, concatenations forget their order."""

    def __init__(self, draft: _Draft, outputs: list[int]) -> None:
        self.draft = draft
        self.outputs = outputs
        self.live = self._live()
        self.sums = self._shared_sums()

    def _live(self) -> list[int]:
        draft, found = self.draft, set(self.outputs)
        for number in range(len(draft.labels) - 1, -1, -1):
            if number in found:
                found.update(draft.inputs[number])
                found.update(v for v, _ in draft.terms.get(number, ()))
        return sorted(found)

    def _shared_sums(self) -> dict[int, tuple[int, ...]]:
        """Inputs of each live sum. A part of a sum that is itself a live sum stands for its terms again.

        The largest parts are taken, if they do not overlap; if they do, the sum stays flat. So the result depends on
        the flat sums alone, not on how they were written.
        """
        flat = {v: dict(self.draft.terms[v]) for v in self.live if v in self.draft.terms}
        totals = {v: sum(terms.values()) for v, terms in flat.items()}
        by_size = sorted(flat, key=lambda v: -totals[v])
        result = {}
        for whole, terms in flat.items():
            parts: list[int] = []
            for part in by_size:
                inside = totals[part] < totals[whole] and _contains(terms, flat[part])
                if inside and not any(_contains(flat[other], flat[part]) for other in parts):
                    parts.append(part)
            rest = Counter(terms)
            for part in parts:
                rest.subtract(flat[part])
            if min(rest.values()) < 0:
                parts, rest = [], Counter(terms)
            result[whole] = (*parts, *rest.elements())
        return result

    def _forgetful(self) -> set[int]:
        """Values whose channels may be permuted: every consumer's weights can be permuted to match."""
        draft = self.draft
        consumers: dict[int, list[int]] = {v: [] for v in self.live}
        uses = Counter(draft.weights[v] for v in self.live)
        for v in self.live:
            for i in self.inputs_of(v):
                consumers[i].append(v)
        visible = set(self.outputs)
        forgetful: set[int] = set()
        for v in reversed(self.live):
            if v not in visible and all(self._forgets(c, v, uses, forgetful) for c in consumers[v]):
                forgetful.add(v)
        return forgetful

    def _forgets(self, consumer: int, value: int, uses: Counter[str], forgetful: set[int]) -> bool:
        draft = self.draft
        operation, weights = draft.operations[consumer], draft.weights[consumer]
        if weights and uses[weights] > 1:
            return False  # the other use of these weights would see them permuted
        if isinstance(operation, ops.Conv):
            if operation.groups == 1:
                return True
            return operation.groups == operation.channels == draft.shapes[value][0] and consumer in forgetful
        if isinstance(operation, ops.Linear):
            return True
        if isinstance(operation, (*CHANNELWISE, ops.Concat)) or (
            isinstance(operation, ops.GroupNorm) and operation.groups == 1
        ):
            return consumer in forgetful
        return False

    def form(self) -> Form:
        """The normal form, with values numbered anew, each after its inputs."""
        draft = self.draft
        has_concat = any(isinstance(draft.operations[v], ops.Concat) for v in self.live)
        forgetful = self._forgetful() if has_concat else set()
        numbers: dict[int, int] = {}
        values: list[Value] = []
        known: dict[Value, int] = {}
        for v in self._order():
            inputs = tuple([numbers[i] for i in self.inputs_of(v)])
            label, ordered = draft.labels[v], not draft.operations[v].is_commutative
            if v in forgetful and isinstance(draft.operations[v], ops.Concat):
                label, ordered = "concat in any order", False
            value = Value(label, ordered, inputs if ordered else tuple(sorted(inputs)), draft.weights[v])
            number = known.get(value)
            if number is None:
                number = known[value] = len(values)
                values.append(value)
            numbers[v] = number
        return Form(values=tuple(values), outputs=tuple([numbers[v] for v in self.outputs]))

    def inputs_of(self, v: int) -> tuple[int, ...]:
        """Inputs of a value, of a sum with its shared parts."""
        found = self.sums.get(v)
        return self.draft.inputs[v] if found is None else found

    def _order(self) -> list[int]:
        """Live values, inputs first. A part of a sum may have been stated later than the whole."""
        if not self.sums:
            return self.live
        order: list[int] = []
        done: set[int] = set()
        for root in self.live:
            stack = [root]
            while stack:
                v = stack[-1]
                missing = [] if v in done else [i for i in self.inputs_of(v) if i not in done]
                if missing:
                    stack.extend(missing)
                    continue
                stack.pop()
                if v not in done:
                    done.add(v)
                    order.append(v)
        return order


def _contains(whole: dict[int, int], part: dict[int, int]) -> bool:
    return len(part) <= len(whole) and all(whole.get(v, 0) >= count for v, count in part.items())


def has_state(operation: Operation) -> bool:
    """Whether two of this operation on one input may differ: it holds weights, statistics or randomness."""
    return operation.has_state or (isinstance(operation, ops.Activation) and operation.function == "prelu")


def keeps_zero(operation: Operation) -> bool:
    """Whether an operation without weights makes zeros of zeros."""
    if isinstance(operation, ops.Activation):
        return operation.function not in NOT_ZERO_AT_ZERO
    return isinstance(operation, KEEPS_ZERO)


@lru_cache(maxsize=1 << 16)
def label_of(operation: Operation) -> str:
    """An operation with its settings, as text that is the same in every process."""
    return repr(operation)
