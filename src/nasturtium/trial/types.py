"""The values that strategies, estimators and studies exchange, and the protocols that they meet.

A strategy proposes, an estimator measures, a study runs them; none of them knows the others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Literal, Protocol

from nasturtium.errors import InvalidInputError
from nasturtium.space import Architecture, Space

State = Literal["completed", "failed"]
Direction = Literal["maximize", "minimize"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fidelity:
    """How thoroughly to measure, relative to the estimator's full setting: each share in (0, 1]."""

    epochs: float = 1.0
    data: float = 1.0
    resolution: float = 1.0
    width: float = 1.0
    seconds: float = 1.0
    """Share of the estimator's limit of wall-clock time."""

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0.0 < value <= 1.0:
                raise InvalidInputError(f"The fidelity's {name!r} must be a share in (0, 1], got {value!r}.")

    @property
    def reductions(self) -> dict[str, float]:
        """The shares below 1, by name; empty for the full setting."""
        return {name: value for name, value in asdict(self).items() if value < 1.0}

    @property
    def is_full(self) -> bool:
        """Whether it is the estimator's own setting."""
        return not self.reductions

    @property
    def share(self) -> float:
        """Cost in full measurements: linear in epochs, data and time, quadratic in resolution and width."""
        return self.epochs * self.data * self.seconds * self.resolution**2 * self.width**2

    @property
    def text(self) -> str:
        """For people: "full", or what is reduced, "epochs 11.1 %, width 50 %"."""
        return ", ".join(f"{name} {100 * value:.3g} %" for name, value in self.reductions.items()) or "full"


FULL = Fidelity()
"""The estimator's own setting."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """What to make large or small. The direction is always explicit."""

    metric: str
    direction: Direction


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraint:
    """A hard limit: `metric <= limit` or `metric >= limit`, in the metric's base unit."""

    metric: str
    relation: Literal["<=", ">="]
    limit: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """What a strategy wants to know: one architecture at one fidelity."""

    number: int
    architecture: Architecture
    fidelity: Fidelity = FULL
    parents: tuple[int, ...] = ()
    """Numbers of the trials that it descends from."""
    origin: str = ""
    """How it came to be ("random", "mutation", "crossover" …), for people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A proposal with its outcome."""

    number: int
    architecture: Architecture
    fidelity: Fidelity = FULL
    parents: tuple[int, ...] = ()
    origin: str = ""
    state: State = "completed"
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Measured and cheap metrics by name, in base units (fractions, bytes, seconds); empty for a failed trial."""
    error: str | None = None
    error_kind: str | None = None
    """"crashed", "memory", "time", "diverged", "missing" (a table has no result), "worker" or "disk"."""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Wait:
    """Answer of `ask`: nothing to propose until a pending trial is told."""


@dataclass(frozen=True, slots=True)
class Exhausted:
    """Answer of `ask`: nothing is left to propose, and why."""

    reason: str = "every architecture that meets the constraints was proposed"


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What a strategy is asked to solve: no data, no store."""

    space: Space
    objectives: tuple[Objective, ...]
    constraints: tuple[Constraint, ...] = ()
    """Only those on cheap metrics are the strategy's to check; `cheap_metrics` gives their values."""
    seed: int = 0
    trials: int | None = None
    """Budget, where one is set."""
    cheap_metrics: Callable[[Architecture], Mapping[str, float]] = lambda _: {}
    """params, macs, activations, peak_memory … of an architecture for the task at hand; fast, memoised."""
    key: Callable[[Architecture], str] = lambda architecture: architecture.key
    """Equal for equal networks (the canonical hash for the task at hand)."""


class Strategy(Protocol):
    """Where to look next.

    The caller first gives the problem, once. `ask(number)` is called with 0, 1, 2 … Its answer depends only on the
    problem, the proposals so far and the trials told so far, in that order: so telling the log again restores it.
    """

    def setup(self, problem: Problem) -> None:
        """Take the problem; forget all else."""
        ...

    def ask(self, number: int) -> Proposal | Wait | Exhausted:
        """Propose the next architecture."""
        ...

    def recall(self, proposal: Proposal) -> None:
        """Take a proposal of the log as if it had just been asked for (on resume).

        It may be another's: of any origin, without parents. Its network is then known, and its outcome is told.
        """
        ...

    def tell(self, trial: Trial) -> None:
        """Learn an outcome, failed ones included.

        A trial that was told as failed may be told again as completed: a multi-fidelity search, in which another
        strategy proposes, does so when the network is measured at the fidelity that this one learns from.
        """
        ...
