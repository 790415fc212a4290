"""Latency predictors: learned from measured whole networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nasturtium.errors import InvalidInputError
from nasturtium.hardware.device import Device
from nasturtium.hardware.features import DecisionFeatures, GraphFeatures, features_from_dict
from nasturtium.hardware.latency import Measured, Prediction, check_measured
from nasturtium.hardware.regression import LEAST, RelativeRegression, fit_regression
from nasturtium.hardware.report import ErrorReport, error_report

VERSION = 1


@dataclass(frozen=True, kw_only=True, eq=False)
class Rows:
    """Measured networks, as features and seconds."""

    features: NDArray[np.float64]
    """`(networks, features)`."""
    seconds: NDArray[np.float64]
    """`(networks,)`."""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {"features": self.features.tolist(), "seconds": self.seconds.tolist()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Rows:
        """Inverse of `to_dict`."""
        return cls(features=np.array(data["features"], dtype=float), seconds=np.array(data["seconds"], dtype=float))


@dataclass(frozen=True, kw_only=True, eq=False)
class LatencyPredictor:
    """A latency model learned from whole networks; made by `fit_predictor`."""

    device: Device
    features: DecisionFeatures | GraphFeatures
    fitted: Rows
    held_out: Rows
    confidence: float = 0.95
    seed: int = 0

    @property
    def source(self) -> str:
        """Where its numbers come from."""
        return f"a predictor fitted on {len(self.fitted.seconds)} networks measured on {self.device.name}"

    @cached_property
    def regression(self) -> RelativeRegression:
        """The fit."""
        return fit_regression(self.fitted.features, self.fitted.seconds, seed=self.seed)

    @cached_property
    def error(self) -> ErrorReport | None:
        """Errors on the held-out networks; None where there are none."""
        if not len(self.held_out.seconds):
            return None
        rows = self.held_out.features
        return error_report(
            self.regression.predict(rows), self.held_out.seconds,
            intervals=self.regression.intervals(rows, self.confidence), training=len(self.fitted.seconds),
        )  # fmt: skip

    def predict(self, graph: Any) -> Prediction:
        """Latency of a network: a `Graph`, or an `Architecture` where the features are decisions.

        Raises:
            InvalidInputError: the features cannot be read of it.
        """
        rows = self.features([graph])
        low, high = self.regression.intervals(rows, self.confidence)
        value = float(self.regression.predict(rows)[0])
        return Prediction(
            seconds=value, low=float(low[0]), high=float(high[0]), confidence=self.confidence, source=self.source
        )

    def corrected(self, measurements: Sequence[Measured]) -> LatencyPredictor:
        """The predictor fitted again with more networks; kinds of kernels that are new to it become known."""
        more = check_measured(measurements)
        networks = [each.network for each in more]
        features, old, held = self.features, self.fitted.features, self.held_out.features
        if isinstance(features, GraphFeatures):
            grown = features.grown(networks)
            old, held, features = features.moved(old, grown), features.moved(held, grown), grown
        fitted = Rows(
            features=np.vstack([old, features(networks)]),
            seconds=np.append(self.fitted.seconds, [each.seconds for each in more]),
        )
        return replace(self, features=features, fitted=fitted, held_out=replace(self.held_out, features=held))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON, the measured networks' features included."""
        return {
            "type": "predictor", "version": VERSION, "device": self.device.to_dict(),
            "features": self.features.to_dict(), "fitted": self.fitted.to_dict(), "held_out": self.held_out.to_dict(),
            "confidence": self.confidence, "seed": self.seed,
        }  # fmt: skip

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], *, trust: bool = False) -> LatencyPredictor:
        """Inverse of `to_dict`.

        Args:
            data: What it gave.
            trust: As of `Space.from_dict`, where the features are decisions.

        Raises:
            InvalidInputError: another type or version, or fields are missing.
        """
        if data.get("type") != "predictor" or data.get("version") != VERSION:
            raise InvalidInputError(f"A latency predictor of version {VERSION} was expected, got {data.get('type')!r}.")
        try:
            return cls(
                device=Device.from_dict(data["device"]),
                features=features_from_dict(data["features"], trust=trust),
                fitted=Rows.from_dict(data["fitted"]),
                held_out=Rows.from_dict(data["held_out"]),
                confidence=data["confidence"],
                seed=data["seed"],
            )
        except (KeyError, TypeError) as error:
            raise InvalidInputError(f"A latency predictor cannot be read: {error!r}.") from error


def fit_predictor(
    device: Device,
    measurements: Sequence[Measured],
    *,
    features: DecisionFeatures | GraphFeatures | None = None,
    held_out: float = 0.2,
    confidence: float = 0.95,
    seed: int = 0,
) -> LatencyPredictor:
    """Learn the latency on a device from measured whole networks.

    Args:
        device: Where they were measured.
        measurements: Networks (graphs; or architectures where `features` are decisions) and their seconds.
        features: What it reads; None takes `GraphFeatures` of the networks' kinds of kernels.
        held_out: Share of the networks that only its error is measured with.
        confidence: Of its intervals.
        seed: Of the split and the folds.

    Raises:
        InvalidInputError: too few networks, or a share outside [0, 1).
    """
    if not 0 <= held_out < 1:
        raise InvalidInputError(f"`held_out` must be a share in [0, 1), got {held_out!r}.")
    rows = check_measured(measurements)
    Random(f"{seed} held out").shuffle(rows)
    count = round(held_out * len(rows))
    if len(rows) - count < LEAST:
        raise InvalidInputError(
            f"A predictor needs at least {LEAST} networks besides the held-out ones, got {len(rows)} of which {count} "
            "are held out. Measure more, or transfer from models of other devices."
        )
    networks = [row.network for row in rows]
    read = GraphFeatures.fitted(networks) if features is None else features
    matrix, seconds = read(networks), np.array([row.seconds for row in rows])
    found = LatencyPredictor(
        device=device,
        features=read,
        held_out=Rows(features=matrix[:count], seconds=seconds[:count]),
        fitted=Rows(features=matrix[count:], seconds=seconds[count:]),
        confidence=confidence,
        seed=seed,
    )
    _ = found.regression
    return found
