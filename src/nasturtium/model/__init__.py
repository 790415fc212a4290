"""From graphs to PyTorch modules."""

from nasturtium.model.build import Network, Part, build

__all__ = ["Network", "Part", "build"]
