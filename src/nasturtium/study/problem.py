"""What a strategy is asked to solve: the space, the wishes, and what is known of a network before it is trained."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from nasturtium.estimators.protocol import Described
from nasturtium.graph import Cost, CostModel, trace
from nasturtium.space import Architecture
from nasturtium.study.arguments import Setup
from nasturtium.study.device_costs import CheapOnDevices
from nasturtium.study.scores import Scores, WithScores, asked_of, check_names
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


def problem_of(
    setup: Setup,
    folder: Path | None = None,
    *,
    features: bool = True,
    on_devices: CheapOnDevices | None = None,
    strict: bool = True,
) -> Problem:
    """The problem of a search; costs and canonical hashes are remembered for as long as it lives.

    Where the estimator is `Described` (a table), identity and costs are those that it knows. Elsewhere the strategy may
    ask for zero-cost scores as features: `BayesianOptimization(features=["synflow", "naswot"])`.

    Args:
        setup: Of the search.
        folder: Where scores are kept; None for memory only.
        features: Whether scores that the strategy asks for are among the cheap metrics.
        on_devices: The metrics of devices that are known before training; None makes them of the setup.
        strict: Whether a network whose latency no model predicts is an error, as in the space, and not NaN.

    Raises:
        UnknownNameError: the strategy asks for a feature that is neither a cost nor a zero-cost score.
        InvalidInputError: it asks for what the estimator measures.
    """
    if on_devices is None:
        on_devices = cheap_on_devices(setup)

    def with_devices(
        of: Callable[[Architecture], Mapping[str, float]],
    ) -> Callable[[Architecture], Mapping[str, float]]:
        if on_devices is None or not on_devices.names:
            return of
        return lambda architecture: on_devices.of(architecture, of(architecture), strict=strict)

    if isinstance(setup.estimator, Described):
        return _problem(setup, with_devices(setup.estimator.cheap_metrics), setup.estimator.key)
    inputs, context = tuple(setup.task.input_shape), setup.task.context
    model = CostModel(inputs, **context)
    keys: dict[Architecture, str] = {}
    names = check_names(asked_of(setup.strategy), CHEAP, setup.estimator) if features else ()
    options = setup.options
    scores = Scores(names, setup.task, options.seed, options.threads, options.device, folder)

    def cheap(architecture: Architecture) -> Mapping[str, float]:
        costs = CheapMetrics(model(architecture.block))
        return WithScores(costs, lambda: scores.of(architecture, key(architecture)), names) if names else costs

    def key(architecture: Architecture) -> str:
        if architecture not in keys:
            keys[architecture] = trace(architecture, inputs, **context).canonical_hash
        return keys[architecture]

    return _problem(setup, with_devices(cheap), key)


def cheap_on_devices(setup: Setup) -> CheapOnDevices | None:
    """The metrics of devices that are known before training; None where nothing is asked of devices."""
    if not setup.on_devices.names:
        return None
    return CheapOnDevices(setup.on_devices, tuple(setup.task.input_shape), setup.task.context)


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
