"""What a network's graph says before it is built: where its last feature map is, and whether anything reaches it."""

from __future__ import annotations

from nasturtium.errors import InvalidInputError
from nasturtium.graph import operations as ops
from nasturtium.graph.graph import Graph, Node, Output


def feature_graph(graph: Graph, *, residual: bool = False) -> Graph:
    """The part of a network up to the feature map that its head pools, perhaps without residual links.

    The feature map is what the global pooling reads that comes last on the way back from the output along first
    inputs; without one, what is flattened; without that, the output itself.

    Residual links are operands of a sum from which another operand of it is computed (an identity beside a block, but
    not a projection by a convolution or a pooling): the authors' search scores networks without them, because the
    identity hides what the block does.

    Args:
        graph: Of a network with one output in evaluation.
        residual: Whether to keep residual links.
    """
    end = _features(graph)
    nodes = list(graph.nodes)
    if not residual:
        for index, node in enumerate(nodes):
            if isinstance(node.operation, ops.Add):
                behind = frozenset[int]().union(*(_ancestry(graph, i) for i in set(node.inputs)))
                nodes[index] = node._replace(inputs=tuple(i for i in node.inputs if i not in behind))
    needed = set(range(len(graph.inputs))) | {end}
    for index in range(end, -1, -1):
        if index in needed:
            needed.update(nodes[index].inputs)
    place = {old: new for new, old in enumerate(sorted(needed))}
    moved = [
        Node(n.operation, tuple(place[i] for i in n.inputs), n.shape, n.path) for n in map(nodes.__getitem__, place)
    ]
    return Graph(tuple(moved), graph.inputs, (Output("features", place[end]),), 0, graph.context)


def _features(graph: Graph) -> int:
    outputs = [o.node for o in graph.outputs if o.node not in graph.training_only]
    if len(outputs) != 1:
        raise InvalidInputError(f"A score needs a network with one output in evaluation, got {len(outputs)}.")
    chain = [outputs[0]]
    while graph.nodes[chain[-1]].inputs:
        chain.append(graph.nodes[chain[-1]].inputs[0])
    for kinds in ((ops.GlobalPool, ops.AdaptiveAvgPool), (ops.Flatten,)):
        for index in chain:
            if isinstance(graph.nodes[index].operation, kinds):
                return graph.nodes[index].inputs[0]
    return outputs[0]


def _ancestry(graph: Graph, index: int) -> frozenset[int]:
    """All that the value of a node really depends on, itself left out: not what only zeros are made of."""
    found: set[int] = set()
    ahead = [index]
    while ahead:
        node = graph.nodes[ahead.pop()]
        if not isinstance(node.operation, ops.Zero):
            new = set(node.inputs) - found
            found |= new
            ahead.extend(new)
    return frozenset(found)


def depends_on_input(graph: Graph) -> bool:
    """Whether an output depends on an input; a cell of zeros cuts it off."""
    inputs = set(range(len(graph.inputs)))
    return any(
        (_ancestry(graph, o.node) | {o.node}) & inputs for o in graph.outputs if o.node not in graph.training_only
    )
