"""Progressive shrinking: plans, losses against the paper's equations, exact resume."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn import functional

import nasturtium as nas
from nasturtium.errors import IncompatibleError, InvalidInputError, UnknownNameError
from nasturtium.model.supernet import Supernet
from nasturtium.supernets.once_for_all import OnceForAll
from nasturtium.supernets.phases import Phase, kinds_of, shrinking_phases
from nasturtium.supernets.shrinking import settle_largest, soft_cross_entropy, train_shrinking
from nasturtium.tasks import Task
from nasturtium.training import Recipe
from nasturtium.zoo import once_for_all as ofa

RECIPE = Recipe(label_smoothing=0.0, augment="none", weight_decay=0.0, momentum=0.0, memory_format="contiguous")


@pytest.fixture(scope="module")
def task() -> Task:
    """A few digits."""
    whole = nas.tasks.load("digits")
    splits = dict(whole.splits) | {"train": whole.split("train").take(torch.arange(128).numpy())}
    return Task(name="few", splits=splits, class_names=whole.class_names, source=whole.source)


@pytest.fixture(scope="module")
def space() -> nas.Space:
    block = nas.MBConv(8, kernel=nas.one_of(3, 5), expand=nas.one_of(1, 2, 3), act="relu")
    return nas.Space(nas.Sequential(nas.Conv(8, stride=2), nas.repeat(block, nas.one_of(1, 2)), nas.Classifier()))


def make(space: nas.Space, task: Task) -> Supernet:
    return nas.supernet(space, task.input_shape, seed=0, kernel_transform=True, **task.context)


def test_the_plan_of_the_paper() -> None:
    """Epochs, sub-networks a step and open options of METHODS' table."""
    plan = shrinking_phases(ofa.mobilenetv3_space())
    assert [p.name for p in plan] == ["full", "kernel", "depth 1", "depth 2", "width 1", "width 2"]
    assert [p.epochs for p in plan] == [180, 125, 30, 125, 30, 125]
    assert [p.paths for p in plan] == [1, 1, 2, 2, 4, 4]
    assert [round(p.rate * 2.6, 2) for p in plan] == [2.6, 0.96, 0.08, 0.24, 0.08, 0.24]
    assert [p.warmup for p in plan] == [0, 5 / 125, 5 / 30, 5 / 125, 5 / 30, 5 / 125]
    assert [p.sort for p in plan] == [False] * 4 + [True] * 2
    names = ("layers.2.blocks.0.kernel", "layers.2.blocks.length", "layers.2.blocks.0.expand")
    opened = [[len(p.options[name]) for name in names] for p in plan]
    assert opened == [[1, 1, 1], [3, 1, 1], [3, 2, 1], [3, 3, 1], [3, 3, 2], [3, 3, 3]]
    assert plan[2].options["layers.2.blocks.length"] == (1, 2)  # depths 3 and 4 first
    assert plan[4].options["layers.2.blocks.0.expand"] == (1, 2)  # 4 and 6
    assert plan[0].options["layers.2.blocks.0.expand"] == (2,)


def test_phases_that_open_nothing_are_left_out(space: nas.Space) -> None:
    plan = shrinking_phases(space, epochs=11)
    assert [p.name for p in plan] == ["full", "kernel", "depth 2", "width 1", "width 2"]
    assert sum(p.epochs for p in plan) == 11
    with pytest.raises(InvalidInputError, match="5 phases"):
        shrinking_phases(space, epochs=4)
    with pytest.raises(IncompatibleError, match="numbers"):
        shrinking_phases(nas.Space(nas.zoo.nasbench201.space(cells=1, width=4).block))


class Taps(nas.Block):
    """A convolution whose fields have names of their own."""

    reach: int
    wide: int

    def forward(self, x: nas.ops.Tensor) -> nas.ops.Tensor:
        """Convolve."""
        return nas.ops.conv(x, self.wide, kernel=self.reach)


def test_kinds_are_what_decisions_do_whatever_their_names() -> None:
    from nasturtium.space.lowering import lower
    from nasturtium.zoo.searched_resolution import Resolution

    block = nas.MBConv(8, kernel=nas.one_of(3, 5, name="length"), expand=nas.one_of(1, 2, name="kernel"))
    space = nas.Space(
        nas.Sequential(
            Resolution(nas.one_of(6, 8, name="width")),
            Taps(nas.one_of(1, 3, name="resolution"), nas.one_of(4, 8, name="kernel")),
            nas.repeat(block, nas.one_of(1, 2, name="expand")),
            nas.Conv(8, kernel=nas.one_of(3, 5), act=nas.one_of("relu", "gelu")),
            nas.Classifier(),
        )
    )
    graph = lower(space, (1, 8, 8), classes=10)
    kinds = kinds_of(graph)
    found = {d.name: kinds(d) for d in space.decisions}
    expected = {
        "width": "other", "resolution": "kernel", "kernel": "width", "expand": "depth",
        "layers.2.blocks.0.length": "kernel", "layers.2.blocks.1.length": "kernel",
        "layers.2.blocks.0.kernel": "width", "layers.2.blocks.1.kernel": "width",
        "layers.3.kernel": "kernel", "layers.3.act": "other",
    }  # fmt: skip
    assert found == expected
    full, kernel, *_ = OnceForAll().phases(space, graph)
    opened = {name for name, indices in kernel.options.items() if indices != full.options[name]}
    assert opened == {name for name, kind in expected.items() if kind == "kernel"}


def test_kinds_of_the_paper_are_those_of_its_names() -> None:
    from nasturtium.space.lowering import lower

    space = ofa.mobilenetv3_space(resolutions=(32, 48))
    kinds = kinds_of(lower(space, (3, 64, 64), classes=10))
    by_name = {"kernel": "kernel", "length": "depth", "expand": "width", "resolution": "other"}
    assert {d.name: kinds(d) for d in space.decisions} == {
        d.name: by_name[d.name.rpartition(".")[2]] for d in space.decisions
    }


def test_bad_phases_are_refused(space: nas.Space, task: Task) -> None:
    for wrong in ({"epochs": 0}, {"paths": 0}, {"rate": 0.0}, {"warmup": 1.0}, {"distill": -1.0}, {"teacher": "step"}):
        with pytest.raises(InvalidInputError, match="Phase 'x'"):
            Phase(**{"name": "x", "epochs": 1} | wrong)  # type: ignore[arg-type]
    shared = make(space, task)
    with pytest.raises(UnknownNameError, match="kernal"):
        train_shrinking(shared, space, task, [Phase(name="x", epochs=1, options={"kernal": (0,)})], seed=0)
    options = {"layers.1.blocks.0.kernel": (2,)}
    with pytest.raises(InvalidInputError, match="indices below 2"):
        train_shrinking(shared, space, task, [Phase(name="x", epochs=1, options=options)], seed=0)
    with pytest.raises(InvalidInputError, match="one phase"):
        train_shrinking(shared, space, task, [], seed=0)
    strided = nas.Space(nas.Sequential(nas.Conv(nas.one_of(4, 8), 3, padding="tf_same", stride=2), nas.Classifier()))
    with pytest.raises(IncompatibleError, match="size of its images"):
        train_shrinking(make(strided, task), strided, task, [Phase(name="x", epochs=1)], seed=0, sizes=[7, 8])


def test_the_soft_cross_entropy_by_hand() -> None:
    logits = torch.tensor([[math.log(1.0), math.log(3.0)], [0.0, 0.0]])
    target = torch.tensor([[0.5, 0.5], [0.2, 0.8]])
    expected = (-(0.5 * math.log(0.25) + 0.5 * math.log(0.75)) + math.log(2.0)) / 2
    assert float(soft_cross_entropy(logits, target)) == pytest.approx(expected)


def test_one_step_with_a_teacher_by_hand(space: nas.Space, task: Task) -> None:
    """Two phases of one step each, of plain SGD: the second's update is -rate times the gradient of CE + kd * soft CE.

    The teacher is the largest network after the first phase, in training mode, without gradient.
    """
    largest = settle_largest(space, {})
    small = {d.name: (0,) for d in space.decisions}
    full = {d.name: (d.count - 1,) for d in space.decisions}
    plan = [
        Phase(name="full", epochs=1, options=full),
        Phase(name="small", epochs=1, options=small, distill=0.7, rate=0.5, paths=2),
    ]
    recipe = Recipe.from_dict(RECIPE.to_dict() | {"batch_size": 128, "learning_rate": 0.2, "warmup": 0.0})
    shared = make(space, task)
    train_shrinking(shared, space, task, plan[:1], recipe, seed=3)
    first = {n: t.clone() for n, t in shared.state_dict().items()}
    again = make(space, task)
    train_shrinking(again, space, task, plan, recipe, seed=3)

    network = make(space, task)
    network.load_state_dict(first)
    teacher = network.extract(largest).train()
    x, y = _only_batch(task)
    smallest = space.settle(dict.fromkeys(small, 0))
    assert smallest is not None
    network.train().set(smallest)
    target = teacher(x).detach().softmax(1)
    logits = network(x)
    loss = functional.cross_entropy(logits, y) + 0.7 * functional.cross_entropy(logits, target)
    (2 * loss).backward()  # both of a step's sub-networks are this one here; gradients are summed
    for name, parameter in network.named_parameters():
        expected = parameter.detach() - (0.1 * parameter.grad if parameter.grad is not None else 0.0)
        torch.testing.assert_close(again.get_parameter(name).detach(), expected, rtol=1e-4, atol=1e-5)


def _only_batch(task: Task) -> tuple[torch.Tensor, torch.Tensor]:
    """All train images, normalised: their order matters to nothing that is compared."""
    from nasturtium.training.feed import Feed

    return next(iter(Feed(task.split("train"), task, device=torch.device("cpu")).in_order(128)))


def test_a_sandwich_trains_both_ends_and_the_step_s_largest_teaches(space: nas.Space, task: Task) -> None:
    """One phase of one step: gradients of the largest's CE, and of the smallest's CE + soft CE, summed."""
    recipe = Recipe.from_dict(RECIPE.to_dict() | {"batch_size": 128, "learning_rate": 0.2, "warmup": 0.0})
    shared, network = make(space, task), make(space, task)
    phase = Phase(name="x", epochs=1, paths=0, sandwich=True, teacher="step", distill=1.0)
    result = train_shrinking(shared, space, task, [phase], recipe, seed=0)
    assert result.paths == 2
    x, y = _only_batch(task)
    network.train()
    ends = [settle_largest(space, {}), space.settle({d.name: 0 for d in space.decisions})]
    assert ends[1] is not None
    logits = network.set(ends[0])(x)  # type: ignore[arg-type]
    functional.cross_entropy(logits, y).backward()
    target = logits.detach().softmax(1)
    logits = network.set(ends[1])(x)
    (functional.cross_entropy(logits, y) + functional.cross_entropy(logits, target)).backward()
    for name, parameter in network.named_parameters():
        expected = parameter.detach() - (0.2 * parameter.grad if parameter.grad is not None else 0.0)
        torch.testing.assert_close(shared.get_parameter(name).detach(), expected, rtol=1e-4, atol=1e-5)


def test_it_stops_and_goes_on_exactly(space: nas.Space, task: Task, tmp_path: Path) -> None:
    full, *_, wide = shrinking_phases(space, epochs=5)
    plan = [full, replace(wide, epochs=2, rate=0.5)]

    class StoppedError(Exception):
        pass

    def train(directory: Path | None, most: int = 99) -> tuple[Supernet, int]:
        shared = make(space, task)
        seen: list[float] = []

        def look(record: object) -> None:
            seen.append(1.0)
            if len(seen) == most:
                raise StoppedError

        result = train_shrinking(
            shared, space, task, plan, Recipe(batch_size=64), seed=1, sizes=[6, 8], directory=directory, on_epoch=look
        )
        return shared, result.resumed

    whole, _ = train(None)
    with pytest.raises(StoppedError):
        train(tmp_path, 2)  # in the middle of the second phase
    resumed, taken = train(tmp_path)
    assert taken == 2
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name
    with pytest.raises(InvalidInputError, match="belongs to a training with another"):
        train_shrinking(make(space, task), space, task, plan, Recipe(batch_size=64), seed=2, directory=tmp_path)


def test_sub_networks_of_a_step_share_the_resolution(task: Task) -> None:
    """Where the space decides it, as in the authors' code; and only open options are drawn."""
    from nasturtium.supernets import shrinking
    from nasturtium.zoo.searched_resolution import at_resolutions

    block = nas.MBConv(4, kernel=nas.one_of(3, 5), expand=nas.one_of(1, 2))
    network = nas.Sequential(nas.Conv(4), nas.repeat(block, nas.one_of(1, 2, 3)), nas.Classifier())
    given = nas.Space(at_resolutions(network, (4, 6, 8)))
    phase = shrinking_phases(given, epochs=6)[2]
    assert phase.name == "depth 1"
    method = shrinking._Shrinking(
        training=None, space=given, phase=phase, sizes=(), shared=("resolution",), teacher=None, seed=0  # type: ignore[arg-type]
    )  # fmt: skip
    method.begin(0)
    seen = set()
    for _ in range(60):
        method.step(0.0)
        sizes = {a.choices["resolution"] for a in [*method.paths, method.taught_by]}  # type: ignore[union-attr]
        assert len(sizes) == 1
        seen |= sizes
        for a in method.paths:
            assert a.choices["layers.1.layers.1.blocks.length"] in (2, 3)
            assert a.choices["layers.1.layers.1.blocks.0.expand"] == 2
    assert seen == {4, 6, 8}
