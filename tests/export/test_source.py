"""The generated PyTorch source: it computes the same, its weights have the same names, and people can read it."""

from __future__ import annotations

import ast
import json
import random

import pytest
import torch
from hypothesis import HealthCheck, given, settings

from nasturtium import zoo
from nasturtium.errors import ExportError
from nasturtium.export.constructors import WRITTEN
from nasturtium.export.script import script
from nasturtium.export.source import Source, broken
from nasturtium.graph import OPERATIONS, trace
from nasturtium.graph import tensor as ops
from nasturtium.model import Module, build
from nasturtium.space import Block
from tests.model.my_layers import Blur
from tests.model.networks import Chain, ConvAct, Edges, Head, Heads, Inverted, Twice, WithAuxiliary, bodies, networks

SHAPE = (3, 16, 12)


def flat(value):
    if isinstance(value, torch.Tensor):
        return [value]
    return [y for item in (value.values() if isinstance(value, dict) else value) for y in flat(item)]


def generated(block, graph):
    """The standalone network, its text, and the house's with the same weights."""
    text, _ = script(graph, block=block, task=None, title="T")
    assert "nasturtium" not in text.replace("not Nasturtium", "").replace("_nasturtium", "")
    names = {"__file__": "/nowhere/model.py", "__name__": "model"}
    exec(compile(text, "model.py", "exec"), names)
    network = names["Network"]()
    own = build(graph, seed=0)
    for norm in own.modules():
        if isinstance(norm, torch.nn.modules.batchnorm._BatchNorm):
            norm.running_mean.uniform_(-0.5, 0.5)
            norm.running_var.uniform_(0.5, 2.0)
    state = own.state_dict()
    assert set(network.state_dict()) <= set(state)
    network.load_state_dict({key: state[key] for key in network.state_dict()})
    return network.eval(), text, own.eval()


def assert_equal(block, graph):
    network, text, own = generated(block, graph)
    inputs = [torch.randn(2, *graph.nodes[i].shape) for i in range(len(graph.inputs))]
    with torch.no_grad():
        ours, theirs = own(*inputs), network(*inputs)
    assert type(ours) is type(theirs)
    for a, b in zip(flat(ours), flat(theirs), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6, equal_nan=True)
    return text, network


def test_every_operation_can_be_written():
    assert set(WRITTEN) == set(OPERATIONS)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(block=networks)
def test_random_networks_are_written_right(block):
    graph = trace(block, SHAPE, classes=3)
    text, network = assert_equal(block, graph)
    assert sum(p.numel() for p in network.parameters()) == graph.params
    assert max(map(len, text.splitlines())) <= 160


@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.too_slow])
@given(body=bodies)
def test_several_inputs_and_outputs(body):
    graph = trace(Heads(body), {"left": (2, 8, 9), "class": (3, 8, 9)}, classes=4)
    assert_equal(Heads(body), graph)


LONG = {"proxylessnas_cifar"}  # 13,000 operations


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] if n in LONG else []) for n in sorted(zoo.SPACES)]
)
def test_every_space_is_written_right(name):
    architecture = zoo.SPACES[name]().sample(random.Random(1))
    graph = trace(architecture, (3, 32, 32), classes=10)
    assert_equal(architecture.block, graph)


PUBLISHED = (
    "mobilenet_v2", "mobilenetv3_small_100", "efficientnet_b0", "efficientnet_lite0", "mnasnet_small", "resnet18",
    "NB201 best CIFAR-10", "ofa_mbv3_w1.0 k3e6d4", "mcunet-10fps_imagenet", "proxyless_mobile", "fbnetc_100",
)  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_networks_are_written_right(name, reference):
    tables = json.loads(reference.read_text()).values()
    rows = [r for table in tables if isinstance(table, list) for r in table if isinstance(r, dict)]
    row = next(r for r in rows if r.get("name") == name and r.get("input_size"))
    block = zoo.published(row)
    text, _ = assert_equal(block, trace(block, (3, 64, 64), classes=10))
    assert len(text.splitlines()) < 320


def test_equal_parts_share_a_class_and_differences_become_arguments():
    block = Chain((Inverted(8, stride=2), Inverted(8), Inverted(8, 5), Inverted(12, stride=2), Inverted(12), Head()))
    text, _ = assert_equal(block, trace(block, SHAPE, classes=3))
    classes = [node.name for node in ast.parse(text).body if isinstance(node, ast.ClassDef)]
    assert classes == [
        "ConvNormHardswish",
        "ConvNormReLU6",
        "ConvNorm",
        "Inverted",
        "InvertedResidual",
        "Head",
        "Network",
    ]
    assert "self.project = ConvNorm(" in text
    assert "padding=kernel_size // 2" in text
    assert "return x + y" in text
    assert "InvertedResidual(8, 24, kernel_size=5)" in text or "InvertedResidual(8, 24, kernel_size=3)" in text


def test_names_that_clash_are_kept_apart():
    class Network(Block):
        def forward(self, x):
            return ops.conv(x, 4)

    block = Chain(
        (Network(), Edges(), Twice(ConvAct(4)), ConvAct(4, 2, padding=(0, 1, 1, 0)), WithAuxiliary(ConvAct(4)))
    )
    text, _ = assert_equal(block, trace(block, SHAPE, classes=3))
    assert text.count("class Network(") == 1
    assert "F.pad(x, (1, 0, 0, 1))" in text
    assert text.count("Head(") == 2, "the auxiliary head stays behind"


def test_a_child_that_is_called_between_others_is_a_list():
    class Stages(Block):
        stages: tuple

        def forward(self, x):
            small = ops.max_pool(self.stages[0](x), 3)
            return {"a": self.stages[1](small + small), "b": small}

    block = Stages((ConvAct(4), ConvAct(4)))
    text, _ = assert_equal(block, trace(block, SHAPE))
    assert "self.stages = nn.ModuleList([" in text
    assert "self.stages[1](" in text


def test_an_operation_named_like_a_part_is_refused():
    class Both(Block):
        conv: Block

        def forward(self, x):
            return self.conv(ops.conv(x, 3))

    with pytest.raises(ExportError, match="'conv' names an operation and a part"):
        Source(trace(Both(ConvAct(3)), SHAPE), {})


def test_users_modules_are_copied_imported_or_refused(tmp_path, monkeypatch):
    block = Chain((Module(Blur, channels=4), Module("torch.nn:Hardtanh", min_val=-2.0), Head()))
    text, files = script(trace(block, SHAPE, classes=2), block=block, task=None, title="T")
    assert "nn.Hardtanh(min_val=-2.0)" in text
    assert 'my_layers = _beside("my_layers")' in text
    assert "class Blur(nn.Module)" in files["my_layers"]
    (tmp_path / "helpers_of_mine.py").write_text("x = 1\n")
    (tmp_path / "layer_of_mine.py").write_text("import torch, helpers_of_mine\nclass L(torch.nn.ReLU): pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    block = Chain((Module("layer_of_mine:L"),))
    with pytest.raises(ExportError, match=r"layer_of_mine.*imports 'helpers_of_mine' \(line 1\)"):
        script(trace(block, SHAPE), block=block, task=None, title="T")


def test_long_lines_are_broken_at_commas():
    line = "x = torch.cat([" + ", ".join(f"value_{i}" for i in range(20)) + '], 1, name="a, b")'
    lines = broken(line)
    assert "".join(part.strip() for part in lines).replace(",", ", ").startswith("x = torch.cat(")
    assert lines[-2].strip() == 'name="a, b",'
    assert broken("x = f(1)") == ["x = f(1)"]
