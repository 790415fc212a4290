"""Any sampler of Optuna as a strategy."""

from __future__ import annotations

import copy
import importlib
import inspect
import math
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from heapq import heappop, heappush
from random import Random
from typing import Any

from nasturtium.errors import InvalidInputError, MissingExtraError, UnknownNameError
from nasturtium.space import Architecture
from nasturtium.strategies.candidates import Candidates
from nasturtium.strategies.kinds import is_increasing
from nasturtium.strategies.preference import usable
from nasturtium.trial import Constraint, Trial, point_of
from nasturtium.trial.types import Exhausted, Problem, Proposal

SAMPLERS = {
    "tpe": "TPESampler",
    "nsga2": "NSGAIISampler",
    "nsga3": "NSGAIIISampler",
    "gp": "GPSampler",
    "cmaes": "CmaEsSampler",
    "qmc": "QMCSampler",
    "random": "RandomSampler",
}
"""Short names of Optuna's samplers; any class of `optuna.samplers` is taken by its own name too."""

REFUSED = {
    "GridSampler": "take `nas.strategies.Grid`",
    "BruteForceSampler": "take `nas.strategies.Grid`",
    "PartialFixedSampler": "fix decisions with `Space.where`",
}

Outcome = tuple[tuple[float, ...], tuple[float, ...]]
"""Values of the objectives, and of the measured constraints (positive where broken)."""


@dataclass(slots=True)
class Optuna:
    """Let a sampler of Optuna propose; needs `pip install 'nasturtium[optuna]'`.

    The sampler meets the space define-by-run: each active decision is one suggestion, asked for in definition order
    once what controls it is known. A decision whose values are increasing numbers (a width, a kernel, a depth) is
    `suggest_int` on the number of the option, any other `suggest_categorical`. Trials under way are RUNNING trials of
    Optuna; failed ones are FAIL; nothing is stored on disk, and Optuna's log is silent while it is called.

    Args:
        sampler: One of `SAMPLERS`, or the name of a class of `optuna.samplers`, or "module:Class" of a module that is
            imported, or an instance (which a study cannot store).
        options: Arguments of the sampler other than its seed, as Optuna documents them. What is not given is Optuna's
            default, but for `QMCSampler(scramble=True)`, without which every seed gives the same sequence.
        ordered: Whether decisions whose values are increasing numbers are integers; otherwise all are categorical.
        tries: Suggestions for one proposal before a new architecture is drawn uniformly.

    Notes:
        Differs from Optuna alone, which may train one network twice: a suggestion that is known is told its known
        value and costs nothing, and another is asked for, up to `tries`. So at an equal number of trainings this is
        better than Optuna alone, as Optuna is when its user remembers results. A suggestion that breaks a cheap
        constraint is told as pruned (TPE learns from those, other samplers forget them). Constraints on measured
        metrics reach TPE, NSGA-II, NSGA-III and GP. In a space that is a table a suggestion stands for the row nearest
        to it, and the sampler is told that row's decisions.

        The sampler's generators are seeded anew from (seed, number, try), so that each proposal depends on the log
        alone. On resume the suggestions of the log are made again, because samplers keep state that Optuna shows
        nowhere (generations, the fitted kernel, CMA's covariance): resuming takes the time of the asks, some
        milliseconds each for TPE, up to seconds for GP. A GP is fitted in floating point, so its resumption is exact
        on the same machine and number of threads only; where it differs the logged proposal is what the sampler is
        told.

    Reference:
        Akiba, Sano, Yanase, Ohta, Koyama (2019), "Optuna: a next-generation hyperparameter optimization framework",
        arXiv 1907.10902, section 2. TPE: Bergstra et al. (2011), "Algorithms for hyper-parameter optimization".
    """

    sampler: Any = "tpe"
    options: Mapping[str, Any] = field(default_factory=dict)
    ordered: bool = True
    tries: int = 10
    _candidates: Candidates = field(init=False, repr=False, compare=False)
    _problem: Problem = field(init=False, repr=False, compare=False)
    _study: _Study = field(init=False, repr=False, compare=False)
    _trials: dict[int, Any] = field(init=False, repr=False, compare=False)
    _known: dict[str, Outcome | None] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if isinstance(self.tries, bool) or not isinstance(self.tries, int) or self.tries < 1:
            raise InvalidInputError(f"`tries` must be an integer of 1 or more, got {self.tries!r}.")
        if not isinstance(self.options, Mapping):
            raise InvalidInputError(f"`options` must be a mapping of a sampler's arguments, got {self.options!r}.")
        if not isinstance(self.sampler, str) and self.options:
            raise InvalidInputError("`options` are for a sampler by name; set them on the instance that you give.")

    def setup(self, problem: Problem) -> None:
        """Take the problem; forget all else.

        Raises:
            MissingExtraError: Optuna is not installed.
            UnknownNameError: it has no such sampler.
            InvalidInputError: the sampler does not take the options, or cannot work on this problem.
        """
        self._problem = problem
        self._candidates = Candidates(problem)
        self._trials, self._known = {}, {}
        self._study = _Study(self, problem)

    def ask(self, number: int) -> Proposal | Exhausted:
        """Propose what the sampler suggests.

        Raises:
            InfeasibleError: nothing meets the constraints.
        """
        found = self._suggest(number)
        origin = self._study.name
        if found is None:
            drawn = self._candidates.uniform(Random(f"{self._problem.seed}/{number}"))
            if isinstance(drawn, Exhausted):
                return drawn
            found, origin = drawn, "random"
            self._trials[number] = self._study.given(found)
        proposal = Proposal(number=number, architecture=found, origin=origin)
        self._candidates.note(proposal)
        self._known[self._problem.key(found)] = None
        return proposal

    def recall(self, proposal: Proposal) -> None:
        """Make the suggestions of the log again; tell the sampler what was proposed where they differ."""
        found = self._suggest(proposal.number)
        if found is None or found.decisions != proposal.architecture.decisions:
            if found is not None:
                self._study.fail(self._trials[proposal.number])
            self._trials[proposal.number] = self._study.given(proposal.architecture)
        self._candidates.note(proposal)
        self._known.setdefault(self._problem.key(proposal.architecture), None)

    def tell(self, trial: Trial) -> None:
        """Tell the sampler; a trial that failed may be told again when it completed after all."""
        asked = self._trials.pop(trial.number, None)
        outcome = self._outcome(trial)
        key = self._problem.key(trial.architecture)
        if asked is None:
            if outcome is None or self._known.get(key) is not None:
                return
            asked = self._study.given(trial.architecture)
        if outcome is not None:
            self._known[key] = outcome
        self._study.tell(asked, outcome)

    def _suggest(self, number: int) -> Architecture | None:
        """What the sampler suggests that may be proposed, kept as a running trial; None after `tries`."""
        for attempt in range(self.tries):
            asked, architecture = self._study.ask(f"{self._problem.seed}/{number}/{attempt}")
            broken = math.inf if architecture is None else self._candidates.violation(architecture)
            if architecture is None or broken:
                self._study.prune(asked, broken)
            elif self._candidates.is_new(architecture):
                self._trials[number] = asked
                return architecture
            else:  # known, under way or failed
                self._study.tell(asked, self._known.get(self._problem.key(architecture)))
        return None

    def _outcome(self, trial: Trial) -> Outcome | None:
        """None for what Optuna cannot be told."""
        if not usable(trial, self._problem.objectives):
            return None
        limits = tuple(_slack(trial.metrics.get(c.metric, math.nan), c) for c in self._study.limits(trial.architecture))
        return (point_of(trial, self._problem.objectives), limits) if all(map(math.isfinite, limits)) else None


def _slack(value: float, constraint: Constraint) -> float:
    """By how much a limit is missed, negative where it is met, relative to the limit."""
    over = value - constraint.limit if constraint.relation == "<=" else constraint.limit - value
    return over / (abs(constraint.limit) or 1.0)


class _Study:
    """An Optuna study of a problem, in memory."""

    def __init__(self, settings: Optuna, problem: Problem) -> None:
        self._optuna = _import("optuna")
        self._problem = problem
        self._limits: tuple[Constraint, ...] | None = None
        self._settable = hasattr(self._optuna.trial.Trial, "set_constraint")  # Optuna 5; before, a function
        self._integer = [settings.ordered and is_increasing(d) for d in problem.space.decisions]
        self._controlled, self._roots = _controls(problem)
        with self._quiet():
            sampler = self._sampler(settings)
            self._refuse(sampler)
            directions = [o.direction for o in problem.objectives]
            self._study = self._optuna.create_study(directions=directions, sampler=sampler)
        self._generators = _generators(sampler)
        short = {value: name for name, value in SAMPLERS.items()}
        self.name = f"optuna {short.get(type(sampler).__name__, type(sampler).__name__)}"

    def ask(self, key: str) -> tuple[Any, Architecture | None]:
        """A running trial and the architecture that it stands for; None where a condition of the space refuses it.

        In a space that is a table, the row nearest to the suggestion, with a running trial of the row's decisions.
        """
        source = Random(key)
        for generator in self._generators:
            _seed(generator, source.getrandbits(32))
        with self._quiet():
            try:
                asked = self._study.ask()
                indices = self._suggested(asked)
            except ValueError as error:  # such as several objectives, for some versions' samplers
                raise InvalidInputError(f"{self.name} of Optuna {self._optuna.__version__} refuses: {error}") from error
        found = self._problem.space.nearest(indices)
        if found is not None and found.decisions != indices:  # another row of a table
            self.fail(asked)
            asked = self.given(found)
        return asked, found

    def _suggested(self, asked: Any) -> dict[str, int]:
        decisions = self._problem.space.decisions
        indices: dict[str, int] = {}
        ahead, met = list(self._roots), set(self._roots)
        while ahead:
            position = heappop(ahead)
            name, count = decisions[position].name, decisions[position].count
            if self._integer[position]:
                index = asked.suggest_int(name, 0, count - 1)
            else:
                index = asked.suggest_categorical(name, tuple(range(count)))
            indices[name] = index
            for other in self._controlled.get((position, index), ()):
                if other not in met:
                    met.add(other)
                    heappush(ahead, other)
        return indices

    def given(self, architecture: Architecture) -> Any:
        """A running trial of an architecture that the sampler did not suggest."""
        with self._quiet():
            self._study.enqueue_trial(dict(architecture.decisions))
        asked, found = self.ask("given")
        assert found is not None
        assert found.decisions == architecture.decisions
        return asked

    def tell(self, asked: Any, outcome: Outcome | None) -> None:
        """End a trial with what came of it; without an outcome it failed."""
        if outcome is None:
            self.fail(asked)
            return
        values, limits = outcome
        with self._quiet():
            self._constrain(asked, limits)
            self._study.tell(asked, list(values))

    def fail(self, asked: Any) -> None:
        """End a trial without a result."""
        with self._quiet():
            self._study.tell(asked, state=self._optuna.trial.TrialState.FAIL)

    def prune(self, asked: Any, broken: float) -> None:
        """End a trial that breaks a cheap constraint, or a condition, before it is trained."""
        with self._quiet():
            self._constrain(asked, [min(broken, 1e6)] * len(self._limits or ()))
            self._study.tell(asked, state=self._optuna.trial.TrialState.PRUNED)

    def limits(self, architecture: Architecture) -> tuple[Constraint, ...]:
        """The constraints on metrics that are measured."""
        if self._limits is None:
            cheap = self._problem.cheap_metrics(architecture) if self._problem.constraints else {}
            self._limits = tuple(c for c in self._problem.constraints if c.metric not in cheap)
        return self._limits

    def _constrain(self, asked: Any, limits: Any) -> None:
        if self._settable:
            for place, amount in enumerate(limits):
                asked.set_constraint(str(place), amount)
        else:
            asked.set_user_attr("constraints", list(limits))

    def _sampler(self, settings: Optuna) -> Any:
        if not isinstance(settings.sampler, str):
            if not isinstance(settings.sampler, self._optuna.samplers.BaseSampler):
                raise InvalidInputError(f"`sampler` must be a name or a sampler of Optuna, got {settings.sampler!r}.")
            return copy.deepcopy(settings.sampler)
        kind = self._kind(settings.sampler)
        takes = inspect.signature(kind).parameters
        options = dict(settings.options)
        if "seed" in options:
            raise InvalidInputError("`options` must not hold a seed: the problem's seed is taken.")
        if "seed" in takes:
            options["seed"] = Random(f"{self._problem.seed}/sampler").getrandbits(31)
        if "scramble" in takes:
            options.setdefault("scramble", True)
        if self._problem.constraints and not self._settable and "constraints_func" in takes:
            options["constraints_func"] = lambda trial: trial.user_attrs.get("constraints", ())
        try:
            return kind(**options)
        except (TypeError, ValueError) as error:
            raise InvalidInputError(
                f"`optuna.samplers.{kind.__name__}` does not take {settings.options!r}: {error}"
            ) from error
        except ImportError as error:
            raise MissingExtraError(
                f"`{kind.__name__}` needs another package ({error}); run `pip install 'nasturtium[optuna]'`."
            ) from error

    def _kind(self, text: str) -> Any:
        module, colon, name = text.partition(":")
        if colon:
            if module not in sys.modules and module.split(".")[0] != "optuna":
                raise InvalidInputError(
                    f"The sampler {text!r} is of a module that is not imported. Import {module!r} first, if you trust "
                    "where its name comes from: importing runs its code."
                )
            found = getattr(importlib.import_module(module), name, None)
        else:
            found = getattr(self._optuna.samplers, SAMPLERS.get(text, text), None)
        if not (isinstance(found, type) and issubclass(found, self._optuna.samplers.BaseSampler)):
            known = [n for n in dir(self._optuna.samplers) if n.endswith("Sampler") and not n.startswith("Base")]
            raise UnknownNameError("sampler of Optuna", text, [*SAMPLERS, *known])
        if found.__name__ in REFUSED:
            raise InvalidInputError(f"`{found.__name__}` is not taken here: {REFUSED[found.__name__]}.")
        return found

    def _refuse(self, sampler: Any) -> None:
        if type(sampler).__name__ != "CmaEsSampler":
            return
        if len(self._problem.objectives) > 1:
            raise InvalidInputError(
                f"CMA-ES takes one objective, got {len(self._problem.objectives)}; take 'nsga2' or 'gp' for several."
            )
        if not any(self._integer):
            raise InvalidInputError(
                "CMA-ES needs decisions whose values are increasing numbers (and `ordered=True`), but this space has "
                "none: it would be random search. Take 'tpe', 'nsga2' or 'gp'."
            )

    @contextmanager
    def _quiet(self) -> Iterator[None]:
        """Optuna's log and its warnings on experimental features are off within, as they were before afterwards."""
        before = self._optuna.logging.get_verbosity()
        self._optuna.logging.set_verbosity(self._optuna.logging.ERROR)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", self._optuna.exceptions.ExperimentalWarning)
                yield
        finally:
            self._optuna.logging.set_verbosity(before)


def _import(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise MissingExtraError(
            "`nas.strategies.Optuna` needs the package `optuna`; run `pip install 'nasturtium[optuna]'`."
        ) from error


def _controls(problem: Problem) -> tuple[dict[tuple[int, int], list[int]], list[int]]:
    """Which decisions each value of a decision activates, by position; and those that are always active."""
    controlled: dict[tuple[int, int], list[int]] = {}
    roots = []
    for decision in problem.space.decisions:
        ways = problem.space.activation(decision.name)
        if not ways:
            roots.append(decision.position)
        for way in ways:
            for index in way.indices:
                controlled.setdefault((way.decision.position, index), []).append(decision.position)
    return controlled, roots


def _generators(sampler: Any) -> list[Any]:
    """All generators of random numbers that a sampler holds, in the order of its attributes."""
    found: list[Any] = []
    seen: set[int] = set()
    ahead = [(sampler, 0)]
    while ahead:
        value, depth = ahead.pop(0)
        if id(value) in seen or depth > 4:
            continue
        seen.add(id(value))
        if callable(getattr(value, "seed", None)) or hasattr(value, "bit_generator"):
            found.append(value)
            continue
        inner = getattr(value, "rng", None)  # Optuna's lazy generator makes its own when asked
        if inner is not None and callable(getattr(inner, "seed", None)):
            found.append(inner)
            seen.add(id(inner))
        elif hasattr(value, "__dict__") and not isinstance(value, type) and not inspect.isroutine(value):
            ahead += [(each, depth + 1) for each in vars(value).values()]
    return found


def _seed(generator: Any, seed: int) -> None:
    if hasattr(generator, "bit_generator"):
        generator.bit_generator.state = type(generator.bit_generator)(seed).state
    else:
        generator.seed(seed)
