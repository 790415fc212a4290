"""Numbers as people read them."""

from __future__ import annotations

from nasturtium.trial import METRICS, format_number


def quantity(metric: str, value: float) -> str:
    """A metric's value with its unit: "97.3 %", "64 KiB", "61k"; plain for metrics that the library does not know."""
    known = METRICS.get(metric)
    return known.format(value) if known else format_number(value)


def big(number: int) -> str:
    """An exact integer with separators, and its order of magnitude where it is long."""
    text = f"{number:,}"
    return text if number < 10**9 else f"{text} (≈ {number:.2e})" if number < 10**300 else f"10^{len(str(number)) - 1}"
