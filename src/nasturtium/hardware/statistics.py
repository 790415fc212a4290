"""Statistics of latency: one value for a process, an interval over processes, drift, disturbance, outliers.

Pure functions on times that were taken elsewhere. A single long run says little: memory layout, placement and the state
of the machine differ from process to process, and repeat within one. So the process is the unit here, and the interval
is over processes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from nasturtium.errors import InvalidInputError

Clock = Literal["processor", "wall"]

RESAMPLES = 2000
FEWEST = 3
"""Processes below which no interval is given."""
DRIFT_LEVEL = 0.01
"""Chance of a false alarm of `drift`."""
DRIFT_FEWEST = 6
"""Values below which `drift` cannot tell: of five, even a strict order has a chance of 2 in 120."""
DISTURBED = 0.2
"""Share of runs that lost their core, above which it is reported."""
WAITED = 0.1
"""Share by which the wall clock may exceed the counted time, above which it is reported."""
OUTLIERS = 0.1
"""Share of runs far above their block's median, above which it is reported."""

Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessTimes:
    """What one process came to. Times in seconds."""

    turns: tuple[float, ...]
    """Median of each turn's runs of the network."""
    references: tuple[float, ...]
    """Median of the reference kernel around each turn."""
    wall: float
    """Median of all runs by the wall clock."""
    runs: int
    disturbed: float
    """Share of runs in which the system took the core away."""
    outliers: float
    """Share of runs beyond the median of their block by more than five robust standard deviations and 10 %."""
    settled: bool
    """Whether the times settled in the warm-up."""
    note: str = ""
    """What the process says of how it computed."""

    @property
    def seconds(self) -> float:
        """Median over the turns."""
        return float(np.median(self.turns))

    @property
    def reference(self) -> float:
        """Median of the reference kernel over the turns."""
        return float(np.median(self.references))


def process_times(result: Mapping[str, Any], clock: Clock) -> ProcessTimes:
    """Reduce the samples of one process.

    Args:
        result: Of `agent.in_turns`: blocks of (wall ns, processor ns, switches) of the network and, one more, of the
            reference.
        clock: Which of the two times counts.

    Raises:
        InvalidInputError: there is no turn, or the blocks do not alternate.
    """
    column = 1 if clock == "processor" else 0
    blocks = [np.asarray(block, float) for block in result["network"]]
    around = [np.asarray(block, float) for block in result["reference"]]
    if not blocks or len(around) != len(blocks) + 1 or any(len(block) == 0 for block in (*blocks, *around)):
        raise InvalidInputError(
            f"A process gives turns of runs with a reference before, between and after; got {len(blocks)} turns and "
            f"{len(around)} references."
        )
    reference = [float(np.median(block[:, column])) for block in around]
    runs = np.concatenate(blocks)
    return ProcessTimes(
        turns=tuple(float(np.median(block[:, column])) / 1e9 for block in blocks),
        references=tuple((a + b) / 2e9 for a, b in pairwise(reference)),
        wall=float(np.median(runs[:, 0])) / 1e9,
        runs=len(runs),
        disturbed=float((runs[:, 2] > 0).mean()),
        outliers=sum(_far(block[:, column]) for block in blocks) / len(runs),
        settled=bool(result["settled"]),
        note=str(result.get("note", "")),
    )


def _far(times: Values) -> int:
    middle = np.median(times)
    spread = 1.4826 * np.median(np.abs(times - middle))
    return int((times > middle + max(5 * spread, 0.1 * middle)).sum())


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A median with its interval, in seconds."""

    seconds: float
    low: float
    high: float

    @property
    def half_width(self) -> float:
        """Relative to the median."""
        return (self.high - self.low) / 2 / self.seconds


def interval(
    processes: Sequence[Sequence[float]],
    *,
    references: Sequence[float] | float = 1.0,
    confidence: float = 0.95,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Interval:
    """Median over processes, with a bootstrap interval that is right for few of them.

    Resampled are the processes, and in each the turns: what differs between fresh processes is in the interval. With n
    processes the plain percentile interval is too narrow by about sqrt((n - 1) / n) and by the normal instead of the
    t distribution, which is 83 % instead of 95 % for n = 5; so its percentiles are moved outwards to
    Phi(sqrt(n / (n - 1)) * t), the "expanded percentile interval".

    Args:
        processes: For each process the values of its turns, above 0: seconds, or ratios to the reference kernel.
        references: Seconds that ratios are multiplied with: one known number, or the reference kernel's of each
            process, whose median counts. They say how fast the machine was, which changes slowly: processes one after
            the other find it alike, and their median at another time differs as one of them does. So the interval has
            the scatter of one process's reference, not that of their median, and more processes do not narrow it.
        confidence: Share of such intervals that hold the median over very many processes.
        seed: Of the resampling.
        resamples: How many.

    Raises:
        InvalidInputError: fewer than three processes, or times that are not above 0.

    Reference:
        Hesterberg (2015), "What Teachers Should Know About the Bootstrap", The American Statistician 69(4), 5.2.
    """
    count = len(processes)
    if count < FEWEST:
        raise InvalidInputError(f"An interval over processes needs at least {FEWEST} of them, got {count}.")
    arrays = [np.asarray(turns, float) for turns in processes]
    known = np.broadcast_to(np.asarray(references, float), (count,))
    if not all(len(v) and np.isfinite(v).all() and (v > 0).all() for v in (*arrays, known)):
        raise InvalidInputError("Times must be finite and above 0, and every process needs a turn.")
    values, levels = [np.log(v) for v in arrays], np.log(known)
    rng = np.random.default_rng(seed)
    medians = np.empty((resamples, count))
    for i, v in enumerate(values):  # each process resampled within; which of them count is drawn below
        medians[:, i] = np.median(v[rng.integers(0, len(v), (resamples, len(v)))], axis=1)
    chosen = rng.integers(0, count, (resamples, count))
    drawn = np.median(np.take_along_axis(medians, chosen, axis=1), axis=1) + levels[chosen[:, 0]]
    tail = expanded_tail(count, confidence)
    middle = float(np.median([np.median(v) for v in values]) + np.median(levels))
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return Interval(
        seconds=float(np.exp(middle)), low=float(np.exp(min(low, middle))), high=float(np.exp(max(high, middle)))
    )


def expanded_tail(count: int, confidence: float) -> float:
    """The share that is cut off at each end of the bootstrap distribution; see `interval`."""
    quantile = stats.t.ppf((1 - confidence) / 2, count - 1)
    return float(stats.norm.cdf(np.sqrt(count / (count - 1)) * quantile))


def drift(values: Sequence[float]) -> float | None:
    """Relative change from the first to the last process, where it is no chance; None otherwise.

    Kendall's rank test of the values against their order at 1 %, and the Theil-Sen slope for the size. It is weak for
    few values: of fewer than six no order is that improbable, and of six only a strictly rising or falling one
    (2 in 720).

    Args:
        values: Of each process, in order of time.

    Reference:
        Sen (1968), "Estimates of the regression coefficient based on Kendall's tau", JASA 63.
    """
    if len(values) < DRIFT_FEWEST:
        return None
    order = np.arange(len(values))
    tau = stats.kendalltau(order, values)
    if not tau.pvalue < DRIFT_LEVEL:
        return None
    slope = stats.theilslopes(np.log(values), order).slope
    return float(np.expm1(slope * (len(values) - 1)))
