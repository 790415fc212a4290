"""Nasturtium: neural architecture search for PyTorch.

Give it data and a device budget; it gives back a network that fits, its weights, and the evidence that searching paid.

Names are loaded on first use: `import nasturtium as nas` loads neither torch nor numpy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"

_MODULES = {
    name: f"nasturtium.{name}"
    for name in (
        "bench", "blocks", "design", "errors", "estimators", "export", "graph", "hardware", "model", "report", "space",
        "strategies", "study", "supernets", "surrogates", "tasks", "testing", "training", "trial", "zoo",
    )
} | {"ops": "nasturtium.graph.tensor"}  # fmt: skip

_NAMES = {
    "nasturtium.space": ("Architecture", "Block", "Space", "int_range", "one_of", "subset", "walk"),
    "nasturtium.graph": ("CostModel", "Graph", "cost", "draw", "equivalent", "sketch", "trace"),
    "nasturtium.blocks": (
        "Classifier", "Conv", "Identity", "MBConv", "Sequential", "repeat",
    ),
    "nasturtium.trial": (
        "accuracy", "activations", "energy", "flash", "irregularity", "kernels", "latency", "loss", "macs", "params",
        "peak_memory", "sram",
    ),
    "nasturtium.model": ("INPUT_CHANNELS", "Module", "Supernet", "build", "supernet"),
    "nasturtium.training": ("Recipe",),
    "nasturtium.study": ("Study", "resume", "search"),
}  # fmt: skip

_WHERE = {name: module for module, names in _NAMES.items() for name in names}

__all__ = [
    "INPUT_CHANNELS",
    "Architecture",
    "Block",
    "Classifier",
    "Conv",
    "CostModel",
    "Graph",
    "Identity",
    "MBConv",
    "Module",
    "Recipe",
    "Sequential",
    "Space",
    "Study",
    "Supernet",
    "__version__",
    "accuracy",
    "activations",
    "bench",
    "blocks",
    "build",
    "cost",
    "design",
    "draw",
    "energy",
    "equivalent",
    "errors",
    "estimators",
    "export",
    "flash",
    "graph",
    "hardware",
    "int_range",
    "irregularity",
    "kernels",
    "latency",
    "loss",
    "macs",
    "model",
    "one_of",
    "ops",
    "params",
    "peak_memory",
    "repeat",
    "report",
    "resume",
    "search",
    "sketch",
    "space",
    "sram",
    "strategies",
    "study",
    "subset",
    "supernet",
    "supernets",
    "surrogates",
    "tasks",
    "testing",
    "trace",
    "training",
    "trial",
    "walk",
    "zoo",
]

if TYPE_CHECKING:  # the same names, for type checkers and editors
    from nasturtium import (
        bench,
        blocks,
        design,
        errors,
        estimators,
        export,
        graph,
        hardware,
        model,
        report,
        space,
        strategies,
        study,
        supernets,
        surrogates,
        tasks,
        testing,
        training,
        trial,
        zoo,
    )
    from nasturtium.blocks import Classifier, Conv, Identity, MBConv, Sequential, repeat
    from nasturtium.graph import CostModel, Graph, cost, draw, equivalent, sketch, trace
    from nasturtium.graph import tensor as ops
    from nasturtium.model import INPUT_CHANNELS, Module, Supernet, build, supernet
    from nasturtium.space import Architecture, Block, Space, int_range, one_of, subset, walk
    from nasturtium.study import Study, resume, search
    from nasturtium.training import Recipe
    from nasturtium.trial import (
        accuracy,
        activations,
        energy,
        flash,
        irregularity,
        kernels,
        latency,
        loss,
        macs,
        params,
        peak_memory,
        sram,
    )


def __getattr__(name: str) -> object:
    if name in _WHERE:
        value = getattr(importlib.import_module(_WHERE[name]), name)
    elif name in _MODULES:
        value = importlib.import_module(_MODULES[name])
    else:
        raise AttributeError(f"module 'nasturtium' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
