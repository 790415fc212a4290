"""Another estimator's measurements, with what each network takes of a microcontroller known before it is trained."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from nasturtium.design.footprint import ENGINES, Footprints, engine_named
from nasturtium.errors import InvalidInputError
from nasturtium.estimators.protocol import Estimator, Job, Naming
from nasturtium.estimators.registry import from_dict
from nasturtium.graph import CostModel, trace
from nasturtium.space import Architecture
from nasturtium.tasks import Task
from nasturtium.trial import Metric
from nasturtium.trial.types import FULL, Fidelity

VERSION = 1

SRAM = Metric(name="sram", unit="bytes", cheap=True, description="SRAM, int8, by the engine's model")
FLASH = Metric(name="flash", unit="bytes", cheap=True, description="flash, int8, by the engine's model, without code")

_COSTS = ("params", "macs", "activations", "peak_memory", "irregularity", "kernels")


@dataclass(frozen=True)
class Footprinted:
    """Measure as another estimator does; SRAM and flash are cheap metrics, so a search can be held to limits on them.

    Args:
        of: What measures.
        input_shape: Of the task, `(channels, height, width)`.
        context: What the task tells the network, such as `{"classes": 10}`.
        engine: A name of `design.footprint.ENGINES`.

    Raises:
        InvalidInputError: `of` is no estimator.
        UnknownNameError: no such engine.
    """

    of: Estimator
    input_shape: tuple[int, ...]
    context: Mapping[str, Any] = field(default_factory=dict)
    engine: str = "tflm"

    def __post_init__(self) -> None:
        if not isinstance(self.of, Estimator):
            raise InvalidInputError(f"`of` must be an estimator, got {self.of!r}.")
        engine_named(self.engine)
        object.__setattr__(self, "input_shape", tuple(self.input_shape))
        object.__setattr__(self, "_costs", CostModel(self.input_shape, **self.context))
        object.__setattr__(self, "_footprints", Footprints(self.input_shape, self.engine, **self.context))

    @property
    def deterministic(self) -> bool:
        """As the other is."""
        return self.of.deterministic

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all settings."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()

    @property
    def known_metrics(self) -> Mapping[str, Metric]:
        """SRAM and flash, beside what the other names."""
        others = self.of.known_metrics if isinstance(self.of, Naming) else {}
        return {**others, SRAM.name: SRAM, FLASH.name: FLASH}

    def key(self, architecture: Architecture) -> str:
        """The canonical hash."""
        return trace(architecture, self.input_shape, **self.context).canonical_hash

    def cheap_metrics(self, architecture: Architecture) -> Mapping[str, float]:
        """The costs that the library knows, SRAM and flash, in bytes; each is worked out when it is read."""
        return _Cheap(self, architecture)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON; `from_dict` is the inverse."""
        return {
            "version": VERSION, "type": f"{type(self).__module__}:{type(self).__name__}", "of": self.of.to_dict(),
            "input_shape": list(self.input_shape), "context": dict(self.context), "engine": self.engine,
            "model": ENGINES[self.engine].title,
        }  # fmt: skip

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], *, trust: bool = False) -> Footprinted:
        """Inverse of `to_dict`.

        Raises:
            InvalidInputError: another version wrote it.
        """
        if data.get("version") != VERSION:
            raise InvalidInputError(
                f"A stored `Footprinted` must have version {VERSION}, got {data.get('version')!r}. Use the version of "
                "nasturtium that wrote it."
            )
        of = from_dict(data["of"], trust=trust)
        return cls(of, tuple(data["input_shape"]), dict(data["context"]), data["engine"])

    def estimate(
        self, architecture: Architecture, fidelity: Fidelity = FULL, job: Job | None = None
    ) -> Mapping[str, float]:
        """As the other does."""
        if job is None:
            raise InvalidInputError("`Footprinted.estimate` needs a job: `Job(task=…, seed=…)`.")
        return self.of.estimate(architecture, fidelity, job)

    def expected_seconds(self, task: Task, macs: float) -> float:
        """As the other says."""
        return self.of.expected_seconds(task, macs)


class _Cheap(Mapping[str, float]):
    """Costs of one network by name."""

    def __init__(self, owner: Any, architecture: Architecture) -> None:
        self._owner, self._architecture = owner, architecture

    def __getitem__(self, name: str) -> float:
        if name in (SRAM.name, FLASH.name):
            return float(getattr(self._owner._footprints(self._architecture), name))
        if name not in _COSTS:
            raise KeyError(name)
        return float(getattr(self._owner._costs(self._architecture.block), name))

    def __iter__(self) -> Iterator[str]:
        return iter((*_COSTS, SRAM.name, FLASH.name))

    def __len__(self) -> int:
        return len(_COSTS) + 2

    def __contains__(self, name: object) -> bool:
        return name in (*_COSTS, SRAM.name, FLASH.name)
