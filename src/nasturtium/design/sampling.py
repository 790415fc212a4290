"""Samples of a space and what a callable says of each network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random
from typing import Literal

from nasturtium.design.edf import ErrorSample
from nasturtium.errors import InfeasibleError, InvalidInputError
from nasturtium.space import Architecture, Space

TRIES = 10_000
"""Draws without a network in the range of complexity, after which there is none."""


def draw(
    space: Space,
    number: int,
    *,
    seed: int,
    complexity: Callable[[Architecture], float],
    low: float = 0.0,
    high: float = float("inf"),
    sampler: Literal["uniform", "hierarchical"] = "uniform",
) -> tuple[Architecture, float]:
    """The network of one number in a sample, whose complexity lies in [low, high], and its complexity.

    It depends on seed and number alone, so that any part of a sample can be drawn again.

    Raises:
        InfeasibleError: no network of `TRIES` lies in the range; names the nearest.
    """
    rng = Random(f"{seed}/{number}")
    nearest, miss = 0.0, float("inf")
    for _ in range(TRIES):
        architecture = space.sample(rng, sampler)
        found = complexity(architecture)
        if low <= found <= high:
            return architecture, found
        if max(low - found, found - high) < miss:
            nearest, miss = found, max(low - found, found - high)
    raise InfeasibleError(
        f"None of {TRIES} networks drawn has a complexity from {low:.4g} to {high:.4g}; the nearest has {nearest:.4g}."
    )


def sample_errors(
    space: Space,
    estimator: Callable[[Architecture, int], float],
    n: int,
    seed: int,
    *,
    complexity: Callable[[Architecture], float],
    name: str = "",
    low: float = 0.0,
    high: float = float("inf"),
    sampler: Literal["uniform", "hierarchical"] = "uniform",
    known: Mapping[int, float] | None = None,
    failure: type[Exception] | tuple[type[Exception], ...] = (),
    report: Callable[[int, float, float], None] = lambda _number, _error, _complexity: None,
) -> ErrorSample:
    """Draw networks of a space and ask for the error of each.

    Args:
        space: To sample.
        estimator: Called with a network and its number in the sample; returns its error, smaller is better.
        n: Networks.
        seed: Of the draws; network k of a sample is the same for any `n`.
        complexity: Of a network, for example its MACs.
        name: Of the space.
        low: Least complexity.
        high: Greatest complexity.
        sampler: "uniform" over architectures, or "hierarchical".
        known: Errors by number that an earlier run found: these are not asked for again. NaN for one that failed.
        failure: Exceptions of the estimator that mean that this one network has no error; the sample counts them.
        report: Called with each number, its error (NaN where it failed) and its complexity.

    Raises:
        InvalidInputError: `n` is below 1, or every network failed.
        InfeasibleError: no network lies in the range of complexity.

    Example:
        >>> import nasturtium as nas
        >>> space = nas.Space(nas.Conv(nas.int_range(1, 9)))
        >>> width = lambda architecture: float(architecture.block.width)
        >>> found = sample_errors(space, lambda a, k: 1 / a.block.width, 4, 0, complexity=width)
        >>> len(found.errors), found.errors[0] * found.complexities[0]
        (4, 1.0)
    """
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise InvalidInputError(f"`n` must be an integer of at least 1, got {n!r}.")
    found: list[tuple[float, float]] = []
    for number in range(n):
        architecture, size = draw(
            space, number, seed=seed, complexity=complexity, low=low, high=high, sampler=sampler
        )  # fmt: skip
        if known is not None and number in known:
            error = known[number]
        else:
            error = _asked(estimator, architecture, number, failure)
            report(number, error, size)
        found.append((error, size))
    kept = [(error, size) for error, size in found if error == error]
    if not kept:
        raise InvalidInputError(f"All {n} networks drawn of {name or 'the space'} failed: nothing can be said of it.")
    errors, sizes = zip(*kept, strict=True)
    return ErrorSample(name=name, errors=errors, complexities=sizes, failed=n - len(kept))


def _asked(
    estimator: Callable[[Architecture, int], float],
    architecture: Architecture,
    number: int,
    failure: type[Exception] | tuple[type[Exception], ...],
) -> float:
    try:
        return float(estimator(architecture, number))
    except failure:
        return float("nan")
