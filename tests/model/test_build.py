"""The module of a graph: what it holds, what it computes, and that it is a module like any other."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from nasturtium.errors import InvalidInputError, TraceError
from nasturtium.graph import tensor as ops
from nasturtium.graph import trace
from nasturtium.model import Part, build
from nasturtium.space import Block
from tests.model.counting import counted_macs
from tests.model.networks import Chain, ConvAct, Edges, Head, Heads, Inverted, Twice, WithAuxiliary, bodies, networks

SHAPE = (3, 16, 12)
slow_shapes = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def shapes_of(structure, values):
    if isinstance(structure, torch.Tensor):
        values.append(tuple(structure.shape[1:]))
    else:
        for value in structure.values() if isinstance(structure, dict) else structure:
            shapes_of(value, values)
    return values


def assert_declared_is_measured(graph, model, *inputs):
    weights = {}
    for i in graph.costed:
        node = graph.nodes[i]
        for name, shape in node.operation.weights(*graph.input_shapes(node)).items():
            weights[f"{node.path}.{name}"] = shape
    got = {name: tuple(p.shape) for name, p in model.named_parameters()}
    extra = {f"{graph.nodes[i].path}." for i in graph.training_only}
    assert {name: s for name, s in got.items() if not name.startswith(tuple(extra) or ("-",))} == weights
    model.eval()
    assert counted_macs(model, *inputs) == graph.macs
    shapes = [graph.nodes[o.node].shape for o in graph.outputs if o.node not in graph.training_only]
    assert shapes_of(model(*inputs), []) == shapes


@slow_shapes
@given(block=networks, classes=st.integers(2, 5))
def test_shapes_parameters_and_macs_are_the_graphs(block, classes):
    graph = trace(block, SHAPE, classes=classes)
    model = build(graph, seed=0)
    assert sum(p.numel() for p in model.parameters()) == graph.params
    with torch.no_grad():
        assert_declared_is_measured(graph, model, noise(2, *SHAPE))


@slow_shapes
@given(body=bodies)
def test_two_inputs_and_three_outputs(body):
    graph = trace(Heads(body), {"left": (2, 8, 9), "right": (3, 8, 9)}, classes=4)
    model = build(graph, seed=0)
    left, right = noise(2, 2, 8, 9), noise(2, 3, 8, 9)
    with torch.no_grad():
        assert_declared_is_measured(graph, model, left, right)
    by_name = model(right=right, left=left)
    assert list(by_name) == ["logits", "maps"]
    assert torch.equal(by_name["maps"][1], model(left, right=right)["maps"][1])
    model.train()
    result = model(left, right)
    assert list(result) == ["logits", "maps", "auxiliary"]
    assert isinstance(result["maps"], tuple)
    assert result["auxiliary"].shape == (2, 4)


NETWORK = Chain((ConvAct(8, stride=2), Inverted(8, gate=True), Edges(), Twice(Inverted(8)), Head()))


@pytest.fixture
def graph():
    return trace(NETWORK, SHAPE, classes=3)


@pytest.fixture
def model(graph):
    return build(graph, seed=0).eval()


def test_parameter_names_are_paths_and_repr_shows_the_tree(model):
    names = [name for name, _ in model.named_parameters()]
    assert "layers.1.expand.conv.weight" in names
    assert "layers.1.gate.reduce.bias" in names
    assert "Conv2d(3, 8, kernel_size=(3, 3), stride=(2, 2), padding=(1, 1), bias=False)" in repr(model)
    assert "input=(3, 16, 12)" in repr(model)
    assert isinstance(model.layers[1], Part)
    assert model.layers[1]["expand"] is model.layers[1].expand


def test_weights_depend_on_seed_and_path_only(graph):
    first, again = build(graph, seed=3).state_dict(), build(graph, seed=3).state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)
    other = build(trace(Chain((ConvAct(8, stride=2), Inverted(8, gate=True), Head())), SHAPE, classes=3), seed=3)
    shared = {k: w for k, w in other.state_dict().items() if k in first and first[k].shape == w.shape}
    assert "layers.1.expand.conv.weight" in shared
    assert all(torch.equal(first[key], w) for key, w in shared.items())
    changed = build(graph, seed=4).state_dict()
    assert not torch.equal(first["layers.0.conv.weight"], changed["layers.0.conv.weight"])
    assert not torch.equal(build(graph).layers[0].conv.weight, build(graph).layers[0].conv.weight)


def test_initial_scale():
    graph = trace(Chain((ConvAct(64, 3, norm="none"), Inverted(64, expand=1), Head())), (32, 8, 8), classes=10)
    model = build(graph, seed=0)
    assert model.layers[0].conv.weight.std().item() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.05)
    assert model.layers[1].depthwise.conv.weight.std().item() == pytest.approx((2 / 9) ** 0.5, rel=0.1)
    assert model.layers[2].hidden.weight.abs().max().item() == pytest.approx(1 / 8, rel=0.02)
    assert not model.layers[0].conv.bias.any()
    assert (model.layers[1].depthwise.norm.weight == 1).all()


def test_the_global_random_state_is_left_alone(graph):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    build(graph)
    build(graph, seed=5)
    assert torch.equal(before, torch.get_rng_state())


def test_copies_compute_the_same(model):
    x = noise(2, *SHAPE)
    expected = model(x)
    copied = copy.deepcopy(model)
    assert torch.equal(copied(x), expected)
    with torch.no_grad():
        copied.layers[0].conv.weight.zero_()
    assert not torch.equal(copied(x), expected), "a copy runs its own layers"
    assert torch.equal(model(x), expected)
    assert torch.equal(pickle.loads(pickle.dumps(model))(x), expected)
    fresh = build(trace(NETWORK, SHAPE, classes=3), seed=9).eval()
    fresh.load_state_dict(model.state_dict())
    assert torch.equal(fresh(x), expected)


def test_a_replaced_layer_is_called_and_a_replaced_part_is_refused(model):
    x = noise(2, *SHAPE)
    model.layers[4].classifier = nn.Linear(12, 7)
    assert model(x).shape == (2, 7)
    assert torch.equal(copy.deepcopy(model)(x), model(x))
    with pytest.raises(InvalidInputError, match="cannot be replaced as a whole"):
        model.layers[1].expand = nn.Identity()


def test_tied_weights_are_one_layer(graph, model):
    paths = [n.path for n in graph.nodes]
    assert paths.count("layers.3.body.expand.conv") == 2
    assert [n for n, _ in model.named_parameters()].count("layers.3.body.expand.conv.weight") == 1


def test_one_child_on_other_channels_is_refused():
    class Grow(Block):
        body: Block

        def forward(self, x):
            return self.body(self.body(x))

    with pytest.raises(TraceError, match=r"body\.conv.*cannot share one layer"):
        build(trace(Grow(ConvAct(8)), SHAPE))


def test_one_child_without_weights_may_be_called_on_anything():
    class Pooled(Block):
        pool: Block

        def forward(self, x):
            return ops.concat(self.pool(x), self.pool(ops.conv(x, 5)))

    class Split(Block):
        def forward(self, x):
            return ops.max_pool(ops.channel_slice(x, 0, x.channels - 1), 3 if x.channels == 3 else 5, padding=1)

    class Both(Block):
        pool: Block

        def forward(self, x):
            return {"a": self.pool(x), "b": self.pool(ops.conv(x, 5))}

    assert build(trace(Pooled(Edgeless()), SHAPE)).eval()(noise(1, *SHAPE)).shape == (1, 8, 16, 12)
    result = build(trace(Both(Split()), SHAPE)).eval()(noise(1, *SHAPE))
    assert result["a"].shape == (1, 2, 16, 12)
    assert result["b"].shape == (1, 4, 14, 10)


class Edgeless(Block):
    def forward(self, x):
        return ops.max_pool(x, 3)


def test_names_that_a_module_needs_are_refused():
    class Named(Block):
        def forward(self, x):
            return ops.conv(x, 4, name="train")

    with pytest.raises(TraceError, match="'train'"):
        build(trace(Named(), SHAPE))


def test_training_only_outputs():
    graph = trace(WithAuxiliary(ConvAct(6)), SHAPE, classes=3)
    model = build(graph, seed=0)
    x = noise(2, *SHAPE)
    logits, auxiliary = model(x)
    assert logits.shape == auxiliary.shape == (2, 3)
    model.eval()
    assert torch.is_tensor(model(x))
    assert counted_macs(model, x) == graph.macs


def test_wrong_inputs_are_refused(model):
    x = noise(2, *SHAPE)
    assert torch.equal(model(input=x), model(x))
    for call in (lambda: model(), lambda: model(x, x), lambda: model(x, image=x)):
        with pytest.raises(InvalidInputError, match=r"takes 1 inputs \(input\)"):
            call()
    two = build(trace(Heads(ConvAct(2)), {"left": (2, 8, 9), "input": (3, 8, 9)}, classes=4), seed=0).eval()
    left, right = noise(2, 2, 8, 9), noise(2, 3, 8, 9)
    assert torch.equal(two(left=left, input=right)["logits"], two(left, right)["logits"])
    with pytest.raises(InvalidInputError, match="left"):
        two(left)


def test_it_trains(graph):
    model = build(graph, seed=0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    x, y = noise(24, *SHAPE), torch.arange(24) % 3
    losses = []
    for _ in range(15):
        loss = nn.functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert all(p.grad is not None for p in model.parameters())
    assert losses[-1] < 0.7 * losses[0]


def test_dtypes_and_memory_layout(model):
    x = noise(2, *SHAPE)
    expected = model(x)
    last = copy.deepcopy(model).to(memory_format=torch.channels_last)
    torch.testing.assert_close(last(x.to(memory_format=torch.channels_last)), expected)
    torch.testing.assert_close(copy.deepcopy(model).double()(x.double()), expected.double(), rtol=1e-4, atol=1e-5)
    half = copy.deepcopy(model).bfloat16()(x.bfloat16())
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), expected, rtol=0.1, atol=0.1)
    with torch.device("meta"):
        assert build(trace(NETWORK, SHAPE, classes=3), seed=0)(torch.empty(2, *SHAPE)).is_meta


def test_tensors_are_let_go_after_their_last_use():
    import weakref

    graph = trace(Chain(tuple(ConvAct(4, function="relu") for _ in range(6))), (3, 8, 8))
    model = build(graph, seed=0).eval()
    alive, seen = [], []

    def watch(module, args, result):
        alive.append(sum(r() is not None for r in seen))
        seen.append(weakref.ref(result))

    for module in model.modules():
        if not isinstance(module, Part):
            module.register_forward_hook(watch)
    with torch.no_grad():
        model(noise(1, 3, 8, 8))
    assert max(alive) <= 1


def test_compiles_without_graph_breaks(model):
    x = noise(2, *SHAPE)
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    assert torch.equal(compiled(x), model(x))
    model.train()
    assert compiled(x).shape == (2, 3)
    torch.compiler.reset()


@pytest.mark.parametrize("strict", [False, True])
def test_torch_export(model, strict):
    x = noise(2, *SHAPE)
    batch = torch.export.Dim("batch", min=2, max=64)
    program = torch.export.export(model, (x,), dynamic_shapes={"input": {0: batch}}, strict=strict)
    assert set(program.state_dict) == set(model.state_dict())
    many = noise(5, *SHAPE, seed=1)
    torch.testing.assert_close(program.module()(many), model(many))
