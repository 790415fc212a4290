"""What a network costs for real: devices, latency as a statistic, models of latency, memory of microcontrollers.

Descriptions of devices and measurements need neither torch nor ONNX Runtime; all other names are loaded on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from nasturtium.hardware.device import BUILT_IN, Device, add_device, device, devices, load_devices
from nasturtium.hardware.measurement import Conditions, Measurement

_NAMES: dict[str, tuple[str, ...]] = {
    "energy": ("Energy", "measure_energy"),
    "measuring": ("Plan", "calibrate", "measure", "measure_all"),
}
"""Names by module of this room; a name must not be that of a module."""

_WHERE = {name: module for module, names in _NAMES.items() for name in names}

__all__ = [
    "BUILT_IN",
    "Conditions",
    "Device",
    "Energy",
    "Measurement",
    "Plan",
    "add_device",
    "calibrate",
    "device",
    "devices",
    "load_devices",
    "measure",
    "measure_all",
    "measure_energy",
]

if TYPE_CHECKING:  # the same names, for type checkers and editors
    from nasturtium.hardware.energy import Energy, measure_energy
    from nasturtium.hardware.measuring import Plan, calibrate, measure, measure_all


def __getattr__(name: str) -> object:
    if name not in _WHERE:
        raise AttributeError(f"module 'nasturtium.hardware' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"nasturtium.hardware.{_WHERE[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
