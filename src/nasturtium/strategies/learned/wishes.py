"""What a model has to learn of trials, and what its predictions are worth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nasturtium.space import Architecture
from nasturtium.strategies.preference import preferences, usable
from nasturtium.surrogates.acquisition import augmented_chebyshev
from nasturtium.trial import Constraint, Trial, excess, violation
from nasturtium.trial.types import Problem

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Worth:
    """Predictions as one number to maximise.

    Attributes:
        values: `(members, n)`.
        best: Of the trials that meet the constraints; None where none does.
    """

    values: Array
    best: float | None


class Wishes:
    """The objectives and measured constraints of a problem, for a model of several outputs.

    Metrics that are cheap (`Problem.cheap_metrics`) are read, not modelled. Several objectives become one by the
    augmented Chebyshev function with random weights (ParEGO), each scaled to [0, 1] over the trials.

    Args:
        problem: To solve.
    """

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self._modelled: tuple[str, ...] | None = None

    def learnable(self, trial: Trial) -> bool:
        """Whether a trial completed with a finite value of all that is to be learnt."""
        limits = (trial.metrics.get(c.metric, math.nan) for c in self._measured(trial.architecture))
        return usable(trial, self.problem.objectives) and all(map(math.isfinite, limits))

    def ranked(self, trials: Sequence[Trial]) -> list[Trial]:
        """Trials, best first: those that meet the constraints, then by objective or front."""
        keys = preferences(self.problem, trials)
        return [trials[i] for i in sorted(range(len(trials)), key=lambda i: (keys[i], i))]

    def outputs(self, some: Architecture) -> tuple[str, ...]:
        """Names of the metrics to be modelled, each once."""
        if self._modelled is None:
            cheap = self.problem.cheap_metrics(some)
            wanted = [o.metric for o in self.problem.objectives] + [c.metric for c in self.problem.constraints]
            self._modelled = tuple(dict.fromkeys(name for name in wanted if name not in cheap))
        return self._modelled

    def targets(self, trials: Sequence[Trial]) -> Array:
        """`(n, outputs)`, in the metrics' own units."""
        names = self.outputs(trials[0].architecture)
        return np.array([[t.metrics[name] for name in names] for t in trials], dtype=np.float64)

    def signs(self, some: Architecture) -> Array:
        """`(outputs,)`: 1 for what is to be large, -1 for what is to be small."""
        wanted = {o.metric: o.direction == "minimize" for o in self.problem.objectives}
        limited = {c.metric: c.relation == "<=" for c in self.problem.constraints}
        small = {name for name, is_small in (limited | wanted).items() if is_small}  # the objective decides
        return np.array([-1.0 if name in small else 1.0 for name in self.outputs(some)])

    def weights(self, rng: np.random.Generator) -> Array:
        """Weights of the objectives, uniform on the simplex; 1 for a single objective."""
        return rng.dirichlet(np.ones(len(self.problem.objectives)))

    def worth(
        self, predicted: Array, architectures: Sequence[Architecture], trials: Sequence[Trial], weights: Array
    ) -> Worth:
        """What predictions are worth.

        Args:
            predicted: `(members, n, outputs)`.
            architectures: That they are of.
            trials: That were learnt from; they give the scale.
            weights: Of the objectives.
        """
        names = self.outputs(architectures[0])
        columns, measured = [], []
        for objective in self.problem.objectives:
            sign = 1.0 if objective.direction == "maximize" else -1.0
            if objective.metric in names:
                said = predicted[:, :, names.index(objective.metric)]
            else:
                exact = [self.problem.cheap_metrics(a)[objective.metric] for a in architectures]
                said = np.tile(np.array(exact, dtype=np.float64), (len(predicted), 1))
            columns.append(sign * said)
            measured.append([sign * t.metrics[objective.metric] for t in trials])
        known = np.array(measured, dtype=np.float64).T
        meets = [not violation(t.metrics, self.problem.constraints) for t in trials]
        values, reached = self._one(np.stack(columns, axis=-1), known, weights)
        return Worth(values, float(reached[meets].max()) if any(meets) else None)

    def limits(self, architecture: Architecture) -> list[tuple[Constraint, int]]:
        """The measured constraints, each with its output."""
        names = self.outputs(architecture)
        return [(c, names.index(c.metric)) for c in self._measured(architecture)]

    def violations(self, predicted: Array, architectures: Sequence[Architecture]) -> Array:
        """By how much predictions of `(n, outputs)` break the measured constraints, summed; `(n,)`."""
        total = np.zeros(len(predicted))
        for constraint, place in self.limits(architectures[0]):
            total += [max(0.0, excess(float(value), constraint)) for value in predicted[:, place]]
        return total

    def _measured(self, architecture: Architecture) -> list[Constraint]:
        names = self.outputs(architecture)
        return [c for c in self.problem.constraints if c.metric in names]

    def _one(self, values: Array, known: Array, weights: Array) -> tuple[Array, Array]:
        if known.shape[1] == 1:
            return values[..., 0], known[:, 0]
        best, worst = known.max(axis=0), known.min(axis=0)
        span = np.where(best > worst, best - worst, 1.0)
        return (
            -augmented_chebyshev((best - values) / span, weights),
            -augmented_chebyshev((best - known) / span, weights),
        )
