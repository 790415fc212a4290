"""From graphs to PyTorch modules, and PyTorch modules in graphs."""

from nasturtium.model.build import Network, Part, build
from nasturtium.model.layers import LAYERS, layer
from nasturtium.model.module import INPUT_CHANNELS, Module

__all__ = ["INPUT_CHANNELS", "LAYERS", "Module", "Network", "Part", "build", "layer"]
