"""From a graph to an `nn.Module`."""

from __future__ import annotations

import secrets
from collections.abc import Container
from typing import Any

from torch import Tensor, nn

from nasturtium.errors import InvalidInputError, TraceError
from nasturtium.graph.graph import Graph, Node
from nasturtium.graph.operations import Opaque
from nasturtium.model.initialize import initialize, isolated_random_state, path_generator, path_seed
from nasturtium.model.layers import Layer, layer

Step = tuple[dict[str, Any], str, tuple[int, ...], int, tuple[int, ...]]
"""(the parent's children, the layer's name in it, values read, value written, values that nobody reads later)."""


class Part(nn.Module):
    """A named part of a network: it holds layers, and the network's plan runs them.

    `model.layers[2]` and `getattr(model.layers, "2")` are the same child.
    """

    def __getitem__(self, name: int | str) -> nn.Module:
        return self.get_submodule(str(name))

    def __setattr__(self, name: str, value: Any) -> None:
        held = self.__dict__.get("_modules", {}).get(name)
        if isinstance(held, Part) and value is not held:
            raise InvalidInputError(
                f"{name!r} is a part whose layers the network calls one by one, so it cannot be replaced as a whole, "
                f"got {value!r}. Replace the layers in it ({', '.join(held._modules)})."
            )
        super().__setattr__(name, value)


class Network(Part):
    """A graph as a PyTorch module; made by `build`.

    Parameter names are the graph's weight paths. `forward` takes the inputs in the graph's order, or by name, each
    `(batch, *shape)`, and returns what the block's `forward` returned: a tensor, or nested tuples and dicts.

    Training-only outputs (auxiliary heads) are returned in training mode, and neither computed nor returned in
    evaluation mode: there they are taken out of their tuple or dict, what becomes empty goes too, and a tuple that
    is left with one item is that item. So `(logits, training_only(auxiliary))` gives a pair in training and
    `logits` in evaluation. (A network all of whose outputs are training-only returns the empty tuple.)

    Each layer is looked up in its parent when it is called: `model.head.linear = nn.Linear(...)` does what it says,
    and hooks on layers run. A tensor is let go after its last use.
    """

    def __init__(self, graph: Graph, layers: dict[int, Layer], paths: dict[int, str]) -> None:
        super().__init__()
        self._input_names = graph.inputs
        self._description = ", ".join(f"{name}={graph.nodes[i].shape}" for i, name in enumerate(graph.inputs))
        modules = {paths[i]: made for i, made in layers.items() if isinstance(made, nn.Module)}
        for path, module in modules.items():
            _attach(self, path, module, modules)
        calls = {i: _call(self, paths[i], made) for i, made in layers.items()}
        every = range(len(graph.nodes))
        self._training_plan = _plan(graph, calls, every), graph.structure
        self._evaluation_plan = _plan(graph, calls, graph.costed), evaluation_structure(graph)
        self._outputs = tuple(o.node for o in graph.outputs)
        self._size = len(graph.nodes)

    def forward(self, input: Tensor | None = None, *others: Tensor, **named: Tensor) -> Any:  # noqa: A002
        """Run the network.

        Args:
            input: The first input, `(batch, *shape)`.
            *others: The others, in the graph's order.
            **named: Inputs by name, instead.
        """
        values: list[Any] = [None] * self._size
        if others or named or input is None or len(self._input_names) != 1:
            values[: len(self._input_names)] = self._arguments(input, others, named)
        else:
            values[0] = input
        plan, structure = self._training_plan if self.training else self._evaluation_plan
        for holder, name, reads, writes, dead in plan:
            if len(reads) == 1:
                values[writes] = holder[name](values[reads[0]])
            else:
                values[writes] = holder[name](*[values[i] for i in reads])
            for i in dead:
                values[i] = None
        if structure == 0:
            return values[self._outputs[0]]
        return _assemble(structure, [values[i] for i in self._outputs])

    def _arguments(self, first: Tensor | None, others: tuple[Tensor, ...], named: dict[str, Tensor]) -> list[Tensor]:
        """The inputs in the graph's order."""
        names = self._input_names
        positional = () if first is None else (first, *others)
        if first is not None and not others and "input" in names[1:] and names[0] in named:
            given = {"input": first}  # `model(left=…, input=…)`: Python takes it for the first parameter
        else:
            given = dict(zip(names, positional, strict=False))
        count = len(positional) + len(named)
        given.update(named)
        if count != len(names) or set(given) != set(names):
            raise InvalidInputError(
                f"The network takes {len(names)} inputs ({', '.join(names)}), by position or by name; got "
                f"{len(positional)} by position and {', '.join(named) or 'none'} by name."
            )
        return [given[name] for name in names]

    def extra_repr(self) -> str:
        """The inputs with their shapes (without the batch)."""
        return self._description


def build(graph: Graph, *, seed: int | None = None, given: Container[str] = ()) -> Network:
    """Make the PyTorch module of a graph, in training mode, with drawn weights.

    The module trains, copies, pickles, compiles (`torch.compile(model, fullgraph=True)`) and exports
    (`torch.export`) like any other. Nodes that share a path share the layer and its weights. Layers are made on the
    current default device (`with torch.device("cuda"):`), in the current default dtype; weights are drawn on the CPU,
    so they do not depend on the device. On the meta device none are drawn.

    Operations whose result reaches no output run too, because the graph's costs count them. Weights behind a `zero`
    get no gradient: `DistributedDataParallel` then needs `find_unused_parameters=True`.

    Args:
        graph: Made by `trace`.
        seed: Of the weights: those at a path depend only on (seed, path, shape), see `model.initialize`.
            None draws fresh ones each time. The global random state is neither used nor changed; a user's own
            modules (`nas.Module`) draw from the global generator, which is seeded for them and then restored.
        given: Names of weights that the caller writes afterwards: a layer that has no others is not drawn, which is
            most of the time that a large network takes to make. Until then they are as allocated.

    Returns:
        A module whose parameter names are the graph's weight paths ("layers.2.blocks.0.expand.conv.weight").

    Raises:
        TraceError: two nodes of one path do not fit one layer, or a name cannot be an attribute of a module.
    """
    seed = secrets.randbits(62) if seed is None else seed
    made: dict[str, tuple[Node, tuple[tuple[int, ...], ...], Layer]] = {}
    layers: dict[int, Layer] = {}
    paths: dict[int, str] = {}
    for index, node in enumerate(graph.nodes):
        if index < len(graph.inputs):
            continue
        shapes = graph.input_shapes(node)
        path = node.path
        while path in made and not _fits(made[path], node, shapes):
            path += "_"
        if path not in made:
            made[path] = (node, shapes, _layer(node, shapes, seed, path, given))
        layers[index] = made[path][2]
        paths[index] = path
    return Network(graph, layers, paths)


def _layer(node: Node, shapes: tuple[tuple[int, ...], ...], seed: int, path: str, given: Container[str]) -> Layer:
    if isinstance(node.operation, Opaque):
        with isolated_random_state(path_seed(seed, node.path)):
            return layer(node.operation, *shapes)
    made = layer(node.operation, *shapes)
    if isinstance(made, nn.Module) and any(f"{path}.{name}" not in given for name, _ in made.named_parameters()):
        initialize(made, path_generator(seed, node.path))
    return made


def _fits(before: tuple[Node, tuple[tuple[int, ...], ...], Layer], node: Node, shapes: tuple[Any, ...]) -> bool:
    """Whether the layer at a path serves a further node; a layer without state may get a path of its own."""
    other, other_shapes, made = before
    same = other.operation == node.operation
    if not isinstance(made, nn.Module):
        return same
    weights = node.operation.weights(*shapes)
    stateful = any(True for _ in made.parameters()) or any(True for _ in made.buffers())
    equal = other.operation.weights(*other_shapes) == weights and _channels(other_shapes) == _channels(shapes)
    if same and (equal or not stateful):
        return True
    if stateful or weights:
        raise TraceError(
            f"Two operations at {node.path!r} cannot share one layer: {other.operation!r} on {other_shapes} and "
            f"{node.operation!r} on {shapes}. One block that is called twice shares its weights, so it must be "
            "called on equal numbers of channels; or give each call a block of its own."
        )
    return False


def _channels(shapes: tuple[Any, ...]) -> list[tuple[int, int]]:
    return [(len(shape), shape[0]) for shape in shapes]


def _attach(root: Part, path: str, module: nn.Module, modules: dict[str, nn.Module]) -> None:
    """Put a layer at its path, with parts (or, rarely, other layers) above it."""
    owner: nn.Module = root
    *parents, last = path.split(".")
    for i, name in enumerate(parents):
        held = owner._modules.get(name)
        if held is None:
            held = modules.get(".".join(parents[: i + 1])) or Part()
            _name(owner, name, held, path)
        owner = held
    if last not in owner._modules:
        _name(owner, last, module, path)


def _name(owner: nn.Module, name: str, module: nn.Module, path: str) -> None:
    try:
        owner.add_module(name, module)
    except KeyError as error:
        raise TraceError(
            f"{name!r} in {path!r} is taken by `torch.nn.Module` or by a weight: give this operation, field or scope "
            "another name."
        ) from error


def _call(root: nn.Module, path: str, made: Layer) -> tuple[dict[str, Any], str]:
    """Where `forward` finds a layer: in its parent's children, so that a replaced one is called."""
    if not isinstance(made, nn.Module):
        return {"": made}, ""
    parent, _, name = path.rpartition(".")
    return root.get_submodule(parent)._modules, name


def _plan(graph: Graph, calls: dict[int, tuple[dict[str, Any], str]], nodes: Any) -> tuple[Step, ...]:
    """The steps of the given nodes, each with the values that it reads last."""
    keep = {o.node for o in graph.outputs}
    steps: list[Step] = []
    read: set[int] = set()
    for index in reversed(nodes):
        if index not in calls:
            continue
        reads = graph.nodes[index].inputs
        dead = tuple({i: None for i in reads if i not in read and i not in keep})
        if index not in read and index not in keep:
            dead = (*dead, index)
        read.update(reads)
        steps.append((*calls[index], reads, index, dead))
    return tuple(reversed(steps))


def evaluation_structure(graph: Graph) -> object:
    """Nesting of the outputs in evaluation mode: without the training-only ones, by the rule of `Network`."""
    kept = _kept(graph.structure, {i for i, o in enumerate(graph.outputs) if o.node in graph.training_only})
    return () if kept is None else kept


def _kept(structure: object, dropped: set[int]) -> object | None:
    if isinstance(structure, int):
        return None if structure in dropped else structure
    if isinstance(structure, dict):
        named = {key: kept for key, value in structure.items() if (kept := _kept(value, dropped)) is not None}
        return named or None
    assert isinstance(structure, tuple)
    items = tuple(kept for value in structure if (kept := _kept(value, dropped)) is not None)
    if len(items) < len(structure) and len(items) <= 1:
        return items[0] if items else None
    return items


def _assemble(structure: object, outputs: list[Tensor]) -> Any:
    if isinstance(structure, int):
        return outputs[structure]
    if isinstance(structure, dict):
        return {key: _assemble(value, outputs) for key, value in structure.items()}
    return tuple([_assemble(value, outputs) for value in structure])  # type: ignore[attr-defined]
