"""Bayesian optimisation with a Gaussian process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from nasturtium.errors import InvalidInputError, NasturtiumError
from nasturtium.space import Architecture
from nasturtium.strategies.candidates import Candidates
from nasturtium.strategies.learned.front import Front
from nasturtium.strategies.learned.pool import Pool
from nasturtium.strategies.learned.rounds import LEAST, Choice, source
from nasturtium.strategies.learned.wishes import Wishes
from nasturtium.surrogates import acquisition, gaussian_process
from nasturtium.surrogates.gaussian_process import Averaged, Conditioned, Parameters, Posterior, Rows
from nasturtium.surrogates.kernels import Names, Processes
from nasturtium.surrogates.warping import LowerLog
from nasturtium.trial import Trial
from nasturtium.trial.types import Exhausted, Problem, Proposal

Array = NDArray[np.float64]
Acquisition = Literal["ucb", "ei", "pi", "its", "thompson"]

KAPPA = 1.8
"""Weight of the uncertainty in the upper confidence bound: that of Vizier (Song et al. 2024, section 4)."""
GROWTH = 1.3
"""The parameters are fitted anew when the trials have grown by this factor."""
PERSISTENT = 10
"""Asks for which the random candidates stay the same, so that they are encoded once."""
AROUND = 40
"""A network's neighbours are all looked at where they are no more than this; of more, so many mutations are drawn."""
CENTRES = 2_000
"""Networks whose neighbours are remembered; then all are forgotten, so that memory stays flat."""
CLIMBS, STEPS = 3, 2
"""The most promising candidates whose neighbours are looked at too, and how often."""


@dataclass(slots=True)
class BayesianOptimization:
    """Model what is known by a Gaussian process, and propose where the model hopes for most.

    Candidates are random networks, the neighbours of the best measured ones, and, from the most promising of these,
    their neighbours in turn. With several objectives the expected improvement of the hypervolume is what counts.

    Args:
        initial: Random networks before the model; 5 did better than 3 and 10 on the development objectives that
            `docs/reference/search.md` names.
        acquisition: For one objective: "ucb" (upper confidence bound), "ei" (expected improvement), "pi" (probability
            of improvement), "its" (independent Thompson sampling), "thompson" (a function drawn from the posterior).
        kappa: Weight of the uncertainty in "ucb".
        kernels: "auto", or summed kernels, see `surrogates.Kernels`: of "decisions", "additive", "ordered", "paths",
            "wl"; or lists of these, each for a process of its own: all processes are then believed equally.
        features: Cheap metrics that the model sees too: costs such as "params", or zero-cost scores such as "synflow",
            which are worked out for each candidate where no table has them: about a second each.
        candidates: Random networks among those that are looked at.
        parents: The best networks whose neighbours are looked at.
        most: Trials that are learnt from; of more, the best half and the latest half of so many.

    Notes:
        Differs from the papers. NAS-BOWL: Weisfeiler-Lehman features of the searched parts are summed with a
        categorical kernel of the decisions, as networks with equal graphs were trained apart; a second process looks at
        BANANAS' paths, a third at all of these, and the mixture of the three is believed. Vizier: its acquisition
        and weight, on our kernels; the bad half of the targets is drawn together by `surrogates.LowerLog`, and
        candidates are a pool with local search in place of an evolutionary search. Parameters are fitted again at fixed
        numbers of trials only, each time from the same start. Trials that are under way are believed to turn out as
        predicted (Ginsbourger et al. 2010), so a batch spreads. Cheap metrics are read, not modelled, whether objective
        or constraint; the probability that measured constraints are met multiplies what is hoped for, and alone decides
        while nothing meets them. Failed trials are left out.

    Reference:
        Ru, Wan, Dong, Osborne (2021), "Interpretable neural architecture search via Bayesian optimisation with
        Weisfeiler-Lehman kernels", arXiv 2006.07556, algorithm 1. Song et al. (2024), "The Vizier Gaussian process
        bandit algorithm", arXiv 2408.11527. Daulton, Balandat, Bakshy (2020), arXiv 2006.05078 (hypervolume).
    """

    initial: int = 5
    acquisition: Acquisition = "ucb"
    kappa: float = KAPPA
    kernels: Names = "auto"
    features: Sequence[str] = ()
    candidates: int = 150
    parents: int = 5
    most: int = 300
    _problem: Problem = field(init=False, repr=False, compare=False)
    _wishes: Wishes = field(init=False, repr=False, compare=False)
    _kernels: Processes = field(init=False, repr=False, compare=False)
    _candidates: Candidates = field(init=False, repr=False, compare=False)
    _told: list[Trial] = field(init=False, repr=False, compare=False)
    _pending: dict[int, Architecture] = field(init=False, repr=False, compare=False)
    _fitted: dict[tuple[int, int, int], Parameters] = field(init=False, repr=False, compare=False)
    _around: dict[str, list[Architecture]] = field(init=False, repr=False, compare=False)
    _order: list[Trial] | None = field(init=False, repr=False, compare=False, default=None)

    def __post_init__(self) -> None:
        for name, least in (("initial", 2), ("candidates", 1), ("parents", 1), ("most", 10)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise InvalidInputError(f"`{name}` must be an integer of {least} or more, got {value!r}.")
        if self.acquisition not in get_args(Acquisition):
            known = ", ".join(get_args(Acquisition))
            raise InvalidInputError(f"`acquisition` must be one of {known}, got {self.acquisition!r}.")
        if isinstance(self.features, str):
            raise InvalidInputError(f"`features` must be a list of names, got the text {self.features!r}.")

    def setup(self, problem: Problem) -> None:
        """Take the problem; forget all else.

        Raises:
            UnknownNameError: there is no such kernel.
            InvalidInputError: a kernel does not go with the space.
        """
        self._problem, self._wishes = problem, Wishes(problem)
        self._kernels = Processes(problem.space, self.kernels, costs=problem.cheap_metrics, features=self.features)
        self._candidates = Candidates(problem)
        self._told, self._pending, self._fitted, self._around = [], {}, {}, {}
        self._order = None

    def ask(self, number: int) -> Proposal | Exhausted:
        """Propose a random network, or the one that the model hopes most for.

        Raises:
            InfeasibleError: nothing meets the constraints.
            UnknownNameError: a feature is no cheap metric of the problem.
        """
        choice = None
        if number >= self.initial and len(self._told) >= LEAST:
            choice = self._hoped(number)
        if choice is None:
            drawn = self._candidates.uniform(Random(f"{self._problem.seed}/{number}"))
            if isinstance(drawn, Exhausted):
                return drawn
            choice = Choice(architecture=drawn)
        proposal = Proposal(
            number=number, architecture=choice.architecture, parents=choice.parents, origin=choice.origin
        )
        self.recall(proposal)
        return proposal

    def recall(self, proposal: Proposal) -> None:
        """Remember what was proposed."""
        self._candidates.note(proposal)
        self._pending[proposal.number] = proposal.architecture

    def tell(self, trial: Trial) -> None:
        """Learn from a completed trial."""
        self._pending.pop(trial.number, None)
        if self._wishes.learnable(trial):
            self._told.append(trial)
            self._order = None

    def weigh(self, number: int) -> tuple[Model, Pool, Array]:
        """What is looked at in an ask: the model, the candidates, and what is hoped of each, `(n,)`.

        Leaves the strategy as it is. Needs two trials that can be learnt from.
        """
        model = Model(self, number)
        pool = Pool(self._problem, self._told, Random(f"{self._problem.seed}/pool/{number // PERSISTENT}"))
        pool.add_random(self.candidates)
        if self._problem.constraints:  # those on cheap metrics, which need no model
            pool.choices = [c for c in pool.choices if not self._candidates.violation(c.architecture)]
        for trial in self._ranked()[: self.parents]:
            self._surround(pool, trial.architecture, (trial.number,))
        if not len(pool):
            return model, pool, np.empty(0)
        scores = model.scores(pool.architectures)
        for _ in range(STEPS):
            before = len(pool)
            for i in np.argsort(-scores, kind="stable")[:CLIMBS]:
                choice = pool.choices[int(i)]
                self._surround(pool, choice.architecture, choice.parents)
            if len(pool) == before:
                break
            scores = np.concatenate([scores, model.scores(pool.architectures[before:])])
        return model, pool, model.drawn(pool.architectures) if model.draws else scores

    def _hoped(self, number: int) -> Choice | None:
        """The candidate that the model hopes most for; None where the pool holds none that may be proposed."""
        _, pool, scores = self.weigh(number)
        taken = pool.take(scores[None], self._candidates) if len(pool) else []
        return taken[0] if taken else None

    def _surround(self, pool: Pool, architecture: Architecture, parents: tuple[int, ...]) -> None:
        """Add neighbours of an architecture that meet the cheap constraints, always the same ones."""
        found = self._around.get(architecture.key)
        if found is None:
            if len(self._around) >= CENTRES:
                self._around.clear()
            found = self._around[architecture.key] = self._neighbours(architecture)
        for neighbour in found:
            pool.add(neighbour, parents, "neighbour" if parents else "climb")

    def _neighbours(self, architecture: Architecture) -> list[Architecture]:
        """All neighbours where they are few, else some of them; without those that break a cheap constraint."""
        space, rng = self._problem.space, Random(f"{self._problem.seed}/around/{architecture.key}")
        active = architecture.decisions
        if not space.is_table and sum(d.count - 1 for d in space.decisions if d.name in active) <= AROUND:
            near = list(space.neighbours(architecture))
        else:
            near = []
            for _ in range(AROUND):
                try:
                    near.append(space.mutate(architecture, rng))
                except NasturtiumError:  # no single change stays in the space
                    break
        met = {a.key: a for a in near}
        return [a for a in met.values() if not (self._problem.constraints and self._candidates.violation(a))]

    def rows(self, architectures: Sequence[Architecture], like: Sequence[Architecture]) -> list[Rows]:
        """Rows of architectures for each process."""
        return self._kernels.rows(architectures, like)

    def parameters(self, output: int, targets: Callable[[list[Trial]], Array]) -> list[Parameters]:
        """Of each process, fitted to the first so many trials, a number that grows by `GROWTH`.

        A function of the log alone.
        """
        count = LEAST
        while (larger := max(count + 1, int(count * GROWTH))) <= len(self._told):
            count = larger
        if (output, 0, count) not in self._fitted:
            trials = self._learnt(self._told[:count])
            known = [t.architecture for t in trials]
            for process, rows in enumerate(self.rows(known, known)):
                self._fitted[output, process, count] = gaussian_process.fit(rows, targets(trials))
        return [self._fitted[output, process, count] for process in range(len(self._kernels))]

    def _ranked(self) -> list[Trial]:
        """What was told, best first."""
        if self._order is None:
            self._order = self._wishes.ranked(self._told)
        return self._order

    def _learnt(self, trials: list[Trial]) -> list[Trial]:
        """At most `most` trials: of more, the best and the latest, in the order in which they were told."""
        if len(trials) <= self.most:
            return trials
        half = self.most // 2
        ranked = self._ranked() if len(trials) == len(self._told) else self._wishes.ranked(trials)
        chosen = {t.number for t in ranked[:half]} | {t.number for t in trials[-half:]}
        return [t for t in trials if t.number in chosen]


FLOOR = 3.0
"""So many standard deviations below the worst measured value a candidate's score counts as nothing."""
TINY = 1e-300


class Model:
    """What the strategy knows at one ask: Gaussian processes for each metric that is not cheap."""

    def __init__(self, strategy: BayesianOptimization, number: int) -> None:
        self._strategy, self._number = strategy, number
        self._problem, self._wishes = strategy._problem, strategy._wishes
        self._trials = strategy._learnt(strategy._told)
        self._known = [t.architecture for t in self._trials]
        known = strategy.rows(self._known, self._known)
        under_way = list(strategy._pending.values())
        pending = strategy.rows(under_way, self._known) if under_way else [None] * len(known)
        self.names = self._wishes.outputs(self._known[0])
        """The modelled metrics."""
        self.signs = self._wishes.signs(self._known[0])
        """1 for what is to be large, -1 for what is to be small, for each of them."""
        self.warps = [LowerLog(self._targets(self._trials, place)) for place in range(len(self.names))]
        """For each modelled metric how its values, negated where small is good, are warped."""
        self._processes = []
        for place, warp in enumerate(self.warps):
            parameters = strategy.parameters(place, partial(self._warped, place=place))
            given = zip(parameters, known, pending, strict=True)
            self._processes.append(Averaged([Conditioned(p, k, warp.values, pending=u) for p, k, u in given]))

    def posterior(self, architectures: Sequence[Architecture], place: int) -> Posterior:
        """Of the modelled metric of a place, warped such that larger is better."""
        return self._processes[place].posterior(self._strategy.rows(architectures, self._known))

    def scores(self, architectures: Sequence[Architecture]) -> Array:
        """`(n,)` what is hoped for; larger is better."""
        rows = self._strategy.rows(architectures, self._known)
        said = [process.posterior(rows) for process in self._processes]
        feasible = self._feasible(architectures, said)
        meets = [t for t in self._trials if not self._breaks(t)]
        if not meets:
            return feasible
        if len(self._problem.objectives) > 1:
            return self._front_gain(architectures, said, meets) * feasible
        name = self._problem.objectives[0].metric
        if name not in self.names:  # cheap: nothing to learn
            sign = 1.0 if self._problem.objectives[0].direction == "maximize" else -1.0
            exact = np.array([sign * self._problem.cheap_metrics(a)[name] for a in architectures])
            told = np.array([sign * t.metrics[name] for t in self._trials])
            return _weighted(exact, float(told.min() - np.ptp(told) - 1.0), feasible)
        place = self.names.index(name)
        best = max(v for v, t in zip(self.warps[place].values, self._trials, strict=True) if not self._breaks(t))
        return self._acquire(said[place], float(best), architectures, feasible, float(self.warps[place].values.min()))

    def drawn(self, architectures: Sequence[Architecture]) -> Array:
        """`(n,)` a function drawn from the posterior of the only objective, times the chance to be feasible."""
        place = self.names.index(self._problem.objectives[0].metric)
        rows = self._strategy.rows(architectures, self._known)
        said = [process.posterior(rows) for process in self._processes]
        rng = source(self._problem.seed, "acquisition", self._number)
        values = acquisition.thompson(said[place].mean, self._processes[place].covariance(rows), rng)[0]
        return _weighted(values, float(self.warps[place].values.min()) - FLOOR, self._feasible(architectures, said))

    @property
    def draws(self) -> bool:
        """Whether `drawn` decides: the acquisition is Thompson's, of one objective that some trial could be best in."""
        one = len(self._problem.objectives) == 1 and self._problem.objectives[0].metric in self.names
        return one and self._strategy.acquisition == "thompson" and not all(map(self._breaks, self._trials))

    def _acquire(
        self, said: Posterior, best: float, architectures: Sequence[Architecture], feasible: Array, worst: float
    ) -> Array:
        kind = self._strategy.acquisition
        if kind == "ei":  # in logarithms: the improvement times the chance
            return acquisition.log_expected_improvement(said.mean, said.std, best) + np.log(np.maximum(feasible, TINY))
        if kind == "pi":
            return acquisition.probability_of_improvement(said.mean, said.std, best) * feasible
        if kind == "its":  # each candidate's own draw, in whatever company it is asked about
            keys = [f"{self._problem.seed}/its/{self._number}/{a.key}" for a in architectures]
            score = said.mean + said.std * np.array([Random(key).gauss() for key in keys])
        else:
            score = acquisition.upper_confidence_bound(said.mean, said.std, self._strategy.kappa)
        return _weighted(score, worst - FLOOR, feasible)

    def _front_gain(self, architectures: Sequence[Architecture], said: list[Posterior], meets: list[Trial]) -> Array:
        """Expected gain of hypervolume, in the objectives' own units scaled by the front's extent."""
        front = Front(self._problem.objectives, meets)
        columns = []
        for i, objective in enumerate(self._problem.objectives):
            sign = 1.0 if objective.direction == "maximize" else -1.0
            if objective.metric in self.names:
                place = self.names.index(objective.metric)
                normal = front.normal(i, self._problem.seed, self._number)
                warped = said[place].mean[None] + said[place].std[None] * normal[:, None]
                columns.append(self.warps[place].inverse(warped))
            else:
                exact = np.array([sign * self._problem.cheap_metrics(a)[objective.metric] for a in architectures])
                columns.append(np.tile(exact, (front.draws, 1)))
        return front.gain(np.stack(columns, axis=-1))

    def _feasible(self, architectures: Sequence[Architecture], said: list[Posterior]) -> Array:
        found = np.ones(len(architectures))
        for constraint, place in self._wishes.limits(architectures[0]):
            sign = self.signs[place]
            limit = float(self.warps[place].forward(np.array(sign * constraint.limit)))
            above: Literal["<=", ">="] = ">=" if (constraint.relation == ">=") == (sign > 0) else "<="
            found *= acquisition.probability_of_feasibility(said[place].mean, said[place].std, above, limit)
        return found

    def _breaks(self, trial: Trial) -> bool:
        return any(
            trial.metrics[c.metric] > c.limit if c.relation == "<=" else trial.metrics[c.metric] < c.limit
            for c, _ in self._wishes.limits(trial.architecture)
        )

    def _warped(self, trials: Sequence[Trial], place: int) -> Array:
        return LowerLog(self._targets(trials, place)).values

    def _targets(self, trials: Sequence[Trial], place: int) -> Array:
        found: Array = self.signs[place] * self._wishes.targets(trials)[:, place]
        return found


def _weighted(scores: Array, floor: float, feasible: Array) -> Array:
    """Scores above a floor that does not depend on what else is asked about, times the chance to be feasible."""
    if (feasible == 1.0).all():
        return scores
    weighted: Array = np.maximum(scores - floor, TINY) * feasible + floor
    return weighted
