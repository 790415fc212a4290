"""A mixture as values that stand once each.

Rules applied while values are made, each of which keeps what is computed (up to rounding):

- equal operations without state, on equal inputs, are one value; so are norms without weights, in training, where
  their result depends on the batch only (the statistics of each are kept up to date);
- sums of sums are one sum, equal terms of a sum are one term, zeros in a sum are left out;
- a depthwise convolution with holes is a plain one on each of the sub-sampled images that its taps see ("phases").
  Operations on single pixels and sums are done on the phases, so that the image is put together once for a sum.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from nasturtium.graph import operations as ops
from nasturtium.graph.operations import Operation, Shape
from nasturtium.model.mixture import PLAIN, Call, Program
from nasturtium.model.passes.forms import ONE, Coefficient, Sum, add_to, scaled
from nasturtium.model.passes.layers import elastic_of

Step = tuple[int, int]
"""Distance between pixels that stay, down and across."""


@dataclass(frozen=True, slots=True)
class Input:
    """An input of the network."""

    number: int
    reads: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Apply:
    """An operation on values."""

    operation: Operation
    inputs: tuple[Shape, ...]
    owner: int | None
    """What keeps apart two of the same on one input: the layer's identity or the call's number; None: nothing."""
    reads: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Combine:
    """A weighted sum."""

    coefficients: tuple[Coefficient, ...]
    reads: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Split:
    """The phases of an image, as images of their own: `(batch * step[0] * step[1], C, H / step[0], W / step[1])`."""

    step: Step
    reads: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Join:
    """The image put together again: the inverse of `Split`."""

    step: Step
    reads: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Sample:
    """The first phase alone: every `step`-th pixel."""

    step: Step
    reads: tuple[int, ...]


Value = Input | Apply | Combine | Split | Join | Sample


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """Which of the rules are applied that do not always hold or pay."""

    merge_norms: bool
    """Norms without weights on one input are one: in training."""
    phases: bool
    """Depthwise convolutions with holes become plain ones: where those have faster kernels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expression:
    """A mixture.

    Attributes:
        values: In an order of computation: each reads earlier ones.
        calls: For each `Apply`, the calls that it stands for; several where norms were merged.
        outputs: Numbers of the values that are the outputs.
    """

    values: tuple[Value, ...]
    calls: dict[int, tuple[Call, ...]]
    outputs: tuple[int, ...]


def express(program: Program, rules: Rules) -> Expression:
    """Write a program as an expression."""
    return _Builder(program, rules).build()


class _Builder:
    def __init__(self, program: Program, rules: Rules) -> None:
        self.program, self.rules = program, rules
        self.values: list[Value] = []
        self.known: dict[Value, int] = {}
        self.calls: dict[int, list[Call]] = {}

    def build(self) -> Expression:
        program = self.program
        readers = [0] * (program.inputs + len(program.steps))
        for number in program.outputs:
            readers[number] += 2  # never taken apart
        for step in program.steps:
            for number in step.reads:
                readers[number] += 1
        sums: list[Sum] = [{self.value(Input(i)): ONE} for i in range(program.inputs)]
        for number, step in enumerate(program.steps, start=program.inputs):
            reads = [sums[i] for i in step.reads]
            if not isinstance(step, Call):
                found: Sum = {}
                for option, read in zip(step.options, reads, strict=True):
                    add_to(found, read if option == PLAIN else scaled(read, step.position, option))
            elif isinstance(step.form.operation, ops.Add):
                found = {}
                for read in reads:
                    add_to(found, read)
            else:
                found = {self.call(number, step, tuple([self.whole(read) for read in reads])): ONE}
            if readers[number] > 1:
                found = {self.whole(found): ONE}
            sums.append(found)
        return self._pruned(tuple([self.whole(sums[i]) for i in program.outputs]))

    def _pruned(self, outputs: tuple[int, ...]) -> Expression:
        """What reaches an output, numbered anew."""
        wanted = {*outputs}
        for number in reversed(range(len(self.values))):
            if number in wanted:
                wanted.update(self.values[number].reads)
        places = {number: place for place, number in enumerate(sorted(wanted))}
        values = [replace(self.values[n], reads=tuple([places[i] for i in self.values[n].reads])) for n in places]
        calls = {place: tuple(self.calls[number]) for number, place in places.items() if number in self.calls}
        return Expression(values=tuple(values), calls=calls, outputs=tuple([places[i] for i in outputs]))

    def value(self, value: Value) -> int:
        """The number of a value."""
        if isinstance(value, Split):
            of = self.values[value.reads[0]]
            if isinstance(of, Join) and of.step == value.step:
                return of.reads[0]
        found = self.known.get(value)
        if found is None:
            found = self.known[value] = len(self.values)
            self.values.append(value)
        return found

    def whole(self, terms: Sum) -> int:
        """A weighted sum as one value; what stands in phases is added up there first."""
        kept = {v: c for v, c in terms.items() if not self._is_zero(v)} or dict(list(terms.items())[:1])
        if len(kept) == 1 and next(iter(kept.values())) == ONE:
            return next(iter(kept))
        phased: dict[Step, Sum] = {}
        plain: Sum = {}
        for number, coefficient in kept.items():
            value = self.values[number]
            if isinstance(value, Join):
                add_to(phased.setdefault(value.step, {}), {value.reads[0]: coefficient})
            else:
                plain[number] = coefficient
        for step, inner in phased.items():
            plain[self.value(Join(step, (self._sum(inner),)))] = ONE
        return self._sum(plain)

    def _sum(self, terms: Sum) -> int:
        if len(terms) == 1 and next(iter(terms.values())) == ONE:
            return next(iter(terms))
        return self.value(Combine(tuple(terms.values()), tuple(terms)))

    def _is_zero(self, number: int) -> bool:
        value = self.values[number]
        return isinstance(value, Apply) and isinstance(value.operation, ops.Zero)

    def call(self, number: int, call: Call, reads: tuple[int, ...]) -> int:
        """The value of a call of a layer."""
        operation, inputs = call.form.operation, call.form.inputs
        if isinstance(operation, ops.TrainingOnly):
            return reads[0]
        if self.rules.phases and isinstance(operation, ops.Conv) and elastic_of(call.function) is not None:
            step = operation.dilation
            if _splits(operation, inputs[0]):
                split = self.value(Split(step, reads))
                return self.value(Join(step, (self._phased(number, call, step, split),)))
            if _samples(operation, inputs[0], call.form.shape):
                sample = self.value(Sample(step, reads))
                return self._phased(number, call, step, sample)
        if self.rules.phases and len(reads) == 1 and _is_pixelwise(operation):
            value = self.values[reads[0]]
            if isinstance(value, Join):
                shapes = tuple([_divided(shape, value.step) for shape in inputs])
                return self.value(Join(value.step, (self._apply(number, call, operation, shapes, value.reads),)))
        return self._apply(number, call, operation, inputs, reads)

    def _phased(self, number: int, call: Call, step: Step, read: int) -> int:
        """A convolution with holes on phases: without holes."""
        operation = call.form.operation
        assert isinstance(operation, ops.Conv)
        top, bottom, left, right = operation.padding
        (down, across), (height, width) = step, operation.stride
        plain = replace(
            operation,
            dilation=(1, 1),
            stride=(max(height // down, 1), max(width // across, 1)),
            padding=(top // down, bottom // down, left // across, right // across),
        )
        return self._apply(number, call, plain, (_divided(call.form.inputs[0], step),), (read,))

    def _apply(
        self, number: int, call: Call, operation: Operation, inputs: tuple[Shape, ...], reads: tuple[int, ...]
    ) -> int:
        merged = self.rules.merge_norms and isinstance(operation, ops.BatchNorm) and not operation.affine
        layer = elastic_of(call.function)
        owner: int | None = None
        if isinstance(operation, (ops.Conv, ops.Linear)) and layer is not None:
            owner = id(layer)
        elif not (merged and layer is not None) and (operation.has_state or operation.weights(*inputs)):
            owner = number
        found = self.value(Apply(operation, inputs, owner, reads))
        self.calls.setdefault(found, []).append(call)
        return found


def _is_pixelwise(operation: Operation) -> bool:
    """Whether pixels of all images may be rearranged before instead of after it."""
    if isinstance(operation, ops.Conv):
        return operation.kernel == operation.stride == (1, 1) and not any(operation.padding)
    return isinstance(operation, (ops.BatchNorm, ops.Activation))


def _divided(shape: Shape, step: Step) -> Shape:
    return (shape[0], -(-shape[1] // step[0]), -(-shape[2] // step[1]))


def _is_holed(operation: ops.Conv, x: Shape) -> bool:
    """Whether it is a depthwise convolution with holes whose padding is a number of holes."""
    (down, across), (top, bottom, left, right) = operation.dilation, operation.padding
    even = not (top % down or bottom % down or left % across or right % across)
    return operation.dilation != (1, 1) and operation.groups == x[0] == operation.channels and even


def _splits(operation: ops.Conv, x: Shape) -> bool:
    """Whether the output's phases are plain convolutions of the input's."""
    down, across = operation.dilation
    return _is_holed(operation, x) and operation.stride == (1, 1) and not (x[1] % down or x[2] % across)


def _samples(operation: ops.Conv, x: Shape, y: Shape) -> bool:
    """Whether the output is a plain convolution of the input's first phase."""
    (down, across), (height, width) = operation.dilation, operation.stride
    if not _is_holed(operation, x) or height % down or width % across:
        return False
    top, bottom, left, right = operation.padding
    small = _divided(x, operation.dilation)
    rows = (small[1] + top // down + bottom // down - operation.kernel[0]) // (height // down) + 1
    columns = (small[2] + left // across + right // across - operation.kernel[1]) // (width // across) + 1
    return (rows, columns) == y[1:]
