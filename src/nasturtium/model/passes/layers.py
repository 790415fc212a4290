"""What a call of a layer computes with."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import Tensor

from nasturtium.graph.operations import Operation
from nasturtium.model.elastic import Cut, Elastic

Function = Callable[..., Tensor]


def elastic_of(function: Function) -> Elastic | None:
    """The layer with weights that a call is of, or None."""
    layer = function.func if isinstance(function, partial) else None
    return layer if isinstance(layer, Elastic) else None


def cuts_of(function: Function) -> dict[str, Cut]:
    """What a call of an `Elastic` uses of each weight."""
    assert isinstance(function, partial)
    cuts: dict[str, Cut] = function.keywords["cuts"]
    return cuts


def uses_whole(function: Function) -> bool:
    """Whether a call of an `Elastic` uses its weights and statistics as they are, without a cut or a transform."""
    layer = elastic_of(function)
    if layer is None or len(layer.kernels) > 1:
        return False
    for name, cut in cuts_of(function).items():
        for part, size in zip(cut, getattr(layer, name).shape, strict=False):
            if not isinstance(part, slice) or (part.start, part.stop) != (0, size):
                return False
    return True


def with_operation(function: Function, operation: Operation) -> Function:
    """The call with another operation on the same weights."""
    layer = elastic_of(function)
    return function if layer is None else partial(layer, operation=operation, cuts=cuts_of(function))


def weight_of(layer: Elastic, name: str) -> Tensor:
    """A weight as it is now: `torch.func.functional_call` may put another tensor in its place."""
    found: Tensor = getattr(layer, name)
    return found
