"""ProxylessNAS: its losses and gates by hand, what is known to be right is found, and a stopped search goes on."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import nasturtium as nas
from nasturtium.blocks.cell import Zero
from nasturtium.errors import IncompatibleError, InvalidInputError
from nasturtium.graph.operations import Conv, Linear, Operation, Shape
from nasturtium.model.binary import Binary
from nasturtium.study import codec
from nasturtium.supernets.expected import ExpectedCost
from nasturtium.supernets.proxyless import SEARCH, ProxylessNAS
from nasturtium.supernets.proxyless_cost import AddedLinear, MultipliedLog, operation_cost, reinforce_loss, reward
from nasturtium.supernets.proxyless_gate import PrunedBinary
from nasturtium.supernets.proxyless_search import Baseline, ProxylessSearch
from nasturtium.supernets.searcher import Run, Searcher
from nasturtium.tasks import Task
from nasturtium.training import Recipe
from nasturtium.zoo import enas, nasbench201, proxylessnas

QUICK = Recipe(learning_rate=0.1, batch_size=50, warmup=0.0, memory_format="contiguous", augment="none")


@pytest.fixture(scope="module")
def task() -> Task:
    return nas.tasks.load("digits")


@pytest.fixture(scope="module")
def small(task: Task) -> Task:
    """A tenth of the train images."""
    train = task.split("train")
    return replace(task, splits={**task.splits, "train": train.take(np.arange(0, len(train), 10))})


def fork() -> nas.Space:
    """A decision of which one option is useful, and the other is zero."""
    layer = nas.one_of(Zero(), nas.Conv(16), name="fork")
    return nas.Space(nas.Sequential(nas.Conv(16), layer, nas.Conv(16, stride=2), nas.Classifier()))


def chain() -> nas.Space:
    """Blocks that may be left out, and which leave numbers open."""
    block = nas.MBConv(8, kernel=nas.one_of(3, 5), expand=nas.one_of(1, 2))
    stage = nas.repeat(nas.one_of(block, nas.Identity()), 2)
    return nas.Space(nas.Sequential(nas.Conv(8, stride=2), stage, nas.Classifier()))


def quick(**changes: Any) -> ProxylessNAS:
    settings: dict[str, Any] = {
        "epochs": 2, "warmup": 1, "recipe": QUICK, "warmup_learning_rate": 0.1, "share": 0.3, "every": 1,
        "learning_rate": 0.1, **changes,
    }  # fmt: skip
    return ProxylessNAS(**settings)


# Costs and losses


def test_losses_are_those_of_the_code_by_hand() -> None:
    loss, cost = torch.tensor(2.0), torch.tensor(0.1)
    by_log = MultipliedLog()(loss, cost, 0.08, 1e-3)
    assert float(by_log) == pytest.approx(0.2 * 2.0 * (math.log(100) / math.log(80)) ** 0.3)
    assert float(MultipliedLog(alpha=1.0, beta=0.6, unit=1.0)(loss, torch.tensor(3e8), 2e8, 1e-3)) == pytest.approx(
        2.0 * (math.log(3e8) / math.log(2e8)) ** 0.6
    )
    assert float(AddedLinear()(loss, cost, 0.08, 1e-3)) == pytest.approx(2.0 + 0.1 * (0.1 - 0.08) / 0.08)


@pytest.mark.parametrize("penalty", [MultipliedLog(), AddedLinear(), MultipliedLog(alpha=1.0, beta=0.6)])
def test_gradients_of_the_loss_in_the_logits_are_finite_differences(penalty: MultipliedLog | AddedLinear) -> None:
    """Through softmax and expected cost, for a cost in seconds, in float64."""

    def seconds(operation: Operation, inputs: tuple[Shape, ...]) -> float:
        return 2e-3 * inputs[0][0] * operation.kernel[0] if isinstance(operation, Conv) else 0.0

    graph = nas.supernet(chain_of_branches(), (1, 8, 8), seed=0, classes=10).graph
    expected = ExpectedCost(graph, seconds)
    counts = {d.name: d.count for d in graph.decisions}
    generator = torch.Generator().manual_seed(0)
    sizes = list(counts.values())
    flat = torch.randn(sum(sizes), dtype=torch.float64, generator=generator).requires_grad_()

    def total(logits: torch.Tensor) -> torch.Tensor:
        parts = [torch.softmax(part, 0) for part in logits.split(sizes)]
        cost = expected(dict(zip(counts, parts, strict=True)))
        return penalty(torch.tensor(1.5, dtype=torch.float64), cost, 0.03, 1e-3)

    (gradient,) = torch.autograd.grad(total(flat), flat)
    assert float(gradient.abs().max()) > 1e-4
    for i in range(len(flat)):
        step = torch.zeros_like(flat)
        step[i] = 1e-6
        with torch.no_grad():
            difference = float(total(flat + step) - total(flat - step)) / 2e-6
        assert float(gradient[i]) == pytest.approx(difference, rel=1e-5, abs=1e-9)


def chain_of_branches() -> nas.Space:
    options = [nas.Conv(8, kernel=k) for k in (1, 3, 5)]
    layers = [nas.one_of(*options, nas.Identity(), name=f"layer_{i}") for i in range(2)]
    return nas.Space(nas.Sequential(nas.Conv(8), *layers, nas.Classifier()))


def test_a_reference_in_a_wrong_unit_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="smaller `unit`"):
        quick(cost=lambda *_: 1e-3, reference=5e-4)
    with pytest.raises(InvalidInputError, match="reference"):
        quick(cost="macs")
    with pytest.raises(InvalidInputError, match="no `cost`"):
        quick(reference=3.0)
    with pytest.raises(InvalidInputError, match="'flops'"):
        quick(cost="flops", reference=3.0)
    assert quick(cost=lambda *_: 1e-3, reference=5e-4, penalty=AddedLinear()).unit == 1e-3


def test_a_table_gives_costs_and_says_what_it_lacks() -> None:
    operation = Conv(channels=4)
    known = operation_cost({(operation, ((3, 8, 8),)): 0.5})
    assert callable(known)
    assert known(operation, ((3, 8, 8),)) == 0.5
    with pytest.raises(InvalidInputError, match="no entry"):
        known(operation, ((4, 8, 8),))


# REINFORCE


def test_reinforce_gradient_of_two_options_is_the_one_by_hand() -> None:
    """d/d alpha_i of -(1/m) sum_k A_k log p(a_k) is -(1/m) sum_k A_k (1[i = a_k] - p_i)."""
    alpha = torch.tensor([0.3, -0.2], dtype=torch.float64, requires_grad=True)
    drawn, rewards, baseline = [0, 1, 1], [0.9, 0.2, 0.5], 0.4
    logs = torch.stack([torch.log_softmax(alpha, 0)[i] for i in drawn])
    (gradient,) = torch.autograd.grad(reinforce_loss(logs, rewards, baseline), alpha)
    p = math.exp(0.3) / (math.exp(0.3) + math.exp(-0.2))
    by_hand = -(0.5 * (1 - p) - 0.2 * (0 - p) + 0.1 * (0 - p)) / 3
    assert gradient.tolist() == pytest.approx([by_hand, -by_hand])


def test_the_two_rules_of_the_baseline() -> None:
    code, average = Baseline("code", 0.99), Baseline("average", 0.99)
    for made in (code, average):
        made.update(0.5)
        assert made.value == 0.5
        made.update(0.7)
    assert code.value == pytest.approx(0.5 + 0.99 * 0.2)  # nearly the last batch's mean
    assert average.value == pytest.approx(0.5 + 0.01 * 0.2)
    other = Baseline("code", 0.99)
    other.load_state_dict(code.state_dict())
    assert other.value == code.value


def test_reward_pays_for_cost() -> None:
    assert reward(0.8, 0.16, 0.08, 0.1) == pytest.approx(0.8 * 0.5**0.1)
    assert reward(0.8, None, None, 0.1) == 0.8


# Pruning


@pytest.mark.parametrize("paths", ["all", "two"])
def test_pruned_branches_are_neither_drawn_nor_probed_for_good(paths: Any) -> None:
    gate = PrunedBinary(Binary({"a": 4, "b": 2}, paths=paths, seed=0))
    with torch.no_grad():
        gate.binary.logits["a"].copy_(torch.tensor([0.9, 0.05, 0.049, 0.001]).log())
    assert gate.prune(0.0495) == 2
    assert gate.probabilities("a").tolist() == pytest.approx([0.9 / 0.95, 0.05 / 0.95, 0.0, 0.0])
    optimizer = torch.optim.Adam(gate.parameters(), lr=0.1, betas=(0.0, 0.999))
    drawn = set()
    for _ in range(60):
        with gate.learning(on=True):
            hard = gate.weights("a", 4)
            assert set(hard.probed) <= {0, 1}
            assert hard.gates is not None
            drawn.add(hard.index)
            optimizer.zero_grad()
            (hard.gates * torch.tensor([0.01, -0.01, 5.0, 5.0])).sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        gate.binary.rescale()
    assert drawn <= {0, 1}
    assert gate.alive("a") == [0, 1]
    assert math.isfinite(gate.entropy())
    with torch.no_grad():
        gate.binary.logits["a"][1] = -9.0
    assert gate.prune(0.05) == 1
    with gate.learning(on=True):
        only = gate.weights("a", 4)
    assert (only.index, only.gates) == (0, None)
    assert gate.prune(0.9) == 1  # of "b"; the most probable one of each stays
    assert gate.likeliest()["a"] == 0


def test_two_paths_pay_for_the_two_that_were_drawn() -> None:
    gate = PrunedBinary(Binary({"a": 4}, paths="two", seed=1))
    with gate.learning(on=True):
        hard = gate.weights("a", 4)
        chances = gate.last_probabilities("a").detach()
        own = torch.softmax(gate.binary.logits["a"][list(hard.probed)], 0).detach()
    assert len(hard.probed) == 2
    assert chances[list(hard.probed)].tolist() == pytest.approx(own.tolist())
    assert float(chances.sum()) == pytest.approx(1.0)


def test_a_search_prunes_and_says_so(small: Task) -> None:
    result = quick(epochs=4, warmup=0, prune=0.2, learning_rate=0.3, cost="macs", reference=1e4).search(
        chain(), Run(task=small, seed=0)
    )
    pruned = [record["pruned"] for record in result.history]
    assert pruned[0] == 0.0  # logits are frozen
    assert pruned == sorted(pruned)
    assert pruned[-1] > 0


# Deriving


def test_the_derived_network_has_the_most_probable_branches(small: Task) -> None:
    """One block stays with kernel 5 and expansion 2; the other is left out."""
    search = ProxylessSearch(quick(cost="macs", reference=1e5), chain(), Run(task=small, seed=0))
    with torch.no_grad():
        for number, (name, best) in enumerate(zip(search.gate.counts, (3, 4), strict=True)):
            search.gate.binary.logits[name][best] = 2.0 + number
    found, notes = search.derive()
    block = nas.MBConv(8, kernel=5, expand=2)
    wanted = nas.Sequential(nas.Conv(8, stride=2), nas.Sequential(block, nas.Identity()), nas.Classifier())
    ours = nas.trace(found.architecture, small.input_shape, **small.context)
    assert found.architecture in chain()
    assert ours.macs == nas.trace(wanted, small.input_shape, **small.context).macs == found.evidence["macs"]
    p = math.exp(2.0) / (math.exp(2.0) + 4) * math.exp(3.0) / (math.exp(3.0) + 4)
    assert found.evidence["probability"] == pytest.approx(p, rel=0.01)  # the other logits are about 0
    assert not notes


# Searching


@pytest.mark.parametrize("changes", [{}, {"paths": "two"}, {"variant": "reinforce", "samples": 4}], ids=str)
def test_it_finds_the_useful_branch(changes: dict[str, Any], task: Task) -> None:
    result = quick(**changes, every=2).search(fork(), Run(task=task, seed=0))
    found = result.found[0]
    assert dict(found.architecture.decisions) == {"fork": 1}
    assert found.evidence["probability"] > 0.6
    assert found.evidence["shared_accuracy"] > 0.3  # chance is 0.1, and that of the other branch
    assert len(result.history) == 3
    key = "reward" if changes.get("variant") == "reinforce" else "architecture_loss"
    assert [key in record for record in result.history] == [False, False, True]  # warm-up, epoch 0, search


def test_cost_decides_between_branches_that_do_the_same(small: Task) -> None:
    """Only the price of the larger kernels tells the branches apart within so few steps."""
    method = quick(epochs=5, warmup=0, cost="macs", reference=1e4, penalty=AddedLinear(weight=1.0), learning_rate=0.3)
    result = method.search(chain_of_branches(), Run(task=small, seed=0))
    assert set(result.found[0].architecture.decisions.values()) == {3}  # left out
    costs = [record["expected_cost"] for record in result.history]
    assert costs[-1] < costs[0]


@pytest.mark.parametrize("variant", ["gradient", "reinforce"])
def test_a_search_that_was_stopped_goes_on_exactly(variant: Any, small: Task, tmp_path: Path) -> None:
    method = quick(variant=variant, samples=2, prune=0.05, cost="params", reference=1e3)

    class Stop(Exception):
        pass

    def stop(record: Any) -> None:
        if record["epoch"] == 2:
            raise Stop

    whole = method.search(chain(), Run(task=small, seed=4))
    with pytest.raises(Stop):
        method.search(chain(), Run(task=small, seed=4, directory=tmp_path, report=stop))
    rest = method.search(chain(), Run(task=small, seed=4, directory=tmp_path))
    assert rest.found == whole.found
    assert all(torch.equal(rest.state[name], tensor) for name, tensor in whole.state.items())
    for one, other in zip(rest.history, whole.history, strict=True):
        assert {k: v for k, v in one.items() if k != "seconds"} == {k: v for k, v in other.items() if k != "seconds"}
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_logits_wait_for_the_warm_up_and_the_first_epoch(small: Task) -> None:
    search = ProxylessSearch(quick(epochs=1, warmup=1), chain(), Run(task=small, seed=0))
    before = [logits.clone() for logits in search.logits]
    search.complete()
    assert all(torch.equal(a, b) for a, b in zip(before, search.logits, strict=True))
    assert search.rate(0.0) == 0.1
    assert search.rate(0.5) == pytest.approx(0.05)
    assert search.rate(1.0) == 0.1
    assert search.rate(1.75) == pytest.approx(0.05 * (1 + math.cos(0.75 * math.pi)))


# Fitting


def test_spaces_of_the_papers(task: Task) -> None:
    for space in (nasbench201.space(width=4, cells=1), proxylessnas.proxylessnas(task.input_shape, 0.1)):
        _, supernet = quick().prepare(space, task, seed=0)
        assert len(supernet.mixed) == len(supernet.graph.decisions)


def test_what_it_cannot_search_is_refused_before_anything_trains(task: Task) -> None:
    wide = nas.Space(nas.Sequential(nas.Conv(nas.one_of(4, 8, name="width")), nas.Classifier()))
    with pytest.raises(IncompatibleError, match="changes a shape"):
        quick().check(wide, task)
    with pytest.raises(IncompatibleError, match="nothing is left open"):
        quick().check(nas.Space(nas.Sequential(nas.Conv(4), nas.Classifier())), task)
    with pytest.raises(IncompatibleError, match="concatenation"):
        quick().check(enas.space(width=4, layers=1, nodes=2), task)
    quick().check(chain(), task)


def test_defaults_are_those_of_the_script() -> None:
    method = ProxylessNAS()
    assert isinstance(method, Searcher)
    assert (method.epochs, method.warmup, method.every, method.learning_rate) == (120, 40, 5, 1e-3)
    assert (method.warmup_learning_rate, method.paths, method.variant) == (0.05, "all", "gradient")
    assert method.penalty == MultipliedLog(alpha=0.2, beta=0.3)
    assert (method.samples, method.exponent, method.baseline, method.baseline_decay) == (10, 0.1, "code", 0.99)
    assert (SEARCH.learning_rate, SEARCH.weight_decay, SEARCH.batch_size) == (0.025, 4e-5, 256)
    assert SEARCH.label_smoothing == 0.1


def test_settings_go_to_json_and_back() -> None:
    for method in (ProxylessNAS(), quick(cost="macs", reference=1e6, penalty=AddedLinear(weight=0.2))):
        assert ProxylessNAS.from_dict(method.to_dict()) == method


def seconds_of(operation: Operation, inputs: tuple[Shape, ...]) -> float:
    """A cost that a study can import again."""
    return 1e-3 * len(inputs) if isinstance(operation, Conv) else 0.0


def test_a_study_stores_costs_that_are_functions_and_tables() -> None:
    table = {
        (Conv(8, (3, 3), stride=(2, 2)), ((3, 8, 8),)): 2e-3,
        (Conv(8, (1, 1)), ((3, 8, 8),)): 1e-3,
        (Linear(10), ((8,),)): 5e-4,
    }
    for cost in (seconds_of, table):
        method = quick(cost=cost, reference=1.0)
        stored = json.loads(json.dumps(codec.describe(method, "method")))
        assert codec.restore(stored, "method") == method
    assert quick(cost=seconds_of, reference=1.0).to_dict()["cost"] == {"function": f"{__name__}:seconds_of"}
    again = quick(cost=dict(reversed(table.items())), reference=1.0)  # the same whatever the order
    assert again.to_dict() == quick(cost=table, reference=1.0).to_dict()


def test_a_study_refuses_costs_that_it_could_not_import_again() -> None:
    def local(operation: Operation, inputs: tuple[Shape, ...]) -> float:
        return 1.0

    class Model:
        def __call__(self, operation: Operation, inputs: tuple[Shape, ...]) -> float:
            return 1.0

    for cost in (lambda *_: 1e-3, local, Model()):
        with pytest.raises(InvalidInputError, match=r"`cost`.*top level of a module"):
            codec.describe(quick(cost=cost, reference=1.0), "method")
    settings = quick(cost=seconds_of, reference=1.0).to_dict()
    for cost, message in (
        ({"function": "module_of_somebody:cost"}, "trust"), ({"function": f"{__name__}:missing"}, "renamed"),
        ("missing", "`cost`"), ({"table": [{}]}, "entry"), ({"name": "x"}, "stored `cost`"),
    ):  # fmt: skip
        with pytest.raises(InvalidInputError, match=message):
            ProxylessNAS.from_dict({**settings, "cost": cost})
    with pytest.raises(InvalidInputError, match="cannot be imported"):
        ProxylessNAS.from_dict({**settings, "cost": {"function": "module_of_somebody:cost"}}, trust=True)


def test_a_checkpoint_tells_costs_apart() -> None:
    first, second = (quick(cost=cost, reference=1.0).facts() for cost in (lambda *_: 1e-3, lambda *_: 2e-3))
    assert first != second


@pytest.mark.parametrize(
    "bad",
    [{"epochs": 0}, {"every": 0}, {"variant": "ppo"}, {"paths": "three"}, {"share": 0.0}, {"prune": 1.0},
     {"baseline": "ema"}, {"learning_rate": 0.0}, {"recipe": Recipe()}],
    ids=str,
)  # fmt: skip
def test_bad_settings_say_what_is_expected(bad: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError, match=next(iter(bad))):
        quick(**bad)
