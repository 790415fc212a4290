"""Users' modules in a space."""

from __future__ import annotations

import random
import subprocess
import sys

import pytest
import torch
from torch import nn

from nasturtium.errors import InvalidArchitectureError, InvalidInputError, TraceError
from nasturtium.graph import trace
from nasturtium.graph.cost import cost
from nasturtium.model import INPUT_CHANNELS, Module, build
from nasturtium.space import Architecture, Block, Space, block_from_dict, block_to_dict, one_of
from tests.model.my_layers import Blur, DataDependent, NotAModule, Pair, Two
from tests.model.networks import Chain, ConvAct, Head

SHAPE = (3, 8, 6)
PATH = "tests.model.my_layers:Blur"


def test_shape_and_costs_are_measured():
    graph = trace(Module(Blur, channels=4), SHAPE)
    model = build(graph, seed=0)
    assert graph.nodes[-1].shape == (4, 16, 12)
    assert model.eval()(torch.ones(2, *SHAPE)).shape == (2, 4, 16, 12)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert graph.params == trained == 4 * 27 + 4 + 20
    assert graph.macs == 4 * 48 * 27 + 4 * 48 * 4 * 4 + 16
    assert graph.activations == 4 * 48 + 4 * 192
    whole = cost(Module(Blur, channels=4), SHAPE)
    assert (whole.params, whole.macs, whole.activations) == (graph.params, graph.macs, graph.activations)


def test_it_is_searched_like_any_block():
    space = Space(Chain((ConvAct(5), Module(Blur, channels=one_of(4, 6), kernel=one_of(1, 3)), Head())))
    assert space.size == 4
    assert [d.name for d in space.decisions] == ["layers.1.arguments.channels", "layers.1.arguments.kernel"]
    found = {trace(a, SHAPE, classes=2).params for a in space.enumerate()}
    assert len(found) == 4
    architecture = space.sample(random.Random(0))
    model = build(trace(architecture, SHAPE, classes=2), seed=0)
    assert "layers.1.module.conv.weight" in model.state_dict()
    again = Architecture.from_dict(architecture.to_dict())
    assert again.block == architecture.block
    assert trace(again, SHAPE, classes=2).params == trace(architecture, SHAPE, classes=2).params


def test_json_and_equality():
    block = Module(PATH, channels=4, kernel=[1, 3], name="y")
    assert block == Module(Blur, {"channels": 4, "kernel": (1, 3), "name": "y"})
    assert block_from_dict(block_to_dict(block)) == block
    assert block != Module(Blur, channels=4)
    stated = Module(Pair, output=(3, 8, 6), params=0, macs=7)
    assert block_from_dict(block_to_dict(stated)) == stated


def test_a_stored_module_is_imported_only_when_trusted():
    data = {"type": "nasturtium.model.module:Module", "fields": {"target": "antigravity_of_mine:Layer"}}
    with pytest.raises(InvalidArchitectureError, match=r"antigravity_of_mine.*trust=True"):
        block_from_dict(data)
    assert block_from_dict(data, trust=True).target == "antigravity_of_mine:Layer"


def test_input_channels():
    assert trace(Module("torch.nn:Conv2d", out_channels=2, kernel_size=1, bias=False), SHAPE).params == 6
    assert trace(Module("torch.nn:BatchNorm2d", num_features=INPUT_CHANNELS), SHAPE).params == 6
    assert trace(Module("torch.nn:Linear", out_features=5), (7,)).params == 40
    conv = Module("torch.nn:Conv2d", in_channels=3, out_channels=2, kernel_size=1)
    assert trace(conv, SHAPE).params == 8


def test_several_inputs():
    class Join(Block):
        module: Block

        def forward(self, x, y):
            return self.module(x, y)

    graph = trace(Join(Module(Two)), (SHAPE, SHAPE))
    assert torch.equal(build(graph)(torch.ones(2, *SHAPE), torch.ones(2, *SHAPE)), torch.full((2, *SHAPE), 2.0))


def test_weights_depend_on_the_seed_and_the_global_state_is_left_alone():
    graph = trace(Module(Blur), SHAPE)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    one, two, other = (build(graph, seed=s).module.conv.weight for s in (0, 0, 1))
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


def test_what_fails_on_the_meta_device_can_be_stated():
    with pytest.raises(TraceError, match=r"failed on the meta device.*output="):
        trace(Module(DataDependent), SHAPE)
    graph = trace(Module(DataDependent, output=SHAPE, params=0, macs=5), SHAPE)
    assert (graph.nodes[-1].shape, graph.params, graph.macs) == (SHAPE, 0, 5)
    assert build(graph)(torch.ones(2, *SHAPE)).shape == (2, *SHAPE)
    with pytest.raises(InvalidInputError, match="all three or none"):
        Module(DataDependent, output=SHAPE)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Module("torch.nn:ReLUU"), TraceError, "cannot be imported"),
        (lambda: Module("no_such_package:X"), TraceError, "cannot be imported"),
        (lambda: Module("torch.nn"), TraceError, "looks like 'package.module:Class'"),
        (lambda: Module("tests.model.my_layers:NotAModule"), TraceError, "subclass of `torch.nn.Module`"),
        (lambda: Module(NotAModule), InvalidInputError, "takes a subclass"),
        (lambda: Module(nn.ReLU()), InvalidInputError, "takes a subclass"),
        (lambda: Module(Pair), TraceError, "must return one tensor"),
        (lambda: Module(Blur, chanels=3), TraceError, "chanels"),
        (lambda: Module(Blur, digest="0"), TraceError, "has changed"),
        (lambda: Module(Blur, channels=torch.ones(1)), InvalidInputError, "JSON value"),
        (lambda: Module(Blur, {"channels": 3}, channels=4), InvalidInputError, "given twice"),
        (lambda: Module("torch.nn:LSTM", input_size=3, hidden_size=3), TraceError, "failed on the meta device"),
    ],
)
def test_what_cannot_stand_in_a_space_is_refused(make, error, message):
    with pytest.raises(error, match=message):
        trace(make(), SHAPE)


def test_local_and_main_classes_are_refused():
    class Local(nn.Module):
        pass

    with pytest.raises(InvalidInputError, match="defined in a function"):
        Module(Local)
    script = (
        "import torch\nfrom nasturtium.model import Module\nclass Mine(torch.nn.Module): pass\n"
        "try: Module(Mine)\nexcept ValueError as e: print(e)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "the script that is running" in done.stdout


def test_identity_changes_with_the_source(tmp_path, monkeypatch):
    digests = []
    for number in (1, 2):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / f"layer_{number}.py").write_text(f"import torch\nclass L(torch.nn.ReLU):\n    version = {number}\n")
        monkeypatch.syspath_prepend(folder)
        digests.append(trace(Module(f"layer_{number}:L"), SHAPE).nodes[-1].operation.digest)
    assert digests[0] != digests[1]


def test_a_stored_module_whose_source_changed_is_refused():
    stored = block_to_dict(Module(Blur))
    assert len(stored["fields"]["digest"]) == 16
    stored["fields"]["digest"] = "0" * 16
    with pytest.raises(TraceError, match=r"my_layers.*has changed"):
        trace(block_from_dict(stored), SHAPE)
