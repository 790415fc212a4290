"""What every model of latency has in common: it predicts with an interval, and says where the number comes from."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, Self, runtime_checkable

from nasturtium.errors import InvalidInputError
from nasturtium.graph.graph import Graph
from nasturtium.hardware.device import Device
from nasturtium.hardware.report import ErrorReport
from nasturtium.trial import format_seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """A latency that was not measured, with an interval.

    Raises:
        InvalidInputError: the interval does not hold the number.
    """

    seconds: float
    low: float
    """Lower end of the interval, in seconds."""
    high: float
    """Upper end of the interval, in seconds; infinite where too few networks were held out to say."""
    confidence: float = 0.95
    """Share of networks like the held-out ones whose measured latency lies in such an interval."""
    source: str = ""
    """Where it comes from, in words."""

    def __post_init__(self) -> None:
        if not self.low <= self.seconds <= self.high or not math.isfinite(self.seconds):
            raise InvalidInputError(
                f"A prediction needs low <= seconds <= high, got {self.low!r}, {self.seconds!r}, {self.high!r}."
            )

    @property
    def text(self) -> str:
        """For people: "2.31 ms, predicted (95 % interval 2.1 ms to 2.5 ms) by …"."""
        share = f"{self.confidence:.0%}".replace("%", " %")
        high = format_seconds(self.high) if math.isfinite(self.high) else "any time"
        ends = f"{share} interval {format_seconds(max(self.low, 0.0))} to {high}"
        return f"{format_seconds(self.seconds)}, predicted ({ends}) by {self.source}"


class Measured(NamedTuple):
    """A network that was measured: what a model is fitted or corrected with."""

    network: Any
    """Its `Graph`, or what else the model's features read (an `Architecture`)."""
    seconds: float
    noise: float = 0.0
    """Relative standard deviation of what the measurement is off by; 0 where nobody said."""
    batch: str = ""
    """Networks of one batch were measured in the same processes, so they are off together."""


@runtime_checkable
class LatencyModel(Protocol):
    """A model of the latency on one device: a table of kernels, or a predictor learned from whole networks."""

    @property
    def device(self) -> Device:
        """Whose latency it predicts."""
        ...

    @property
    def source(self) -> str:
        """Where its numbers come from, in words."""
        ...

    @property
    def error(self) -> ErrorReport | None:
        """How far it was off on networks that it had not seen; None where that was not measured."""
        ...

    def predict(self, graph: Graph) -> Prediction:
        """Latency of a network.

        Raises:
            InvalidInputError: the model does not know what the network is made of, or was never checked.
        """
        ...

    def corrected(self, measurements: Sequence[Measured]) -> Self:
        """The model fitted again with more measured networks, finalists of a search for example."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        ...


def check_measured(measurements: Iterable[Measured]) -> list[Measured]:
    """Measurements as a list.

    Raises:
        InvalidInputError: a latency is not positive and finite.
    """
    found = [Measured(one[0], float(one[1]), *one[2:]) for one in measurements]
    for number, each in enumerate(found):
        if not each.seconds > 0 or not math.isfinite(each.seconds):
            raise InvalidInputError(f"Measurement {number} must be a time above 0 s, got {each.seconds!r}.")
    return found


def model_from_dict(data: Mapping[str, Any], *, trust: bool = False) -> LatencyModel:
    """Read what a model's `to_dict` gave.

    Args:
        data: What it gave.
        trust: Whether a space of modules that are not nasturtium's may be read, for a predictor that reads its
            decisions; see `Space.from_dict`.

    Raises:
        InvalidInputError: an unknown type or version.
        NasturtiumError: the space of a predictor cannot be read or is not trusted, as of `Space.from_dict`.
    """
    from nasturtium.hardware.predictor import LatencyPredictor  # noqa: PLC0415  (they need this module)
    from nasturtium.hardware.table import LatencyTable  # noqa: PLC0415
    from nasturtium.hardware.transfer import TransferredPredictor  # noqa: PLC0415

    kinds: dict[str, Callable[[], LatencyModel]] = {
        "table": lambda: LatencyTable.from_dict(data),
        "predictor": lambda: LatencyPredictor.from_dict(data, trust=trust),
        "transfer": lambda: TransferredPredictor.from_dict(data, trust=trust),
    }
    if data.get("type") not in kinds:
        raise InvalidInputError(f"A latency model's type is one of {', '.join(kinds)}, got {data.get('type')!r}.")
    return kinds[data["type"]]()
