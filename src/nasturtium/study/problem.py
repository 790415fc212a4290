"""What a strategy is asked to solve: the space, the wishes, and what is known of a network before it is trained."""

from __future__ import annotations

from collections.abc import Mapping

from nasturtium.graph import CostModel, trace
from nasturtium.space import Architecture
from nasturtium.study.arguments import Setup
from nasturtium.trial import Problem

CHEAP = ("params", "macs", "activations", "peak_memory")


def problem_of(setup: Setup) -> Problem:
    """The problem of a search; costs and canonical hashes are remembered for as long as it lives."""
    inputs, context = tuple(setup.task.input_shape), setup.task.context
    model = CostModel(inputs, **context)
    keys: dict[Architecture, str] = {}

    def cheap(architecture: Architecture) -> Mapping[str, float]:
        cost = model(architecture.block)
        return {name: float(getattr(cost, name)) for name in CHEAP}

    def key(architecture: Architecture) -> str:
        if architecture not in keys:
            keys[architecture] = trace(architecture, inputs, **context).canonical_hash
        return keys[architecture]

    return Problem(
        space=setup.space,
        objectives=setup.objectives,
        constraints=setup.constraints,
        seed=setup.options.seed,
        trials=setup.options.trials,
        cheap_metrics=cheap,
        key=key,
    )
