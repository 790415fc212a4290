"""Latency on a new device from a handful of measurements, and from models of other devices."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nasturtium.errors import InvalidInputError
from nasturtium.hardware.device import Device
from nasturtium.hardware.latency import LatencyModel, Measured, Prediction, check_measured, model_from_dict
from nasturtium.hardware.report import ErrorReport, error_report

Vector = NDArray[np.float64]
VERSION = 1
LEAST = 5
VARIANCES = tuple(10.0 ** np.arange(-4, 4))
"""Candidates of the weights' prior variance, times the number of sources."""
NOISES = tuple(10.0 ** np.arange(-6, -0.9, 0.5))
"""Candidates of the variance of a log latency that nothing explains."""
HUBER = 1.5
ROUNDS = 4


@dataclass(frozen=True, eq=False, kw_only=True)
class TransferRegression:
    """The log latency on a device as a combination of those on others; made by `fit_transfer`."""

    centre: Vector
    """Mean log latency of the measured networks on each source."""
    offset: float
    weights: Vector
    covariance: Vector
    """Of offset and weights, `(1 + sources, 1 + sources)`."""
    noise: float
    """Variance of a log latency that the sources do not explain, outliers apart."""
    freedom: float
    """Networks that the noise is known from, outliers in part, less the coefficients that they settled; at least 1."""

    def predict(self, sources: ArrayLike) -> Vector:
        """Seconds.

        Args:
            sources: `(networks, sources)`, seconds on the other devices.

        Returns:
            `(networks,)`.
        """
        return np.exp(self.offset + (np.log(np.asarray(sources, dtype=float)) - self.centre) @ self.weights)

    def intervals(self, sources: ArrayLike, confidence: float = 0.95) -> tuple[Vector, Vector]:
        """Ends of intervals, each `(networks,)`, by Student's t: few networks tell little of the noise.

        They are for a network that is no outlier. Where a share of all measurements is far off, about that share lies
        outside besides.
        """
        from scipy.special import stdtrit  # noqa: PLC0415  (slow to load)

        rows = np.log(np.asarray(sources, dtype=float)) - self.centre
        design = np.hstack([np.ones((len(rows), 1)), rows])
        deviation = np.sqrt(np.einsum("ij,jk,ik->i", design, self.covariance, design) + self.noise)
        stretch = np.exp(float(stdtrit(self.freedom, 0.5 + confidence / 2)) * deviation)
        value = self.predict(sources)
        return value / stretch, value * stretch


def fit_transfer(sources: ArrayLike, seconds: ArrayLike) -> TransferRegression:
    """Fit a new device.

    Bayesian regression of the log latency on the log latencies of the sources: before any measurement, the new device
    is the mean of the others up to a factor; the measurements say how far to leave that. Prior and noise variance are
    those of the largest marginal likelihood. Outliers count less (Huber's weights).

    Args:
        sources: `(networks, sources)`, seconds on the other devices, measured or predicted.
        seconds: `(networks,)`, measured on the new one.

    Raises:
        InvalidInputError: fewer than 5 networks, no sources, or times that are not positive and finite.

    Reference:
        Lee et al. (2021), "HELP: Hardware-Adaptive Efficient Latency Prediction", arXiv 2106.08630. Differs from the
        paper: linear in the other devices' latencies, where the paper's network is meta-learned on them.
    """
    given, times = np.asarray(sources, dtype=float), np.asarray(seconds, dtype=float)
    if given.ndim != 2 or not given.shape[1] or times.shape != (len(given),) or len(given) < LEAST:
        raise InvalidInputError(
            f"A transfer needs sources and at least {LEAST} measured networks, got {given.shape} and {times.shape}."
        )
    if not (np.isfinite(given).all() and np.isfinite(times).all() and (given > 0).all() and (times > 0).all()):
        raise InvalidInputError("A transfer needs times above 0 seconds on all devices.")
    logs, target = np.log(given), np.log(times)
    centre = logs.mean(0)
    rows = logs - centre
    start = np.full(rows.shape[1], 1 / rows.shape[1])
    scale = np.ones(len(rows))
    for _ in range(ROUNDS):
        used = scale
        variance, noise = _likeliest(rows, target - rows @ start, scale)
        offset, weights, covariance = _posterior(rows, target - rows @ start, variance, noise * scale)
        off = np.abs(target - offset - rows @ (start + weights)) / math.sqrt(noise)
        scale = np.maximum(1.0, off / HUBER)
    design = np.hstack([np.ones((len(rows), 1)), rows])
    settled = float(np.sum(np.einsum("ij,jk,ik->i", design, covariance, design) / (noise * used)))
    return TransferRegression(
        centre=centre, offset=offset, weights=start + weights, covariance=covariance, noise=noise,
        freedom=max(1.0, float(np.sum(1 / used)) - settled),
    )  # fmt: skip


def _likeliest(rows: Vector, target: Vector, scale: Vector) -> tuple[float, float]:
    """Prior variance of the weights and noise variance of the largest marginal likelihood."""
    best, found = -math.inf, (VARIANCES[0], NOISES[0])
    gram, ones = rows @ rows.T / rows.shape[1], np.ones(len(rows))
    for variance in VARIANCES:
        for noise in NOISES:
            root = np.linalg.cholesky(variance * gram + np.diag(noise * scale))
            flat, values = np.linalg.solve(root, np.stack([ones, target], 1)).T
            mean = float(flat @ values / (flat @ flat))
            rest = values - mean * flat
            likelihood = -0.5 * float(rest @ rest) - float(np.log(np.diag(root)).sum())
            likelihood -= 0.5 * math.log(float(flat @ flat))
            if likelihood > best:
                best, found = likelihood, (float(variance), float(noise))
    return found


def _posterior(rows: Vector, target: Vector, variance: float, noise: Vector) -> tuple[float, Vector, Vector]:
    """Offset, weights, and their covariance; the offset's prior is flat."""
    design = np.hstack([np.ones((len(rows), 1)), rows])
    prior = np.full(design.shape[1], rows.shape[1] / variance)
    prior[0] = 1e-9
    covariance = np.linalg.inv((design / noise[:, None]).T @ design + np.diag(prior))
    found = covariance @ (design / noise[:, None]).T @ target
    return float(found[0]), found[1:], covariance


@dataclass(frozen=True, kw_only=True)
class TransferredPredictor:
    """A latency model of a new device over models of other devices; made by `transfer_predictor`."""

    device: Device
    sources: tuple[LatencyModel, ...]
    latencies: tuple[tuple[float, ...], ...]
    """Of the measured networks, what each source predicts."""
    seconds: tuple[float, ...]
    """Measured, of the same networks."""
    confidence: float = 0.95

    @property
    def source(self) -> str:
        """Where its numbers come from."""
        names = ", ".join([model.device.name for model in self.sources])
        return f"transfer from {names}, by {len(self.seconds)} measurements on {self.device.name}"

    @cached_property
    def regression(self) -> TransferRegression:
        """The fit on all measurements."""
        return fit_transfer(self.latencies, self.seconds)

    @cached_property
    def error(self) -> ErrorReport | None:
        """Errors on the measured networks, each left out in turn; None for too few."""
        given, times = np.array(self.latencies), np.array(self.seconds)
        if len(times) <= LEAST:
            return None
        guesses, ends = np.zeros(len(times)), np.zeros((2, len(times)))
        for number in range(len(times)):
            fit = fit_transfer(np.delete(given, number, 0), np.delete(times, number))
            guesses[number] = fit.predict(given[[number]])[0]
            ends[:, number] = [end[0] for end in fit.intervals(given[[number]], self.confidence)]
        return error_report(
            guesses, times, intervals=(ends[0], ends[1]), training=len(times) - 1, how="each left out in turn"
        )

    def predict(self, graph: Any) -> Prediction:
        """Latency of a network, as the sources take it; see `LatencyModel.predict`."""
        row = [[model.predict(graph).seconds for model in self.sources]]
        low, high = self.regression.intervals(row, self.confidence)
        value = float(self.regression.predict(row)[0])
        return Prediction(
            seconds=value, low=float(low[0]), high=float(high[0]), confidence=self.confidence, source=self.source
        )

    def corrected(self, measurements: Sequence[Measured]) -> TransferredPredictor:
        """With more measured networks; see `LatencyModel.corrected`."""
        more = check_measured(measurements)
        rows = [tuple([m.predict(each.network).seconds for m in self.sources]) for each in more]
        return replace(
            self, latencies=(*self.latencies, *rows), seconds=(*self.seconds, *[each.seconds for each in more])
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON, the sources included."""
        return {
            "type": "transfer", "version": VERSION, "device": self.device.to_dict(),
            "sources": [model.to_dict() for model in self.sources],
            "latencies": [list(row) for row in self.latencies], "seconds": list(self.seconds),
            "confidence": self.confidence,
        }  # fmt: skip

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], *, trust: bool = False) -> TransferredPredictor:
        """Inverse of `to_dict`.

        Args:
            data: What it gave.
            trust: As of `model_from_dict`, for the sources.

        Raises:
            InvalidInputError: another type or version, or fields are missing.
        """
        if data.get("type") != "transfer" or data.get("version") != VERSION:
            raise InvalidInputError(f"A transferred model of version {VERSION} was expected, got {data.get('type')!r}.")
        try:
            return cls(
                device=Device.from_dict(data["device"]),
                sources=tuple([model_from_dict(each, trust=trust) for each in data["sources"]]),
                latencies=tuple(map(tuple, data["latencies"])),
                seconds=tuple(data["seconds"]),
                confidence=data["confidence"],
            )
        except (KeyError, TypeError) as error:
            raise InvalidInputError(f"A transferred model cannot be read: {error!r}.") from error


def transfer_predictor(
    device: Device, sources: Sequence[LatencyModel], measurements: Sequence[Measured], *, confidence: float = 0.95
) -> TransferredPredictor:
    """A latency model of a new device from at least 5 measurements, 20 say, and models of other devices.

    Args:
        device: The new device.
        sources: Models of the same networks on other devices: tables, predictors, transferred ones.
        measurements: Networks, as the sources take them, and their seconds on the new device.
        confidence: Of its intervals.

    Raises:
        InvalidInputError: no sources, too few measurements, or a source does not know a network.
    """
    if not sources:
        raise InvalidInputError("A transfer needs at least one model of another device.")
    found = TransferredPredictor(
        device=device, sources=tuple(sources), latencies=(), seconds=(), confidence=confidence
    ).corrected(measurements)
    _ = found.regression  # refuses too few measurements now
    return found
