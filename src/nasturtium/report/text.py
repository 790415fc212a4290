"""Numbers as people read them."""

from __future__ import annotations


def quantity(metric: str, value: float) -> str:
    """A metric's value with its unit: 0.973 accuracy is "97.3 %", 65536 peak_memory "64.0 KiB", 61000 params "61.0k"."""
    if metric.endswith("accuracy"):
        return f"{100 * value:.2f} %"
    if metric.endswith("memory"):
        return scaled(value, (("MiB", 2**20), ("KiB", 2**10)), " B")
    if metric.endswith("seconds"):
        return duration(value)
    if metric in {"params", "macs", "activations"}:
        return scaled(value, (("G", 1e9), ("M", 1e6), ("k", 1e3)), "")
    return f"{value:.4g}"


def scaled(value: float, units: tuple[tuple[str, float], ...], plain: str) -> str:
    """The value in the largest unit that leaves at least 1."""
    for unit, size in units:
        if abs(value) >= size:
            number = value / size
            digits = 2 if number < 10 else 1 if number < 1000 else 0
            return f"{number:.{digits}f}{' ' if len(unit) > 1 else ''}{unit}"
    return f"{value:.0f}{plain}"


def duration(seconds: float) -> str:
    """Seconds as "850 ms", "12.3 s", "4 min 05 s" or "2 h 10 min"."""
    if seconds < 1:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{int(seconds // 60)} min {int(seconds % 60):02d} s"
    return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60):02d} min"


def big(number: int) -> str:
    """An exact integer with separators, and its order of magnitude where it is long."""
    text = f"{number:,}"
    return text if number < 10**7 else f"{text} (≈ {number:.2e})" if number < 10**300 else f"10^{len(str(number)) - 1}"
