"""From graphs to PyTorch modules, and PyTorch modules in graphs."""

from nasturtium.model.binary import Binary
from nasturtium.model.build import Network, Part, build
from nasturtium.model.layers import LAYERS, layer
from nasturtium.model.mix import Gate, Gumbel, Hard, Sigmoid, Softmax, Sum, Uniform
from nasturtium.model.module import INPUT_CHANNELS, Module
from nasturtium.model.supernet import SharedWeight, Supernet, supernet

__all__ = [
    "INPUT_CHANNELS",
    "LAYERS",
    "Binary",
    "Gate",
    "Gumbel",
    "Hard",
    "Module",
    "Network",
    "Part",
    "SharedWeight",
    "Sigmoid",
    "Softmax",
    "Sum",
    "Supernet",
    "Uniform",
    "build",
    "layer",
    "supernet",
]
