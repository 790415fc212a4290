"""Latency predictors: learned from measured whole networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from random import Random
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nasturtium.errors import InvalidInputError
from nasturtium.graph.graph import Graph
from nasturtium.hardware.correction import Correction, Finalist, fit_correction
from nasturtium.hardware.device import Device
from nasturtium.hardware.features import DecisionFeatures, GraphFeatures, features_from_dict
from nasturtium.hardware.latency import Measured, Prediction, check_measured
from nasturtium.hardware.regression import LEAST, MOST, RelativeRegression, fit_regression
from nasturtium.hardware.report import ErrorReport, error_report
from nasturtium.space import Architecture

VERSION = 2


@dataclass(frozen=True, kw_only=True, eq=False)
class Rows:
    """Measured networks, as features and seconds."""

    features: NDArray[np.float64]
    """`(networks, features)`."""
    seconds: NDArray[np.float64]
    """`(networks,)`."""
    keys: tuple[str, ...]
    """What tells networks apart: the canonical hash of a graph, the key of an architecture."""

    def __getitem__(self, chosen: NDArray[np.bool_]) -> Rows:
        """Some of them."""
        keys = tuple([key for key, kept in zip(self.keys, chosen, strict=True) if kept])
        return Rows(features=self.features[chosen], seconds=self.seconds[chosen], keys=keys)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {"features": self.features.tolist(), "seconds": self.seconds.tolist(), "keys": list(self.keys)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Rows:
        """Inverse of `to_dict`."""
        features, seconds = (np.array(data[name], dtype=float) for name in ("features", "seconds"))
        return cls(features=features, seconds=seconds, keys=tuple(data["keys"]))


@dataclass(frozen=True, kw_only=True, eq=False)
class LatencyPredictor:
    """A latency model learned from whole networks; made by `fit_predictor`."""

    device: Device
    features: DecisionFeatures | GraphFeatures
    fitted: Rows
    held_out: Rows
    """Networks that its error is measured with, but for those that `corrected` added to the fitted ones."""
    unreadable: int = 0
    """Further held-out networks, with kinds of kernels that no network of the fit had."""
    recent: tuple[tuple[float, str], ...] = ()
    """Noise and batch (see `Measured`) of the last of the fitted networks: finalists of searches, by `corrected`."""
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
    def correction(self) -> Correction:
        """What the finalists show it to be off by still, when they are fitted as all others: each without its fold."""
        count = len(self.fitted.seconds) - len(self.recent)
        if not self.recent:
            return Correction()
        off = self.regression.left_out(self.fitted.features)
        error = float(np.sqrt(np.mean(np.minimum(np.abs(off[:count]), MOST) ** 2)))
        has = self.fitted.features != 0
        readable = ~(has[count:] & ~has[:count].any(0)).any(1)  # what only finalists have is unknown without them
        found: dict[str, list[Finalist]] = {}  # one that was measured again counts once
        for key, value, known, measured in zip(
            self.fitted.keys[count:], off[count:], readable, self.recent, strict=True
        ):
            if known:
                found.setdefault(key, []).append(Finalist(1.0, 1 + float(value), *measured))
        once = [same[-1]._replace(measured=fmean([each.measured for each in same])) for same in found.values()]
        return fit_correction(once, error)

    @cached_property
    def error(self) -> ErrorReport | None:
        """Errors on the held-out networks that the fit did not see; None where there are none."""
        seen = set(self.fitted.keys)
        unseen = self.held_out[np.array([key not in seen for key in self.held_out.keys], dtype=bool)]
        if not unseen.keys:
            return None
        value, low, high = self._predicted(unseen.features)
        return error_report(
            value, unseen.seconds, intervals=(low, high), training=len(self.fitted.seconds), unreadable=self.unreadable
        )

    def predict(self, graph: Any) -> Prediction:
        """Latency of a network: a `Graph`, or an `Architecture` where the features are decisions.

        Raises:
            InvalidInputError: the features cannot be read of it.
        """
        value, low, high = (float(found[0]) for found in self._predicted(self.features([graph])))
        return Prediction(seconds=value, low=low, high=high, confidence=self.confidence, source=self.source)

    def _predicted(self, features: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
        """Seconds and the ends of the intervals, each `(networks,)`."""
        factor = self.correction.factor
        found = (self.regression.predict(features), *self.regression.intervals(features, self.confidence))
        return tuple([factor * values for values in found])

    def corrected(self, measurements: Sequence[Measured]) -> LatencyPredictor:
        """The predictor fitted again with more networks; kinds of kernels that are new to it become known.

        They count as all others in the fit, which a few hardly move. What they are still off by, each predicted without
        its fold, multiplies all predictions, drawn to 1: see `correction.fit_correction`.

        Networks that were held out and are shown to it now no longer count in `error`.
        """
        more = check_measured(measurements)
        networks = [each.network for each in more]
        features, old, held = self.features, self.fitted.features, self.held_out.features
        if isinstance(features, GraphFeatures):
            grown = features.grown(networks)
            old, held, features = features.moved(old, grown), features.moved(held, grown), grown
        fitted = Rows(
            features=np.vstack([old, features(networks)]),
            seconds=np.append(self.fitted.seconds, [each.seconds for each in more]),
            keys=(*self.fitted.keys, *map(_key, networks)),
        )
        held_out = replace(self.held_out, features=held)
        return replace(
            self,
            features=features,
            fitted=fitted,
            held_out=held_out,
            recent=(*self.recent, *[(one.noise, one.batch) for one in more]),
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON, the measured networks' features included."""
        return {
            "type": "predictor", "version": VERSION, "device": self.device.to_dict(),
            "features": self.features.to_dict(), "fitted": self.fitted.to_dict(), "held_out": self.held_out.to_dict(),
            "unreadable": self.unreadable, "confidence": self.confidence, "seed": self.seed,
            **({"recent": [list(each) for each in self.recent]} if self.recent else {}),
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
            raise InvalidInputError(
                f"A latency predictor of version {VERSION} was expected, got type {data.get('type')!r} of version "
                f"{data.get('version')!r}."
            )
        try:
            return cls(
                device=Device.from_dict(data["device"]),
                features=features_from_dict(data["features"], trust=trust),
                fitted=Rows.from_dict(data["fitted"]),
                held_out=Rows.from_dict(data["held_out"]),
                unreadable=data["unreadable"],
                recent=tuple([(float(noise), batch) for noise, batch in data.get("recent", ())]),
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
        features: What it reads; None takes `GraphFeatures`. Of these, only the kinds of kernels that the networks of
            the fit have are known: held-out networks with others are counted in the error report as refused, as
            they would be.
        held_out: Share of the networks that only its error is measured with. A network that was measured more than once
            is on one side with all its measurements.
        confidence: Of its intervals.
        seed: Of the split and the folds.

    Raises:
        InvalidInputError: too few networks, or a share outside [0, 1).
    """
    if not 0 <= held_out < 1:
        raise InvalidInputError(f"`held_out` must be a share in [0, 1), got {held_out!r}.")
    rows = check_measured(measurements)
    keys = [_key(row.network) for row in rows]
    order = list(dict.fromkeys(keys))
    Random(f"{seed} held out").shuffle(order)
    aside = set(order[: round(held_out * len(order))])
    training = [row for row, key in zip(rows, keys, strict=True) if key not in aside]
    test = [row for row, key in zip(rows, keys, strict=True) if key in aside]
    if len(training) < LEAST:
        raise InvalidInputError(
            f"A predictor needs at least {LEAST} networks besides the held-out ones, got {len(rows)} of which "
            f"{len(test)} are held out. Measure more, or transfer from models of other devices."
        )
    read, readable = features, test
    if not isinstance(read, DecisionFeatures):
        networks = [row.network for row in training]
        if read is not None:
            read(networks)  # refuses what it does not know
        read = GraphFeatures.fitted(networks)
        readable = [row for row in test if read.reads(row.network)]
    found = LatencyPredictor(
        device=device,
        features=read,
        fitted=_rows(read, training),
        held_out=_rows(read, readable),
        unreadable=len(test) - len(readable),
        confidence=confidence,
        seed=seed,
    )
    _ = found.regression
    return found


def _rows(features: DecisionFeatures | GraphFeatures, rows: Sequence[Measured]) -> Rows:
    networks = [row.network for row in rows]
    return Rows(
        features=features(networks), seconds=np.array([row.seconds for row in rows]), keys=tuple(map(_key, networks))
    )


def _key(network: object) -> str:
    """What tells networks apart."""
    if isinstance(network, Graph):
        return network.canonical_hash
    if isinstance(network, Architecture):
        return network.key
    raise InvalidInputError(f"A measured network is a graph or an architecture, got a {type(network).__name__}.")
