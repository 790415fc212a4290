"""Supernets: one module that holds the weights of every architecture of a space."""

from __future__ import annotations

import secrets
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import torch
from torch import Tensor, nn

from nasturtium.errors import InvalidInputError
from nasturtium.graph import operations as ops
from nasturtium.graph.operations import Operation, Shape
from nasturtium.graph.trace import Inputs, trace
from nasturtium.model.build import Network, Part, _assemble, _attach, build
from nasturtium.model.elastic import WEIGHTED, Cut, Elastic, initialize_elastic, take
from nasturtium.model.elastic_channels import Channels, Columns
from nasturtium.model.forms import cuts_of, has_own_state, has_state, widened
from nasturtium.model.gate import Gate
from nasturtium.model.initialize import isolated_random_state, path_generator, path_seed
from nasturtium.model.kernel_transform import Steps, elastic_kernels, shrink
from nasturtium.model.layers import layer
from nasturtium.model.mixing import Mixer
from nasturtium.model.mixture import mixable
from nasturtium.model.paths import Paths, Plan
from nasturtium.space import Architecture
from nasturtium.space.lowering import LIMIT, lower
from nasturtium.space.open_graph import Form, OpenGraph, OpenNode


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedWeight:
    """Where a weight of a closed architecture lives in the supernet."""

    name: str
    """Name of the supernet's parameter or buffer."""
    cut: Cut
    """The part of it, axis by axis."""
    steps: Steps = ()
    """For a kernel made of a larger one: the supernet's matrices that the part is put through, with the sides."""


class Supernet(nn.Module):
    """The weights of all architectures of an open block, and the way to run one, or a mixture, of them.

    The law: after `set(a)`, it computes exactly what `extract(a)` computes. Parameter names are "weights." and the
    path of the closed architecture, with the option's number after each field that is a choice between blocks
    ("layers.1.op" becomes "layers.1.op.0" and "layers.1.op.1"): options that are blocks never share weights, options
    that are numbers share by slicing.

    Training-only outputs are computed in both modes. Made by `supernet`.
    """

    def __init__(self, graph: OpenGraph, *, seed: int | None = None, kernel_transform: bool = False) -> None:
        super().__init__()
        self.graph = graph
        self.kernel_transform = kernel_transform
        self.weights = Part()
        self._gates: tuple[Gate, ...] = ()  # no child: its parameters are not weights
        self._channels = Channels(graph)
        self._layers: dict[int, str] = {}
        self._stateless: dict[tuple[Operation, tuple[Shape, ...]], Callable[..., Tensor]] = {}
        self._paths = Paths(graph, self._channels, self._call)
        self._indices: tuple[int, ...] = (0,) * len(graph.decisions)
        self._active: Plan | None = None
        self._mixable: dict[str, int] | None = None
        self._mixed: tuple[int, ...] = ()
        self._optimize = True
        self._recompute = False
        self._mixer = Mixer(graph, self._channels, self._paths, self._call)
        self._make_layers(secrets.randbits(62) if seed is None else seed)

    # Making

    def _make_layers(self, seed: int) -> None:
        groups: defaultdict[tuple[str, type[Operation]], list[OpenNode]] = defaultdict(list)
        for node in self.graph.nodes:
            if node.kind is ops.Opaque or (node.kind in WEIGHTED and has_state(node)):
                groups[node.path, node.kind].append(node)
        modules: dict[str, nn.Module] = {}
        for (path, kind), nodes in groups.items():
            name = path if path not in modules else f"{path}_{kind.kind}"
            if kind is ops.Opaque:
                form = nodes[0].variants[0]
                with isolated_random_state(path_seed(seed, name)):
                    made = layer(form.operation, *form.inputs)
                assert isinstance(made, nn.Module)
                modules[name] = made
            else:
                elastic = self._elastic(nodes)
                initialize_elastic(elastic, kind, path_generator(seed, name))
                modules[name] = elastic
            self._layers.update({node.number: name for node in nodes})
        for name, module in modules.items():
            _attach(self.weights, name, module, modules)

    def _elastic(self, nodes: list[OpenNode]) -> Elastic:
        shapes: dict[str, Shape] = {}
        channels = 0
        for node in nodes:
            gated = self._channels.is_gated(node.inputs[0])
            for form in node.variants:
                inputs = form.inputs
                own = dict(form.operation.weights(*inputs))
                extent = self._channels.extent(node.inputs[0]) if gated else inputs[0][0]
                if gated:
                    own = {name: widened(form, shape, extent) for name, shape in own.items()}
                channels = max(channels, extent)
                for name, shape in own.items():
                    before = shapes.get(name, (0,) * len(shape))
                    shapes[name] = tuple(map(max, before, shape))
        kernels = elastic_kernels(nodes) if self.kernel_transform else ()
        return Elastic(shapes, channels if nodes[0].kind is ops.BatchNorm else 0, kernels)

    def layer_of(self, node: OpenNode) -> tuple[str, nn.Module] | None:
        """Path below `weights`, and layer, of a node of `graph`; None for one without weights or statistics."""
        name = self._layers.get(node.number)
        return None if name is None else (name, self.weights.get_submodule(name))

    # Choosing

    def set(self, architecture: Architecture | Mapping[str, int]) -> Self:
        """Make an architecture the active path.

        Args:
            architecture: Of the supernet's space; or the index of each active decision, by name.

        Returns:
            This supernet.

        Raises:
            InvalidArchitectureError: it is not of the supernet's space.
            ShapeError: it cannot be traced.
        """
        decisions = architecture if isinstance(architecture, Mapping) else architecture.decisions
        indices = tuple(self.graph.indices(decisions))
        self._active = self._paths.plan(indices)
        self._indices = indices
        return self

    @property
    def gate(self) -> Gate | None:
        """What mixes; None for the single path. Its parameters are not among the supernet's: they are no weights."""
        return self._gates[0] if self._gates else None

    def train(self, mode: bool = True) -> Self:
        """Set the mode of all layers, and of the gate."""
        super().train(mode)
        gate: object = self.gate
        if isinstance(gate, nn.Module):
            gate.train(mode)
        return self

    @property
    def mixed(self) -> dict[str, int]:
        """Decisions that a gate can mix, with their number of options.

        Those that select among tensors of one shape, change the numbers of no operation, and do not say which shared
        channels stand in a concatenation.
        """
        if self._mixable is None:
            self._mixable = mixable(self.graph, self._channels)
        return dict(self._mixable)

    def mix(
        self,
        gate: Gate | None,
        decisions: list[str] | None = None,
        *,
        optimize: bool = True,
        recompute: bool = False,
    ) -> Self:
        """Mix the branches of decisions by a gate; the other decisions stay as `set` left them.

        Args:
            gate: Gives the weights; None to go back to the single path.
            decisions: Names of those to mix; None for all of `mixed`.
            optimize: Whether a mixture may be computed by another program with the same outputs and gradients, within
                rounding (where no gate takes single branches); False computes every layer as it stands in the graph.
            recompute: Whether that program keeps little for the gradient and computes the rest again, in about a
                quarter more time. No effect where no such program runs: without `optimize`, and under autocast.

        Returns:
            This supernet.

        Raises:
            InvalidInputError: a decision cannot be mixed: it changes the numbers of an operation (a width, a kernel),
                the shape of what it selects, or what stands in a concatenation.
        """
        possible = self.mixed
        names = list(possible) if decisions is None else decisions
        wrong = [name for name in names if name not in possible]
        if gate is not None and (wrong or not names):
            raise InvalidInputError(
                "A gate mixes decisions that select among tensors of one shape "
                f"({', '.join(possible) or 'none here'}), got {', '.join(wrong) or 'none'}: a decision that changes an "
                "operation's numbers, a shape, or what stands in a concatenation, has single paths only (`set`)."
            )
        positions = {d.name: i for i, d in enumerate(self.graph.decisions)}
        self._gates = () if gate is None else (gate,)
        self._mixed = tuple(sorted([positions[name] for name in names])) if gate is not None else ()
        self._optimize, self._recompute = optimize, recompute
        return self

    @contextmanager
    def recomputing(self, *, active: bool = True) -> Iterator[None]:
        """What is computed in this context keeps little for the gradient, as with `recompute` of `mix`.

        Args:
            active: Whether it does; False leaves everything as it is.
        """
        before, self._recompute = self._recompute, active or self._recompute
        try:
            yield
        finally:
            self._recompute = before

    # Running

    def forward(self, *inputs: Tensor, **named: Tensor) -> Any:
        """Run the active path, or the mixture.

        Args:
            *inputs: In the graph's order, each `(batch, *shape)`.
            **named: Inputs by name, instead.
        """
        given = [*inputs, *[named[name] for name in self.graph.inputs[len(inputs) :] if name in named]]
        if len(given) != len(self.graph.inputs):
            raise InvalidInputError(
                f"The supernet takes the inputs {', '.join(self.graph.inputs)}, got {len(inputs)} by position and "
                f"{', '.join(named) or 'none'} by name."
            )
        if self.gate is not None:
            outputs = self._mixer.run(
                self.gate, given, mixed=self._mixed, indices=self._indices, optimize=self._optimize,
                recompute=self._recompute,
            )  # fmt: skip
        elif self._active is None:
            raise InvalidInputError("Choose a path first: `supernet.set(architecture)(x)`.")
        else:
            outputs = self._active.run(given)
        return _assemble(self.graph.structure, outputs)

    def _call(self, node: OpenNode, form: Form, held: Columns) -> Callable[..., Tensor]:
        operation = form.operation
        name = self._layers.get(node.number)
        if name is not None and (node.kind is ops.Opaque or has_own_state(form)):
            module = self.weights.get_submodule(name)
            if node.kind is ops.Opaque:
                return module
            assert isinstance(module, Elastic)
            return partial(module, operation=operation, cuts=cuts_of(module, form, held))
        key = (operation, form.inputs)
        if key not in self._stateless:
            made = layer(operation, *form.inputs)
            self._stateless[key] = made
        made = self._stateless[key]
        if isinstance(operation, (ops.Dropout, ops.DropPath)):
            assert isinstance(made, nn.Module)
            return partial(self._in_mode, made)
        return made

    def _in_mode(self, module: nn.Module, x: Tensor) -> Tensor:
        module.training = self.training
        y: Tensor = module(x)
        return y

    # Taking out

    def shared_weights(self, architecture: Architecture) -> dict[str, SharedWeight]:
        """For each parameter and running statistic of the closed network, by its name: where the supernet has it."""
        resolved = self.graph.resolve(architecture)
        columns = self._channels.columns(resolved)
        found: dict[str, SharedWeight] = {}
        for step in resolved.steps:
            name = self._layers.get(step.node.number)
            if name is None:
                continue
            module = self.weights.get_submodule(name)
            if not isinstance(module, Elastic):
                for key, tensor in module.state_dict().items():
                    whole = (slice(None),) * tensor.ndim
                    found[f"{step.form.path}.{key}"] = SharedWeight(name=f"weights.{name}.{key}", cut=whole)
                continue
            held = columns[step.inputs[0]]
            steps = tuple([(f"weights.{name}.{key}", side) for key, side in module.steps(step.form.operation)])
            for key, cut in module.cuts(step.form.operation, step.form.inputs, held).items():
                found[f"{step.form.path}.{key}"] = SharedWeight(
                    name=f"weights.{name}.{key}", cut=cut, steps=steps if key == "weight" else ()
                )
            if step.node.kind is ops.BatchNorm:
                key = "num_batches_tracked"
                found[f"{step.form.path}.{key}"] = SharedWeight(name=f"weights.{name}.{key}", cut=())
        return found

    def parameters_of(self, architecture: Architecture) -> dict[str, Tensor]:
        """The trainable weights of an architecture by the names of the closed network: views of the shared ones.

        (Behind an open concatenation, and where kernels are made of larger ones, they are copies, through which
        gradients flow.)
        """
        shared = dict(self.named_parameters())
        return {
            name: _taken(shared, where)
            for name, where in self.shared_weights(architecture).items()
            if where.name in shared
        }

    @torch.no_grad()
    def extract(self, architecture: Architecture) -> Network:
        """The ordinary network of an architecture (`build(trace(architecture, …))`) with copies of the shared weights.

        Weights that have no effect on the outputs are not in the supernet and keep the initial values of `build`.
        Running statistics are the shared ones: recalibrate them (`nas.supernets.recalibrate`) before measuring.

        Raises:
            InvalidArchitectureError: the architecture is not of the supernet's space.
        """
        shapes = dict(zip(self.graph.inputs, self.graph.input_shapes, strict=True))
        places = self.shared_weights(architecture)
        network = build(trace(architecture, shapes, **self.graph.context.to_dict()), seed=0, given=places)
        state, shared = network.state_dict(), self.state_dict()
        for name, where in places.items():
            state[name].copy_(_taken(shared, where))
        first = next(self.parameters(), None)
        if first is not None:
            network.to(first.device)
        return network.train(self.training)


def supernet(
    space: Any,
    inputs: Inputs,
    *,
    seed: int | None = None,
    limit: int = LIMIT,
    kernel_transform: bool = False,
    **context: object,
) -> Supernet:
    """Make the supernet of a space: the weights of all its architectures, shared.

    Args:
        space: A `Space`, or an open block.
        inputs: Shape of the input without the batch, or several; as for `trace`.
        seed: Of the initial weights; None draws fresh ones. The global random state is not used.
        limit: Most variants of one block's `forward`.
        kernel_transform: Whether the smaller kernels of a depthwise convolution are made of the larger ones by
            trainable matrices, as in Once-for-All (`nasturtium.model.kernel_transform`), instead of being their
            centres; at first the two are the same.
        **context: What the task tells the network, for example `classes=10`.

    Returns:
        The supernet, in training mode, without an active path: `set` one.

    Raises:
        TraceError: a `forward` has too many variants, or returns differently nested outputs; see `lower`.

    Example:
        >>> import random, torch
        >>> import nasturtium as nas
        >>> space = nas.Space(nas.Sequential(nas.Conv(nas.one_of(4, 8)), nas.Classifier(classes=3)))
        >>> net = nas.supernet(space, (1, 8, 8), seed=0).eval()
        >>> a, x = space.sample(random.Random(0)), torch.ones(2, 1, 8, 8)
        >>> torch.equal(net.set(a)(x), net.extract(a)(x))
        True
    """
    return Supernet(lower(space, inputs, limit=limit, **context), seed=seed, kernel_transform=kernel_transform)


def _taken(shared: Mapping[str, Tensor], where: SharedWeight) -> Tensor:
    """A weight of a closed architecture, out of the supernet's by name."""
    weight = take(shared[where.name], where.cut)
    for name, side in where.steps:
        weight = shrink(weight, shared[name], side)
    return weight
