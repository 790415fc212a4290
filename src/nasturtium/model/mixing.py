"""How a supernet runs its mixtures: one executor for each set of decisions that are not mixed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from nasturtium.model.elastic_channels import Channels, Columns
from nasturtium.model.fast_mixture import FastExecutor
from nasturtium.model.gate import Gate, Hard
from nasturtium.model.latest import Latest
from nasturtium.model.mixture import Executor, PlainExecutor, write_program
from nasturtium.model.paths import Paths
from nasturtium.space.open_graph import Form, OpenGraph, OpenNode

EXECUTORS = 8
"""Executors remembered; of more, those that were used longest ago are made anew."""


class Mixer:
    """Runs mixtures.

    Args:
        graph: The supernet's.
        channels: Its shared channels.
        paths: Its paths, for gates that take one.
        layer: Makes what computes a form of a node, from the shared channels that its first input holds.
    """

    def __init__(
        self,
        graph: OpenGraph,
        channels: Channels,
        paths: Paths,
        layer: Callable[[OpenNode, Form, Columns], Callable[..., Tensor]],
    ) -> None:
        self.graph, self.channels, self.paths, self.layer = graph, channels, paths, layer
        self._executors: Latest[tuple[tuple[int, ...], tuple[int, ...], bool], Executor] = Latest(EXECUTORS)

    def run(
        self,
        gate: Gate,
        inputs: Sequence[Tensor],
        *,
        mixed: Sequence[int],
        indices: Sequence[int],
        optimize: bool,
        recompute: bool,
    ) -> list[Tensor]:
        """Outputs where each mixed decision's branches are added up by weight.

        Args:
            gate: Gives the weights.
            inputs: `(batch, *shape)`.
            mixed: Positions of the decisions that are mixed, increasing.
            indices: Index of every other decision, by position.
            optimize: Whether passes that keep outputs and gradients may rewrite the program.
            recompute: Whether a rewritten program keeps little for the gradient.
        """
        decisions = self.graph.decisions
        weights = {p: gate.weights(decisions[p].name, decisions[p].count) for p in mixed}
        path = [given.index if isinstance(given, Hard) and not given.wanted else None for given in weights.values()]
        if None not in path:
            chosen = dict(zip(weights, path, strict=True))
            taken = tuple([chosen.get(p, index) for p, index in enumerate(indices)])
            return self.paths.plan(taken).run(inputs)  # type: ignore[arg-type]
        fast = optimize and not any(isinstance(given, Hard) for given in weights.values())
        fixed = tuple([0 if p in weights else index for p, index in enumerate(indices)])

        def make() -> Executor:
            program = write_program(self.graph, self.channels, mixed, fixed, self.layer)
            return FastExecutor(program) if fast else PlainExecutor(program)

        executor = self._executors.get((fixed, tuple(mixed), fast), make)
        if recompute and isinstance(executor, FastExecutor):
            return executor(inputs, weights, recompute=True)
        return executor(inputs, weights)
