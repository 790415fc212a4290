"""What is known of networks before they are trained, as columns beside their encodings."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nasturtium.errors import InvalidInputError, UnknownNameError
from nasturtium.space import Architecture
from nasturtium.trial.types import Problem

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Array = NDArray[np.float64]


def read_features(features: object) -> tuple[str, ...]:
    """The names of an argument `features`.

    Raises:
        InvalidInputError: it is no list of names.
    """
    if isinstance(features, str):
        raise InvalidInputError(f"`features` must be a list of names, got the text {features!r}.")
    if not isinstance(features, Sequence):
        raise InvalidInputError(f"`features` must be a list of names, got {features!r}.")
    return tuple(str(name) for name in features)


def described(strategy: DataclassInstance) -> dict[str, Any]:
    """Settings of a strategy as plain JSON, without `features` where there are none: older studies go on."""
    values = {f.name: getattr(strategy, f.name) for f in fields(strategy) if f.init}
    features = list(values.pop("features"))
    return {**values, "features": features} if features else values


def with_features(
    problem: Problem,
    names: Sequence[str],
    learnt: Sequence[Architecture],
    asked: Sequence[Architecture],
    rows: Array,
    others: Array,
) -> tuple[Array, Array]:
    """Rows with the named cheap metrics beside them, standardised over what is learnt; what is unknown is 0.

    Args:
        problem: Knows the metrics.
        names: Of the metrics.
        learnt: Networks that a model is trained on.
        asked: Networks that it is asked about.
        rows: `(learnt, width)`, their encodings.
        others: `(asked, width)`.

    Returns:
        `(learnt, width + names)` and `(asked, width + names)`.

    Raises:
        UnknownNameError: the problem has no such metric.
    """
    if not names:
        return rows, others
    given, wanted = _values(problem, names, learnt), _values(problem, names, asked)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a column may be unknown throughout
        centre, scale = np.nanmean(given, axis=0), np.nanstd(given, axis=0)
    scale = np.where(scale > 0, scale, 1.0)
    # What is unknown stands in the middle.
    known, asked_for = (np.nan_to_num((values - centre) / scale) for values in (given, wanted))
    return np.hstack([rows, known]), np.hstack([others, asked_for])


def _values(problem: Problem, names: Sequence[str], architectures: Sequence[Architecture]) -> Array:
    rows = []
    for architecture in architectures:
        metrics = problem.cheap_metrics(architecture)
        for name in names:
            if name not in metrics:
                raise UnknownNameError("cheap metric", name, list(metrics))
        rows.append([float(metrics[name]) for name in names])
    return np.array(rows)
