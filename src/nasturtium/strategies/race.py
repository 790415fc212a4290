"""What successive halving, Hyperband and ASHA share: networks that are measured at rising fidelities."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from nasturtium.errors import InvalidInputError
from nasturtium.strategies import ladder, nested
from nasturtium.strategies.preference import preferences, usable
from nasturtium.trial import Trial
from nasturtium.trial.types import FULL, Exhausted, Fidelity, Problem, Proposal, Wait

PROMOTED = "promoted"
"""Origin of a network that is measured again, at a higher fidelity."""


def check_settings(
    strategy: nested.Given,
    options: Mapping[str, Any],
    fidelity: str,
    minimum: float,
    eta: int,
    rungs: Sequence[float] | None,
    enough: int | None,
) -> None:
    """Check the settings that all races have.

    Raises:
        InvalidInputError: one is out of range.
        UnknownNameError: no such strategy or fidelity.
    """
    ladder.check(fidelity, minimum, eta, rungs)
    check_count("enough", enough)
    nested.make(strategy, options)


def check_count(name: str, value: int | None, least: int = 1) -> None:
    """Check an integer setting that may be None.

    Raises:
        InvalidInputError: it is no integer, or too small.
    """
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
        raise InvalidInputError(f"`{name}` must be an integer of {least} or more, or None, got {value!r}.")


OFF = -1
"""Level of what another measured at a fidelity that is no rung: the network is known, and has no result here."""


@dataclass(slots=True)
class _Network:
    """A network of the race."""

    inner: Proposal
    """As the inner strategy proposed it, with its own numbers."""
    numbers: dict[int, int] = field(default_factory=dict)
    """Number of its trial by level."""

    @property
    def first(self) -> int:
        """Number of its first trial."""
        return min(self.numbers.values())


class Race:
    """Networks, by the order in which they came, and what is known of each at each level.

    Args:
        problem: To solve.
        fidelities: One for each level, rising to the full one.
        inner: Proposes new networks.
    """

    def __init__(self, problem: Problem, fidelities: Sequence[Fidelity], inner: nested.Inner) -> None:
        self.problem, self.fidelities, self._inner = problem, tuple(fidelities), inner
        self._level = {fidelity: level for level, fidelity in enumerate(fidelities)}
        self._networks: list[_Network] = []
        self._owner: dict[int, tuple[int, int]] = {}  # network and level by number of the trial
        self._results: list[dict[int, Trial]] = [{} for _ in fidelities]
        self._pending: set[int] = set()

    @property
    def top(self) -> int:
        """The level of the full fidelity."""
        return len(self.fidelities) - 1

    @property
    def pending(self) -> bool:
        """Whether a trial is under way."""
        return bool(self._pending)

    @property
    def size(self) -> int:
        """How many networks there are."""
        return len(self._networks)

    def new(self, number: int, level: int) -> Proposal | Wait | Exhausted:
        """A network that was not measured yet, at a level; Wait or Exhausted where the inner strategy answers so."""
        answer = self._inner.ask()
        if not isinstance(answer, Proposal):
            return answer
        parents = tuple(self._networks[k].first for k in answer.parents)
        self._networks.append(_Network(answer))
        proposal = replace(answer, number=number, fidelity=self.fidelities[level], parents=parents)
        self._take(proposal, len(self._networks) - 1)
        return proposal

    def promote(self, number: int, network: int, level: int) -> Proposal:
        """A network that was measured at a lower level, at this one."""
        known = self._networks[network]
        proposal = Proposal(
            number=number,
            architecture=known.inner.architecture,
            fidelity=self.fidelities[level],
            parents=(known.numbers[max(k for k, results in enumerate(self._results) if network in results)],),
            origin=PROMOTED,
        )
        self._take(proposal, network)
        return proposal

    def last_chance(self, number: int) -> Proposal | None:
        """With the budget's last trial, the best network at full fidelity, if none was measured there."""
        if self.problem.trials is None or number != self.problem.trials - 1 or not self.top:
            return None
        if any(level == self.top for _, level in self._owner.values()):
            return None
        for level in range(self.top - 1, -1, -1):
            ranked = self.ranked(self._results[level], level)
            if ranked:
                return self.promote(number, ranked[0], self.top)
        return None

    def recall(self, proposal: Proposal) -> int:
        """Take a proposal of the log; its network.

        It may be another's: a promotion of what is not known here is a new network; one at a fidelity that is no rung
        is not proposed again, and not ranked.
        """
        network = self._promoted(proposal)
        if network is None:
            network = len(self._networks)
            parents = tuple(self._owner[n][0] for n in proposal.parents if n in self._owner)
            inner = replace(proposal, number=network, parents=parents, fidelity=FULL)
            self._inner.recall(inner)
            self._networks.append(_Network(inner))
        self._take(proposal, network)
        return network

    def tell(self, trial: Trial) -> tuple[int, int]:
        """Learn an outcome; its network and level."""
        network, level = self._owner[trial.number]
        self._pending.discard(trial.number)
        if level != OFF and usable(trial, self.problem.objectives):
            self._results[level][network] = trial
        inner = self._networks[network].inner
        self._inner.tell(
            level, replace(trial, number=network, parents=inner.parents, origin=inner.origin, fidelity=FULL)
        )
        return network, level

    def reached(self, network: int) -> int:
        """The highest level at which a network was proposed; `OFF` where on no rung."""
        return max(self._networks[network].numbers)

    def under_way(self, network: int, level: int) -> bool:
        """Whether a network is being measured at a level."""
        return self._networks[network].numbers.get(level) in self._pending

    def result(self, network: int, level: int) -> Trial | None:
        """The usable result of a network at a level."""
        return None if level == OFF else self._results[level].get(network)

    def ranked(self, networks: Iterable[int], level: int) -> list[int]:
        """Those of the networks that have a usable result at a level, the best first, the earlier among equals."""
        having = sorted(n for n in networks if n in self._results[level])
        keys = preferences(self.problem, [self._results[level][n] for n in having])
        return [network for _, network in sorted(zip(keys, having, strict=True))]

    def _promoted(self, proposal: Proposal) -> int | None:
        """The network that a proposal measures again; None for a new one."""
        for number in proposal.parents[:1] if proposal.origin == PROMOTED else ():
            if number in self._owner:
                network = self._owner[number][0]
                if self._networks[network].inner.architecture.key == proposal.architecture.key:
                    return network
        return None

    def _take(self, proposal: Proposal, network: int) -> None:
        level = self._level.get(proposal.fidelity, OFF)
        self._networks[network].numbers[level] = proposal.number
        self._owner[proposal.number] = network, level
        self._pending.add(proposal.number)


def start(
    problem: Problem,
    *,
    strategy: nested.Given,
    options: Mapping[str, Any],
    fidelity: str,
    levels: Sequence[float],
    enough: int | None,
    share_new: float,
    lowest: int = 0,
) -> Race:
    """A race in which a strategy proposes the new networks.

    Args:
        problem: To solve.
        strategy: See `nested.make`.
        options: See `nested.make`.
        fidelity: What is reduced.
        levels: Shares, rising to 1.
        enough: Results at a level before the strategy learns from it; None takes one more than there are decisions,
            as BOHB does.
        share_new: Share of the budget's trials that are new networks: the strategy's budget.
        lowest: Level at which new networks begin.
    """
    budget = None if problem.trials is None else max(1, round(problem.trials * share_new))
    wanted = enough if enough is not None else len(problem.space.decisions) + 1
    inner = nested.Inner(nested.make(strategy, options), replace(problem, trials=budget), wanted, lowest)
    return Race(problem, ladder.fidelities(fidelity, levels), inner)
