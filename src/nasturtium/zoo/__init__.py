"""Published search spaces and architectures, one file a family."""

from nasturtium.zoo.mobile import mobile, mobilenetv2_small
from nasturtium.zoo.registry import SPACES, space

__all__ = ["SPACES", "mobile", "mobilenetv2_small", "space"]
