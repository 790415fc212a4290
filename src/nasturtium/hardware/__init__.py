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
    "correction": ("Correction", "fit_correction"),
    "features": ("CategoryFeatures", "DecisionFeatures", "GraphFeatures"),
    "kernels": ("Kernel",),
    "latency": ("LatencyModel", "Measured", "Prediction", "model_from_dict"),
    "open_kernels": ("KernelList", "space_kernels"),
    "predictor": ("LatencyPredictor", "fit_predictor"),
    "profile_file": ("read_table",),
    "profiling": ("ProfilePlan", "plan_profile", "profile"),
    "report": ("ErrorReport", "error_report"),
    "table": ("LatencyTable",),
    "transfer": ("TransferredPredictor", "transfer_predictor"),
    "energy": ("Energy", "measure_energy"),
    "measuring": ("Plan", "calibrate", "measure", "measure_all"),
    "arena": ("Arena", "fits_arena", "measure_arena", "smallest_arena"),
    "c_array": ("c_sources", "write_c_array"),
    "micro": ("ArenaPrediction", "FlashPrediction", "predict_arena", "predict_file", "predict_flash"),
    "quantize": ("OnnxNetwork", "Quantized", "calibration_images", "evaluate_runtime", "quantize_onnx"),
    "support": ("Problem", "Support", "check", "problems"),
    "tflite": ("LiteRTNetwork", "MicroNetwork", "quantize_tflite", "write_tflite"),
}
"""Names by module of this room; a name must not be that of a module."""

_WHERE = {name: module for module, names in _NAMES.items() for name in names}

__all__ = [
    "BUILT_IN",
    "AdditiveFit",
    "Arena",
    "ArenaPrediction",
    "CategoryFeatures",
    "Conditions",
    "Correction",
    "DecisionFeatures",
    "Device",
    "Energy",
    "ErrorReport",
    "FlashPrediction",
    "GraphFeatures",
    "Kernel",
    "KernelList",
    "LatencyModel",
    "LatencyPredictor",
    "LatencyTable",
    "LiteRTNetwork",
    "Measured",
    "Measurement",
    "MicroNetwork",
    "OnnxNetwork",
    "Plan",
    "Prediction",
    "Problem",
    "ProfilePlan",
    "Quantized",
    "Support",
    "TransferredPredictor",
    "add_device",
    "c_sources",
    "calibrate",
    "calibration_images",
    "check",
    "device",
    "devices",
    "error_report",
    "evaluate_runtime",
    "fit_correction",
    "fit_predictor",
    "fits_arena",
    "load_devices",
    "measure",
    "measure_all",
    "measure_arena",
    "measure_energy",
    "model_from_dict",
    "plan_profile",
    "predict_arena",
    "predict_file",
    "predict_flash",
    "problems",
    "profile",
    "quantize_onnx",
    "quantize_tflite",
    "read_table",
    "smallest_arena",
    "space_kernels",
    "transfer_predictor",
    "write_c_array",
    "write_tflite",
]

if TYPE_CHECKING:  # the same names, for type checkers and editors
    from nasturtium.hardware.additive import AdditiveFit
    from nasturtium.hardware.arena import Arena, fits_arena, measure_arena, smallest_arena
    from nasturtium.hardware.c_array import c_sources, write_c_array
    from nasturtium.hardware.correction import Correction, fit_correction
    from nasturtium.hardware.energy import Energy, measure_energy
    from nasturtium.hardware.features import CategoryFeatures, DecisionFeatures, GraphFeatures
    from nasturtium.hardware.kernels import Kernel
    from nasturtium.hardware.latency import LatencyModel, Measured, Prediction, model_from_dict
    from nasturtium.hardware.measuring import Plan, calibrate, measure, measure_all
    from nasturtium.hardware.micro import ArenaPrediction, FlashPrediction, predict_arena, predict_file, predict_flash
    from nasturtium.hardware.open_kernels import KernelList, space_kernels
    from nasturtium.hardware.predictor import LatencyPredictor, fit_predictor
    from nasturtium.hardware.profile_file import read_table
    from nasturtium.hardware.profiling import ProfilePlan, plan_profile, profile
    from nasturtium.hardware.quantize import OnnxNetwork, Quantized, calibration_images, evaluate_runtime, quantize_onnx
    from nasturtium.hardware.report import ErrorReport, error_report
    from nasturtium.hardware.support import Problem, Support, check, problems
    from nasturtium.hardware.table import LatencyTable
    from nasturtium.hardware.tflite import LiteRTNetwork, MicroNetwork, quantize_tflite, write_tflite
    from nasturtium.hardware.transfer import TransferredPredictor, transfer_predictor


def __getattr__(name: str) -> object:
    if name not in _WHERE:
        raise AttributeError(f"module 'nasturtium.hardware' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"nasturtium.hardware.{_WHERE[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
