"""A network as levels: for every called block its own operations and calls, for drawings.

The flat graph forgets which block made an operation. Here every call of a block is a `Level` of its own, with the
steps that its `forward` took: operations, and calls of further blocks. Values are numbered through the whole network.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import groupby

from nasturtium.graph.operations import Activation, Input, Operation, Pad, Resize, Shape
from nasturtium.graph.tensor import ConcreteTensor, Context, Tensor, tensors
from nasturtium.graph.trace import FlatTracer, Inputs, Scope, Traceable, child_name, named_shapes, snake_case


@dataclass(slots=True)
class Step:
    """One operation, or one call of a block."""

    path: str
    """Where it stands in its level: scopes and name."""
    operation: Operation | None
    level: Level | None
    inputs: tuple[int, ...]
    """Values that it reads, in order."""
    outputs: tuple[int, ...]
    """Values that it makes; a block that returns its one input makes a new one."""
    scope: str
    """The scopes in its level that it stands under, joined by dots."""


@dataclass(slots=True)
class Level:
    """One call of a block, from the inside."""

    block: object
    """None for the steps under one scope; see `by_scope`."""
    name: str
    """The block's place in the block that calls it: "stages.0", or its class in snake case; or the scope."""
    inputs: tuple[int, ...]
    """Values inside that are given and read; the step that calls it has as many inputs, the caller's values."""
    steps: list[Step] = field(default_factory=list)
    outputs: tuple[int, ...] = ()
    """Values inside that it returns, in order; the step that calls it has as many outputs."""
    keys: dict[int, str] = field(default_factory=dict)
    """Names of inputs that were given in a dict."""

    def operations(self) -> Iterator[Step]:
        """The steps of all operations, however deep, in order."""
        for step in self.steps:
            if step.level is None:
                yield step
            else:
                yield from step.level.operations()


@dataclass(slots=True)
class Record:
    """A whole network: its outermost level, and the shape of every value."""

    root: Level
    shapes: list[Shape]
    inputs: dict[int, str]
    """Names of the network's inputs by value."""
    grouped: dict[int, Level] = field(default_factory=dict)
    """What `by_scope` made, by `id` of the level."""


def record(block: Traceable, inputs: Inputs, context: dict[str, object]) -> Record:
    """Run a closed block's `forward` and keep every level; the inputs must fit (`trace` says why they do not)."""
    tracer = _LevelTracer(Context(**context))
    shapes = named_shapes(inputs)
    arguments = [tracer.value(shape) for shape in shapes.values()]
    root = Level(block, "", tuple(x.index for x in arguments))
    tracer.scopes = [Scope(tracer, "", block)]
    tracer.open = [root]
    root.outputs = tuple(x.index for x in tensors(block.forward(*arguments)))
    return Record(root, tracer.shapes, dict(zip(root.inputs, shapes, strict=True)))


def by_scope(run: Record, level: Level) -> Level:
    """The level with its steps under one scope as levels of their own: parts that the block only names."""
    found = run.grouped.get(id(level))
    if found is None:
        steps: list[Step] = []
        for scope, members in groupby(level.steps, key=scope_of):
            own = list(members)
            if not scope or len(own) == 1:
                steps += own
            else:
                steps.append(_wrapped(own) or _under_scope(level, scope, own))
        found = run.grouped[id(level)] = Level(level.block, level.name, level.inputs, steps, level.outputs)
    return found


def scope_of(step: Step) -> str:
    """The outermost scope of a step, with the numbers after it; "" where there is none."""
    names = step.scope.split(".")
    depth = 1
    while depth < len(names) and names[depth].isdigit():
        depth += 1
    return ".".join(names[:depth])


def _under_scope(level: Level, scope: str, members: list[Step]) -> Step:
    """The steps under one scope as one call."""
    made = {v for step in members for v in step.outputs}
    inside = {id(step) for step in members}
    read = {v for step in level.steps if id(step) not in inside for v in step.inputs} | set(level.outputs)
    inputs = tuple(dict.fromkeys(v for step in members for v in step.inputs if v not in made))
    outputs = tuple(v for step in members for v in step.outputs if v in read)
    cut = len(scope) + 1
    own = [replace(step, path=step.path[cut:], scope=step.scope[cut:]) for step in members]
    return Step(scope, None, Level(None, scope, inputs, own, outputs), inputs, outputs, "")


def _wrapped(members: list[Step]) -> Step | None:
    """A call alone, where all else under its scope only fits its inputs: resizing, without weights."""
    *fitting, call = members
    before: dict[int, int] = {}
    for step in fitting:
        if not isinstance(step.operation, (Activation, Pad, Resize)) or len(step.inputs) != 1:
            return None
        before[step.outputs[0]] = before.get(step.inputs[0], step.inputs[0])
    inputs = tuple(before.get(v, v) for v in call.inputs)
    if call.level is None or len(set(inputs)) < len(inputs):
        return None
    return replace(call, inputs=inputs)


class _LevelTracer(FlatTracer):
    """Keeps a level for every block that is called."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.shapes: list[Shape] = []
        self.open: list[Level] = []
        self.prefixes = [""]

    def value(self, shape: Shape) -> ConcreteTensor:
        """A new value."""
        self.shapes.append(shape)
        return ConcreteTensor(self, len(self.shapes) - 1, shape)

    def apply(self, operation: Operation, inputs: tuple[Tensor, ...], name: str) -> Tensor:
        """Add one operation to the level and return its output."""
        made = self.value(operation.shape(*[x.shape for x in inputs]))
        scope = self.scopes[-1].prefix[len(self.prefixes[-1]) : -1]
        path = self.scopes[-1].path(name)[len(self.prefixes[-1]) :]
        if not isinstance(operation, Input):
            step = Step(path, operation, None, tuple([x.index for x in inputs]), (made.index,), scope)
            self.open[-1].steps.append(step)
        return made

    def call(self, block: object, arguments: tuple[object, ...]) -> object:
        """Run a child block's `forward` on a level of its own."""
        current = self.scopes[-1]
        name = child_name(current.owner, block, current.calls)
        path = current.path(snake_case(type(block).__name__)) if name is None else current.prefix + name
        given, outside = self._distinct(arguments)
        level = Level(block, path[len(self.prefixes[-1]) :], ())
        self.open.append(level)
        self.prefixes.append(path + ".")
        with Scope(self, path + ".", block):
            result = block.forward(*given)  # type: ignore[attr-defined]
        self.open.pop()
        self.prefixes.pop()
        read = {v for step in level.steps for v in step.inputs}
        if isinstance(result, Tensor) and result.index in outside:
            read.add(result.index)
            level.outputs = (result.index,)
            result = self.value(result.shape)
            made: tuple[int, ...] = (result.index,)
        else:
            made = level.outputs = tuple(dict.fromkeys(x.index for x in tensors(result) if x.index not in outside))
        level.inputs = tuple(v for v in outside if v in read)
        level.keys = {
            x.index: str(k) for a in given if isinstance(a, dict) for k, x in a.items() if isinstance(x, Tensor)
        }
        scope = current.prefix[len(self.prefixes[-1]) : -1]
        inputs = tuple(outside[v] for v in level.inputs)
        self.open[-1].steps.append(Step(level.name, None, level, inputs, made, scope))
        return result

    def _distinct(self, arguments: tuple[object, ...]) -> tuple[list[object], dict[int, int]]:
        """The arguments, with a value of its own for a tensor that is given twice; and the caller's value of each."""
        outside: dict[int, int] = {}
        given: list[object] = []
        for argument in arguments:
            inner = argument
            if isinstance(argument, ConcreteTensor) and argument.index in outside:
                inner = self.value(argument.shape)
                outside[inner.index] = argument.index
            outside.update({x.index: x.index for x in tensors(argument) if x.index not in outside})
            given.append(inner)
        return given, outside
