"""What a search will take, and what it can show, before it starts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from random import Random
from typing import Any

from nasturtium.errors import SizeUnknownError
from nasturtium.space import Architecture
from nasturtium.study.arguments import Setup, read_setup
from nasturtium.study.problem import problem_of
from nasturtium.tasks import Interval
from nasturtium.tasks.statistics import smallest_difference, wilson
from nasturtium.trial import Constraint, Objective, format_bytes, format_constraint, format_seconds, violation

SAMPLES = 200
PROCESS_BYTES = 350 << 20
"""Resident memory of a process that has imported PyTorch, roughly."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Forecast of a search. Times, memory and disk are rough (a factor of 2); sizes and shares are not."""

    task: str
    objectives: tuple[Objective, ...]
    constraints: tuple[Constraint, ...]
    space_size: int | None
    """Exact; None where counting is not feasible."""
    space_estimate: tuple[float, float] | None
    """95% interval where the size is not known."""
    sampled: int
    """Architectures drawn uniformly to learn about the space."""
    feasible: Interval
    """Share that meets the cheap constraints, with its 95% interval."""
    costs: dict[str, tuple[float, float]]
    """Smallest and largest sampled value of each cheap metric."""
    trials: int
    """Budget of the search."""
    all_trials: int
    """With baseline and references."""
    workers: int
    trial_seconds: float | None
    """Expected of one trial, by a measurement on this machine where the estimator offers it."""
    seconds: float | None
    """Expected of everything."""
    memory_bytes: int
    disk_bytes: int
    validation_images: int
    smallest_difference: float
    """Smallest difference in accuracy that this validation set can show (95%, at an accuracy of 90%)."""
    sources: dict[str, str] = field(default_factory=dict)
    """Where each latency on a device comes from, with the error of its model."""
    finalists: int = 0
    """Networks that are measured on each device, at most."""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self) | {
            "version": 1,
            "objectives": [f"{o.direction} {o.metric}" for o in self.objectives],
            "constraints": [format_constraint(c) for c in self.constraints],
        }

    @property
    def text(self) -> str:
        """The plan for people, one line a fact."""
        share = self.feasible
        limits = ", ".join(map(format_constraint, self.constraints)) or "none"
        rows = {
            "task": f"{self.task}, {self.validation_images:,} validation images",
            "objectives": ", ".join(f"{o.direction} {o.metric}" for o in self.objectives),
            "constraints": limits,
            "space": self._size(),
            "feasible": f"{share.estimate:.1%} of {self.sampled} sampled (95%: {share.low:.1%} to {share.high:.1%})",
            "trials": f"{self.trials} of the search, {self.all_trials} in all",
            "time": self._time(),
            "memory": f"about {format_bytes(self.memory_bytes)} with {self.workers} worker{'s' * (self.workers > 1)}",
            "disk": f"about {format_bytes(self.disk_bytes)}",
            "can show": f"differences in accuracy of {100 * self.smallest_difference:.1f} points or more",
        }  # fmt: skip
        rows |= {name: f"from {source}" for name, source in self.sources.items()}
        if self.finalists:
            rows["finalists"] = f"up to {self.finalists} measured on each device, seconds to a minute each"
        width = max(map(len, rows))
        return "\n".join(f"{name:<{width}}  {value}" for name, value in rows.items())

    def _size(self) -> str:
        if self.space_size is not None:
            return f"{self.space_size:,} networks"
        low, high = self.space_estimate or (0.0, 0.0)
        return f"{low:.2g} to {high:.2g} networks (estimated)"

    def _time(self) -> str:
        if self.seconds is None or self.trial_seconds is None:
            return "not known"
        return f"about {format_seconds(self.seconds)} ({format_seconds(self.trial_seconds)} a trial)"


def plan(space: Any, task: Any, *, samples: int = SAMPLES, **settings: Any) -> Plan:
    """Forecast a search with these arguments; trains nothing but a few steps, writes nothing.

    Args:
        space: As for `search`.
        task: As for `search`.
        samples: Architectures that are drawn to learn what is feasible.
        **settings: The keyword arguments of `search`, except `study` and `files`.

    Raises:
        InvalidInputError: an argument cannot be used.
    """
    setup = read_setup(space, task, **settings)
    problem, rng = problem_of(setup, features=False), Random(f"plan {setup.options.seed}")
    drawn = [setup.space.sample(rng) for _ in range(samples)]
    costs = [problem.cheap_metrics(architecture) for architecture in drawn]
    limits = [c for c in setup.constraints if c.metric in costs[0]]
    kept = [(a, c) for a, c in zip(drawn, costs, strict=True) if violation(c, limits) == 0]
    usable = sorted(kept or list(zip(drawn, costs, strict=True)), key=lambda pair: pair[1]["macs"])
    typical, cost = usable[len(usable) // 2]
    seconds = _trial_seconds(setup, typical, cost["macs"])
    options, count = setup.options, setup.options.trials
    all_trials = count * (2 if setup.baseline else 1) + len(setup.references)
    workers = min(options.workers, options.concurrency)
    images = len(setup.task.split("validation"))
    size, estimate = _size(setup)
    parameters = max(c["params"] for _, c in usable)
    data = int(getattr(setup.task, "nbytes", 0))
    return Plan(
        task=setup.task.name,
        objectives=setup.objectives,
        constraints=setup.constraints,
        space_size=size,
        space_estimate=estimate,
        sampled=samples,
        feasible=wilson(len(kept), samples),
        costs={name: (min(c[name] for c in costs), max(c[name] for c in costs)) for name in costs[0]},
        trials=count,
        all_trials=all_trials,
        workers=workers,
        trial_seconds=seconds,
        seconds=None if seconds is None else all_trials * seconds / workers,
        memory_bytes=(workers + (workers > 1)) * (PROCESS_BYTES + 5 * data),  # as floats, and a working copy
        disk_bytes=int(all_trials * (4 * cost["params"] + images + 8192) + workers * 16 * parameters),
        validation_images=images,
        smallest_difference=smallest_difference(images),
        sources={name: setup.on_devices.source(name) for name in setup.on_devices.verifiable},
        finalists=0 if setup.verify is None else setup.verify.finalists * setup.verify.rounds,
    )


def _size(setup: Setup) -> tuple[int | None, tuple[float, float] | None]:
    try:
        return setup.space.size, None
    except SizeUnknownError:
        interval = setup.space.estimate_size(Random("plan"))
        return None, (float(interval.low), float(interval.high))


def _trial_seconds(setup: Setup, typical: Architecture, macs: float) -> float | None:
    """Time a few steps where the estimator can; else its own formula; else unknown."""
    measured: Callable[..., float] | None = getattr(setup.estimator, "measured_seconds", None)
    if measured is not None:
        return float(measured(typical, setup.task, threads=setup.options.threads))
    expected: Callable[..., float] | None = getattr(setup.estimator, "expected_seconds", None)
    return None if expected is None else float(expected(setup.task, macs))
