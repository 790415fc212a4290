"""Linear regression for times: relative errors count, outliers do not, and the intervals hold what they say."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nasturtium.errors import InvalidInputError
from nasturtium.hardware.report import conformal_radius

Vector = NDArray[np.float64]
PENALTIES = (1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)
ROUNDS = 5
MOST = 0.2
"""A relative error counts as at most so much where a penalty is chosen: what is quite wrong is no more than wrong."""
HUBER = 1.5
"""Residuals beyond so many standard deviations count linearly (Huber 1964, "Robust estimation of a location
parameter", Annals of Mathematical Statistics 35, section 4)."""
FLOOR = 0.1
"""Times count as at least this share of the median time: what is off by nanoseconds is not off."""
FOLDS = 10
LEAST = 5


@dataclass(frozen=True, eq=False, kw_only=True)
class RelativeRegression:
    """`seconds = offset + features @ weights`, fitted so that relative errors are small."""

    centre: Vector
    scale: Vector
    weights: Vector
    offset: float
    penalty: float
    spread: Vector
    """Of a prediction's leverage: `leverage = |row @ spread|^2`, `(features, directions)`."""
    errors: Vector
    """Relative errors on networks left out in turn, each over the root of 1 + its leverage."""
    smallest: float
    """Least time that is predicted."""

    def predict(self, features: ArrayLike) -> Vector:
        """`(networks,)` in seconds."""
        rows = (np.asarray(features, dtype=float) - self.centre) / self.scale
        return np.maximum(self.offset + rows @ self.weights, self.smallest)

    def intervals(self, features: ArrayLike, confidence: float = 0.95) -> tuple[Vector, Vector]:
        """Ends of intervals, each `(networks,)`; wider for networks unlike the training ones."""
        rows = (np.asarray(features, dtype=float) - self.centre) / self.scale
        value = self.predict(features)
        stretch = np.sqrt(1 + np.square(rows @ self.spread).sum(1))
        around = conformal_radius(np.abs(self.errors), confidence) * stretch * value
        return np.maximum(value - around, 0.0), value + around

    def left_out(self, features: ArrayLike) -> Vector:
        """Relative errors of the networks that it was fitted on, each predicted without its fold, `(networks,)`.

        Args:
            features: Of these networks, in their order.
        """
        rows = (np.asarray(features, dtype=float) - self.centre) / self.scale
        return np.asarray(self.errors * np.sqrt(1 + np.square(rows @ self.spread).sum(1)), dtype=float)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        arrays = {name: getattr(self, name).tolist() for name in ("centre", "scale", "weights", "spread", "errors")}
        return {**arrays, "offset": self.offset, "penalty": self.penalty, "smallest": self.smallest}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> RelativeRegression:
        """Inverse of `to_dict`."""
        arrays = {
            name: np.array(data[name], dtype=float) for name in ("centre", "scale", "weights", "spread", "errors")
        }
        arrays["spread"] = arrays["spread"].reshape(len(arrays["centre"]), -1)
        return cls(**arrays, offset=data["offset"], penalty=data["penalty"], smallest=data["smallest"])


def fit_regression(features: ArrayLike, seconds: ArrayLike, *, seed: int = 0) -> RelativeRegression:
    """Fit measured networks.

    Ridge regression on standardised features, weighted by one over the squared time, with Huber's weights against
    outliers. The penalty is the one of least mean relative error in cross-validation of (up to) ten folds, which
    also gives the errors for the intervals.

    Args:
        features: `(networks, features)`.
        seconds: `(networks,)`, above 0.
        seed: Of the folds.

    Raises:
        InvalidInputError: fewer than 5 networks, or a time that is not positive and finite.

    Reference:
        Intervals: Barber et al. (2021), "Predictive inference with the jackknife+", Annals of Statistics 49(1). Differs
        from the paper: residuals of folds around the prediction of the fit on all networks, scaled by leverage. They
        are a little optimistic, by two choices that the left-out networks had a part in: Huber's weights come of one
        fit to all networks, and the penalty is the best of six on these very errors. The errors of held-out networks
        (`LatencyPredictor.error`, with the share that the intervals cover) are free of both.
    """
    rows, times = np.asarray(features, dtype=float), np.asarray(seconds, dtype=float)
    if rows.ndim != 2 or times.shape != (len(rows),) or len(rows) < LEAST:
        raise InvalidInputError(f"At least {LEAST} networks and a time of each, got {rows.shape} and {times.shape}.")
    if not (np.isfinite(rows).all() and np.isfinite(times).all() and (times > 0).all()):
        raise InvalidInputError("Features must be finite, and times finite and above 0 seconds.")
    centre, deviation = rows.mean(0), rows.std(0)
    scale = np.where(deviation > 1e-12 * np.abs(centre).clip(1e-300), deviation, 1.0)
    design = np.hstack([np.ones((len(rows), 1)), (rows - centre) / scale])
    folds = np.arange(len(rows)) % min(FOLDS, len(rows))
    np.random.default_rng(seed).shuffle(folds)
    smallest = float(times.min()) / 2
    best, least = PENALTIES[0], math.inf
    for penalty in PENALTIES:
        weights = _weights(design, times, penalty)
        errors = times / np.maximum(_left_out(design, times, weights, folds, penalty), smallest) - 1
        middle = float(np.mean(np.minimum(np.abs(errors), MOST)))
        if middle < least:
            best, least, kept = penalty, middle, (weights, errors)
    weights, errors = kept
    gram, moment = _sums(design, times, weights)
    found = _solved(gram, moment, best)
    values, vectors = np.linalg.eigh(gram[1:, 1:] - np.outer(gram[0, 1:], gram[0, 1:]) / gram[0, 0])
    spread = vectors / np.sqrt(np.maximum(values, 0.0) + best)
    stretch = np.sqrt(1 + np.square(design[:, 1:] @ spread).sum(1))
    return RelativeRegression(
        centre=centre, scale=scale, weights=found[1:], offset=float(found[0]), penalty=best, spread=spread,
        errors=errors / stretch, smallest=smallest,
    )  # fmt: skip


def _sums(design: Vector, times: Vector, weights: Vector) -> tuple[Vector, Vector]:
    """The normal equations."""
    weighted = design * weights[:, None]
    return weighted.T @ design, weighted.T @ times


def _solved(gram: Vector, moment: Vector, penalty: float) -> Vector:
    """Coefficients; the first, the offset, is not drawn to 0."""
    pull = np.full(len(gram), penalty)
    pull[0] = 1e-9
    return np.linalg.solve(gram + np.diag(pull), moment).astype(np.float64)


def _weights(design: Vector, times: Vector, penalty: float) -> Vector:
    """Of each network: one over the squared time, less for outliers; their mean is 1."""
    floor = FLOOR * float(np.median(times))
    weights: Vector = np.ones(len(times))
    fitted: Vector = np.full(len(times), float(np.median(times)))
    for _ in range(ROUNDS):
        base = np.maximum(fitted, floor)
        off = np.abs(times - fitted) / base
        sigma = 1.4826 * float(np.median(off)) + 1e-12
        weights = base**-2 / np.maximum(1.0, off / (HUBER * sigma))
        weights = weights / weights.mean()
        fitted = design @ _solved(*_sums(design, times, weights), penalty)
    return weights


def _left_out(design: Vector, times: Vector, weights: Vector, folds: NDArray[np.int64], penalty: float) -> Vector:
    """Predictions of networks whose fold was left out."""
    gram, moment = _sums(design, times, weights)
    found = np.zeros(len(times))
    for fold in range(int(folds.max()) + 1):
        out = folds == fold
        less, without = _sums(design[out], times[out], weights[out])
        found[out] = design[out] @ _solved(gram - less, moment - without, penalty)
    return found
