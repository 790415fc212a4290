"""What a supernet's layers need to know of the forms of a node: cuts of shared weights, state, and shapes."""

from __future__ import annotations

from nasturtium.errors import TraceError
from nasturtium.graph import operations as ops
from nasturtium.graph.operations import Shape
from nasturtium.model.elastic import Cut, Elastic
from nasturtium.model.elastic_channels import Columns
from nasturtium.space.open_graph import Form, OpenNode


def cuts_of(module: Elastic, form: Form, held: Columns) -> dict[str, Cut]:
    """Cuts of a form; an empty one where it uses the whole weight."""
    cuts = module.cuts(form.operation, form.inputs, held)
    shapes = {name: getattr(module, name).shape for name in cuts}
    return {name: () if _is_whole(cut, shapes[name]) else cut for name, cut in cuts.items()}


def _is_whole(cut: Cut, shape: Shape) -> bool:
    return all(isinstance(part, slice) and part == slice(0, n) for part, n in zip(cut, shape, strict=True))


def has_own_state(form: Form) -> bool:
    """Whether a form has weights or statistics."""
    return isinstance(form.operation, ops.BatchNorm) or bool(form.operation.weights(*form.inputs))


def has_state(node: OpenNode) -> bool:
    """Whether any form of a node has weights or statistics."""
    return any(map(has_own_state, node.variants))


def widened(form: Form, shape: Shape, extent: int) -> Shape:
    """Largest shape of a weight whose input channels are spread over `extent` shared ones."""
    operation = form.operation
    if isinstance(operation, ops.Conv):
        if operation.groups == 1:
            return (shape[0], extent, *shape[2:]) if len(shape) > 1 else shape
        return (extent, *shape[1:]) if operation.groups == form.inputs[0][0] == operation.channels else shape
    if isinstance(operation, ops.Linear):
        return (shape[0], extent) if len(shape) > 1 else shape
    if len(shape) != 1:
        raise TraceError(f"A weight of shape {shape} at {form.path!r} cannot be widened.")
    return (extent,)
