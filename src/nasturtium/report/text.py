"""Numbers as people read them."""

from __future__ import annotations

from nasturtium.trial import METRICS, format_number


def quantity(metric: str, value: float) -> str:
    """A metric's value with its unit: "97.3 %", "64 KiB", "61k"; plain for metrics that the library does not know."""
    known = METRICS.get(metric)
    return known.format(value) if known else format_number(value)
