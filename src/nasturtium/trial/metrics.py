"""What can be measured of a network: names, units, limits, and how people read them.

`params <= 60_000` makes a constraint. Values are in base units everywhere inside: counts, bytes, seconds, fractions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NoReturn

from nasturtium.errors import InvalidInputError, UnknownNameError
from nasturtium.trial.types import Constraint, Direction

Unit = Literal["count", "bytes", "fraction", "seconds", "number"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """Something that can be measured of a network.

    `metric <= limit` and `metric >= limit` give a `Constraint`; `<` and `>` are refused, since limits are inclusive.
    `==` compares metrics (it never makes a constraint), so a metric can stand in sets and as a key.

    Args:
        name: As in `Trial.metrics`.
        unit: Base unit of its values.
        cheap: Known from the architecture alone, before anything is trained; the strategy checks such constraints.
        direction: Which way is usually better. An objective still says its direction.
        description: One line for people.
        lowest: No value lies below.
        highest: No value lies above.

    Example:
        >>> from nasturtium.trial import params
        >>> params <= 60_000
        Constraint(metric='params', relation='<=', limit=60000.0)
    """

    name: str
    unit: Unit = "number"
    cheap: bool = False
    direction: Direction = "minimize"
    description: str = ""
    lowest: float = 0.0
    highest: float = math.inf

    def __le__(self, limit: float) -> Constraint:
        return Constraint(metric=self.name, relation="<=", limit=self.check_limit(limit))

    def __ge__(self, limit: float) -> Constraint:
        return Constraint(metric=self.name, relation=">=", limit=self.check_limit(limit))

    def __lt__(self, limit: float) -> NoReturn:
        raise InvalidInputError(f"Limits are inclusive: write `{self.name} <= {limit}` instead of `{self.name} < …`.")

    def __gt__(self, limit: float) -> NoReturn:
        raise InvalidInputError(f"Limits are inclusive: write `{self.name} >= {limit}` instead of `{self.name} > …`.")

    def check_limit(self, limit: float) -> float:
        """Return the limit as a float.

        Raises:
            InvalidInputError: It is not a finite number, or no value of this metric can be there.
        """
        if isinstance(limit, bool) or not isinstance(limit, (int, float)) or not math.isfinite(limit):
            raise InvalidInputError(
                f"The limit of `{self.name}` must be a finite number in {_BASE[self.unit]}, got {limit!r}."
            )
        if self.lowest <= limit <= self.highest:
            return float(limit)
        if self.unit == "fraction" and 2 <= limit <= 100:
            raise InvalidInputError(
                f"`{self.name}` is a fraction in [0, 1], got {limit!r}; write {limit / 100:g} or '{limit:g}%'."
            )
        upper = "" if self.highest == math.inf else f" and at most {self.highest:g}"
        raise InvalidInputError(f"`{self.name}` is at least {self.lowest:g}{upper}, so it has no limit of {limit!r}.")

    def format(self, value: float) -> str:
        """Write a value for people, rounded: "60k", "64 KiB", "97.3 %", "2.1 ms"."""
        return _FORMATS[self.unit](value)

    def format_exact(self, value: float) -> str:
        """Write a value so that `parse_value` reads it back exactly, as short as it can: "60k", "60123", "64KiB"."""
        for scale, suffix in _EXACT[self.unit]:
            scaled = value / scale
            text = f"{scaled:.10g}"
            if abs(scaled) >= 1 and len(text) <= 5 and float(text) * scale == value:
                return text + suffix
        if value == int(value) and abs(value) < 1e15:
            return str(int(value))
        return repr(float(value))


params = Metric(name="params", unit="count", cheap=True, description="trainable parameters")
macs = Metric(
    name="macs", unit="count", cheap=True, description="multiply-accumulates of convolutions and linear layers, batch 1"
)
activations = Metric(name="activations", unit="count", cheap=True, description="elements of all convolution outputs")
peak_memory = Metric(
    name="peak_memory",
    unit="bytes",
    cheap=True,
    description="peak memory of activations: int8, batch 1, the given order, liveness",
)
irregularity = Metric(
    name="irregularity",
    cheap=True,
    lowest=1.0,
    description="tensors that kernels read, per kernel on the longest path; 1 for a chain",
)
kernels = Metric(
    name="kernels", unit="count", cheap=True, description="kernel launches: operations with their norm and activation"
)
accuracy = Metric(
    name="accuracy", unit="fraction", direction="maximize", highest=1.0, description="share right on validation data"
)
loss = Metric(name="loss", lowest=-math.inf, description="loss on validation data")
train_seconds = Metric(name="train_seconds", unit="seconds", description="wall-clock time of training")

METRICS: Mapping[str, Metric] = {
    m.name: m for m in (params, macs, activations, peak_memory, irregularity, kernels, accuracy, loss, train_seconds)
}
"""The metrics that the library itself measures, by name."""


def metric(name: str, *, extra: Mapping[str, Metric] | None = None) -> Metric:
    """Look a metric up by name.

    Args:
        name: As a user writes it.
        extra: Metrics of the estimator or the device at hand, by name, beside the library's own.

    Raises:
        UnknownNameError: Nobody measures this; the message lists what is measured.
        InvalidInputError: `flops`, which is ambiguous.
    """
    known = {**METRICS, **(extra or {})}
    if name in known:
        return known[name]
    if name.lower() in ("flops", "mflops", "gflops", "flop"):
        raise InvalidInputError(
            f"{name!r} is ambiguous: papers use it both for multiply-accumulates and for twice as many. Use 'macs', "
            "multiply-accumulates of convolutions and linear layers, which is what most papers on architecture search "
            "mean by FLOPs."
        )
    raise UnknownNameError("metric", name, known)


def format_count(value: float) -> str:
    """Write a count with three digits or so: 999, "12.3k", "1.5M", "300.8M", "4.1G"."""
    if not math.isfinite(value):
        return str(value)
    for scale, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= scale * 0.99995:
            return _short(value / scale) + suffix
    return _short(value)


def format_bytes(value: float) -> str:
    """Write bytes in binary units: "512 B", "64 KiB", "1.4 MiB"."""
    if not math.isfinite(value):
        return str(value)
    for scale, suffix in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if abs(value) >= scale:
            return f"{_short(value / scale)} {suffix}"
    return f"{_short(value)} B"


def format_fraction(value: float) -> str:
    """Write a fraction as per cent with one decimal: "97.3 %"."""
    return f"{100 * value:.1f} %" if math.isfinite(value) else str(value)


def format_seconds(value: float) -> str:
    """Write a time: "2.1 ms", "12.3 s", "2 min 5 s", "3 h 20 min"."""
    if not math.isfinite(value):
        return str(value)
    if abs(value) < 1e-3:
        return f"{value * 1e6:.3g} us" if value else "0 s"
    if abs(value) < 1:
        return f"{value * 1e3:.3g} ms"
    if abs(value) < 59.95:
        return f"{_short(value)} s"
    whole = round(value)
    if whole < 3600:
        minutes, seconds = divmod(whole, 60)
        return f"{minutes} min {seconds} s" if seconds else f"{minutes} min"
    hours, minutes = divmod(round(value / 60), 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def format_number(value: float) -> str:
    """Write a number without a unit, four digits: "0.3412"."""
    return f"{value:.4g}"


def _short(value: float) -> str:
    text = f"{value:.1f}"
    return text[:-2] if text.endswith(".0") else text


_FORMATS = {
    "count": format_count,
    "bytes": format_bytes,
    "fraction": format_fraction,
    "seconds": format_seconds,
    "number": format_number,
}
_BASE: Mapping[Unit, str] = {
    "count": "units",
    "bytes": "bytes",
    "fraction": "[0, 1]",
    "seconds": "seconds",
    "number": "units",
}
_EXACT: Mapping[Unit, tuple[tuple[float, str], ...]] = {
    "count": ((1e9, "G"), (1e6, "M"), (1e3, "k")),
    "bytes": ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"), (1, "B")),
    "fraction": ((1e-2, "%"),),
    "seconds": ((1, "s"), (1e-3, "ms"), (1e-6, "us")),
    "number": (),
}
