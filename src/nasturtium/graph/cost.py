"""Cost of a network without its flat graph: every block is costed once for each input shape that it meets.

`cost` and `CostModel` give exactly the numbers of `Graph` (`params`, `macs`, `activations`, `peak_memory`,
`irregularity`), much faster over a search, because neighbouring architectures share nearly all their blocks.

How: a tracer runs a block's `forward` and records its own operations and the *summaries* of the blocks that it
calls. A summary is a function of the block and of its inputs' shapes, so it is remembered under these. Peak memory is
exact in the hierarchy too: what happens inside a child depends on its surroundings only through which of its inputs
are needed after it and which of its outputs are used at all.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod
from typing import NamedTuple, Protocol

from nasturtium.graph.irregularity import Wiring
from nasturtium.graph.memory import overwritable
from nasturtium.graph.operations import Operation, Shape, TrainingOnly
from nasturtium.graph.tensor import ConcreteTensor, Context, Tensor, tensors
from nasturtium.graph.trace import (
    Designed,
    FlatTracer,
    Inputs,
    Scope,
    Traceable,
    child_name,
    closed,
    named_outputs,
    named_shapes,
    snake_case,
    trace,
)

MEMO_LIMIT = 200_000
"""Summaries that a `CostModel` keeps; it starts afresh beyond."""

FOREVER = 1 << 60


class Wired(Protocol):
    """Whatever knows the irregularity of a network: its graph, or its summary."""

    @property
    def irregularity(self) -> float:
        """Tensors read per step; see `nasturtium.graph.irregularity`."""
        ...

    @property
    def kernels(self) -> int:
        """Launches; see `nasturtium.graph.irregularity`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a network costs, for one sample."""

    params: int
    """Trainable parameters; tied weights count once."""
    macs: int
    """Multiply-accumulates of convolution and linear weights."""
    activations: int
    """Elements of all convolution outputs."""
    peak_memory: int
    """Bytes of activations alive at once: int8, batch 1, given order, liveness."""
    outputs: tuple[Shape, ...]
    """Shapes of the outputs that are not for training only, in order."""
    wired: Wired = field(repr=False, compare=False)
    """Where `irregularity` and `kernels` come from."""

    @property
    def irregularity(self) -> float:
        """Tensors read per step, 1 for a chain; worked out when asked for. See `nasturtium.graph.irregularity`."""
        return self.wired.irregularity

    @property
    def kernels(self) -> int:
        """Launches, norms and activations fused; worked out when asked for. See `nasturtium.graph.irregularity`."""
        return self.wired.kernels


def cost(block: Traceable | Designed, inputs: Inputs, **context: object) -> Cost:
    """Parameters, MACs, activations, peak memory and irregularity of a closed block or an architecture.

    Args:
        block: A closed block or an `Architecture`.
        inputs: Shape of the input without the batch, as for `trace`.
        **context: What the task tells the network, for example `classes=10`.

    Raises:
        TraceError: the block has open choices, or does not return tensors.
        ShapeError: the inputs do not fit an operation; the message names it.
    """
    return CostModel(inputs, **context)(block)


class CostModel:
    """Costs of many networks on the same inputs; remembers every block that it met.

    Example:
        >>> import nasturtium as nas
        >>> from nasturtium.graph import CostModel
        >>> model = CostModel((3, 32, 32), classes=10)
        >>> model(nas.Conv(16)).params
        464
    """

    def __init__(self, inputs: Inputs, **context: object) -> None:
        self._inputs = inputs
        self._shapes = tuple(named_shapes(inputs).values())
        self._context = context
        self._memory = _Memory(Context(**context))

    def __call__(self, network: Traceable | Designed) -> Cost:
        """Cost of a closed block or an architecture.

        Raises:
            TraceError: the block has open choices, or does not return tensors.
            ShapeError: the inputs do not fit an operation; the message names it.
        """
        block = closed(network)
        if getattr(block, "is_open", False):
            return self._from_graph(block)  # raises, with the reason
        try:
            summary = self._memory.root(block, self._shapes)
        except _NeedsGraphError:
            return self._from_graph(block)
        return Cost(
            params=summary.params,
            macs=summary.macs,
            activations=summary.activations,
            peak_memory=_root_peak(summary),
            outputs=tuple([summary.shapes[v] for v in summary.outputs]),
            wired=summary,
        )

    def _from_graph(self, block: Traceable) -> Cost:
        graph = trace(block, self._inputs, **self._context)
        kept = [o for o in graph.outputs if not isinstance(graph.nodes[o.node].operation, TrainingOnly)]
        return Cost(
            params=graph.params,
            macs=graph.macs,
            activations=graph.activations,
            peak_memory=graph.peak_memory(),
            outputs=tuple(graph.nodes[o.node].shape for o in kept),
            wired=graph,
        )


class _NeedsGraphError(Exception):
    """The whole graph must tell: there are training-only outputs, or an error to be raised with its full path."""


class _Step(NamedTuple):
    """One operation or one called block, inside a block. Values are numbered: distinct inputs first."""

    path: str
    operation: Operation | None
    child: _Summary | None
    inputs: tuple[int, ...]
    """Values that it really reads."""
    outputs: range
    """Values that it makes."""


class _Summary:
    """What a block is, for given input shapes, to whoever calls it."""

    __slots__ = (
        "_last", "_peaks", "_wiring", "activations", "arity", "macs", "outputs", "params", "plain", "produced",
        "shapes", "sizes", "steps", "structure", "used",
    )  # fmt: skip

    def __init__(self, arity: int, shapes: list[Shape], steps: list[_Step], result: object) -> None:
        self.arity = arity
        self.shapes = shapes
        self.steps = steps
        self.outputs = tuple([x.index for x in tensors(result)])
        self.structure = _template(result)
        self.sizes = list(map(prod, shapes))
        self.macs = 0
        self.activations = 0
        params: int = 0
        last = [-1] * len(shapes)
        for number, step in enumerate(steps):
            child = step.child
            if child is not None:
                self.macs += child.macs
                self.activations += child.activations
                params += child.params
            else:
                assert step.operation is not None
                operation, inputs = step.operation, [shapes[v] for v in step.inputs]
                out = step.outputs.start
                self.macs += operation.macs(shapes[out], *inputs)
                params += operation.params(*inputs)
                self.activations += operation.activations(shapes[out])
            for v in step.inputs:
                last[v] = number
        self.params: int = sum(self.weights("").values()) if _may_tie(steps) else params
        self.used = tuple([v for v in range(arity) if last[v] >= 0])
        """Inputs that some operation reads."""
        self.produced = tuple(dict.fromkeys([v for v in self.outputs if v >= arity]))
        """Distinct outputs that are not inputs."""
        self.plain = arity == 1 and self.used == (0,) and result.__class__ is ConcreteTensor and self.outputs != (0,)
        """Whether it reads its one input and returns one new tensor."""
        self._last = last
        self._peaks: dict[tuple[int, int], int] = {}
        self._wiring: Wiring | None = None

    @property
    def wiring(self) -> Wiring:
        """How its kernels hang together; made when first asked for, since few searches ask."""
        if self._wiring is None:
            self._wiring = Wiring(self)
        return self._wiring

    @property
    def irregularity(self) -> float:
        """Tensors read per step, where this is the whole network."""
        return self.wiring.whole()

    @property
    def kernels(self) -> int:
        """Launches, where this is the whole network."""
        return self.wiring.whole_kernels()

    def weights(self, prefix: str) -> dict[str, int]:
        """Parameters of each operation that has some, by path; the first at a path counts."""
        found: dict[str, int] = {}
        for step in self.steps:
            path = prefix + step.path
            if step.child is not None:
                for name, count in step.child.weights(path + ".").items():
                    found.setdefault(name, count)
            elif step.operation is not None:
                count = step.operation.params(*[self.shapes[v] for v in step.inputs])
                if count:
                    found.setdefault(path, count)
        return found

    def peak(self, survives: int, alive: int) -> int:
        """The most elements alive at once, from the used inputs on.

        Args:
            survives: Bit k: the k-th of `used` is needed after this block.
            alive: Bit k: the k-th of `produced` is used after this block.
        """
        key = (survives, alive)
        found = self._peaks.get(key)
        if found is None:
            last = self._last[:]
            for bit, v in enumerate(self.used):
                if survives >> bit & 1:
                    last[v] = FOREVER
            for bit, v in enumerate(self.produced):
                if alive >> bit & 1:
                    last[v] = FOREVER
            found = self._peaks[key] = self._simulate(last)
        return found

    def _simulate(self, last: list[int]) -> int:
        sizes = self.sizes
        live = peak = sum([sizes[v] for v in self.used])
        for number, step in enumerate(self.steps):
            child = step.child
            inputs = step.inputs
            if child is not None:
                survives = alive = 0
                for bit, v in enumerate(inputs):
                    live -= sizes[v]
                    if last[v] > number:
                        survives |= 1 << bit
                for bit, v in enumerate(step.outputs):
                    if last[v] > number:
                        alive |= 1 << bit
                peak = max(peak, live + child.peak(survives, alive))
                for v in inputs:
                    if last[v] > number:
                        live += sizes[v]
                for v in step.outputs:
                    if last[v] > number:
                        live += sizes[v]
                continue
            out = step.outputs.start
            size = sizes[out]
            needed = live + size
            assert step.operation is not None
            given = [sizes[v] for v in inputs]
            for k in overwritable(step.operation, given, size):
                if given[k] == size and last[inputs[k]] == number:
                    needed = live
                    break
            if needed > peak:
                peak = needed
            for v in set(inputs) if len(inputs) > 1 else inputs:
                if last[v] == number:
                    live -= sizes[v]
            if last[out] > number:
                live += size
        return peak


class _Memory:
    """Summaries by block and input shapes."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.summaries: dict[object, _Summary | None] = {}

    def root(self, block: object, shapes: tuple[Shape, ...]) -> _Summary:
        """Summary of a whole network; not kept, since a search rarely sees it again."""
        if len(self.summaries) > MEMO_LIMIT:
            self.summaries.clear()
        recorder = _Recorder(self, block)
        arguments = tuple([recorder.value(shape) for shape in shapes])
        try:
            result = block.forward(*arguments)  # type: ignore[attr-defined]
            named_outputs(result)
        except Exception as error:
            raise _NeedsGraphError from error
        return _Summary(len(shapes), recorder.shapes, recorder.steps, result)


class _Recorder(FlatTracer):
    """Records one block's own operations and the blocks that it calls."""

    def __init__(self, memory: _Memory, block: object) -> None:
        super().__init__(memory.context)
        self.memory = memory
        self.block = block
        self.scopes = [Scope(self, "", block)]
        self.shapes: list[Shape] = []
        self.steps: list[_Step] = []

    def value(self, shape: Shape) -> ConcreteTensor:
        """A new value."""
        self.shapes.append(shape)
        return ConcreteTensor(self, len(self.shapes) - 1, shape)

    def run(self, arguments: tuple[object, ...]) -> _Summary:
        """Run the block's `forward` on this recorder's values, and summarise."""
        arity = len(self.shapes)
        result = self.block.forward(*arguments)  # type: ignore[attr-defined]
        return _Summary(arity, self.shapes, self.steps, result)

    def apply(self, operation: Operation, inputs: tuple[Tensor, ...], name: str) -> Tensor:
        """Add one operation and return its output."""
        if isinstance(operation, TrainingOnly):
            raise _NeedsGraphError
        shape = operation.shape(*[x.shape for x in inputs])
        made = self.value(shape)
        path = self.scopes[-1].path(name)
        number = made.index
        self.steps.append(_Step(path, operation, None, tuple([x.index for x in inputs]), range(number, number + 1)))
        return made

    def call(self, block: object, arguments: tuple[object, ...]) -> object:
        """Take the child's summary from memory, or make it."""
        current = self.scopes[-1]
        name = child_name(current.owner, block, current.calls)
        path = current.path(snake_case(type(block).__name__)) if name is None else current.prefix + name
        if len(arguments) == 1 and isinstance(arguments[0], ConcreteTensor):
            distinct = [arguments[0]]
            key: object = (block, arguments[0].shape)
        else:
            numbers: dict[int, int] = {}
            distinct = []
            key = (block, _pattern(arguments, numbers, distinct), None)
        summaries = self.memory.summaries
        try:
            summary = summaries[key]
        except KeyError:
            summary = summaries[key] = self._summarise(block, arguments, distinct)
        if summary is None:
            raise _NeedsGraphError
        return self._place(path, summary, distinct)

    def _summarise(
        self, block: object, arguments: tuple[object, ...], distinct: list[ConcreteTensor]
    ) -> _Summary | None:
        recorder = _Recorder(self.memory, block)
        inner = {x.index: recorder.value(x.shape) for x in distinct}
        try:
            return recorder.run(tuple([_translated(argument, inner) for argument in arguments]))
        except _NeedsGraphError:
            return None

    def _place(self, path: str, summary: _Summary, distinct: list[ConcreteTensor]) -> object:
        start = len(self.shapes)
        if summary.plain:
            shape = summary.shapes[summary.outputs[0]]
            self.shapes.append(shape)
            self.steps.append(_Step(path, None, summary, (distinct[0].index,), range(start, start + 1)))
            return ConcreteTensor(self, start, shape)
        produced = summary.produced
        outside: dict[int, Tensor] = dict(enumerate(distinct))
        for v in produced:
            outside[v] = self.value(summary.shapes[v])
        inputs = tuple([distinct[v].index for v in summary.used])
        self.steps.append(_Step(path, None, summary, inputs, range(start, start + len(produced))))
        return _instance(summary.structure, outside)


def _pattern(value: object, numbers: dict[int, int], distinct: list[ConcreteTensor]) -> object:
    """A hashable form of the arguments: shapes, which tensors are one and the same, and other values."""
    if isinstance(value, ConcreteTensor):
        if value.index not in numbers:
            numbers[value.index] = len(distinct)
            distinct.append(value)
        return (numbers[value.index], value.shape)
    if isinstance(value, (tuple, list)):
        return (type(value).__name__, *[_pattern(item, numbers, distinct) for item in value])
    if isinstance(value, dict):
        return ("dict", *[(key, _pattern(item, numbers, distinct)) for key, item in value.items()])
    return ("value", type(value).__name__, value)


def _translated(value: object, inner: dict[int, ConcreteTensor]) -> object:
    """The same arguments with the child's own tensors."""
    if isinstance(value, ConcreteTensor):
        return inner[value.index]
    if isinstance(value, tuple):
        return tuple([_translated(item, inner) for item in value])
    if isinstance(value, list):
        return [_translated(item, inner) for item in value]
    if isinstance(value, dict):
        return {key: _translated(item, inner) for key, item in value.items()}
    return value


class _Value(int):
    """A value's number in a result's template, told from a block's own integers by its type."""

    __slots__ = ()


def _template(result: object) -> object:
    """The result with value numbers for tensors; whatever else stands in it stays."""
    if isinstance(result, Tensor):
        return _Value(result.index)
    if isinstance(result, tuple):
        return tuple([_template(item) for item in result])
    if isinstance(result, list):
        return [_template(item) for item in result]
    if isinstance(result, dict):
        return {key: _template(item) for key, item in result.items()}
    return result


def _instance(structure: object, outside: dict[int, Tensor]) -> object:
    """A result's template filled with the caller's tensors."""
    if isinstance(structure, _Value):
        return outside[structure]
    if isinstance(structure, tuple):
        return tuple([_instance(item, outside) for item in structure])
    if isinstance(structure, list):
        return [_instance(item, outside) for item in structure]
    if isinstance(structure, dict):
        return {key: _instance(item, outside) for key, item in structure.items()}
    return structure


def _may_tie(steps: list[_Step]) -> bool:
    """Whether two steps could stand at one path: weights there are one."""
    children = {step.path for step in steps if step.child is not None}
    if len({step.path for step in steps}) < len(steps):
        return True
    for step in steps:
        path = step.path
        cut = path.rfind(".")
        while cut > 0:
            path = path[:cut]
            if path in children:
                return True
            cut = path.rfind(".")
    return False


def _root_peak(summary: _Summary) -> int:
    """Elements alive at the worst moment of a whole network, its inputs' arrival included."""
    kept = set(summary.used).union(summary.outputs)
    live = peak = 0
    for v in range(summary.arity):
        peak = max(peak, live + summary.sizes[v])
        live += summary.sizes[v] if v in kept else 0
    idle = live - sum([summary.sizes[v] for v in summary.used])  # outputs that are inputs nobody reads
    survives = sum([1 << bit for bit, v in enumerate(summary.used) if v in summary.outputs])
    return max(peak, idle + summary.peak(survives, (1 << len(summary.produced)) - 1))
