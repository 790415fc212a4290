"""The metrics of devices of many networks: those that are known before training, and those that a trial measures."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any

from nasturtium.errors import InvalidInputError
from nasturtium.graph import trace
from nasturtium.hardware import Device
from nasturtium.space import Architecture
from nasturtium.study.on_device import OnDevices, asked_of

TRIAL_PROCESSES, TRIAL_SECONDS = (6, 6), 0.1
"""Of the measurement of a trial; a finalist is measured again, and more thoroughly."""
GRAPHS = 64
"""Traced networks that are kept."""


class CheapOnDevices:
    """The cheap metrics of devices, of many networks.

    Args:
        devices: And what is asked of them.
        inputs: Shape of an input without the batch.
        context: What the task tells the network.
    """

    def __init__(self, devices: OnDevices, inputs: tuple[int, ...], context: Mapping[str, Any]) -> None:
        self.devices = devices
        self.names = devices.cheap
        self._known: dict[tuple[str, str], float] = {}
        self.graph = lru_cache(GRAPHS)(lambda architecture: trace(architecture, inputs, **context))

    def renew(self, devices: OnDevices) -> None:
        """Take corrected models."""
        self.devices = devices
        self._known.clear()

    def value(self, name: str, architecture: Architecture) -> float:
        """A metric of a network, remembered."""
        key = (name, architecture.key)
        if key not in self._known:
            self._known[key] = self.devices.value(name, architecture, self.graph(architecture))
        return self._known[key]

    def of(self, architecture: Architecture, costs: Mapping[str, float], *, strict: bool = True) -> Mapping[str, float]:
        """The metrics of a network beside its other costs; each is worked out when it is read.

        Args:
            architecture: Closed.
            costs: Others of it.
            strict: Whether what a model cannot predict, or a microcontroller not run, is an error, as in the space;
                otherwise it is NaN, as of hand-designed networks.
        """
        return _WithDevices(self, architecture, costs, strict=strict)


class _WithDevices(Mapping[str, float]):
    def __init__(
        self, owner: CheapOnDevices, architecture: Architecture, costs: Mapping[str, float], *, strict: bool
    ) -> None:
        self._owner, self._architecture, self._costs, self._strict = owner, architecture, costs, strict

    def __getitem__(self, name: str) -> float:
        if name not in self._owner.names:
            return self._costs[name]
        try:
            return self._owner.value(name, self._architecture)
        except InvalidInputError:
            if self._strict:
                raise
            return math.nan

    def __contains__(self, name: object) -> bool:
        return name in self._owner.names or name in self._costs

    def __iter__(self) -> Iterator[str]:
        yield from self._costs
        yield from self._owner.names

    def __len__(self) -> int:
        return len(self._costs) + len(self._owner.names)


def measurer(asked: Mapping[str, Any]) -> Callable[[Architecture], dict[str, float]]:
    """What measures each trial on its devices, in this process or a worker's.

    Args:
        asked: What `OnDevices.to_measure` gave.

    Returns:
        A function of an architecture that gives its measured metrics by name.
    """
    devices = {name: Device.from_dict(data) for name, data in asked["metrics"].items()}
    inputs, context = tuple(asked["inputs"]), asked["context"]

    def measure(architecture: Architecture) -> dict[str, float]:
        from nasturtium.hardware import measuring  # noqa: PLC0415  (loads torch)
        from nasturtium.hardware.energy import measure_energy  # noqa: PLC0415

        graph, found = trace(architecture, inputs, **context), {}
        for name, device in devices.items():
            if asked_of(name).kind == "energy":
                found[name] = measure_energy(graph, device).joules
            else:
                plan = measuring.Plan(precision=None, processes=TRIAL_PROCESSES, seconds=TRIAL_SECONDS)
                found[name] = measuring.measure_all([graph], device, plan=plan)[0].seconds
        return found

    return measure
