"""What a number of images can show: intervals of accuracies and of differences between them.

Plain formulae on the standard library; no data, no network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist

from nasturtium.errors import InvalidInputError


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """An estimate with its confidence interval, as fractions."""

    estimate: float
    low: float
    high: float
    confidence: float

    @property
    def excludes_zero(self) -> bool:
        """Whether a difference with this interval is significant at 1 - confidence."""
        return self.low > 0.0 or self.high < 0.0


def quantile(confidence: float) -> float:
    """Two-sided standard normal quantile: 1.96 for 0.95.

    Raises:
        InvalidInputError: the confidence is not in (0, 1).
    """
    if not 0.0 < confidence < 1.0:
        raise InvalidInputError(f"`confidence` must be in (0, 1), for example 0.95, got {confidence!r}.")
    return NormalDist().inv_cdf(0.5 + confidence / 2.0)


def wilson(correct: int, n: int, confidence: float = 0.95) -> Interval:
    """Wilson's score interval of an accuracy.

    Args:
        correct: Images that were classified rightly, 0 to `n`.
        n: Images, at least 1.
        confidence: In (0, 1).

    Returns:
        The accuracy with its interval, always inside [0, 1].

    Raises:
        InvalidInputError: an argument is out of range.

    Reference:
        Wilson (1927), "Probable inference, the law of succession, and statistical inference", JASA 22(158).
    """
    if n < 1 or not 0 <= correct <= n:
        raise InvalidInputError(f"`correct` must be in [0, n] and n at least 1, got correct={correct!r}, n={n!r}.")
    z = quantile(confidence)
    share = correct / n
    scale = 1.0 + z * z / n
    centre = (share + z * z / (2 * n)) / scale
    half = z / scale * sqrt(share * (1.0 - share) / n + z * z / (4.0 * n * n))
    low = 0.0 if correct == 0 else max(0.0, centre - half)
    high = 1.0 if correct == n else min(1.0, centre + half)
    return Interval(estimate=share, low=low, high=high, confidence=confidence)


def smallest_difference(n: int, accuracy: float = 0.9, confidence: float = 0.95) -> float:
    """Smallest difference in accuracy that `n` validation images can show between two networks.

    A difference below it is inside the noise of drawing these images, for networks that err independently:
    `z * sqrt(2 * p * (1 - p) / n)`, the half-width of the two-proportion interval at common accuracy p. Two networks
    judged on the *same* images err partly on the same ones, so the true limit is lower: `paired_difference` uses that
    afterwards. No more than a rule of thumb before a search: it says nothing of the noise of training.

    Args:
        n: Validation images, at least 1.
        accuracy: Accuracy that is expected, in [0, 1]; the noise is largest at 0.5.
        confidence: In (0, 1).

    Returns:
        A fraction: 0.031 for 720 images at 0.9.

    Raises:
        InvalidInputError: an argument is out of range.
    """
    if n < 1 or not 0.0 <= accuracy <= 1.0:
        raise InvalidInputError(f"n must be at least 1 and `accuracy` in [0, 1], got n={n!r}, accuracy={accuracy!r}.")
    # At accuracy 0 or 1 the formula gives 0; one image is what can differ at all.
    return max(1.0 / n, quantile(confidence) * sqrt(2.0 * accuracy * (1.0 - accuracy) / n))


def paired_difference(first: Sequence[bool], second: Sequence[bool], confidence: float = 0.95) -> Interval:
    """Difference in accuracy, first minus second, of two networks judged on the same images.

    Agresti and Min's adjusted Wald interval for matched pairs: half an observation is added to each of the four cells
    of the table, which keeps the coverage near the nominal one for few disagreements.

    Args:
        first: `(n,)` whether each image was classified rightly by the first network.
        second: `(n,)` the same, in the same order, for the second.
        confidence: In (0, 1).

    Returns:
        The observed difference in [-1, 1] and its interval.

    Raises:
        InvalidInputError: the sequences differ in length or are empty.

    Reference:
        Agresti, Min (2005), "Simple improved confidence intervals for comparing matched proportions",
        Statistics in Medicine 24, section 2.
    """
    if len(first) != len(second) or len(first) == 0:
        raise InvalidInputError(
            "A paired difference needs the correctness of the same images, in the same order, for both networks, "
            f"got {len(first)} and {len(second)} values."
        )
    n = len(first)
    only_first = sum(1 for a, b in zip(first, second, strict=True) if a and not b)
    only_second = sum(1 for a, b in zip(first, second, strict=True) if b and not a)
    b, c, total = only_first + 0.5, only_second + 0.5, n + 2.0
    centre = (b - c) / total
    half = quantile(confidence) * sqrt(max(0.0, (b + c) - (b - c) ** 2 / total)) / total
    return Interval(
        estimate=(only_first - only_second) / n,
        low=max(-1.0, centre - half),
        high=min(1.0, centre + half),
        confidence=confidence,
    )


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> Interval:
    """Mean of a few repetitions (seeds) with Student's t interval; the interval is infinite for one value.

    Raises:
        InvalidInputError: no values.
    """
    if len(values) == 0:
        raise InvalidInputError("The mean of no values is not defined; give at least one.")
    n = len(values)
    mean = sum(values) / n
    if n == 1:
        return Interval(estimate=mean, low=float("-inf"), high=float("inf"), confidence=confidence)
    from scipy.stats import t  # noqa: PLC0415  scipy costs 0.3 s to import; only this function needs it

    deviation = sqrt(sum((v - mean) ** 2 for v in values) / (n - 1))
    half = float(t.ppf(0.5 + confidence / 2.0, n - 1)) * deviation / sqrt(n)
    return Interval(estimate=mean, low=mean - half, high=mean + half, confidence=confidence)
