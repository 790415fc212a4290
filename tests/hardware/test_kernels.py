"""Kernels of graphs and of spaces: what fuses, and that no architecture has one that the list lacks."""

from __future__ import annotations

import json
from collections import Counter
from random import Random

import pytest

import nasturtium as nas
from nasturtium.errors import InvalidInputError
from nasturtium.graph import operations as ops
from nasturtium.graph import tensor as t
from nasturtium.hardware.kernels import Kernel, kernels, placed_kernels
from nasturtium.hardware.open_kernels import open_kernels, space_kernels
from nasturtium.model import build
from nasturtium.space.lowering import lower


class Forked(nas.Block):
    """A convolution whose norm is read twice."""

    def forward(self, x: t.Tensor) -> t.Tensor:
        y = t.batch_norm(t.conv(x, 4, bias=True))
        return t.activation(y) + y


class Bare(nas.Block):
    """A convolution alone."""

    def forward(self, x: t.Tensor) -> t.Tensor:
        return t.conv(x, 4)


class Act(nas.Block):
    """An activation alone."""

    function: str = "relu"

    def forward(self, x: t.Tensor) -> t.Tensor:
        return t.activation(x, self.function)


class Called(nas.Block):
    """One block called twice on the same tensor."""

    inner: nas.Block

    def forward(self, x: t.Tensor) -> t.Tensor:
        return self.inner(x) + self.inner(x)


class Uneven(nas.Block):
    """Has a shape that some architectures cannot have."""

    kernel: int = 3

    def forward(self, x: t.Tensor) -> t.Tensor:
        return t.activation(t.conv(x, 4, self.kernel, padding=0))


def test_convolution_norm_and_activation_are_one() -> None:
    graph = nas.trace(nas.Sequential(nas.Conv(8, stride=2), nas.Classifier()), (3, 8, 8), classes=5)
    assert [k.text for k in kernels(graph)] == [
        "conv 3x3 /2, batch norm, relu on 3x8x8 to 8x4x4",
        "global avg pool, flatten on 8x4x4 to 8",
        "linear on 8 to 5",
    ]
    covered = [i for _, nodes in placed_kernels(graph) for i in nodes]
    assert covered == list(range(1, len(graph.nodes)))


def test_what_is_read_twice_ends_its_kernel() -> None:
    graph = nas.trace(Forked(), (3, 6, 6))
    assert [k.text.split(" on ")[0] for k in kernels(graph)] == ["conv 3x3, batch norm", "relu", "add"]


def test_an_output_ends_its_kernel() -> None:
    class Two(nas.Block):
        def forward(self, x: t.Tensor) -> tuple[t.Tensor, t.Tensor]:
            y = t.conv(x, 4)
            return y, t.activation(y)

    assert len(kernels(nas.trace(Two(), (3, 6, 6)))) == 2


def test_what_changes_no_time_changes_no_key() -> None:
    def kernel(eps: float, rate: float) -> Kernel:
        operations = (ops.Conv(4), ops.BatchNorm(eps=eps), ops.Dropout(rate))
        return Kernel.of(operations, ((3, 5, 5),))

    assert kernel(1e-5, 0.1) == kernel(1e-3, 0.5)
    assert kernel(1e-5, 0.1).key == kernel(1e-3, 0.5).key
    assert Kernel.of((ops.Conv(4),), ((3, 5, 5),)).key != Kernel.of((ops.Conv(4),), ((3, 5, 6),)).key


def test_a_key_is_stable() -> None:
    """A table on disk is read by other processes and versions."""
    assert Kernel.of((ops.Conv(4), ops.Activation("relu")), ((3, 5, 5),)).key == (
        "conv 3x3, relu on 3x5x5 to 4x5x5 #" + Kernel.of((ops.Conv(4), ops.Activation()), ((3, 5, 5),)).key[-12:]
    )


def test_a_kernel_is_a_network_of_its_own() -> None:
    graph = nas.trace(nas.Sequential(nas.MBConv(8, expand=2), nas.MBConv(8), nas.Classifier()), (8, 6, 6), classes=3)
    found = kernels(graph)
    assert sum(k.macs for k in found) == graph.macs
    assert sum(k.weights for k in found) == graph.params
    for kernel in found:
        assert Kernel.from_dict(json.loads(json.dumps(kernel.to_dict()))) == kernel
        alone = kernel.graph()
        assert kernels(alone) == (kernel,)
        assert alone.nodes[-1].shape == kernel.shapes[-1]
    import torch

    add = next(k for k in found if k.operations[0].kind == "add")
    inputs = [torch.ones(2, *shape) for shape in add.inputs]
    assert build(add.graph()).eval()(*inputs).tolist() == (2 * inputs[0]).tolist()


def test_groups() -> None:
    graph = nas.trace(nas.Sequential(nas.MBConv(8, expand=2), nas.Conv(4), nas.Classifier()), (8, 6, 6), classes=3)
    assert [k.group for k in kernels(graph)] == [
        "pointwise", "depthwise", "pointwise", "other", "convolution", "other", "linear",
    ]  # fmt: skip


def test_an_unreadable_kernel_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="operations and inputs"):
        Kernel.from_dict({"operations": [{"operation": "Nothing", "fields": {}}], "inputs": []})


MBCONVS = nas.repeat(
    nas.MBConv(nas.one_of(4, 8), kernel=nas.one_of(3, 5), expand=nas.one_of(1, 2)), times=nas.one_of(1, 2), stride=1
)
SPACES = {
    "mobile": (nas.Space(nas.Sequential(nas.Conv(4), MBCONVS, nas.Classifier())), (3, 6, 6)),
    "cell": (nas.zoo.nasbench201.space(width=2, cells=1), (3, 8, 8)),
    "fused or not": (
        nas.Space(nas.Sequential(Bare(), nas.one_of(Forked(), nas.Identity(), Act(), Act("relu6")), Act())),
        (3, 6, 6),
    ),
}


@pytest.mark.parametrize("name", SPACES)
def test_the_kernels_of_a_space_are_those_of_its_architectures(name: str) -> None:
    """Brute force: every architecture (or 60 of them) is traced and counted."""
    space, shape = SPACES[name]
    graph = lower(space, shape, classes=3)
    placed = open_kernels(graph)
    found = list(space.enumerate()) if space.size <= 60 else [space.sample(Random(i)) for i in range(60)]
    seen: set[Kernel] = set()
    for architecture in found:
        indices = graph.indices(architecture.decisions)
        wanted = kernels(nas.trace(architecture, shape, classes=3))
        assert Counter(wanted) == Counter([kernel for kernel, when in placed if when.at(indices)])
        seen.update(wanted)
    listed = space_kernels(space, shape, context={"classes": 3})
    assert listed.exact
    assert seen <= set(listed.kernels)
    if space.size <= 60:
        assert seen == set(listed.kernels)


def test_a_space_that_cannot_be_lowered_is_sampled() -> None:
    space = nas.Space(Uneven(nas.one_of(1, 3, 9)))
    listed = space_kernels(space, (3, 5, 5), samples=40)
    assert not listed.exact
    assert len(listed.kernels) == 2
    assert listed.coverage == 1.0
    assert listed.interval[0] < 0.95
    assert "fresh" in listed.text


def test_a_block_called_twice_on_the_same_tensor_is_sampled() -> None:
    space = nas.Space(Called(nas.Conv(nas.one_of(4, 8))))
    listed = space_kernels(space, (3, 5, 5), samples=20)
    wanted = {k for a in space.enumerate() for k in kernels(nas.trace(a, (3, 5, 5)))}
    assert set(listed.kernels) == wanted
