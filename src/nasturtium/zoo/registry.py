"""The spaces and families by name, where text comes in: the command line and stored files."""

from __future__ import annotations

from collections.abc import Callable

from nasturtium.errors import UnknownNameError
from nasturtium.space import Space
from nasturtium.zoo import (
    autodeeplab,
    chain,
    darts,
    densenet,
    efficientnet,
    enas,
    fbnet,
    ghostnet,
    hardcorenas,
    inception,
    lcnet,
    mcunet,
    mnasnet,
    mobile,
    mobilenetv1,
    mobilenetv2,
    mobilenetv3,
    nas_rl,
    nasbench101,
    nasbench201,
    nasbench_macro,
    nasfpn,
    nasnet,
    nats,
    once_for_all,
    pnas,
    proxylessnas,
    regnet,
    resnet,
    shufflenet,
    spos,
    squeezenet,
    transnas,
    vgg,
)
from nasturtium.zoo.listing import Family

MODULES = (
    nas_rl,
    chain,
    nasnet,
    pnas,
    darts,
    enas,
    nasbench101,
    nasbench201,
    nats,
    nasbench_macro,
    transnas,
    mnasnet,
    proxylessnas,
    fbnet,
    once_for_all,
    spos,
    mcunet,
    regnet,
    efficientnet,
    autodeeplab,
    nasfpn,
    mobile,
    resnet,
    vgg,
    densenet,
    inception,
    squeezenet,
    mobilenetv1,
    mobilenetv2,
    mobilenetv3,
    shufflenet,
    ghostnet,
    lcnet,
    hardcorenas,
)
"""One module a family; each has `FAMILIES`. A new one is its import and its line here, and its name in `zoo`."""

FAMILIES: tuple[Family, ...] = tuple(family for module in MODULES for family in module.FAMILIES)
"""The families, those of the lecture first."""

SPACES: dict[str, Callable[..., Space]] = {f.name: f.space for f in FAMILIES if f.space is not None}
"""Makers of spaces by name; each takes the task's input shape, `(channels, height, width)`."""


def space(name: str, input_shape: tuple[int, ...] | None = None) -> Space:
    """A space by its name.

    Args:
        name: One of `SPACES`.
        input_shape: `(channels, height, width)` of the task's images; None takes the space's own.

    Raises:
        UnknownNameError: no space of that name; the message lists the names.
    """
    if name not in SPACES:
        raise UnknownNameError("space", name, SPACES)
    return SPACES[name](family(name).input_shape if input_shape is None else tuple(input_shape))


def family(name: str) -> Family:
    """What is known of a family.

    Raises:
        UnknownNameError: no family of that name; the message lists the names.
    """
    for known in FAMILIES:
        if known.name == name:
            return known
    raise UnknownNameError("family", name, [known.name for known in FAMILIES])
