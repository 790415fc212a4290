"""Predictor-guided search: a regressor ranks thousands of networks, and the best few are measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nasturtium.errors import InvalidInputError
from nasturtium.space import Architecture
from nasturtium.strategies.candidates import Candidates
from nasturtium.strategies.learned.features import read_features, with_features
from nasturtium.strategies.learned.pool import Pool
from nasturtium.strategies.learned.rounds import Choice, Rounds, seed_of, source
from nasturtium.strategies.learned.wishes import Wishes
from nasturtium.surrogates.encodings import Encoder
from nasturtium.surrogates.regressors import check_regressor, describe_regressor, make_regressor
from nasturtium.trial import Trial
from nasturtium.trial.types import Exhausted, Problem, Proposal

BEST = 10
"""Networks whose mutations are candidates."""
EDITS = 2
"""Most decisions in which such a mutation differs."""


@dataclass(slots=True)
class PredictorGuided:
    """Train a regressor on what is known, rank candidates with it, and propose some of the best; then train again.

    Args:
        regressor: "forest", "boosting", "ridge", "gp", "ensemble", "module:Class", or any object with scikit-learn's
            `fit` and `predict`.
        options: Arguments of a regressor that is given by name, such as {"loss": "rank"} for the ensemble.
        initial: Random networks before the first round.
        batch: Proposals of a round; the regressor is trained once a round.
        candidates: Networks that are ranked: half of them random, half mutations of the best.
        explore: Share of a round that is drawn from the better half of the ranking, where the rest is its top; 0.5 is
            the paper's.
        features: Cheap metrics, such as "params", "macs" or a zero-cost score, that are features beside the encoding.
            A score that no table has is worked out for each candidate, which takes about a second: lower `candidates`.
        encoding: "auto" (paths where the space is of cells, else decisions), or a name of `surrogates.Encoder`.

    Notes:
        Differs from the paper: any regressor on an encoding, not a graph network of pairs (the ensemble with
        loss="rank" learns from pairs); candidates are drawn, as a space is too large to be ranked as a whole, and the
        part that is explored stays the better half, where the paper halves it each time; mutations of the best are
        among them. Several objectives are each learnt and scaled into one by the augmented Chebyshev function with
        weights drawn for each proposal (ParEGO, Knowles 2006); metrics that are cheap are read, not learnt. Predicted
        violations of measured constraints rank behind all that is predicted to meet them. Failed trials are left out.

    Reference:
        Dudziak, Chau, Abdelfattah, Lee, Kim, Lane (2020), "BRP-NAS: prediction-based NAS using GCNs", arXiv 2007.08668,
        section 4 (iterative data selection); before it Wen et al. (2020), "Neural predictor for neural architecture
        search", arXiv 1912.00848.
    """

    regressor: object = "forest"
    options: Mapping[str, Any] = field(default_factory=dict)
    initial: int = 10
    batch: int = 10
    candidates: int = 2000
    explore: float = 0.5
    features: Sequence[str] = ()
    encoding: str = "auto"
    _problem: Problem = field(init=False, repr=False, compare=False)
    _wishes: Wishes = field(init=False, repr=False, compare=False)
    _encoder: Encoder = field(init=False, repr=False, compare=False)
    _rounds: Rounds = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name, least in (("initial", 2), ("batch", 1), ("candidates", 2)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise InvalidInputError(f"`{name}` must be an integer of {least} or more, got {value!r}.")
        if not 0 <= self.explore <= 1:
            raise InvalidInputError(f"`explore` must be a share in [0, 1], got {self.explore!r}.")
        self.features = read_features(self.features)
        check_regressor(self.regressor, self.options)

    def to_dict(self) -> dict[str, Any]:
        """Settings as plain JSON."""
        return {
            "regressor": describe_regressor(self.regressor), "options": dict(self.options), "initial": self.initial,
            "batch": self.batch, "candidates": self.candidates, "explore": self.explore,
            "features": list(self.features), "encoding": self.encoding,
        }  # fmt: skip

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> PredictorGuided:
        """Inverse of `to_dict`."""
        return cls(**data)

    def setup(self, problem: Problem) -> None:
        """Take the problem; forget all else."""
        self._problem, self._wishes = problem, Wishes(problem)
        self._encoder = Encoder(problem.space, kind=self.encoding)
        self._rounds = Rounds(
            problem, initial=self.initial, size=self.batch, plan=self._plan, usable=self._wishes.learnable
        )

    def ask(self, number: int) -> Proposal | Exhausted:
        """Propose a random network, or the next of the round.

        Raises:
            InfeasibleError: nothing meets the constraints.
            UnknownNameError: a feature is no cheap metric of the problem.
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
        best = self._wishes.ranked(trials)[:BEST]
        half = self.candidates // 2
        pool.add_mutations(best, half, draws=-(-half // len(best)), edits=EDITS)
        pool.add_random(self.candidates - half)
        if not len(pool):
            return []
        predicted = self._predict(start, trials, pool.architectures)
        return pool.take(self._score(start, trials, pool, predicted), candidates)

    def _predict(self, start: int, trials: list[Trial], asked: list[Architecture]) -> NDArray[np.float64]:
        """`(n, outputs)`, a regressor for each."""
        learnt = [t.architecture for t in trials]
        rows, others = self._encoder.encode(learnt), self._encoder.encode(asked, like=learnt)
        rows, others = with_features(self._problem, self.features, learnt, asked, rows, others)
        targets = self._wishes.targets(trials)
        predicted = np.empty((len(asked), targets.shape[1]))
        for place, signs in enumerate(self._wishes.signs(learnt[0])):
            seed = seed_of(self._problem.seed, "model", start, place)
            model = make_regressor(self.regressor, self.options, seed=seed)
            # Standardised, and such that more is better: not every regressor does it itself.
            column = signs * targets[:, place]
            centre, scale = column.mean(), column.std() or 1.0
            model.fit(rows, (column - centre) / scale)
            said = np.asarray(model.predict(others), dtype=np.float64).reshape(len(asked))
            predicted[:, place] = signs * (said * scale + centre)
        return predicted

    def _score(
        self, start: int, trials: list[Trial], pool: Pool, predicted: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """`(batch, n)`: the top of the ranking first, then draws from its better half."""
        broken = self._wishes.violations(predicted, pool.architectures)
        top = round((1 - self.explore) * self.batch)
        rows = []
        for number in range(start, start + self.batch):
            rng = source(self._problem.seed, "choice", number)
            weights = self._wishes.weights(rng)
            value = self._wishes.worth(predicted[None], pool.architectures, trials, weights).values[0]
            order = np.lexsort((-value, broken))  # what meets the constraints first, then the best
            score = np.empty(len(pool))
            score[order] = -np.arange(len(pool))
            if number - start >= top:
                better = order[: -(-len(pool) // 2)]
                score[better] = rng.random(len(better)) + 1.0
            rows.append(score)
        return np.stack(rows)
