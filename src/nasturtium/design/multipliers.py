"""By how much to scale depth, width and resolution together."""

from __future__ import annotations

import math
import sys
from typing import NamedTuple

from nasturtium.errors import InvalidInputError

LARGEST = 1000.0
"""Greatest multiplier: more is a mistake, and would fill the memory."""

ALPHA, BETA, GAMMA = 1.2, 1.1, 1.15
"""Of EfficientNet: found by a grid search around B0."""


class Multipliers(NamedTuple):
    """What `scale` takes, in its order: `scale(network, *compound(1), input_shape=(3, 224, 224))`."""

    depth: float
    width: float
    resolution: float

    @property
    def cost(self) -> float:
        """By how much the MACs of convolutions grow, before rounding: depth x width^2 x resolution^2."""
        return self.depth * self.width**2 * self.resolution**2


def compound(
    phi: float,
    *,
    alpha: float = ALPHA,
    beta: float = BETA,
    gamma: float = GAMMA,
    cost: float = 2.0,
    tolerance: float = 0.1,
) -> Multipliers:
    """Compound scaling: depth `alpha^phi`, width `beta^phi`, resolution `gamma^phi`.

    EfficientNet's own coefficients are rounded by hand and are not these powers; they stand in
    `nasturtium.zoo.efficientnet.SCALES`.

    Args:
        phi: How many times the cost is multiplied by `cost`; below 0 the network shrinks.
        alpha: Depth at phi = 1.
        beta: Width at phi = 1.
        gamma: Resolution at phi = 1.
        cost: What `alpha * beta^2 * gamma^2` should be.
        tolerance: By how much it may differ; the defaults' product is 1.920.

    Raises:
        InvalidInputError: a number is not finite; a base is below 1, the cost not positive or the tolerance negative;
            the bases do not give the cost; phi makes a multiplier of more than `LARGEST` or less than its inverse.

    Example:
        >>> from nasturtium.design import compound
        >>> compound(1)
        Multipliers(depth=1.2, width=1.1, resolution=1.15)

    Reference:
        Tan, Le (2019), "EfficientNet: Rethinking Model Scaling for CNNs", arXiv 1905.11946, equation 3.
    """
    _finite("phi", phi)
    for name, base in (("alpha", alpha), ("beta", beta), ("gamma", gamma)):
        _finite(name, base)
        if not 1 <= base <= LARGEST:
            raise InvalidInputError(f"`{name}` must be at least 1 and at most {LARGEST:g}, got {base!r}.")
    _positive_cost(cost)
    _finite("tolerance", tolerance)
    if tolerance < 0:
        raise InvalidInputError(f"`tolerance` must be at least 0, got {tolerance!r}.")
    found = Multipliers(alpha, beta, gamma).cost
    if not abs(found - cost) <= tolerance:
        raise InvalidInputError(
            f"`alpha * beta^2 * gamma^2` must be {cost:g} to within {tolerance:g}, got {found:.4g} from {alpha:g}, "
            f"{beta:g} and {gamma:g}. Change the bases, or say another `cost` or `tolerance`."
        )
    if abs(phi) * math.log(max(alpha, beta, gamma)) > math.log(LARGEST):  # before a power overflows
        raise InvalidInputError(
            f"`phi` must make multipliers from 1 / {LARGEST:g} to {LARGEST:g} of the bases {alpha:g}, {beta:g} and "
            f"{gamma:g}, got {phi!r}: give one nearer to 0."
        )
    return Multipliers(float(alpha**phi), float(beta**phi), float(gamma**phi))


def fast_compound(cost: float, *, width_share: float = 0.8) -> Multipliers:
    """Fast compound scaling: nearly all of the cost goes to the width, so that activations, and time, grow slowly.

    Depth and resolution share the rest alike: depth `s^((1 - a) / 2)`, width `s^(a / 2)`, resolution `s^((1 - a) / 4)`
    for cost s and share a. Widths of groups (`g` in the paper) are the network's own to adjust.

    Args:
        cost: By how much the MACs grow, above 0.
        width_share: Share of the exponent that goes to the width, in [0, 1]; 0.8 as in the authors' "d1_w8_g8_r1".

    Raises:
        InvalidInputError: the cost is not positive or the share not in [0, 1].

    Reference:
        Dollar, Singh, Girshick (2021), "Fast and Accurate Model Scaling", arXiv 2103.06877; exponents as in the
        authors' code (pycls, `scaling_factors`).
    """
    _positive_cost(cost)
    _finite("width_share", width_share)
    if not 0 <= width_share <= 1:
        raise InvalidInputError(f"`width_share` must lie in [0, 1], got {width_share!r}.")
    rest = (1 - width_share) / 2
    return Multipliers(float(cost**rest), float(cost ** (width_share / 2)), float(cost ** (rest / 2)))


def check_multipliers(**multipliers: float) -> None:
    """Refuse multipliers that are not positive numbers up to `LARGEST`.

    Args:
        **multipliers: By the name that the caller knows them by.

    Raises:
        InvalidInputError: one is not.
    """
    for name, value in multipliers.items():
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not number or not 0 < value <= LARGEST:
            raise InvalidInputError(f"`{name}` must be a positive multiplier of at most {LARGEST:g}, got {value!r}.")


def _positive_cost(cost: float) -> None:
    _finite("cost", cost)
    if cost <= 0:
        raise InvalidInputError(f"`cost` must be above 0, got {cost!r}.")


def _finite(name: str, value: float) -> None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or abs(value) > sys.float_info.max or value != value:
        raise InvalidInputError(f"`{name}` must be a finite number, got {value!r}.")
