"""How far a cheap ranking of networks can be trusted: Kendall's tau with its confidence interval, in words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nasturtium.errors import InvalidInputError

VERSION = 1
RESAMPLES = 2000
FEWEST = 5
"""Networks below which no interval is given: five rank in 120 ways, too few to tell anything at 95%."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """What a comparison of two rankings of the same networks came to."""

    tau: float
    """Kendall's tau-b, in [-1, 1]; NaN where one list does not rank (all values equal)."""
    low: float
    """Lower end of the interval; NaN where there is none."""
    high: float
    """Upper end of the interval; NaN where there is none."""
    n: int
    """Networks that have both values."""
    confidence: float
    """Of the interval, in (0, 1)."""
    cheap: str
    """What ranks cheaply, for people: "shared weights"."""
    full: str
    """What it is compared with: "training alone"."""

    @property
    def better_than_chance(self) -> bool:
        """Whether the whole interval is above 0."""
        return self.low > 0

    @property
    def sentence(self) -> str:
        """What it means, for people."""
        if math.isnan(self.tau):
            return (
                f"Nothing can be said of how {self.cheap} rank networks: over {self.n} networks one of the two lists "
                "has no two different values."
            )
        head = f"Kendall's tau of {self.cheap} with {self.full} is {self.tau:+.2f} over {self.n} networks"
        if math.isnan(self.low):
            return f"{head}: fewer than {FEWEST} networks, or too many ties, so it has no interval and proves nothing."
        head = f"{head} ({self.confidence:.0%} interval {self.low:+.2f} to {self.high:+.2f})"
        if self.high < 0:
            return f"{head}: this ranking is worse than chance, do not choose by it."
        if self.low <= 0:
            return f"{head}: the interval contains 0, so this ranking is not shown to be better than chance."
        alike = 50 * (1 + self.tau)
        strength = "well" if self.low >= 0.6 else "moderately" if self.low >= 0.3 else "weakly"
        return (
            f"{head}: better than chance, and it ranks {strength}; of 100 pairs of networks about {alike:.0f} are "
            "ordered alike."
        )

    def metrics(self, name: str) -> dict[str, float]:
        """Its numbers as metrics: "<name>", with "_low", "_high" and "_networks"; those that there are."""
        found = {name: self.tau, f"{name}_low": self.low, f"{name}_high": self.high, f"{name}_networks": float(self.n)}
        return {key: value for key, value in found.items() if not math.isnan(value)}

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON, with the sentence; NaN is null."""
        values = {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in asdict(self).items()}
        return {"version": VERSION, **values, "sentence": self.sentence}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Trust:
        """Inverse of `to_dict`.

        Raises:
            InvalidInputError: it is not a stored `Trust` of this version.
        """
        names = {"tau", "low", "high", "n", "confidence", "cheap", "full"}
        if data.get("version") != VERSION or not names <= set(data):
            raise InvalidInputError(
                f"A stored `Trust` has version {VERSION} and {', '.join(sorted(names))}, got {data!r}."
            )
        values: dict[str, Any] = {name: math.nan if data[name] is None else data[name] for name in names}
        return cls(**values)


def measure_trust(
    cheap: Sequence[float],
    full: Sequence[float],
    *,
    seed: int,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    names: tuple[str, str] = ("shared weights", "training alone"),
) -> Trust:
    """Compare a cheap ranking of networks with one that is believed.

    The interval is the percentile bootstrap over networks: pairs of values are drawn with replacement `resamples`
    times. Resamples in which one list has no two different values are left out; more than a twentieth of such leave no
    interval. It speaks of networks drawn as these were, and holds the noise of `full` for part of the disagreement.

    Args:
        cheap: Values of the networks; greater means better in both lists, or smaller in both.
        full: Values of the same networks, in the same order. A network with a NaN in either list is left out.
        seed: Of the bootstrap.
        confidence: Of the interval, in (0, 1).
        resamples: Of the bootstrap, at least 100.
        names: What the two lists are, for the sentence; plural.

    Raises:
        InvalidInputError: the lists differ in length, or another argument is out of range.

    Reference:
        Kendall (1945), "The treatment of ties in ranking problems", Biometrika 33 (tau-b); Efron (1979), "Bootstrap
        methods", Annals of Statistics 7.

    Example:
        >>> round(measure_trust([0.2, 0.4, 0.5, 0.7, 0.8, 0.9], [0.3, 0.2, 0.6, 0.8, 0.7, 0.9], seed=0).tau, 4)
        0.7333
    """
    if len(cheap) != len(full):
        raise InvalidInputError(f"Two values of each network are compared, got {len(cheap)} and {len(full)} of them.")
    if not 0 < confidence < 1 or resamples < 100:
        raise InvalidInputError(
            f"`confidence` must be in (0, 1) and `resamples` 100 or more, got {confidence!r} and {resamples!r}."
        )
    pairs = np.array([cheap, full], dtype=np.float64)
    x, y = pairs[:, ~np.isnan(pairs).any(axis=0)]
    (tau,), (low, high) = _taus(x, y, np.ones((1, len(x)))), (math.nan, math.nan)
    if len(x) >= FEWEST and not math.isnan(tau):
        rng = np.random.default_rng(seed)
        times = rng.multinomial(len(x), np.full(len(x), 1 / len(x)), resamples)
        found = _taus(x, y, times.astype(np.float64))
        found = found[~np.isnan(found)]
        if len(found) >= 0.95 * resamples:
            low, high = (float(q) for q in np.quantile(found, [(1 - confidence) / 2, (1 + confidence) / 2]))
    return Trust(
        tau=float(tau), low=low, high=high, n=len(x), confidence=confidence, cheap=names[0], full=names[1],
    )  # fmt: skip


def _taus(x: NDArray[np.float64], y: NDArray[np.float64], times: NDArray[np.float64]) -> NDArray[np.float64]:
    """Tau-b of resamples, `(resamples,)`; NaN where a list has no two different values.

    Args:
        x: `(n,)`.
        y: `(n,)`.
        times: `(resamples, n)`, how often each network was drawn. Copies of one network are tied with each other.
    """
    signs = [np.sign(values[:, None] - values[None, :]) for values in (x, y)]

    def pairs(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        return ((times @ matrix) * times).sum(axis=1)

    both = pairs(signs[0] * signs[1])
    untied = pairs(np.abs(signs[0])) * pairs(np.abs(signs[1]))
    with np.errstate(invalid="ignore"):
        return both / np.sqrt(np.where(untied > 0, untied, np.nan))
