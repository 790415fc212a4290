"""A strategy inside another: how it is given and stored, and what it is told.

In a race over several fidelities another strategy proposes the new networks. It learns from one fidelity at a time:
the highest at which enough networks were measured.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from nasturtium.errors import InvalidInputError, StoreError
from nasturtium.strategies.preference import usable
from nasturtium.strategies.registry import STRATEGIES, load, strategy_class
from nasturtium.trial import Trial
from nasturtium.trial.types import FULL, Exhausted, Problem, Proposal, Strategy, Wait

Given = Any
"""A strategy, its name, or what `describe` made of it."""

UNMEASURED = "not measured at the fidelity that is learnt from"


def make(given: Given, options: Mapping[str, Any]) -> Strategy:
    """A new strategy from a name with its settings, or from another one's settings; the one given stays untouched.

    Raises:
        UnknownNameError: no strategy of that name.
        InvalidInputError: wrong settings, or settings beside a strategy that has its own.
    """
    if isinstance(given, str):
        return load(given, **options)
    if options:
        raise InvalidInputError(f"`options` are the settings of a strategy given by name; {given!r} has its own.")
    if not isinstance(given, Mapping):
        given = describe(given)
    return restore(given)


def describe(given: Given) -> Any:
    """The strategy as plain JSON: a name as it is, else `{"type": "module:Class", "arguments": {…}}`.

    Raises:
        InvalidInputError: it is neither a dataclass nor has `to_dict`.
    """
    if isinstance(given, (str, Mapping)):
        return given
    kind = type(given)
    if hasattr(given, "to_dict"):
        arguments = given.to_dict()
    elif dataclasses.is_dataclass(given) and not isinstance(given, type):
        arguments = {f.name: getattr(given, f.name) for f in dataclasses.fields(given) if f.init}
    else:
        raise InvalidInputError(
            f"`strategy` must be a strategy's name, such as 'evolution', or a strategy that is a dataclass or has "
            f"`to_dict`, got {given!r}."
        )
    return {"type": f"{kind.__module__}:{kind.__qualname__}", "arguments": arguments}


def restore(data: Mapping[str, Any]) -> Strategy:
    """Inverse of `describe`.

    Only the library's own strategies, and classes of modules that are imported already, are made: importing a module
    runs its code.

    Raises:
        StoreError: the class is not known, or does not take the settings.
    """
    kind = str(data.get("type", ""))
    module_name, _, qualified = kind.partition(":")
    names = {target: name for name, target in STRATEGIES.items()}
    if kind not in names and module_name not in sys.modules:
        raise StoreError(
            f"The stored strategy {kind!r} is not part of nasturtium. Import {module_name!r} first, if you trust it."
        )
    try:
        found: Any = strategy_class(names[kind]) if kind in names else sys.modules[module_name]
        for name in () if kind in names else qualified.split("."):
            found = getattr(found, name)
        arguments = data["arguments"]
        made: Strategy = found.from_dict(arguments) if hasattr(found, "from_dict") else found(**arguments)
    except (AttributeError, TypeError, KeyError) as error:
        raise StoreError(f"The stored strategy {kind!r} cannot be made again: {error}.") from error
    return made


def revive(data: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as `describe` stored them, with the strategy made again."""
    given = data.get("strategy")
    return {**data, "strategy": restore(given)} if isinstance(given, Mapping) else dict(data)


class Inner:
    """A strategy that proposes the new networks of a race, and learns from one fidelity at a time.

    It counts its own proposals: network 0, 1, 2 …, whatever was promoted in between. It learns from the highest level
    at which `enough` networks have a usable result, and from the lowest before. A network that was measured, but not at
    that level, is told as failed, so that it is not waited for, and again with its result once it has one there. When
    the level rises the strategy is set up anew and told all from the beginning, as if others had proposed it.

    Args:
        strategy: To be asked.
        problem: As the strategy is to see it.
        enough: Usable results at a level before it is learnt from.
        level: The lowest, which is learnt from until then.
    """

    def __init__(self, strategy: Strategy, problem: Problem, enough: int, level: int = 0) -> None:
        self._strategy, self._problem, self._enough = strategy, problem, enough
        self.level = level
        """The level that is learnt from."""
        self._log: list[Proposal | tuple[int, Trial]] = []
        self._networks = 0
        self._counts: dict[int, int] = {}
        self._told: set[int] = set()
        strategy.setup(problem)

    def ask(self) -> Proposal | Wait | Exhausted:
        """Ask for the next new network; the proposal's number and parents count networks.

        Raises:
            InvalidInputError: the strategy chooses fidelities itself.
        """
        answer = self._strategy.ask(self._networks)
        if isinstance(answer, Proposal):
            if answer.fidelity != FULL:
                raise InvalidInputError(
                    f"`strategy` must leave the fidelity to the race around it, but {self._strategy!r} proposes "
                    f"{answer.fidelity.text}. Give a strategy that measures each network once."
                )
            self._note(answer)
        return answer

    def recall(self, proposal: Proposal) -> None:
        """Take a proposal of the log; its number and parents count networks."""
        self._note(proposal)
        self._strategy.recall(proposal)

    def tell(self, level: int, trial: Trial) -> None:
        """Learn a result at a level; the trial's number and parents count networks."""
        self._log.append((level, trial))
        if usable(trial, self._problem.objectives):
            self._counts[level] = self._counts.get(level, 0) + 1
            if level > self.level and self._counts[level] >= self._enough:
                self.level = level
                self._retell()
                return
        self._pass(level, trial)

    def _note(self, proposal: Proposal) -> None:
        self._log.append(proposal)
        self._networks += 1

    def _retell(self) -> None:
        self._told = set()
        self._strategy.setup(self._problem)
        for entry in self._log:
            if isinstance(entry, Proposal):  # how it came to be belongs to another history than the one that is told
                self._strategy.recall(replace(entry, origin="", parents=()))
            else:
                self._pass(*entry)

    def _pass(self, level: int, trial: Trial) -> None:
        if level == self.level:
            self._told.add(trial.number)
            self._strategy.tell(trial)
        elif trial.number not in self._told:
            self._told.add(trial.number)
            self._strategy.tell(replace(trial, state="failed", metrics={}, error=UNMEASURED, error_kind=None))
