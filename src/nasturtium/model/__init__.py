"""From graphs to PyTorch modules, and PyTorch modules in graphs."""

from nasturtium.model.build import Network, Part, build
from nasturtium.model.layers import LAYERS, layer
from nasturtium.model.mix import Gate, Softmax, Sum
from nasturtium.model.module import INPUT_CHANNELS, Module
from nasturtium.model.supernet import SharedWeight, Supernet, supernet

__all__ = [
    "INPUT_CHANNELS",
    "LAYERS",
    "Gate",
    "Module",
    "Network",
    "Part",
    "SharedWeight",
    "Softmax",
    "Sum",
    "Supernet",
    "build",
    "layer",
    "supernet",
]
