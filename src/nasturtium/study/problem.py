"""What a strategy is asked to solve: the space, the wishes, and what is known of a network before it is trained."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from nasturtium.estimators.protocol import Described
from nasturtium.graph import Cost, CostModel, trace
from nasturtium.space import Architecture
from nasturtium.study.arguments import Setup
from nasturtium.trial import Problem

CHEAP = ("params", "macs", "activations", "peak_memory", "irregularity", "kernels")


class CheapMetrics(Mapping[str, float]):
    """The costs of a network by name; each is worked out when it is read.

    Args:
        cost: Of the network.
    """

    def __init__(self, cost: Cost) -> None:
        self._cost = cost

    def __getitem__(self, name: str) -> float:
        if name not in CHEAP:
            raise KeyError(name)
        return float(getattr(self._cost, name))

    def __contains__(self, name: object) -> bool:
        return name in CHEAP

    def __iter__(self) -> Iterator[str]:
        return iter(CHEAP)

    def __len__(self) -> int:
        return len(CHEAP)


def problem_of(setup: Setup) -> Problem:
    """The problem of a search; costs and canonical hashes are remembered for as long as it lives.

    Where the estimator is `Described` (a table), identity and costs are those that it knows.
    """
    if isinstance(setup.estimator, Described):
        return _problem(setup, setup.estimator.cheap_metrics, setup.estimator.key)
    inputs, context = tuple(setup.task.input_shape), setup.task.context
    model = CostModel(inputs, **context)
    keys: dict[Architecture, str] = {}

    def cheap(architecture: Architecture) -> Mapping[str, float]:
        return CheapMetrics(model(architecture.block))

    def key(architecture: Architecture) -> str:
        if architecture not in keys:
            keys[architecture] = trace(architecture, inputs, **context).canonical_hash
        return keys[architecture]

    return _problem(setup, cheap, key)


def _problem(
    setup: Setup, cheap: Callable[[Architecture], Mapping[str, float]], key: Callable[[Architecture], str]
) -> Problem:
    return Problem(
        space=setup.space,
        objectives=setup.objectives,
        constraints=setup.constraints,
        seed=setup.options.seed,
        trials=setup.options.trials,
        cheap_metrics=cheap,
        key=key,
    )
