"""What a target cannot run is found before the search, by name, in graphs and in whole spaces."""

from __future__ import annotations

import subprocess
import sys

import pytest

import nasturtium as nas
from nasturtium.errors import IncompatibleError, InvalidInputError, TraceError, UnknownNameError
from nasturtium.graph import OPERATIONS, trace
from nasturtium.graph import operations as ops
from nasturtium.graph import tensor as T
from nasturtium.hardware import check, problems
from nasturtium.hardware import support as room
from nasturtium.hardware.support import TABLE, TARGETS, operation_name, support
from nasturtium.space.lowering import RefusedError

SHAPE = (3, 8, 8)


class Net(nas.Block):
    act: str = "relu"
    width: int = 4

    def forward(self, x):
        return T.activation(T.conv(x, self.width, 3), self.act, name="bend")


class Plain(nas.Block):
    def forward(self, x):
        return T.activation(T.conv(x, 4, 3), "relu")


class Bent(nas.Block):
    """An operation that is there only if this block is chosen."""

    def forward(self, x):
        return T.activation(T.conv(x, 4, 3), "mish")


def test_a_network_that_runs_passes():
    for target in TARGETS:
        assert check(trace(Net(), SHAPE), target)
        check(nas.zoo.space("mobile", SHAPE), target, SHAPE, classes=10)


@pytest.mark.parametrize("act", ["gelu", "elu", "mish"])
def test_an_operation_is_named_with_its_place_and_remedy(act):
    graph = trace(Net(act), SHAPE)
    check(graph, "onnx")
    check(graph, "litert")
    with pytest.raises(IncompatibleError, match=rf"'tflm'(.|\n)*activation {act} at `bend`(.|\n)*Take relu"):
        check(graph, "tflm")


def test_a_space_is_judged_by_all_its_options_before_anything_is_drawn():
    space = nas.Space(Net(nas.one_of("relu", "gelu", "mish", name="act"), nas.one_of(4, 8)))
    found = problems(space, "tflm", SHAPE)
    assert {p.support.operation for p in found} == {"activation gelu", "activation mish"}
    by_name = {p.support.operation: p for p in found}
    assert by_name["activation gelu"].decisions == ("act = gelu",)
    assert by_name["activation mish"].decisions == ("act = mish",)
    with pytest.raises(IncompatibleError, match="depends on act = gelu"):
        check(space, "tflm", SHAPE)


def test_an_option_that_is_a_block_is_named():
    space = nas.Space(nas.Sequential(nas.Conv(4), nas.one_of(Plain(), Bent(), name="body")))
    (found,) = problems(space, "tflm", SHAPE)
    assert found.support.operation == "activation mish"
    assert len(found.decisions) == 1
    assert found.decisions[0].startswith("body = ")
    assert "Bent" in found.decisions[0]


def test_what_every_architecture_has_depends_on_nothing():
    space = nas.Space(nas.Sequential(Bent(), nas.Conv(nas.one_of(4, 8))))
    (found,) = problems(space, "tflm", SHAPE)
    assert found.decisions == ()


def test_a_space_that_is_too_wide_is_judged_by_a_sample_and_says_so(monkeypatch):
    def refuse(*arguments, **context):
        raise RefusedError("too wide")

    monkeypatch.setattr(room, "lower", refuse)
    monkeypatch.setattr(room, "SAMPLES", 20)
    space = nas.Space(Net(nas.one_of("relu", "relu6", name="act")))
    with pytest.warns(UserWarning, match="20 random architectures stand for it"):
        assert not check(space, "tflm", SHAPE)
    with pytest.warns(UserWarning, match="none of them has is not found"):
        assert problems(space, "tflm", SHAPE) == ()
    with pytest.raises(IncompatibleError, match="activation gelu"):
        check(nas.Space(Net(nas.one_of("relu", "gelu", name="act"))), "tflm", SHAPE)


class Fussy(nas.Block):
    """Cannot be traced with one of its options."""

    width: int = 4

    def forward(self, x):
        return T.conv(x, 4, 3, groups=3 if self.width == 4 else 1)  # 3 groups of 4 channels are none


def test_architectures_of_a_sample_that_cannot_be_traced_are_counted(monkeypatch):
    def refuse(*arguments, **context):
        raise RefusedError("too wide")

    monkeypatch.setattr(room, "lower", refuse)
    monkeypatch.setattr(room, "SAMPLES", 20)
    with pytest.warns(UserWarning, match=r"stand for it \(\d+ more cannot be traced\)"):
        assert not check(nas.Space(Fussy(nas.one_of(4, 8))), "tflm", SHAPE)
    with pytest.raises(TraceError, match="None of 20 architectures"):
        check(nas.Space(Fussy(4)), "tflm", SHAPE)


def test_the_whole_table_is_of_known_operations():
    kinds = {operation.kind for operation in OPERATIONS}
    for target in TARGETS:
        for entry in TABLE[target]:
            assert entry.operation.split()[0] in kinds
            assert entry.verdict in ("costly", "no")
            assert entry.reason.endswith(".")
            assert entry.verdict == "costly" or entry.remedy.endswith(".")
    assert operation_name(ops.GlobalPool("max")) == "global_pool max"
    assert support(ops.Conv(4), "tflm").verdict == "yes"
    assert support(ops.Opaque(target="a:B"), "onnx").verdict == "costly"


def test_mistakes_are_named():
    with pytest.raises(UnknownNameError, match="tflm"):
        check(trace(Net(), SHAPE), "tflmicro")
    with pytest.raises(InvalidInputError, match="inputs"):
        check(nas.Space(Net()), "tflm")


def test_needs_no_torch():
    code = "import sys; from nasturtium.hardware import check; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
