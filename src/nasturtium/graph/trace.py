"""Lowering of a closed block to a flat graph of primitive operations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, cast

from nasturtium.errors import NasturtiumError, ShapeError, TraceError
from nasturtium.graph.graph import Graph, Node, Output
from nasturtium.graph.operations import Input, Operation, Shape
from nasturtium.graph.tensor import ConcreteTensor, Context, Tensor, tensors

Inputs = tuple[int, ...] | list[int] | tuple[tuple[int, ...], ...] | Mapping[str, tuple[int, ...]]


class Traceable(Protocol):
    """What can be traced: a closed block (see `nasturtium.space.Block`), or whatever stands for one."""

    def forward(self, *xs: Any) -> Any:
        """Compute on symbolic tensors."""
        ...


class Designed(Protocol):
    """Whatever was decided to be one closed block: an `Architecture`."""

    @property
    def block(self) -> Traceable:
        """The closed block."""
        ...


def child_name(parent: object, child: object, used: dict[int, int]) -> str | None:
    """Path of a child block in its parent's fields ("layers.2"), or None where the parent does not hold it.

    Each place holds an object of its own (`Block` sees to it), so the object tells the place; a second call of it
    takes the same place again, which ties the weights.

    Args:
        parent: The block whose `forward` runs.
        child: The block that is called.
        used: Calls so far by `id(child)`; updated.
    """
    places = getattr(parent, "child_paths", None)
    if places is None:
        return None
    paths = places().get(id(child))
    if paths is None:
        return None
    turn = used.get(id(child), 0)
    used[id(child)] = turn + 1
    return paths[min(turn, len(paths) - 1)]


def snake_case(name: str) -> str:
    """`MBConv` to `mb_conv`."""
    letters = []
    for i, c in enumerate(name):
        boundary = i and c.isupper() and (not name[i - 1].isupper() or name[i + 1 : i + 2].islower())
        letters.append(("_" if boundary else "") + c.lower())
    return "".join(letters)


class Scope:
    """One level of names: its full prefix, and how often each name was used in it."""

    __slots__ = ("calls", "names", "owner", "prefix", "tracer")

    def __init__(self, tracer: FlatTracer, prefix: str, owner: object) -> None:
        self.tracer = tracer
        self.prefix = prefix
        self.owner = owner
        self.names: dict[str, int] = {}
        self.calls: dict[int, int] = {}

    def path(self, name: str) -> str:
        """A path that is free in this scope: `name`, `name_1`, `name_2` and so on."""
        count = self.names.get(name, 0)
        self.names[name] = count + 1
        return f"{self.prefix}{name}_{count}" if count else self.prefix + name

    def __enter__(self) -> None:
        self.tracer.scopes.append(self)

    def __exit__(self, *exception: object) -> None:
        self.tracer.scopes.pop()


class FlatTracer:
    """Records every operation of a closed network as a node."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.nodes: list[Node] = []
        self.scopes: list[Scope] = [Scope(self, "", None)]

    def apply(self, operation: Operation, inputs: tuple[Tensor, ...], name: str) -> Tensor:
        """Add one operation and return its output."""
        try:
            shape = operation.shape(*[x.shape for x in inputs])
        except ShapeError as error:
            raise ShapeError(f"{error} (at `{self.scopes[-1].prefix}{name}`)") from None
        index = len(self.nodes)
        self.nodes.append(Node(operation, tuple([x.index for x in inputs]), shape, self.scopes[-1].path(name)))
        return ConcreteTensor(self, index, shape)

    def scope(self, name: str) -> Scope:
        """Open a named part of the network."""
        current = self.scopes[-1]
        return Scope(self, current.path(name) + ".", current.owner)

    def call(self, block: object, arguments: tuple[object, ...]) -> object:
        """Run a child block's `forward` under its own name."""
        current = self.scopes[-1]
        name = child_name(current.owner, block, current.calls)
        path = current.path(snake_case(type(block).__name__)) if name is None else current.prefix + name
        with Scope(self, path + ".", block):
            return block.forward(*arguments)  # type: ignore[attr-defined]


def trace(block: Traceable | Designed, inputs: Inputs, **context: object) -> Graph:
    """Lower a closed block, or an architecture, to the graph of its primitive operations.

    Args:
        block: A closed block or an `Architecture`.
        inputs: Shape of the input without the batch, `(channels, height, width)`; several as a tuple of shapes or a
            mapping from name to shape.
        **context: What the task tells the network, for example `classes=10`.

    Returns:
        The graph; its inputs are called "input", or "input.0" …, or as the mapping says.

    Raises:
        TraceError: the block has open choices, or returns something else than tensors.
        ShapeError: the inputs do not fit an operation; the message names it.
    """
    block = closed(block)
    if getattr(block, "is_open", False):
        raise TraceError(
            f"A graph is made of a closed block, but this {type(block).__name__} has open choices: "
            "draw an architecture with `Space(block).sample(rng)` and trace that."
        )
    shapes = named_shapes(inputs)
    tracer = FlatTracer(Context(**context))
    arguments = [tracer.apply(Input(shape), (), name) for name, shape in shapes.items()]
    tracer.scopes[0] = Scope(tracer, "", block)
    try:
        result = block.forward(*arguments)
    except (NasturtiumError, RecursionError):
        raise
    except Exception as error:
        where = tracer.scopes[-1].prefix.rstrip(".") or "the outermost block"
        raise TraceError(
            f"`forward` of {type(block).__name__} failed at {where!r} with {type(error).__name__}: {error}."
        ) from error
    return Graph(
        nodes=tuple(tracer.nodes),
        inputs=tuple(shapes),
        outputs=tuple(named_outputs(result)),
        structure=structure_of(result),
        context=tracer.context,
    )


def closed(block: Traceable | Designed) -> Traceable:
    """The block itself, or that of an architecture."""
    return cast("Traceable", block if hasattr(block, "forward") else block.block)


def named_shapes(inputs: Inputs) -> dict[str, Shape]:
    """Input shapes by name, from any of the forms that `trace` takes.

    Raises:
        TraceError: a shape is not made of positive integers.
    """
    if isinstance(inputs, Mapping):
        shapes = {name: tuple(shape) for name, shape in inputs.items()}
    elif inputs and isinstance(inputs[0], (tuple, list)):
        shapes = {f"input.{i}": tuple(shape) for i, shape in enumerate(inputs)}
    else:
        shapes = {"input": cast("Shape", tuple(inputs))}
    for name, shape in shapes.items():
        if not shape or not all(isinstance(n, int) and n > 0 for n in shape):
            raise TraceError(f"Input {name!r} must have a shape of positive integers without the batch, got {shape!r}.")
    return shapes


def named_outputs(result: object, name: str = "output") -> list[Output]:
    """Outputs with their names, in order: "output", "output.0" …, or the dict's keys."""
    if isinstance(result, Tensor):
        return [Output(name, result.index)]
    if isinstance(result, (tuple, list)):
        return [o for i, item in enumerate(result) for o in named_outputs(item, f"{name}.{i}")]
    if isinstance(result, dict):
        prefix = "" if name == "output" else name + "."
        return [o for key, item in result.items() for o in named_outputs(item, f"{prefix}{key}")]
    raise TraceError(f"`forward` must return tensors, tuples or dicts of them, got {result!r} at {name!r}.")


def structure_of(result: object) -> object:
    """The nesting of the outputs, with output numbers for tensors."""
    order = iter(range(len(list(tensors(result)))))

    def build(value: object) -> object:
        if isinstance(value, Tensor):
            return next(order)
        if isinstance(value, dict):
            return {key: build(item) for key, item in value.items()}
        return tuple(build(item) for item in value)  # type: ignore[attr-defined]

    return build(result)
