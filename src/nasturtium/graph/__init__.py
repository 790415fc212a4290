"""What a network is made of: operations, symbolic tensors, graph, trace, cost, memory, canonical form."""

from nasturtium.graph.canonical import canonical_hash, equivalent, weight_order
from nasturtium.graph.cost import Cost, CostModel, cost
from nasturtium.graph.drawing import draw
from nasturtium.graph.graph import Graph, Node, Output
from nasturtium.graph.irregularity import Irregularity, irregularity
from nasturtium.graph.layers import Layer
from nasturtium.graph.operations import OPERATIONS, Operation, Shape
from nasturtium.graph.sketch import sketch
from nasturtium.graph.tensor import Context, Tensor, tensors
from nasturtium.graph.trace import trace

__all__ = [
    "OPERATIONS",
    "Context",
    "Cost",
    "CostModel",
    "Graph",
    "Irregularity",
    "Layer",
    "Node",
    "Operation",
    "Output",
    "Shape",
    "Tensor",
    "canonical_hash",
    "cost",
    "draw",
    "equivalent",
    "irregularity",
    "sketch",
    "tensors",
    "trace",
    "weight_order",
]
