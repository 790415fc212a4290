"""From the sum of a table's kernels to the latency of a network: a constant, slopes, and what a launch alone costs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nasturtium.errors import InvalidInputError

GROUPS = ("convolution", "pointwise", "depthwise", "linear", "other")
STEEPEST = 4.0
"""Largest slope: networks that take over four times the sum of their kernels are not explained by it."""


class Sum(NamedTuple):
    """What a network's kernels add up to."""

    seconds: Mapping[str, float]
    """Time alone, by group of kernels."""
    launches: int
    """Number of kernels."""

    @property
    def total(self) -> float:
        """Seconds of all."""
        return float(sum(self.seconds.values()))


@dataclass(frozen=True, slots=True, kw_only=True)
class AdditiveFit:
    """`constant + sum over groups of slope * seconds + launch * launches`."""

    constant: float = 0.0
    """Seconds of every network."""
    slopes: Mapping[str, float] = field(default_factory=lambda: dict.fromkeys(GROUPS, 1.0))
    """Time in a network over time alone, by group."""
    launch: float = 0.0
    """Seconds that each kernel takes less (below 0) or more in a network than alone."""
    form: str = "sum"
    """"sum", "constant", "line", "launches" or "groups"."""
    networks: int = 0
    """Whole networks that it was fitted on."""

    def __call__(self, kernels: Sum) -> float:
        """Seconds of a network."""
        total = self.constant + self.launch * kernels.launches
        return total + sum([self.slopes[group] * seconds for group, seconds in kernels.seconds.items()])

    def scaled(self, factor: float) -> AdditiveFit:
        """The fit of a device that takes so many times as long."""
        slopes = {group: factor * slope for group, slope in self.slopes.items()}
        return replace(self, constant=factor * self.constant, slopes=slopes, launch=factor * self.launch)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {**asdict(self), "slopes": dict(self.slopes)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> AdditiveFit:
        """Inverse of `to_dict`.

        Raises:
            InvalidInputError: fields are missing or unknown, or a group has no slope.
        """
        try:
            found = cls(**{**data, "slopes": {group: float(data["slopes"][group]) for group in GROUPS}})
        except (KeyError, TypeError) as error:
            raise InvalidInputError(f"A fit of kernels cannot be read: {error!r} in {data!r}.") from error
        return found


FORMS: Mapping[str, int] = {"sum": 0, "constant": 1, "line": 2, "launches": 3, "groups": 2 + len(GROUPS)}
"""Forms of the fit, simplest first, with their numbers of coefficients."""
FOLDS = 8
PER_COEFFICIENT = 3
"""Networks for each coefficient, at least."""


def fit_additive(sums: Sequence[Sum], seconds: Sequence[float], form: str | None = None) -> AdditiveFit:
    """Fit whole networks, relative errors squared; the form is that of the least error on left-out folds.

    "constant" adds a constant to the sum; "line" scales the sum too; "launches" has a term for each kernel, since a
    kernel alone pays for a call that it shares in a network; "groups" has a slope for each group of kernels. A form
    needs three networks for each of its coefficients. A more complex form is taken only where it is better by 5 %.

    Args:
        sums: Of each network.
        seconds: Measured, of each.
        form: One of `FORMS`; None chooses.

    Raises:
        InvalidInputError: no such form, or no networks for it.
    """
    measured = np.asarray(seconds, dtype=float)
    if len(sums) != len(measured):
        raise InvalidInputError(f"Each network needs one measurement, got {len(sums)} and {len(measured)}.")
    if form is not None:
        if form not in FORMS or FORMS[form] > len(sums):
            raise InvalidInputError(f"The form must be one of {', '.join(FORMS)} with as many networks, got {form!r}.")
        return _fitted(sums, measured, form)
    best, least = "sum", math.inf
    for name, coefficients in FORMS.items():
        if len(sums) < PER_COEFFICIENT * coefficients or (coefficients and len(sums) < PER_COEFFICIENT):
            continue
        error = _left_out(sums, measured, name)
        if error < 0.95 * least:
            best, least = name, error
    return _fitted(sums, measured, best)


def _left_out(sums: Sequence[Sum], seconds: NDArray[np.float64], form: str) -> float:
    """Root mean squared relative error of networks, a fold left out in turn."""
    if not sums:
        return math.inf
    folds, errors = np.arange(len(sums)) % min(FOLDS, len(sums)), []
    for fold in range(int(folds.max()) + 1):
        fit = _fitted([s for s, f in zip(sums, folds, strict=True) if f != fold], seconds[folds != fold], form)
        errors += [fit(sums[i]) / seconds[i] - 1 for i in map(int, np.flatnonzero(folds == fold))]
    return float(np.sqrt(np.mean(np.square(errors))))


def _fitted(sums: Sequence[Sum], seconds: NDArray[np.float64], form: str) -> AdditiveFit:
    from scipy.optimize import lsq_linear  # noqa: PLC0415  (slow to load)

    count = len(sums)
    if form == "sum":
        return AdditiveFit(networks=count)
    groups = np.array([[s.seconds.get(group, 0.0) for group in GROUPS] for s in sums])
    launches = np.array([[float(s.launches)] for s in sums])
    total, ones = groups.sum(1, keepdims=True), np.ones((count, 1))
    unit = float(np.median(seconds))
    if form == "constant":
        return AdditiveFit(
            constant=float(np.average(seconds - total[:, 0], weights=seconds**-2)), form=form, networks=count
        )
    each = unit / max(float(launches.mean()), 1.0)
    columns = [ones * unit, total if form != "groups" else groups]
    low = [-np.inf] + [0.0] * columns[1].shape[1]
    high = [np.inf] + [STEEPEST] * columns[1].shape[1]
    if form != "line":
        columns.append(launches * each)
        low, high = [*low, -np.inf], [*high, np.inf]
    matrix = np.hstack(columns)
    # a weak pull to slope 1 and nothing else, so that groups which hardly vary stay where they were measured
    prior = np.array([0.0] + [1.0] * columns[1].shape[1] + [0.0] * (form != "line"))
    pull = 0.02 * math.sqrt(count) * np.eye(len(prior))
    found = lsq_linear(
        np.vstack([matrix / seconds[:, None], pull]), np.concatenate([np.ones(count), pull @ prior]), (low, high)
    ).x
    slopes = found[1 : 1 + columns[1].shape[1]]
    by_group = dict(zip(GROUPS, slopes if form == "groups" else [slopes[0]] * len(GROUPS), strict=True))
    return AdditiveFit(
        constant=float(found[0] * unit),
        slopes={group: float(slope) for group, slope in by_group.items()},
        launch=float(found[-1] * each) if form != "line" else 0.0,
        form=form,
        networks=count,
    )
