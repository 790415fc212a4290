"""What can be measured of a network: names, units, limits, and how people read them.

`params <= 60_000` makes a constraint, `latency("cpu") <= 2e-3` one on a device. Values are in base units everywhere
inside: counts, bytes, seconds, joules, fractions.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal, NamedTuple, NoReturn, Protocol

from nasturtium.errors import InvalidInputError, UnknownNameError
from nasturtium.trial.types import Constraint, Direction

Unit = Literal["count", "bytes", "fraction", "seconds", "joules", "number"]


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
            exactly = float(Decimal(text) * Decimal(str(scale)))  # as `parse_value` reads it
            if abs(scaled) >= 1 and len(text) <= 5 and exactly == value:
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


class Named(Protocol):
    """A device: what has a name."""

    @property
    def name(self) -> str:
        """As constraints say it."""
        ...


class OfDevice(NamedTuple):
    """What a metric such as "latency(cpu)" names."""

    kind: str
    """One of `KINDS`."""
    device: str


KINDS: Mapping[str, tuple[Unit, bool, str]] = {
    "latency": ("seconds", False, "of one inference (of the whole batch) on {}: median"),
    "energy": ("joules", False, "of one inference on {}, above what the machine takes at rest"),
    "sram": ("bytes", True, "arena of the int8 network on {}, predicted: activations and the interpreter's own"),
    "flash": (
        "bytes",
        True,
        "int8 weights, biases and quantisation parameters on {}: a lower bound of its file",
    ),
}
"""What is asked of a device: unit, whether it is known from the architecture alone, and a line for people."""

_OF_DEVICE = re.compile(r"\s*([a-z_]+)\s*\(\s*([A-Za-z0-9][A-Za-z0-9._-]*)\s*\)\s*")


def of_device(name: str) -> OfDevice | None:
    """Kind and device of a metric such as "latency(cpu)"; None for any other name."""
    match = _OF_DEVICE.fullmatch(name)
    return OfDevice(match[1], match[2]) if match and match[1] in KINDS else None


def on_device(kind: str, device: str | Named) -> Metric:
    """The metric of a kind on a device; `latency`, `energy`, `sram` and `flash` make one each.

    Args:
        kind: One of `KINDS`.
        device: A name, or what has one.

    Raises:
        InvalidInputError: the name is no device's.
        UnknownNameError: no such kind.
    """
    if kind not in KINDS:
        raise UnknownNameError("metric of a device", kind, KINDS)
    unit, cheap, text = KINDS[kind]
    found = device if isinstance(device, str) else device.name
    name = f"{kind}({found})"
    if of_device(name) is None:
        raise InvalidInputError(f"`{kind}` is asked of a device by name, such as {kind}(cpu), got {found!r}.")
    return Metric(name=f"{kind}({found.strip()})", unit=unit, cheap=cheap, description=text.format(found.strip()))


def latency(device: str | Named) -> Metric:
    """Latency on a device, in seconds: `latency("cpu") <= 2e-3`, "latency(cpu) <= 2ms".

    A search says where the values come from: `latency={"cpu": "cpu.json"}`, a table or a predictor, or "measure".
    """
    return on_device("latency", device)


def energy(device: str | Named) -> Metric:
    """Energy of one inference on a device, in joules; measured in each trial, where the machine has a counter."""
    return on_device("energy", device)


def sram(device: str | Named) -> Metric:
    """Working memory of the int8 network on a microcontroller, in bytes: the arena that its runtime is to allocate.

    Predicted from the graph. A search then allocates the arena of its finalists really, where it can.
    """
    return on_device("sram", device)


def flash(device: str | Named) -> Metric:
    """Flash that the int8 network takes of a microcontroller, in bytes.

    Predicted from the graph as weights, biases and quantisation parameters: a lower bound, as the file's own structure
    (some 2 to 20 kB) and the runtime's code come on top. A search then compares the size of its finalists' real files
    with the limit, where it can; the code still comes on top of these.
    """
    return on_device("flash", device)


class _Metrics(Mapping[str, Metric]):
    """Metrics by name. Those of a device are found for every device, and not listed."""

    def __init__(self, *listed: Metric) -> None:
        self._listed = {m.name: m for m in listed}

    def __getitem__(self, name: str) -> Metric:
        if name in self._listed:
            return self._listed[name]
        asked = of_device(name)
        if asked is None or name != f"{asked.kind}({asked.device})":
            raise KeyError(name)
        return on_device(asked.kind, asked.device)

    def __iter__(self) -> Iterator[str]:
        return iter(self._listed)

    def __len__(self) -> int:
        return len(self._listed)


METRICS: Mapping[str, Metric] = _Metrics(
    params, macs, activations, peak_memory, irregularity, kernels, accuracy, loss, train_seconds
)
"""The metrics that the library itself measures, by name; "latency(cpu)" and its like are found for any device."""


def metric(name: str, *, extra: Mapping[str, Metric] | None = None) -> Metric:
    """Look a metric up by name.

    Args:
        name: As a user writes it.
        extra: Metrics of the estimator or the device at hand, by name, beside the library's own.

    Raises:
        UnknownNameError: Nobody measures this; the message lists what is measured.
        InvalidInputError: `flops`, which is ambiguous.
    """
    asked = of_device(name)
    exact = name if asked is None else f"{asked.kind}({asked.device})"
    for known in (extra or {}, METRICS):
        if exact in known:
            return known[exact]
    if name in KINDS:
        raise InvalidInputError(f"{name!r} is that of a device: write `{name}(DEVICE)`, for example `{name}(cpu)`.")
    if name.lower() in ("flops", "mflops", "gflops", "flop"):
        raise InvalidInputError(
            f"{name!r} is ambiguous: papers use it both for multiply-accumulates and for twice as many. Use 'macs', "
            "multiply-accumulates of convolutions and linear layers, which is what most papers on architecture search "
            "mean by FLOPs."
        )
    raise UnknownNameError("metric", name, [*METRICS, *(extra or {}), *(f"{kind}(DEVICE)" for kind in KINDS)])


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


def format_joules(value: float) -> str:
    """Write an energy: "2.1 mJ", "310 uJ", "1.2 J"."""
    for scale, suffix in ((1.0, "J"), (1e-3, "mJ")):
        if not math.isfinite(value) or abs(value) >= scale:
            return f"{value / scale:.3g} {suffix}"
    return f"{value * 1e6:.3g} uJ"


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
    "joules": format_joules,
    "number": format_number,
}
_BASE: Mapping[Unit, str] = {
    "count": "units",
    "bytes": "bytes",
    "fraction": "[0, 1]",
    "seconds": "seconds",
    "joules": "joules",
    "number": "units",
}
_EXACT: Mapping[Unit, tuple[tuple[float, str], ...]] = {
    "count": ((1e9, "G"), (1e6, "M"), (1e3, "k")),
    "bytes": ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"), (1, "B")),
    "fraction": ((1e-2, "%"),),
    "seconds": ((1, "s"), (1e-3, "ms"), (1e-6, "us")),
    "joules": ((1, "J"), (1e-3, "mJ"), (1e-6, "uJ")),
    "number": (),
}
