"""The searched parts of an architecture, each traced alone as a small graph of operations.

A cell that is repeated through a network is one searched part: its graph has a dozen operations where the network's has
hundreds, and it holds all that the search decides about structure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from inspect import Parameter, signature
from random import Random
from typing import Any

from nasturtium.errors import InvalidInputError, NasturtiumError
from nasturtium.graph import Graph, trace
from nasturtium.graph.operations import Add, Input, Zero
from nasturtium.graph.tensor import Tensor
from nasturtium.space import Architecture, Block, Space
from nasturtium.space.block import Open, is_open

PROBE = (16, 8, 8)
"""Shape on which a part is traced; structure is looked at, not size."""
CLASSES = 10
MOST_PARTS = 12
REMEMBERED = 20_000
"""Parts whose graphs are kept; then all are forgotten, so that memory stays flat."""

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class OperationGraph:
    """A part as a graph of its parametrised steps.

    Zeros are removed with all that follows from them alone, sums are flattened into their readers, and a chain of
    operations with one reader each is one node. Nodes stand in the order of execution.
    """

    labels: tuple[str, ...]
    """What each node computes; inputs are "input 0" …, the last is "output"."""
    sources: tuple[tuple[int, ...], ...]
    """Nodes that each node reads; a node may stand there several times."""

    def paths(self, limit: int) -> Iterator[tuple[str, ...]]:
        """The sequences of labels from an input to the output, without either end.

        Raises:
            InvalidInputError: there are more than `limit`.
        """
        found: list[list[tuple[str, ...]]] = []
        for label, sources in zip(self.labels, self.sources, strict=True):
            tail = () if label == "output" else (label,)
            reached = [(*path, *tail) for s in sources for path in found[s]]
            found.append(reached if not label.startswith("input ") else [()])
            if len(found[-1]) > limit:
                raise InvalidInputError(f"A part has more than {limit:,} paths; take the encoding 'wl' or 'decisions'.")
        yield from found[-1]


class Parts:
    """Finds and traces the searched parts of a space's architectures.

    Args:
        space: Whose architectures.

    Raises:
        InvalidInputError: its parts cannot be traced alone, or there are more than `MOST_PARTS`; says why.
    """

    def __init__(self, space: Space) -> None:
        self._paths = _searched(space.block)
        if not 0 < len(self._paths) <= MOST_PARTS:
            raise InvalidInputError(
                f"The graph encodings look at 1 to {MOST_PARTS} searched parts (cells, stages), this space has "
                f"{len(self._paths)}; take the encoding 'decisions'."
            )
        self._known: dict[tuple[int, int], tuple[Block, OperationGraph]] = {}
        rng = Random("parts")
        for _ in range(3):  # so that what cannot be traced is found before a search begins
            self.graphs(space.sample(rng))

    def __len__(self) -> int:
        return len(self._paths)

    def graphs(self, architecture: Architecture) -> list[tuple[int, OperationGraph]]:
        """(number of the part, its graph); a part that was chosen as several blocks gives several.

        Raises:
            InvalidInputError: a part cannot be traced alone.
        """
        return [
            (number, self._graph(number, block))
            for number, path in enumerate(self._paths)
            for block in _blocks(_follow(architecture.block, path))
        ]

    def _graph(self, number: int, block: Block) -> OperationGraph:
        key = (number, id(block))  # equal parts of one space's architectures are one object; held, so that ids last
        if key not in self._known:
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            self._known[key] = (block, operation_graph(self._traced(number, block)))
        return self._known[key][1]

    def _traced(self, number: int, block: Block) -> Graph:
        try:
            call = _Call(block, _arguments(block))
            tensors = sum(a is None for a in call.arguments)
            return trace(call, PROBE if tensors == 1 else (PROBE,) * tensors, classes=CLASSES)
        except (NasturtiumError, TypeError) as error:
            raise InvalidInputError(
                f"The part {self._paths[number]!r} ({type(block).__name__}) cannot be traced alone on inputs of "
                f"{PROBE}: {error} Take the encoding 'decisions'."
            ) from error


class _Call(Block):
    """A part called as its network calls it: with tensors, and with a width and a stride where it takes them."""

    part: Any
    arguments: tuple[Any, ...]
    """None stands for a tensor."""

    def forward(self, *xs: Tensor) -> Any:
        given = iter(xs)
        return self.part(*[next(given) if a is None else a for a in self.arguments])


def _arguments(block: Block) -> tuple[Any, ...]:
    """What to call a part with, from the annotations of its `forward`."""
    found: list[Any] = []
    for parameter in list(signature(type(block).forward).parameters.values())[1:]:
        kind = str(parameter.annotation)
        if parameter.default is not Parameter.empty or parameter.kind is Parameter.VAR_KEYWORD:
            continue
        if parameter.kind is Parameter.VAR_POSITIONAL or "Tensor" in kind or kind == "Any":
            found.append(None)
        elif kind == "int":
            found.append(1 if "stride" in parameter.name else PROBE[0])
        elif kind == "bool":
            found.append(False)
        else:
            raise InvalidInputError(f"its `forward` takes {parameter.name!r} of the type {kind}, which is not known.")
    return tuple(found)


def operation_graph(graph: Graph) -> OperationGraph:
    """The graph of parametrised steps of a traced part."""
    readers = [0] * len(graph.nodes)
    for node in graph.nodes:
        for i in node.inputs:
            readers[i] += 1
    for output in graph.outputs:
        readers[output.node] += 1
    labels: list[str] = []
    sources: list[tuple[int, ...]] = []
    values: list[tuple[int, ...]] = []  # for each traced node the steps whose sum it is; none for zero
    for i, node in enumerate(graph.nodes):
        read = tuple(s for j in node.inputs for s in values[j])
        if isinstance(node.operation, Zero):
            values.append(())
        elif isinstance(node.operation, Add):
            values.append(read)
        elif isinstance(node.operation, Input):
            labels.append(f"input {i}")
            sources.append(())
            values.append((len(labels) - 1,))
        elif not read:
            values.append(())
        elif _continues(graph, readers, node.inputs, values):
            labels[read[0]] += f" {node.operation!r}"
            values.append(read)
        else:
            labels.append(repr(node.operation))
            sources.append(read)
            values.append((len(labels) - 1,))
    labels.append("output")
    sources.append(tuple(s for output in graph.outputs for s in values[output.node]))
    return _reaching(labels, sources)


def _continues(
    graph: Graph,
    readers: Sequence[int],
    inputs: Sequence[int],
    values: Sequence[tuple[int, ...]],
) -> bool:
    """Whether a node goes on with the chain of the only node that it reads, and alone reads."""
    if len(inputs) != 1 or readers[inputs[0]] != 1 or len(values[inputs[0]]) != 1:
        return False
    return not isinstance(graph.nodes[inputs[0]].operation, (Input, Add, Zero))


def _reaching(labels: Sequence[str], sources: Sequence[tuple[int, ...]]) -> OperationGraph:
    """Without the nodes that the output does not depend on."""
    needed = {len(labels) - 1}
    for i in range(len(labels) - 1, -1, -1):
        if i in needed:
            needed.update(sources[i])
    kept = [i for i in range(len(labels)) if i in needed or labels[i].startswith("input ")]
    place = {i: at for at, i in enumerate(kept)}
    return OperationGraph(tuple(labels[i] for i in kept), tuple(tuple(place[s] for s in sources[i]) for i in kept))


def _searched(root: Block | Open) -> list[Path]:
    """Paths of the outermost open values below the root that hold blocks, each with decisions of its own."""
    if not isinstance(root, Block):
        return [()]
    found: list[Path] = []
    met: set[int] = set()

    def look(value: Any, path: Path) -> None:
        if isinstance(value, tuple):
            for i, item in enumerate(value):
                look(item, (*path, i))
        elif (isinstance(value, Block) and value.is_open) or (isinstance(value, Open) and _holds_blocks(value)):
            choices = {id(d.choice) for d in Space(value).decisions}
            if not choices <= met:  # one cell at several widths is searched once
                met.update(choices)
                found.append(path)

    for each in fields(root):  # type: ignore[arg-type]
        look(getattr(root, each.name), (each.name,))
    return found


def _holds_blocks(value: object) -> bool:
    options = getattr(value, "options", getattr(value, "items", ()))
    items = options if isinstance(options, tuple) else ()
    return any(isinstance(o, Block) or (is_open(o) and _holds_blocks(o)) for o in items)


def _follow(block: Any, path: Path) -> Any:
    for step in path:
        block = getattr(block, step) if isinstance(step, str) else block[step]
    return block


def _blocks(value: Any) -> Iterator[Block]:
    if isinstance(value, Block):
        yield value
    elif isinstance(value, tuple):
        for item in value:
            yield from _blocks(item)
