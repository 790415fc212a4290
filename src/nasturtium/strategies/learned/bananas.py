"""BANANAS: Bayesian optimisation with an ensemble of small networks as its model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from nasturtium.errors import InvalidInputError
from nasturtium.strategies.candidates import Candidates
from nasturtium.strategies.learned.features import described, read_features, with_features
from nasturtium.strategies.learned.pool import Pool
from nasturtium.strategies.learned.rounds import Choice, Rounds, seed_of, source
from nasturtium.strategies.learned.wishes import Wishes
from nasturtium.surrogates import acquisition
from nasturtium.surrogates.encodings import Encoder
from nasturtium.surrogates.ensemble import Ensemble
from nasturtium.trial import Trial
from nasturtium.trial.types import Exhausted, Problem, Proposal

Acquisition = Literal["its", "ei", "ucb", "ts", "pi"]

CALIBRATION = 5.0
"""The paper's code divides the ensemble's standard deviation by this before it takes expected improvement."""


@dataclass(slots=True)
class Bananas:
    """Train an ensemble on what is known, and propose the mutations of the best that it finds most promising.

    Args:
        initial: Random networks before the first round; 10 is the default of the paper's code, as are all here.
        batch: Proposals of a round; the ensemble is trained once a round.
        candidates: Mutations among which a round's proposals are chosen.
        parents: The best networks that are mutated: as many mutations as candidates of the first, and where too few of
            them are new, of the next.
        acquisition: "its" (independent Thompson sampling), "ei", "pi" (expected, probable improvement), "ucb" (upper
            confidence bound), or "ts" (one member of the ensemble).
        members: Networks of the ensemble.
        epochs: Of the ensemble's training.
        loss: Of the ensemble, "mae" or "mape".
        bound: For "mape": a value of the objective that no network reaches; None takes one standard deviation beyond
            the best. For one objective.
        encoding: "auto" (paths where the space is of cells, else decisions), or a name of `surrogates.Encoder`.
        features: Cheap metrics beside the encoding, such as "params" or the zero-cost score "synflow", which is worked
            out for each candidate where no table has it; none in the paper.

    Notes:
        Differs from the paper: the ensemble's targets are standardised, and its number of updates is bounded (see
        `surrogates.Ensemble`). Any space: outside of cells a network's decisions are encoded, not its paths. Several
        objectives are learnt by members of their own, and scaled into one by the augmented Chebyshev function with
        weights drawn for each proposal (ParEGO, Knowles 2006); metrics that are cheap are read, not learnt. The
        probability that measured constraints are met multiplies expected and probable improvement, and the other
        acquisitions' lead over the worst candidate; while nothing meets them it is all that counts. Failed trials are
        left out.

    Reference:
        White, Neiswanger, Savani (2021), "BANANAS: Bayesian optimization with neural architectures for neural
        architecture search", arXiv 1910.11858, algorithm 1; code: naszilla.
    """

    initial: int = 10
    batch: int = 10
    candidates: int = 100
    parents: int = 5
    acquisition: Acquisition = "its"
    members: int = 5
    epochs: int = 200
    loss: Literal["mae", "mape"] = "mae"
    bound: float | None = None
    encoding: str = "auto"
    features: Sequence[str] = ()
    _problem: Problem = field(init=False, repr=False, compare=False)
    _wishes: Wishes = field(init=False, repr=False, compare=False)
    _encoder: Encoder = field(init=False, repr=False, compare=False)
    _rounds: Rounds = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name, least in (
            ("initial", 2),
            ("batch", 1),
            ("candidates", 1),
            ("parents", 1),
            ("members", 1),
            ("epochs", 1),
        ):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise InvalidInputError(f"`{name}` must be an integer of {least} or more, got {value!r}.")
        for name, options in (("acquisition", get_args(Acquisition)), ("loss", ("mae", "mape"))):
            if getattr(self, name) not in options:
                raise InvalidInputError(f"`{name}` must be one of {', '.join(options)}, got {getattr(self, name)!r}.")
        self.features = read_features(self.features)
        if self.bound is not None and self.loss != "mape":
            raise InvalidInputError(f"`bound` is of loss='mape', got bound={self.bound!r} with loss={self.loss!r}.")

    def to_dict(self) -> dict[str, Any]:
        """Settings as plain JSON."""
        return described(self)

    def setup(self, problem: Problem) -> None:
        """Take the problem; forget all else.

        Raises:
            InvalidInputError: a bound is given, and there are several objectives.
        """
        if self.bound is not None and len(problem.objectives) > 1:
            raise InvalidInputError("`bound` is of one objective; with several, leave it None.")
        self._problem, self._wishes = problem, Wishes(problem)
        self._encoder = Encoder(problem.space, kind=self.encoding)
        self._rounds = Rounds(
            problem, initial=self.initial, size=self.batch, plan=self._plan, usable=self._wishes.learnable
        )

    def ask(self, number: int) -> Proposal | Exhausted:
        """Propose a random network, or the next of the round's best.

        Raises:
            InfeasibleError: nothing meets the constraints.
        """
        return self._rounds.ask(number)

    def recall(self, proposal: Proposal) -> None:
        """Remember what was proposed."""
        self._rounds.recall(proposal)

    def tell(self, trial: Trial) -> None:
        """Learn from a completed trial."""
        self._rounds.tell(trial)

    def _plan(self, start: int, trials: list[Trial], candidates: Candidates) -> list[Choice]:
        pool = Pool(self._problem, trials, Random(f"{self._problem.seed}/pool/{start}"))
        best = self._wishes.ranked(trials)[: self.parents]
        pool.add_mutations(best, self.candidates, draws=self.candidates)
        if not len(pool):
            return []
        predicted = self._predict(start, trials, pool)
        return pool.take(self._score(start, trials, pool, predicted), candidates)

    def _predict(self, start: int, trials: list[Trial], pool: Pool) -> NDArray[np.float64]:
        """`(members, n, outputs)`; with no outputs where every metric is cheap."""
        targets, signs = self._wishes.targets(trials), self._wishes.signs(trials[0].architecture)
        bound = None if self.bound is None else float(signs[0]) * self.bound
        model = Ensemble(
            members=self.members,
            epochs=self.epochs,
            loss=self.loss,
            bound=bound,
            seed=seed_of(self._problem.seed, "model", start),
        )
        if not targets.shape[1]:
            return np.empty((model.members, len(pool), 0))
        # All is learnt as if it were to be large: the bound lies beyond the best.
        learnt = [t.architecture for t in trials]
        rows, others = self._encoder.encode(learnt), self._encoder.encode(pool.architectures, like=learnt)
        rows, others = with_features(self._problem, self.features, learnt, pool.architectures, rows, others)
        model.fit(rows, np.multiply(signs, targets))
        return np.multiply(signs, model.predict_members(others))

    def _score(
        self, start: int, trials: list[Trial], pool: Pool, predicted: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """`(batch, n)`: one objective is scored once, several with other weights for each proposal."""
        feasible = np.ones(len(pool))
        for constraint, place in self._wishes.limits(pool.architectures[0]):
            said = predicted[:, :, place]
            feasible *= acquisition.probability_of_feasibility(
                said.mean(axis=0), said.std(axis=0), constraint.relation, constraint.limit
            )
        rows = []
        for number in range(start, start + self.batch):
            rng = source(self._problem.seed, "acquisition", number)
            weights = self._wishes.weights(rng)
            worth = self._wishes.worth(predicted, pool.architectures, trials, weights)
            row = feasible if worth.best is None else self._acquire(worth.values, worth.best, rng, feasible)
            # A cheap objective may be unknown: such a candidate comes last.
            rows.append(np.where(np.isnan(worth.values).any(axis=0), np.nan, row))
            if len(weights) == 1:
                return np.tile(rows[0], (self.batch, 1))
        return np.stack(rows)

    def _acquire(
        self, values: NDArray[np.float64], best: float, rng: np.random.Generator, feasible: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        mean, std = values.mean(axis=0), values.std(axis=0)
        if self.acquisition == "ei":
            return acquisition.expected_improvement(mean, std / CALIBRATION, best) * feasible
        if self.acquisition == "pi":
            return acquisition.probability_of_improvement(mean, std, best) * feasible
        if self.acquisition == "its":
            score = acquisition.independent_thompson(mean, std, rng)
        elif self.acquisition == "ts":
            score = values[rng.integers(len(values))]
        else:
            score = acquisition.upper_confidence_bound(mean, std)
        return (score - np.fmin.reduce(score)) * feasible  # the least that is not NaN
