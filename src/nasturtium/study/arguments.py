"""A search's arguments: read, checked, and gathered before anything is written."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from nasturtium.errors import InvalidInputError
from nasturtium.estimators.protocol import Naming
from nasturtium.space import Architecture, Block, Space
from nasturtium.study.events import Listener
from nasturtium.study.memory_proof import own_limits
from nasturtium.study.method import read_method
from nasturtium.study.on_device import OnDevices, read_on_devices
from nasturtium.study.runner import Schedule
from nasturtium.study.verify_options import Verify, read_verify
from nasturtium.trial import Constraint, Metric, Objective, of_device
from nasturtium.trial import constraints as read_constraints
from nasturtium.trial import objectives as read_objectives
from nasturtium.trial.reward import asked
from nasturtium.trial.types import Strategy


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Numbers of a search; those marked free may differ from one session of a study to the next."""

    trials: int = 50
    """Budget of proposals. May be raised later, which extends the study."""
    seed: int = 0
    concurrency: int = 4
    schedule: Schedule = "deterministic"
    threads: int = 1
    """Of PyTorch, in each trial. Part of the settings, as results depend on it."""
    device: str | None = None
    """Where to train; None for the estimator's own choice."""
    workers: int = 1
    """Free."""
    time_limit: float | None = None
    """Free. Seconds of a trial."""
    memory_limit: int | None = None
    """Free. Bytes of resident memory of a trial's process."""
    seconds: float | None = None
    """Free. Wall time after which nothing new is proposed."""
    retries: int = 2
    """Free. How often a trial whose worker was killed from outside is tried again."""
    failures: int = 5
    """Free. The search stops when its first so many trials all failed; 0 never."""

    def __post_init__(self) -> None:
        for name in ("trials", "concurrency", "threads", "workers"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise InvalidInputError(f"`{name}` must be an integer of 1 or more, got {value!r}.")
        for name in ("seed", "retries", "failures"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise InvalidInputError(f"`{name}` must be an integer of 0 or more, got {value!r}.")
        for name in ("time_limit", "memory_limit", "seconds"):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, (int, float)) and 0 < value < math.inf):
                raise InvalidInputError(f"`{name}` must be a number above 0, or None for no limit, got {value!r}.")
        if self.schedule not in ("deterministic", "asynchronous"):
            raise InvalidInputError(f"`schedule` must be 'deterministic' or 'asynchronous', got {self.schedule!r}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """Everything that a search is run with, checked."""

    space: Space
    task: Any
    strategy: Strategy
    estimator: Any
    objectives: tuple[Objective, ...]
    constraints: tuple[Constraint, ...]
    options: Options
    baseline: Literal["random"] | None
    references: tuple[tuple[str, Architecture], ...]
    listeners: tuple[Listener, ...]
    method: Any = None
    """A `nas.supernets.Searcher` that finds what is then trained; takes the strategy's place."""
    on_devices: OnDevices = field(default_factory=OnDevices)
    """What is asked of devices."""
    verify: Verify | None = None
    """How finalists are measured; None where they are not."""
    late: bool = False
    """Whether they are so in a study that was begun without: after all its trials, which are as they would be."""
    given: tuple[OnDevices, tuple[Constraint, ...]] | None = None
    """What is asked of devices, and the limits, before the memory of microcontrollers itself was added."""


Named = str | Metric


def read_setup(
    space: Any,
    task: Any,
    *,
    maximize: Named | Sequence[Named] = (),
    minimize: Named | Sequence[Named] = (),
    constraints: str | Constraint | Sequence[str | Constraint] = (),
    strategy: Any = None,
    estimator: Any = None,
    baseline: Literal["random"] | None = None,
    references: Sequence[tuple[str, Block | Architecture]] = (),
    listeners: Sequence[Listener] = (),
    method: Any = None,
    latency: Mapping[Any, Any] | None = None,
    verify: Verify | Mapping[str, Any] | bool | None = True,
    **options: Any,
) -> Setup:
    """Read and check the arguments of `search`; writes nothing.

    Raises:
        InvalidInputError: one cannot be used.
    """
    if baseline not in (None, "random"):
        raise InvalidInputError(f"`baseline` must be 'random' or None, got {baseline!r}.")
    if method is not None and strategy is not None:
        raise InvalidInputError(
            f"Give a strategy or a method, not both: {method!r} chooses the architectures itself, got {strategy!r} too."
        )
    measured_by = read_estimator(estimator)
    extra = measured_by.known_metrics if isinstance(measured_by, Naming) else None
    wishes, limits = read_objectives(maximize, minimize, extra=extra), read_constraints(constraints, extra=extra)
    searched, data, chosen = read_space(space), read_task(task), read_strategy(strategy)
    named = [*(o.metric for o in wishes), *(c.metric for c in limits), *asked(getattr(chosen, "reward", None))]
    how, on_devices, given = read_verify(verify), OnDevices(), None
    if latency or any(of_device(name) for name in named if name not in (extra or {})):
        on_devices = read_on_devices(
            latency, [name for name in named if name not in (extra or {})],
            space=searched, inputs=tuple(data.input_shape), context=data.context,
        )  # fmt: skip
        given = (on_devices, tuple(limits))
        on_devices, limits = own_limits(*given)
    return Setup(
        space=searched,
        task=data,
        strategy=chosen,
        estimator=measured_by,
        objectives=wishes,
        constraints=limits,
        options=Options(**options),
        baseline=baseline,
        references=tuple((str(name), read_closed(name, block)) for name, block in references),
        listeners=tuple(listeners),
        method=read_method(method),
        on_devices=on_devices,
        verify=how if on_devices.verifiable else None,
        given=given,
    )


def stored_objectives(texts: Sequence[str]) -> tuple[Objective, ...]:
    """The objectives of a stored study, "maximize accuracy" each; what they name was checked when it was begun."""
    pairs = [text.split() for text in texts]
    return tuple(Objective(metric=metric, direction=direction) for direction, metric in pairs)  # type: ignore[arg-type]


def read_space(space: object) -> Space:
    """The space of an argument."""
    if isinstance(space, Space):
        return space
    if isinstance(space, Block):
        return Space(space)
    raise InvalidInputError(
        f"`space` must be a Space or an open block, got {space!r}; a zoo's is `nas.zoo.space(name)`."
    )


def read_task(task: Any) -> Any:
    """The task of an argument, loaded if it is a name."""
    if isinstance(task, str):
        from nasturtium import tasks  # noqa: PLC0415

        return tasks.load(task)
    if not hasattr(task, "split") or not hasattr(task, "fingerprint"):
        raise InvalidInputError(f"`task` must be a task or the name of one, got {task!r}; see `nas.tasks.load`.")
    return task


def read_strategy(strategy: Any) -> Any:
    """The strategy of an argument, made from text such as "evolution(population=20)"; `Auto` by default."""
    from nasturtium import strategies  # noqa: PLC0415

    if strategy is None:
        return strategies.Auto()
    if isinstance(strategy, str):
        return strategies.Named.parse(strategy).make()
    if not all(callable(getattr(strategy, name, None)) for name in ("setup", "ask", "recall", "tell")):
        raise InvalidInputError(
            f"`strategy` must have setup, ask, recall and tell (`nas.trial.Strategy`), got {strategy!r}."
        )
    return strategy


def read_estimator(estimator: Any) -> Any:
    """The estimator of an argument."""
    if estimator is None:
        from nasturtium.estimators import Trained  # noqa: PLC0415

        return Trained(epochs=10)
    if not callable(getattr(estimator, "estimate", None)):
        raise InvalidInputError(
            f"`estimator` must have `estimate`, such as `nas.estimators.Trained(epochs=10)`, got {estimator!r}."
        )
    return estimator


def read_closed(name: str, block: object) -> Architecture:
    """The architecture of a reference."""
    if isinstance(block, Architecture):
        return block
    if isinstance(block, Block) and not block.is_open:
        return Architecture.of(block)
    raise InvalidInputError(f"The reference {name!r} must be a closed block or an architecture, got {block!r}.")
