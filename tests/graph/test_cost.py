"""`cost` and `CostModel` give exactly the numbers of the flat graph."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nasturtium as nas
from nasturtium.errors import ShapeError, TraceError
from nasturtium.graph import Cost, CostModel, cost, trace
from nasturtium.graph import tensor as ops
from nasturtium.space import Block
from nasturtium.zoo import nasbench101, nasbench201

SIZE = (3, 8, 8)


class Step(Block):
    """One operation, or none."""

    kind: str = "conv"
    width: int = 3

    def forward(self, x):
        match self.kind:
            case "conv":
                return ops.conv(x, self.width)
            case "cna":
                with x.scope("part"):
                    return ops.activation(ops.batch_norm(ops.conv(x, self.width)), "relu")
            case "act":
                return ops.activation(x)
            case "pool":
                return ops.max_pool(x)
            case "gate":
                return x * ops.activation(ops.global_pool(x), "sigmoid")
            case "twice":
                return x + x
            case "zero":
                return ops.zero(x)
            case _:
                return x


class Web(Block):
    """Children on earlier values, chosen by `wiring`; several outputs, some of which the caller drops."""

    parts: tuple[Block, ...]
    wiring: tuple[int, ...]
    joins: tuple[int, ...]

    def forward(self, *xs):
        values = list(xs)
        for k, (part, source) in enumerate(zip(self.parts, self.wiring, strict=True)):
            made = part(*[values[(source + i) % len(values)] for i in range(2)]) if isinstance(part, Web) else None
            made = part(values[source % len(values)]) if made is None else made
            for y in made.values() if isinstance(made, dict) else [made]:
                if self.joins[k] and y.shape == values[self.joins[k] % len(values)].shape:
                    y = ops.add(values[self.joins[k] % len(values)], y, name=f"join_{k}")
                values.append(y)
        return {"last": values[-1], "some": values[len(values) // 2]}


class Root(Block):
    web: Block

    def forward(self, x):
        x = ops.conv(x, 3, name="stem")
        found = self.web(x, x)
        return found["last"] if found["last"].shape[0] % 2 else tuple(found.values())


def random_web(rng: random.Random, depth: int = 2) -> Web:
    kinds = ["conv", "cna", "act", "pool", "gate", "twice", "zero", "idle"]
    pool = [Step(rng.choice(kinds)) for _ in range(3)]
    count = rng.randint(1, 4)
    parts = tuple(
        random_web(rng, depth - 1) if depth and rng.random() < 0.4 else rng.choice(pool) for _ in range(count)
    )
    return Web(parts, tuple(rng.randrange(9) for _ in parts), tuple(rng.randrange(4) for _ in parts))


def flat(block, size, **context) -> Cost:
    graph = trace(block, size, **context)
    return Cost(
        params=graph.params,
        macs=graph.macs,
        activations=graph.activations,
        peak_memory=graph.peak_memory(),
        outputs=tuple(graph.nodes[o.node].shape for o in graph.outputs),
        wired=graph,
    )


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**40))
def test_random_webs_of_blocks_cost_what_their_graph_costs(seed):
    block = Root(random_web(random.Random(seed)))
    assert cost(block, SIZE) == flat(block, SIZE)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**40))
def test_several_inputs(seed):
    block = random_web(random.Random(seed))
    shapes = {"left": SIZE, "right": SIZE}
    assert cost(block, shapes) == flat(block, shapes)


def test_memory_of_a_search_does_not_change_the_numbers():
    rng = random.Random(3)
    model = CostModel(SIZE)
    for _ in range(200):
        block = Root(random_web(rng))
        assert model(block) == flat(block, SIZE)


@pytest.mark.parametrize("name", sorted(nas.zoo.SPACES))
def test_spaces_of_the_zoo(name):
    rng = random.Random(0)
    space = nas.zoo.space(name)
    size = (3, 64, 64)
    model = CostModel(size, classes=7)
    for _ in range(4):
        architecture = space.sample(rng, sampler="hierarchical")
        assert model(architecture) == flat(architecture, size, classes=7)


def test_nasbench_cells():
    rng = random.Random(0)
    model = CostModel((3, 16, 16), classes=10)
    space = nasbench201.space(width=4, cells=1)
    for _ in range(20):
        architecture = space.sample(rng)
        assert model(architecture) == flat(architecture, (3, 16, 16), classes=10)
    space = nasbench101.space(width=8, cells=1)
    for _ in range(20):
        architecture = space.sample(rng, sampler="hierarchical")
        assert model(architecture) == flat(architecture, (3, 16, 16), classes=10)


class Tied(Block):
    part: Block
    other: Block

    def forward(self, x):
        return self.part(self.part(self.other(x)))


def test_tied_weights_count_once():
    part = Step("cna")
    block = Tied(part, Step("conv"))
    found = cost(block, SIZE)
    assert found == flat(block, SIZE)
    assert found.params == 2 * 81 + 6
    assert found.macs == 3 * 64 * 81
    # two places: two weights; the third call takes the last place again
    same = Tied(part, part)
    assert cost(same, SIZE) == flat(same, SIZE)
    assert cost(same, SIZE).params == 2 * (81 + 6)


class Headed(Block):
    body: Block

    def forward(self, x):
        y = self.body(x)
        aux = ops.training_only(ops.linear(ops.flatten(ops.global_pool(y)), 10, name="aux"))
        return {"main": ops.conv(y, 2, name="last"), "aux": aux}


def test_training_only_outputs_are_left_out():
    block = Headed(Step("conv"))
    graph = trace(block, SIZE)
    found = cost(block, SIZE)
    assert (found.params, found.macs, found.peak_memory) == (graph.params, graph.macs, graph.peak_memory())
    assert found.params == 81 + 54
    assert found.outputs == ((2, 8, 8),)


class TwoShapes(Block):
    extra: int

    def forward(self, x):
        return ops.conv(x, 3 + self.extra)


class Passing(Block):
    """Hands numbers and tensors to a child, and gets both back."""

    inner: Block

    def forward(self, x):
        y, count = self.inner(x, 2)
        return ops.conv(y, count)


class Counting(Block):
    def forward(self, x, count):
        return ops.max_pool(x), count + 1


def test_children_may_take_and_return_numbers():
    block = Passing(Counting())
    assert cost(block, SIZE) == flat(block, SIZE)


def test_errors_are_those_of_trace():
    open_block = TwoShapes(nas.one_of(1, 2))
    with pytest.raises(TraceError, match="open choices"):
        cost(open_block, SIZE)

    class Bad(Block):
        part: Block

        def forward(self, x):
            return self.part(ops.flatten(x))

    with pytest.raises(ShapeError, match=r"part\.conv"):
        cost(Bad(Step("conv")), SIZE)
    with pytest.raises(TraceError, match="positive integers"):
        cost(Step("conv"), (3, 0, 4))


def test_context_reaches_every_block():
    class Head(Block):
        def forward(self, x):
            return ops.linear(ops.flatten(x), x.context.classes)

    class Net(Block):
        head: Block

        def forward(self, x):
            return self.head(x)

    assert cost(Net(Head()), (4, 1, 1), classes=3).params == 15
    with pytest.raises(TraceError, match="classes"):
        cost(Net(Head()), (4, 1, 1))


class Holder(Block):
    """A block whose field is called like an architecture's."""

    block: Block

    def forward(self, x):
        return self.block(ops.conv(x, 4, name="own"))


def test_a_field_called_block_is_only_a_field():
    holder = Holder(Step("conv"))
    assert cost(holder, SIZE) == flat(holder, SIZE)
    assert cost(holder, SIZE).params == 4 * 27 + 3 * 36


class DeadReader(nas.Block):
    """A branch that nobody reads looks at what only serves an output for training."""

    def forward(self, x):
        side = nas.Conv(8)(x)
        nas.ops.max_pool(side, 3)
        return nas.Conv(8)(x), nas.ops.training_only(nas.Conv(4)(side))


def test_what_a_dead_branch_reads_is_counted_with_it():
    graph = nas.trace(DeadReader(), (3, 8, 8))
    found = nas.cost(DeadReader(), (3, 8, 8))
    assert {graph.nodes[i].path for i in graph.training_only} == {
        "conv_2.conv.conv",
        "conv_2.conv.norm",
        "conv_2.conv.act",
        "training_only",
    }
    assert (found.params, found.peak_memory, found.irregularity) == (
        graph.params,
        graph.peak_memory(),
        graph.irregularity,
    )
