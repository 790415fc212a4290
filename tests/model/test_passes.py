"""The passes on mixtures keep outputs, gradients, running statistics and names, whatever the space and the gate."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import nasturtium as nas
from nasturtium.blocks.darts_cell import Cell, DilConv, Edge, Node, Nothing, Pool, SepConv, Skip
from nasturtium.errors import InvalidInputError
from nasturtium.graph import operations as ops
from nasturtium.graph.tensor import Tensor as Symbol
from nasturtium.model import Sigmoid, Softmax, Sum, Supernet, supernet
from nasturtium.model.elastic import Elastic
from nasturtium.model.fast_mixture import PREPARED, FastExecutor
from nasturtium.model.mixing import EXECUTORS
from nasturtium.model.mixture import write_program
from nasturtium.model.passes import kernels
from nasturtium.model.passes.expressions import Apply, Combine, Expression, Join, Rules, Split, express
from nasturtium.zoo import nasbench201
from nasturtium.zoo.darts import DARTSNetwork

CANDIDATES: tuple[Any, ...] = (
    Nothing(),
    Pool("max", norm=True),
    Pool("avg", norm=True),
    Skip(affine=False),
    SepConv(3, affine=False),
    SepConv(5, affine=False),
    DilConv(3, affine=False),
    DilConv(5, affine=False),
)


def darts_like(rng: Random, size: int) -> nas.Space:
    """A search network of DARTS with random candidates, nodes and depth; some norms with weights."""
    cells = []
    for kind in ("normal", "reduce"):
        nodes = []
        for node in range(2, 2 + rng.randint(1, 2)):
            edges = []
            for i in range(node):
                options = rng.sample(CANDIDATES, rng.randint(1, 4))
                options += [rng.choice((SepConv(3), SepConv(5), DilConv(3), DilConv(3, 3)))]
                edges.append(Edge(i, nas.one_of(*options, name=f"{kind}_{i}_{node}")))
            nodes.append(Node(tuple(edges)))
        cells.append(Cell(tuple(nodes), reduction=kind == "reduce", affine=rng.random() < 0.5))
    return nas.Space(DARTSNetwork(cells[0], cells[1], width=4, layers=rng.randint(2, 3), classes=3))


class Inverted(nas.Block):
    """Expand, depthwise, project; added to the input."""

    kernel: int
    expansion: int

    def forward(self, x: Symbol) -> Symbol:
        width = x.channels * self.expansion
        y = nas.ops.activation(nas.ops.batch_norm(nas.ops.conv(x, width, 1, name="expand"), name="one"), "relu")
        y = nas.ops.conv(y, width, self.kernel, groups=width, name="depthwise")
        y = nas.ops.activation(nas.ops.batch_norm(y, name="two"), "relu6")
        return nas.ops.add(x, nas.ops.batch_norm(nas.ops.conv(y, x.channels, 1, name="project"), name="three"))


def mobile_chain(rng: Random, size: int) -> nas.Space:
    """Inverted residuals of which a decision takes one, or the input."""
    options = [Inverted(3, 2), Inverted(5, 2), Inverted(5, 3), nas.Identity()]
    stages = [nas.one_of(*options) for _ in range(rng.randint(1, 3))]
    return nas.Space(nas.Sequential(nas.Conv(4), *stages, nas.Classifier(classes=3)))


def nasbench(rng: Random, size: int) -> nas.Space:
    """NAS-Bench-201, small."""
    return nasbench201.space((3, size, size), width=4, cells=1)


SPACES = {"darts": darts_like, "mobile": mobile_chain, "nasbench201": nasbench}


def made(name: str, seed: int, size: int = 8, dtype: torch.dtype = torch.float64) -> Supernet:
    space = SPACES[name](Random(seed), size)
    return supernet(space, (3, size, size), seed=seed, classes=3).to(dtype)


class Tied:
    """The same trainable weights for every decision, which need not add up to 1."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.values = torch.linspace(-0.5, 1.5, 8, dtype=dtype).requires_grad_()

    def weights(self, decision: str, count: int) -> Tensor:
        return self.values[:count]


class Numbers:
    """Weights among numbers and tensors, of which some branches have none: PC-DARTS, DARTS-, One-Shot at once."""

    def __init__(self, shared: Supernet, dtype: torch.dtype) -> None:
        self.values = torch.linspace(-0.5, 1.5, 8, dtype=dtype).requires_grad_()
        rng = Random(len(shared.mixed))
        kinds = ["tensor", 0.0, 1.0, 0.3, 1]
        self.kinds: dict[str, list[Any]] = {}
        for name, count in shared.mixed.items():
            drawn = [rng.choice(kinds) for _ in range(count)]
            self.kinds[name] = drawn if any(drawn) else [1.0] * count

    def weights(self, decision: str, count: int) -> list[Tensor | float]:
        return [self.values[i] if kind == "tensor" else kind for i, kind in enumerate(self.kinds[decision])]


class Ones:
    """The sum of One-Shot."""

    def weights(self, decision: str, count: int) -> list[float]:
        return [1.0] * count


def gate_of(kind: str, shared: Supernet, dtype: torch.dtype) -> tuple[Any, list[Tensor]]:
    if kind == "ones":
        return Ones(), []
    if kind == "numbers":
        numbers = Numbers(shared, dtype)
        return numbers, [numbers.values]
    if kind == "tied":
        tied = Tied(dtype)
        return tied, [tied.values]
    gate: nn.Module = (Softmax if kind == "softmax" else Sigmoid)(shared.mixed, seed=1).to(dtype)
    generator = torch.Generator().manual_seed(2)
    for logits in gate.parameters():
        logits.data.normal_(generator=generator)
    return gate, list(gate.parameters())


def outcome(shared: Supernet, gate: Any, wanted: list[Tensor], x: Tensor, **mixing: bool) -> dict[str, Tensor]:
    """Output, gradients and the state after one pass; the state before is put back."""
    before = {name: value.clone() for name, value in shared.state_dict().items()}
    y = shared.mix(gate, **mixing)(x)
    loss = (y * torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y)).sum() + y.square().sum()
    gradients = torch.autograd.grad(loss, wanted, allow_unused=True)
    found = {f"gradient {i}": torch.zeros(()) if g is None else g for i, g in enumerate(gradients)}
    found["without"] = torch.tensor([g is None for g in gradients])
    found |= {name: value.clone() for name, value in shared.state_dict().items()}
    shared.load_state_dict(before)
    return {"output": y.detach(), **found}


@pytest.mark.parametrize(("seed", "kind"), [(0, "softmax"), (1, "sigmoid"), (2, "tied"), (3, "numbers"), (1, "ones")])
@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_outcomes_are_those_of_the_plain_mixture(name: str, seed: int, kind: str, training: bool) -> None:
    shared = made(name, seed, size=12 if seed == 2 else 8).train(training)
    for i, (key, buffer) in enumerate(shared.named_buffers()):  # norms differ in their statistics
        if key.endswith("running_var"):
            buffer.fill_(0.5 + 0.1 * (i % 7))
    gate, logits = gate_of(kind, shared, torch.float64)
    size = 12 if seed == 2 else 8
    x = torch.randn(3, 3, size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    wanted = [x.requires_grad_(), *logits, *shared.parameters()]
    plain = outcome(shared, gate, wanted, x, optimize=False)
    fast = outcome(shared, gate, wanted, x, optimize=True)
    again = outcome(shared, gate, wanted, x, optimize=True, recompute=True)
    assert plain.keys() == fast.keys() == again.keys()
    for key, value in plain.items():
        torch.testing.assert_close(fast[key], value, rtol=1e-9, atol=1e-10, msg=lambda text, key=key: f"{key}: {text}")
        torch.testing.assert_close(
            again[key], fast[key], rtol=1e-12, atol=1e-12, msg=lambda text, key=key: f"{key}: {text}"
        )
    assert _is_fast(shared)
    if training and logits:
        few = outcome(shared, gate, logits, x, optimize=True)  # only the architecture's gradient
        for i in range(len(logits)):
            torch.testing.assert_close(few[f"gradient {i}"], plain[f"gradient {i + 1}"], rtol=1e-9, atol=1e-10)


def _is_fast(shared: Supernet) -> bool:
    return any(isinstance(executor, FastExecutor) for executor in shared._mixer._executors._known.values())


def test_dropped_paths_run_fast_and_leave_the_others_alone() -> None:
    """In each step others are dropped: they get no gradient, and their statistics stay."""
    shared = made("darts", 1)
    x = torch.randn(3, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    found: dict[bool, list[dict[str, Tensor]]] = {}
    for optimize in (False, True):
        gate = Sum(shared.mixed, rate=0.3, seed=5)
        found[optimize] = [outcome(shared, gate, list(shared.parameters()), x, optimize=optimize) for _ in range(10)]
    assert len({bytes(one["without"].numpy()) for one in found[False]}) > 1
    for plain, fast in zip(found[False], found[True], strict=True):
        for key, value in plain.items():
            torch.testing.assert_close(fast[key], value, rtol=1e-9, atol=1e-10)
    (executor,) = [e for e in shared._mixer._executors._known.values() if isinstance(e, FastExecutor)]
    assert len(executor._prepared) == PREPARED  # a bounded number of patterns is remembered


def test_a_bounded_number_of_programs_is_remembered() -> None:
    space = nasbench201.space((3, 8, 8), width=4, cells=1)
    shared = supernet(space, (3, 8, 8), seed=0, classes=3)
    x, first = torch.randn(2, 3, 8, 8), next(iter(shared.mixed))
    gate = Softmax({first: shared.mixed[first]})
    for seed in range(12):
        path = space.sample(Random(seed))
        y = shared.set(path).mix(gate, [first])(x)
        torch.testing.assert_close(y, shared.mix(gate, [first], optimize=False)(x), rtol=1e-3, atol=1e-4)
    assert len(shared._mixer._executors) == EXECUTORS


@pytest.mark.parametrize("given", [[0.0] * 5, [1.0] * 3, torch.ones(3)], ids=["zeros", "few", "few, tensor"])
def test_weights_that_do_not_fit_are_refused(given: Any) -> None:
    class Wrong:
        def weights(self, decision: str, count: int) -> Any:
            return given

    shared = made("nasbench201", 0)
    with pytest.raises(InvalidInputError, match="5 weights"):
        shared.mix(Wrong())(torch.randn(2, 3, 8, 8, dtype=torch.float64))


def test_backward_without_naming_inputs_fills_every_gradient() -> None:
    shared = made("darts", 1)
    gate, logits = gate_of("softmax", shared, torch.float64)
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    gradients = []
    for optimize in (False, True):
        for tensor in [*logits, *shared.parameters()]:
            tensor.grad = None
        shared.mix(gate, optimize=optimize)(x).square().sum().backward()
        gradients.append([t.grad for t in [*logits, *shared.parameters()]])
    for plain, fast in zip(*gradients, strict=True):
        if plain is not None:
            torch.testing.assert_close(fast, plain, rtol=1e-9, atol=1e-10)


def test_in_float32_within_rounding() -> None:
    shared = made("darts", 0, dtype=torch.float32)
    gate, logits = gate_of("softmax", shared, torch.float32)
    x = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    plain = outcome(shared, gate, logits, x, optimize=False)
    fast = outcome(shared, gate, logits, x, optimize=True)
    for key, value in plain.items():
        torch.testing.assert_close(fast[key], value, rtol=1e-3, atol=1e-4)


def test_a_second_derivative_says_that_it_needs_the_plain_mixture() -> None:
    shared = made("darts", 0)
    gate, logits = gate_of("softmax", shared, torch.float64)
    y = shared.mix(gate)(torch.randn(2, 3, 8, 8, dtype=torch.float64)).square().sum()
    with pytest.raises(InvalidInputError, match="optimize=False"):
        torch.autograd.grad(y, logits, create_graph=True)


def expression_of(shared: Supernet, rules: Rules) -> Expression:
    positions = [i for i, d in enumerate(shared.graph.decisions) if d.name in shared.mixed]
    return express(write_program(shared.graph, shared._channels, positions, shared._indices, shared._call), rules)


def cell(nodes: int, *options: Any) -> nas.Space:
    made = []
    for node in range(2, 2 + nodes):
        edges = [Edge(i, nas.one_of(*options, name=f"{i}_{node}")) for i in range(node)]
        made.append(Node(tuple(edges)))
    return nas.Space(DARTSNetwork(Cell(tuple(made)), Cell(tuple(made), reduction=True), width=4, layers=1, classes=3))


def test_what_is_equal_is_computed_once() -> None:
    """One (reduction) cell of 3 nodes, 9 edges: the states are read by 3, 3, 2 and 1 of them."""
    space = cell(3, Pool("avg", norm=True), SepConv(3, affine=False), Nothing())
    shared = made_of(space)
    found = expression_of(shared, Rules(merge_norms=True, phases=True))
    applied = [v for v in found.values if isinstance(v, Apply)]
    assert sum(isinstance(v.operation, ops.AvgPool) for v in applied) == 4  # of 9 edges
    assert not any(isinstance(v.operation, (ops.Zero, ops.Add)) for v in applied)
    assert sum(isinstance(v, Combine) for v in found.values) == 3
    pools = [
        number
        for number, v in enumerate(found.values)
        if isinstance(v, Apply) and len(found.calls[number]) > 1 and isinstance(v.operation, ops.BatchNorm)
    ]
    assert sorted(len(found.calls[number]) for number in pools) == [2, 3, 3]


def made_of(space: nas.Space) -> Supernet:
    return supernet(space, (3, 16, 16), seed=0)


def test_holes_become_phases_that_are_put_together_once_for_a_node() -> None:
    space = cell(2, DilConv(3, affine=False), DilConv(5, affine=False))
    found = expression_of(made_of(space), Rules(merge_norms=True, phases=True))
    convolutions = [v.operation for v in found.values if isinstance(v, Apply) and isinstance(v.operation, ops.Conv)]
    assert all(c.dilation == (1, 1) for c in convolutions)
    assert sum(isinstance(v, Split) for v in found.values) == 1  # of the first node, for the second
    assert sum(isinstance(v, Join) for v in found.values) == 1
    left = expression_of(made_of(space), Rules(merge_norms=True, phases=False))
    assert not any(isinstance(v, (Split, Join)) for v in left.values)


@pytest.mark.parametrize("step", [(2, 2), (2, 1), (3, 2)])
def test_split_by_hand(step: tuple[int, int]) -> None:
    x = torch.arange(2 * 3 * 6 * 6, dtype=torch.float32).view(2, 3, 6, 6)
    y = kernels.split(x, step=step)
    phase = 0
    for image in range(2):
        for down in range(step[0]):
            for across in range(step[1]):
                assert torch.equal(y[phase], x[image, :, down :: step[0], across :: step[1]])
                phase += 1
    assert torch.equal(kernels.join(y, step=step), x)
    assert torch.equal(kernels.sample(x, step=step), x[:, :, :: step[0], :: step[1]])


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("scales", ["none", "one", "each"])
def test_gradients_of_pointwise_norm(relu: bool, scales: str) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, 4, 3, 3, dtype=torch.float64, generator=generator, requires_grad=True)
    weight = torch.randn(5, 4, 1, 1, dtype=torch.float64, generator=generator, requires_grad=True)
    scale = {"none": None, "one": torch.tensor(0.7).double(), "each": torch.linspace(-1, 1, 5).double()}[scales]
    shift = torch.linspace(1, 2, 5).double().requires_grad_() if scales == "each" else None
    if scale is not None:
        scale.requires_grad_()

    def compute(x: Tensor, weight: Tensor, *_: Tensor) -> Tensor:
        statistics = (torch.zeros(5).double(), torch.ones(5).double())
        return kernels.pointwise_norm(x, weight, scale, shift, statistics=statistics, momentum=0.1, eps=1e-5, relu=relu)

    given = [t for t in (x, weight, scale, shift) if t is not None]
    assert torch.autograd.gradcheck(compute, given, fast_mode=True)


@pytest.mark.parametrize("rows", [3, 5])
def test_gradients_of_five_columns(rows: int) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, 6, 7, dtype=torch.float64, generator=generator, requires_grad=True)
    weight = torch.randn(3, 1, rows, 5, dtype=torch.float64, generator=generator, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, w: kernels.depthwise5(x, w, rows // 2), [x, weight], fast_mode=True)


def test_a_sum_keeps_a_gradient_for_its_weight() -> None:
    x = torch.randn(2, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    y = torch.randn(2, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    scale = torch.tensor(0.3).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x, y, s: kernels.add_scaled(x * 2, y, s), [x, y, scale], fast_mode=True)
    assert torch.autograd.gradcheck(kernels.scaled, [x, scale], fast_mode=True)


def test_parameters_keep_their_names_and_memory_layout() -> None:
    shared = made("darts", 0)
    names = {name: (value.shape, value.stride()) for name, value in shared.state_dict().items()}
    gate, _ = gate_of("softmax", shared, torch.float64)
    shared.mix(gate)(torch.randn(2, 3, 8, 8, dtype=torch.float64)).sum().backward()
    assert {name: (value.shape, value.stride()) for name, value in shared.state_dict().items()} == names
    assert all(isinstance(m, Elastic) for m in shared.weights.modules() if isinstance(m, Elastic))


class DroppedPath(nas.Block):
    """A pooling that is dropped by sample."""

    def forward(self, x: Symbol) -> Symbol:
        return nas.ops.drop_path(nas.ops.avg_pool(x, 3), 0.5)


def test_random_operations_are_never_merged_and_draw_in_the_same_order() -> None:
    space = nas.Space(
        nas.Sequential(nas.Conv(4), nas.blocks.SumCell(tuple(nas.one_of(DroppedPath(), nas.Conv(4)) for _ in range(3))))
    )
    shared = supernet(space, (3, 8, 8), seed=0)
    gate, _ = gate_of("softmax", shared, torch.float32)
    x = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    outputs = []
    for optimize in (False, True):
        torch.manual_seed(3)
        outputs.append(shared.mix(gate, optimize=optimize)(x))
    torch.testing.assert_close(*outputs, rtol=1e-4, atol=1e-5)
