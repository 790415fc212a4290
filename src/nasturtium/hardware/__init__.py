"""What a network costs for real: devices, latency as a statistic, models of latency, memory of microcontrollers.

Descriptions of devices and measurements need neither torch nor ONNX Runtime; all other names are loaded on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from nasturtium.hardware.device import BUILT_IN, Device, add_device, device, devices, load_devices
from nasturtium.hardware.measurement import Conditions, Measurement

_NAMES: dict[str, tuple[str, ...]] = {
    "additive": ("AdditiveFit",),
    "features": ("CategoryFeatures", "DecisionFeatures", "GraphFeatures"),
    "kernels": ("Kernel",),
    "latency": ("LatencyModel", "Measured", "Prediction", "model_from_dict"),
    "open_kernels": ("KernelList", "space_kernels"),
    "predictor": ("LatencyPredictor", "fit_predictor"),
    "profiling": ("ProfilePlan", "plan_profile", "profile"),
    "report": ("ErrorReport", "error_report"),
    "table": ("LatencyTable",),
    "transfer": ("TransferredPredictor", "transfer_predictor"),
    "energy": ("Energy", "measure_energy"),
    "measuring": ("Plan", "calibrate", "measure", "measure_all"),
}
"""Names by module of this room; a name must not be that of a module."""

_WHERE = {name: module for module, names in _NAMES.items() for name in names}

__all__ = [
    "BUILT_IN",
    "AdditiveFit",
    "CategoryFeatures",
    "Conditions",
    "DecisionFeatures",
    "Device",
    "Energy",
    "ErrorReport",
    "GraphFeatures",
    "Kernel",
    "KernelList",
    "LatencyModel",
    "LatencyPredictor",
    "LatencyTable",
    "Measured",
    "Measurement",
    "Plan",
    "Prediction",
    "ProfilePlan",
    "TransferredPredictor",
    "add_device",
    "calibrate",
    "device",
    "devices",
    "error_report",
    "fit_predictor",
    "load_devices",
    "measure",
    "measure_all",
    "measure_energy",
    "model_from_dict",
    "plan_profile",
    "profile",
    "space_kernels",
    "transfer_predictor",
]

if TYPE_CHECKING:  # the same names, for type checkers and editors
    from nasturtium.hardware.additive import AdditiveFit
    from nasturtium.hardware.energy import Energy, measure_energy
    from nasturtium.hardware.features import CategoryFeatures, DecisionFeatures, GraphFeatures
    from nasturtium.hardware.kernels import Kernel
    from nasturtium.hardware.latency import LatencyModel, Measured, Prediction, model_from_dict
    from nasturtium.hardware.measuring import Plan, calibrate, measure, measure_all
    from nasturtium.hardware.open_kernels import KernelList, space_kernels
    from nasturtium.hardware.predictor import LatencyPredictor, fit_predictor
    from nasturtium.hardware.profiling import ProfilePlan, plan_profile, profile
    from nasturtium.hardware.report import ErrorReport, error_report
    from nasturtium.hardware.table import LatencyTable
    from nasturtium.hardware.transfer import TransferredPredictor, transfer_predictor


def __getattr__(name: str) -> object:
    if name not in _WHERE:
        raise AttributeError(f"module 'nasturtium.hardware' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"nasturtium.hardware.{_WHERE[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
