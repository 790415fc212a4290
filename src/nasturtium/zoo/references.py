"""Hand-designed networks at several widths, trained beside a search so that its result means something."""

from __future__ import annotations

from nasturtium.space import Block
from nasturtium.zoo.mobile import mobilenetv2_small
from nasturtium.zoo.resnet import resnet_small

WIDTHS = {"MobileNetV2": (0.25, 0.5, 1.0), "ResNet": (0.25, 0.5, 1.0)}
"""Width multipliers by family."""


def references(input_shape: tuple[int, ...]) -> tuple[tuple[str, Block], ...]:
    """Hand-designed networks for small images, by name: MobileNetV2 and ResNet at three widths each.

    Args:
        input_shape: `(channels, height, width)` of the task's images.
    """
    families = {"MobileNetV2": mobilenetv2_small, "ResNet": resnet_small}
    return tuple(
        (f"{name} ×{width:g}", families[name](input_shape, width))
        for name, widths in WIDTHS.items()
        for width in widths
    )
