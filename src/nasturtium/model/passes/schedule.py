"""From an expression to instructions: what is fused, when a sum is added to, when a value is let go.

- A 1x1 convolution, the norm behind it and a ReLU behind that, each read once, are one operation that keeps only the
  convolution's input for the gradient (`PointwiseNorm`).
- A norm that only one weighted sum reads takes the weight as its scale, so that no weighted copy is made.
- Sums are added to in place as soon as a term is known.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from math import prod
from typing import NamedTuple

from torch import Tensor

from nasturtium.graph import operations as ops
from nasturtium.model.elastic import Elastic
from nasturtium.model.passes import kernels
from nasturtium.model.passes.expressions import Apply, Combine, Expression, Input, Join, Sample, Split
from nasturtium.model.passes.forms import ONE, Coefficient
from nasturtium.model.passes.layers import elastic_of, uses_whole, weight_of, with_operation
from nasturtium.model.passes.norms import MergedNorm, Norm, PlainNorm, PointwiseNorm


class Instruction(NamedTuple):
    """One call."""

    function: Callable[..., Tensor]
    reads: tuple[int, ...]
    coefficient: int
    """Number of the coefficient that the call gets after what it reads; -1 for none."""
    writes: int
    dead: tuple[int, ...]
    """Values that nobody reads later."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """Instructions in order, on values by number."""

    instructions: tuple[Instruction, ...]
    coefficients: tuple[Coefficient, ...]
    inputs: tuple[int, ...]
    """Where each input of the network goes; -1 where nobody reads it."""
    outputs: tuple[int, ...]
    sizes: tuple[int, ...]
    """Elements of each value, for one image; 0 for the inputs of the network."""


def schedule(expression: Expression, *, training: bool, fast_columns: bool) -> Schedule:
    """Make the instructions of an expression.

    Args:
        expression: The mixture.
        training: Whether norms use the batch's statistics, so that they can be fused.
        fast_columns: Whether to compute the gradients of wide depthwise kernels by parts.
    """
    return _Scheduler(expression, training=training, fast_columns=fast_columns).schedule()


@dataclass(slots=True)
class _Total:
    """A sum that is being added up."""

    place: int
    terms: dict[int, list[int]] = field(default_factory=dict)
    started: bool = False
    owned: bool = False
    """Whether it may be changed in place."""


class _Scheduler:
    def __init__(self, expression: Expression, *, training: bool, fast_columns: bool) -> None:
        self.values, self.calls, self.outputs = expression.values, expression.calls, expression.outputs
        self.training, self.fast_columns = training, fast_columns
        self.readers: list[list[int]] = [[] for _ in self.values]
        for number, value in enumerate(self.values):
            for read in value.reads:
                self.readers[read].append(number)
        for number in self.outputs:
            self.readers[number].append(-1)
        self.inside: set[int] = set()
        """Values that are computed inside of a fused one."""
        self.fused: dict[int, Norm] = {}
        self.coefficients: dict[Coefficient, int] = {}
        self.steps: list[tuple[Callable[..., Tensor], tuple[int, ...], int, int]] = []

    def schedule(self) -> Schedule:
        for number in range(len(self.values)):
            self._fuse(number)
        inputs = [-1] * (1 + max([v.number for v in self.values if isinstance(v, Input)], default=-1))
        totals: dict[int, list[tuple[_Total, Coefficient]]] = {}
        for number, value in enumerate(self.values):
            if isinstance(value, Combine):
                total = _Total(number)
                for read, coefficient in zip(value.reads, value.coefficients, strict=True):
                    totals.setdefault(read, []).append((total, coefficient))
        for number, value in enumerate(self.values):
            if isinstance(value, Input):
                inputs[value.number] = number
            elif not isinstance(value, Combine) and number not in self.inside:
                self._compute(number, value)
            for total, coefficient in totals.get(number, []):
                self._accumulate(total, number, coefficient)
        return Schedule(
            instructions=self._with_deaths(),
            coefficients=tuple(self.coefficients),
            inputs=tuple(inputs),
            outputs=self.outputs,
            sizes=self._sizes(),
        )

    def _fuse(self, number: int) -> None:
        """Make the fused norm at a value, if there is one."""
        value = self.values[number]
        if not self.training or not isinstance(value, Apply) or not isinstance(value.operation, ops.BatchNorm):
            return
        calls = self.calls[number]
        if len(value.inputs[0]) != 3 or not all(uses_whole(call.function) for call in calls):
            return
        if len(calls) > 1:
            self.fused[number] = MergedNorm([call.function for call in calls], value.operation)
            return
        before = self.values[value.reads[0]]
        if self._is_pointwise(value.reads[0]):
            assert isinstance(before, Apply)
            convolution = self.calls[value.reads[0]][0].function
            self.inside.add(value.reads[0])
            norm: Norm = PointwiseNorm(calls[0].function, value.operation, convolution)
            norm.reads = before.reads
        else:
            norm = PlainNorm(calls[0].function, value.operation)
        self.fused[number] = norm
        if len(self.readers[number]) == 1 and self.readers[number][0] >= 0:
            reader = self.values[self.readers[number][0]]
            if isinstance(reader, Combine):
                coefficient = reader.coefficients[reader.reads.index(number)]
                norm.coefficient = -1 if coefficient == ONE else self._coefficient(coefficient)
            elif isinstance(norm, PointwiseNorm) and isinstance(reader, Apply) and _is_relu(reader):
                norm.relu = True
                self.inside.add(number)
                self.fused[self.readers[number][0]] = self.fused.pop(number)

    def _is_pointwise(self, number: int) -> bool:
        """Whether a value is a 1x1 convolution that is read once."""
        value = self.values[number]
        if not isinstance(value, Apply) or not isinstance(value.operation, ops.Conv) or len(self.readers[number]) > 1:
            return False
        operation = value.operation
        plain = operation.kernel == operation.stride == (1, 1) and not any(operation.padding)
        return plain and operation.groups == 1 and not operation.bias and uses_whole(self.calls[number][0].function)

    def _coefficient(self, coefficient: Coefficient) -> int:
        return self.coefficients.setdefault(coefficient, len(self.coefficients))

    def _compute(self, number: int, value: object) -> None:
        if number in self.fused:
            norm = self.fused[number]
            reads = norm.reads or self.values[number].reads
            self.steps.append((norm, reads, norm.coefficient, number))
            return
        assert isinstance(value, (Apply, Split, Join, Sample))
        if isinstance(value, Apply):
            function = self._function(value, self.calls[number][0].function)
        elif isinstance(value, Split):
            function = partial(kernels.split, step=value.step)
        else:
            function = partial(kernels.join if isinstance(value, Join) else kernels.sample, step=value.step)
        self.steps.append((function, value.reads, -1, number))

    def _function(self, value: Apply, function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        operation, layer = value.operation, elastic_of(function)
        if layer is None:
            return function
        if self.fast_columns and isinstance(operation, ops.Conv) and uses_whole(function):
            depthwise = operation.groups == operation.channels == value.inputs[0][0] and not operation.bias
            top, bottom, left, right = operation.padding
            dense = operation.stride == operation.dilation == (1, 1)
            if depthwise and dense and operation.kernel[1] == 5 and left == right == 2 and top == bottom:
                return partial(_depthwise5, layer=layer, rows=top)
        return with_operation(function, operation)

    def _accumulate(self, total: _Total, number: int, coefficient: Coefficient) -> None:
        """Add a value to a sum."""
        norm = self.fused.get(number)
        fresh = norm is not None and len(self.readers[number]) == 1 and not (norm.coefficient < 0 and norm.relu)
        plain = coefficient == ONE or (norm is not None and norm.coefficient >= 0)
        place = total.place
        if not total.started:
            if plain:
                self.steps.append((_same, (number,), -1, place))
                total.owned = fresh
            else:
                self.steps.append((kernels.scaled, (number,), self._coefficient(coefficient), place))
                total.owned = True
            total.started = True
        elif plain:
            self.steps.append((_add_to if total.owned else _add, (place, number), -1, place))
            total.owned = True
        else:
            function = kernels.add_scaled if total.owned else _add_scaled
            self.steps.append((function, (place, number), self._coefficient(coefficient), place))
            total.owned = True

    def _sizes(self) -> tuple[int, ...]:
        sizes: list[int] = []
        for number, value in enumerate(self.values):
            if isinstance(value, Input):
                sizes.append(0)
            elif isinstance(value, Apply):
                sizes.append(prod(self.calls[number][0].form.shape))
            else:
                share = prod(value.step) if isinstance(value, Sample) else 1
                sizes.append(max([sizes[i] for i in value.reads]) // share)
        return tuple(sizes)

    def _with_deaths(self) -> tuple[Instruction, ...]:
        last: dict[int, int] = {}
        for place, (_, reads, _, writes) in enumerate(self.steps):
            for number in (*reads, writes):
                last[number] = place
        dead: dict[int, list[int]] = {}
        for number, place in last.items():
            if number not in self.outputs:
                dead.setdefault(place, []).append(number)
        return tuple([Instruction(*step, tuple(dead.get(i, ()))) for i, step in enumerate(self.steps)])


def changes_first(function: Callable[..., Tensor]) -> bool:
    """Whether a call changes its first argument in place, or gives it to one that does."""
    return function in (_same, _add_to, kernels.add_scaled)


def only_adds(function: Callable[..., Tensor]) -> bool:
    """Whether a call keeps nothing for its gradient."""
    return function in (_same, _add, _add_to)


def _is_relu(value: Apply) -> bool:
    return isinstance(value.operation, ops.Activation) and value.operation.function == "relu"


def _depthwise5(x: Tensor, *, layer: Elastic, rows: int) -> Tensor:
    return kernels.depthwise5(x, weight_of(layer, "weight"), rows)


def _same(x: Tensor) -> Tensor:
    return x


def _add(x: Tensor, y: Tensor) -> Tensor:
    return x + y


def _add_to(x: Tensor, y: Tensor) -> Tensor:
    return x.add_(y)


def _add_scaled(x: Tensor, y: Tensor, scale: Tensor) -> Tensor:
    return x + kernels.scaled(y, scale)
