"""The best order of execution, against every order there is."""

from __future__ import annotations

import random
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nasturtium.errors import InvalidInputError
from nasturtium.graph import Graph
from nasturtium.graph import operations as ops
from nasturtium.graph.memory import best_schedule, peak_memory
from tests.graph.programs import Builder, conv, random_graph
from tests.graph.test_memory import simulated


def reordered(graph: Graph, order) -> Graph:
    """The same network stated in another order."""
    place = {old: new for new, old in enumerate(order)}
    nodes = tuple(
        graph.nodes[i]._replace(inputs=tuple(place[j] for j in graph.nodes[i].inputs)) for i in order
    )  # a KeyError here is an order that is not valid
    outputs = tuple(o._replace(node=place[o.node]) for o in graph.outputs)
    return Graph(nodes, graph.inputs, outputs, graph.structure, graph.context)


def orders(graph: Graph):
    """Every topological order, inputs first."""
    inputs = [i for i, node in enumerate(graph.nodes) if isinstance(node.operation, ops.Input)]

    def extend(done):
        if len(done) == len(graph.nodes):
            yield list(done)
        for i, node in enumerate(graph.nodes):
            if i not in done and set(node.inputs) <= set(done):
                yield from extend([*done, i])

    yield from extend(inputs)


def least(graph: Graph, inplace: bool, limit: int = 3000) -> int | None:
    """The smallest peak over all orders, each simulated with explicit buffers; None if there are too many."""
    best = None
    for number, order in enumerate(orders(graph)):
        if number == limit:
            return None
        peak = simulated(reordered(graph, order), inplace)
        best = peak if best is None else min(best, peak)
    return best


def wide_graph(rng: random.Random, size: int, inputs: int = 1) -> Graph:
    """Branches of many widths from few sources, joined at the end or left open: orders matter here."""
    b = Builder((2, 2, 2), inputs=inputs)
    pool = list(range(inputs))
    for _ in range(size):
        x = rng.choice(pool)
        kind = rng.random()
        if kind < 0.6:
            pool.append(b(conv(rng.choice([1, 2, 3, 6])), x))
        elif kind < 0.7:
            pool.append(b(ops.Activation("relu"), x))
        elif kind < 0.8:
            channels = b.shape(x)[0]
            pool.append(b(conv(channels, 3, groups=channels), x))
        else:
            y = rng.choice(pool)
            pool.append(b(ops.Add(), x, y) if b.shape(x) == b.shape(y) else b(ops.Concat(), x, y))
    unread = [i for i in pool[inputs:] if not any(i in node.inputs for node in b.nodes)]
    if rng.random() < 0.7:
        return b.graph(b(ops.Concat(), *unread))
    return b.graph(*rng.sample(unread, rng.randint(1, len(unread))))


@settings(max_examples=120, deadline=None)
@given(st.integers(0, 2**40), st.integers(1, 7), st.integers(1, 2), st.booleans(), st.booleans())
def test_the_best_of_all_orders(seed, size, inputs, inplace, wide):
    rng = random.Random(seed)
    graph = wide_graph(rng, size, inputs) if wide else random_graph(rng, size, inputs)
    expected = least(graph, inplace)
    found = best_schedule(graph, inplace_depthwise=inplace)
    assert found.is_optimal
    assert found.steps[:inputs] == tuple(range(inputs))
    assert simulated(reordered(graph, found.steps), inplace) == found.peak  # a valid order, and it does what it says
    assert expected is None or found.peak == expected


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**40), st.integers(6, 14), st.sampled_from([0, 1, 5]))
def test_bounds_hold_where_the_search_is_given_up(seed, size, states):
    graph = wide_graph(random.Random(seed), size)
    exact = best_schedule(graph)
    found = best_schedule(graph, states=states)
    assert exact.is_optimal
    assert found.lower_bound <= exact.peak <= found.peak <= graph.peak_memory()
    assert simulated(reordered(graph, found.steps)) == found.peak


def test_a_hand_computed_order():
    """Two branches that widen and end narrow: one after the other, 4 + 24 + 1; side by side as stated, 4 + 24 + 24."""
    b = Builder((4, 1, 1))
    left, right = b(conv(24), 0), b(conv(24), 0)
    graph = b.graph(b(ops.Concat(), b(conv(1), left), b(conv(1), right)))
    assert graph.peak_memory() == 4 + 24 + 24
    assert graph.peak_memory(schedule="optimal") == 4 + 24 + 1
    assert peak_memory(graph, "float32", batch=2, schedule="optimal") == 8 * (4 + 24 + 1)
    assert best_schedule(graph).steps in ((0, 1, 3, 2, 4, 5), (0, 2, 4, 1, 3, 5))


def test_the_published_convention_is_about_the_given_order():
    graph = random_graph(random.Random(1), 4)
    with pytest.raises(InvalidInputError, match="given order"):
        graph.peak_memory(schedule="optimal", convention="conv_in_out")


def test_needs_neither_torch_nor_numpy():
    code = "import sys, nasturtium.graph.order; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
