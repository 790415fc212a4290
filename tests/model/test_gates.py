"""Gates against their papers' equations, worked out by hand."""

from __future__ import annotations

import copy
import math
from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor

from nasturtium.errors import InvalidInputError
from nasturtium.model import Binary, Gumbel, Hard, Sigmoid, Softmax, Sum, Uniform
from nasturtium.model.gate import Die, Logits

COUNTS = {"layers.1.op": 3, "train": 2}
DRAWS = 1500
TOLERANCE = 3.9 * math.sqrt(0.25 / DRAWS)
"""Half-width of a 99.99 % interval of a share of the draws, at most."""


def with_logits(gate: Any, *values: float, decision: str = "layers.1.op") -> Any:
    with torch.no_grad():
        gate.logits[decision].copy_(torch.tensor(values))
    return gate


def test_softmax_is_equation_2_of_darts() -> None:
    gate = with_logits(Softmax(COUNTS), 0.0, math.log(2), math.log(5))
    torch.testing.assert_close(gate.weights("layers.1.op", 3), torch.tensor([1 / 8, 2 / 8, 5 / 8]))
    gate.temperature = 0.5  # squares the ratios
    torch.testing.assert_close(gate.probabilities("layers.1.op"), torch.tensor([1 / 30, 4 / 30, 25 / 30]))
    torch.testing.assert_close(gate.weights("train", 2), torch.tensor([0.5, 0.5]))


def test_softmax_gradient() -> None:
    gate = Softmax(COUNTS, seed=0).double()
    logits = gate.logits_of("layers.1.op")

    def weights(x: Tensor) -> Tensor:
        return torch.softmax(x / 0.7, 0)

    assert torch.autograd.gradcheck(weights, (logits.detach().clone().requires_grad_(),))
    gate.temperature = 0.7
    gate.weights("layers.1.op", 3)[1].backward()
    p = gate.probabilities("layers.1.op").detach()
    torch.testing.assert_close(logits.grad, p[1] * (torch.eye(3, dtype=p.dtype)[1] - p) / 0.7)


def test_initial_logits_depend_on_the_seed_and_the_name_alone() -> None:
    first = Softmax({"a": 4, "b": 400}, seed=1)
    other = Softmax({"b": 400, "a": 4}, seed=1)
    assert torch.equal(first.logits["b"], other.logits["b"])
    assert not torch.equal(first.logits["b"], Softmax({"b": 400}, seed=2).logits["b"])
    assert float(first.logits["b"].detach().std()) == pytest.approx(1e-3, rel=0.2)
    assert not any(logits.any() for logits in Softmax(COUNTS).logits)


def test_logits_are_named_after_decisions() -> None:
    names = [name for name, _ in Softmax(COUNTS).named_parameters()]
    assert names == ["logits.layers/1/op", "logits.train"]
    state = with_logits(Softmax(COUNTS), 1.0, 2.0, 3.0).state_dict()
    other = Softmax(dict(reversed(COUNTS.items())))
    other.load_state_dict(state)
    assert other.logits["layers.1.op"].tolist() == [1.0, 2.0, 3.0]
    with pytest.raises(InvalidInputError, match="counts"):
        other.logits_of("absent")
    with pytest.raises(InvalidInputError, match="nothing for a gate"):
        Logits({})


def test_sigmoid_and_the_zero_one_loss_of_fair_darts() -> None:
    gate = with_logits(Sigmoid({"layers.1.op": 3}), 0.0, math.log(3), -math.log(3))
    torch.testing.assert_close(gate.weights("layers.1.op", 3), torch.tensor([0.5, 0.75, 0.25]))
    loss = gate.zero_one_loss()
    assert float(loss.detach()) == pytest.approx(-10 * (0 + 0.0625 + 0.0625) / 3)
    loss.backward()
    s = gate.probabilities("layers.1.op").detach()
    torch.testing.assert_close(gate.logits["layers.1.op"].grad, -10 * 2 * (s - 0.5) * s * (1 - s) / 3)
    assert float(gate.zero_one_loss(2.0, form="absolute").detach()) == pytest.approx(-2 * 0.5 / 3)
    with pytest.raises(InvalidInputError, match="absolute"):
        gate.zero_one_loss(form="cubed")


def test_gumbel_is_the_softmax_of_noisy_logits() -> None:
    gate = with_logits(Gumbel({"layers.1.op": 3}, temperature=0.5, seed=7), 0.1, 0.2, 0.3)
    noise = Die(7).gumbel(3)
    expected = torch.softmax((torch.tensor([0.1, 0.2, 0.3]) + noise) / 0.5, 0)
    torch.testing.assert_close(gate.weights("layers.1.op", 3), expected)
    gate.eval()
    torch.testing.assert_close(gate.weights("layers.1.op", 3), torch.softmax(torch.tensor([0.2, 0.4, 0.6]), 0))


def test_the_likeliest_gumbel_branch_has_the_probabilities_of_the_softmax() -> None:
    gate = with_logits(Gumbel({"layers.1.op": 3}, hard=True, seed=0), 0.0, math.log(2), math.log(5))
    drawn = Counter(gate.weights("layers.1.op", 3).index for _ in range(DRAWS))
    for index, p in enumerate(gate.probabilities("layers.1.op").tolist()):
        assert drawn[index] / DRAWS == pytest.approx(p, abs=TOLERANCE)


def test_hard_gumbel_has_the_gradient_of_the_soft_one() -> None:
    hard = with_logits(Gumbel({"layers.1.op": 3}, temperature=0.5, hard=True, seed=7).double(), 0.1, 0.2, 0.3)
    soft = with_logits(Gumbel({"layers.1.op": 3}, temperature=0.5, seed=7).double(), 0.1, 0.2, 0.3)
    upstream = torch.tensor([1.0, 2.0, -1.0], dtype=torch.float64)
    given = hard.weights("layers.1.op", 3)
    assert given.gates.tolist() == [float(i == given.index) for i in range(3)]
    given.gates.backward(upstream)
    relaxed = soft.weights("layers.1.op", 3)
    relaxed.backward(upstream)
    torch.testing.assert_close(hard.logits["layers.1.op"].grad, soft.logits["layers.1.op"].grad)
    p = relaxed.detach()
    torch.testing.assert_close(hard.logits["layers.1.op"].grad, p * (upstream - (p * upstream).sum()) / 0.5)


def test_binary_gradient_is_equation_4_of_proxylessnas() -> None:
    """The vector of the reference: alpha = (.1, .2, .3), dL/dg = (1, 2, -1)."""
    gate = with_logits(Binary({"layers.1.op": 3}, seed=0).double(), 0.1, 0.2, 0.3)
    given = gate.weights("layers.1.op", 3)
    assert given.probed == (0, 1, 2)
    given.gates.backward(torch.tensor([1.0, 2.0, -1.0], dtype=torch.float64))
    gradient = gate.logits["layers.1.op"].grad
    assert gradient.tolist() == pytest.approx([0.120877, 0.465815, -0.586691], abs=1e-6)
    assert float(gradient.sum()) == pytest.approx(0.0, abs=1e-12)


def test_binary_draws_by_the_softmax_and_takes_the_likeliest_in_evaluation() -> None:
    gate = with_logits(Binary({"layers.1.op": 3}, seed=0), 0.0, math.log(5), math.log(2))
    gate.requires_grad_(False)
    drawn = Counter(gate.weights("layers.1.op", 3).index for _ in range(DRAWS))
    for index, p in enumerate((1 / 8, 5 / 8, 2 / 8)):
        assert drawn[index] / DRAWS == pytest.approx(p, abs=TOLERANCE)
    given = gate.eval().weights("layers.1.op", 3)
    assert (given.index, given.gates) == (1, None)


def test_two_paths_are_drawn_without_replacement_and_renormalised() -> None:
    gate = with_logits(Binary({"layers.1.op": 3}, paths="two", seed=0), 0.0, math.log(5), math.log(2))
    p = [1 / 8, 5 / 8, 2 / 8]
    pairs: Counter[tuple[int, ...]] = Counter()
    active: Counter[int] = Counter()
    for _ in range(DRAWS):
        given = gate.weights("layers.1.op", 3)
        pairs[given.probed] += 1
        active[given.index] += given.probed == (0, 1)
    for i, j in ((0, 1), (0, 2), (1, 2)):
        chance = p[i] * p[j] / (1 - p[i]) + p[j] * p[i] / (1 - p[j])
        assert pairs[i, j] / DRAWS == pytest.approx(chance, abs=TOLERANCE)
    assert active[0] / pairs[0, 1] == pytest.approx(1 / 6, abs=3.9 * math.sqrt(0.25 / pairs[0, 1]))


def test_two_paths_update_two_logits_and_keep_the_probabilities_of_the_others() -> None:
    gate = with_logits(Binary({"layers.1.op": 4}, paths="two", seed=0).double(), 0.1, 0.2, 0.3, -0.4)
    logits = gate.logits["layers.1.op"]
    given = gate.weights("layers.1.op", 4)
    i, j = given.probed
    rest = [k for k in range(4) if k not in given.probed]
    upstream = torch.tensor([1.0, 2.0, -1.0, 3.0], dtype=torch.float64)
    given.gates.backward(upstream)
    q = torch.softmax(logits.detach()[[i, j]], 0)
    expected = torch.zeros(4, dtype=torch.float64)
    expected[[i, j]] = q * (upstream[[i, j]] - (q * upstream[[i, j]]).sum())
    torch.testing.assert_close(logits.grad, expected)
    before = logits.detach().clone()
    with torch.no_grad():
        logits -= 0.1 * logits.grad.sign()
    moved = logits.detach().clone()
    assert torch.equal(moved[rest], before[rest])
    assert not torch.isclose(moved[[i, j]].exp().sum(), before[[i, j]].exp().sum(), rtol=1e-9)
    gate.rescale()
    shift = torch.log(moved[[i, j]].exp().sum() / before[[i, j]].exp().sum())
    torch.testing.assert_close(logits.detach()[[i, j]], moved[[i, j]] - shift)
    torch.testing.assert_close(torch.softmax(logits.detach(), 0)[rest], torch.softmax(before, 0)[rest])
    gate.rescale()  # nothing is left to do
    torch.testing.assert_close(torch.softmax(logits.detach(), 0)[rest], torch.softmax(before, 0)[rest])


def test_path_dropout() -> None:
    """Dropped with probability ramp r^(1/k), and never all of them."""
    gate = Sum({"op": 3}, rate=0.3, seed=0)
    gate.ramp = 0.5
    chance = 0.5 * 0.3 ** (1 / 3)
    assert gate.drop_probability("op") == pytest.approx(chance)
    drawn = [tuple(gate.weights("op", 3)) for _ in range(DRAWS)]
    assert {w for weights in drawn for w in weights} == {0.0, 1.0}
    assert (0.0, 0.0, 0.0) not in drawn
    dropped = sum(weights.count(0.0) for weights in drawn) / (3 * DRAWS)
    assert dropped == pytest.approx(chance - chance**3 / 3, abs=TOLERANCE)  # of three dropped, one comes back
    assert list(gate.eval().weights("op", 3)) == [1.0] * 3
    gate.train().ramp = 0.0
    assert list(gate.weights("op", 3)) == [1.0] * 3
    assert gate.probabilities("op").tolist() == pytest.approx([1 / 3] * 3)


def test_uniform_paths_are_equally_likely_and_fair_ones_take_turns() -> None:
    gate = Uniform({"op": 4}, seed=0)
    drawn = Counter(gate.weights("op", 4).index for _ in range(DRAWS))
    assert all(drawn[i] / DRAWS == pytest.approx(0.25, abs=TOLERANCE) for i in range(4))
    fair = Uniform({"op": 4, "other": 2}, seed=0, fair=True)
    rounds = [tuple(fair.weights("op", 4).index for _ in range(4)) for _ in range(50)]
    assert all(sorted(order) == [0, 1, 2, 3] for order in rounds)
    assert len(set(rounds)) > 10
    assert fair.drawn == {"op": rounds[-1][-1]}


@pytest.mark.parametrize(
    "gate",
    [
        Sum(COUNTS, rate=0.5, seed=1),
        Uniform(COUNTS, seed=1),
        Uniform(COUNTS, seed=1, fair=True),
        Gumbel(COUNTS, seed=1),
        Gumbel(COUNTS, hard=True, seed=1),
        Binary(COUNTS, seed=1),
        Binary(COUNTS, paths="two", seed=1),
    ],
    ids=lambda gate: type(gate).__name__,
)
def test_a_restored_gate_draws_what_the_other_would_have(gate: Any) -> None:
    def draws(one: Any) -> list[list[float]]:
        found = []
        for _ in range(20):
            given = one.weights("layers.1.op", 3)
            found.append([float(given.index)] if isinstance(given, Hard) else torch.as_tensor(given).tolist())
        return found

    other = copy.deepcopy(gate)
    draws(gate)
    gate.weights("layers.1.op", 3)
    other.load_state_dict(gate.state_dict())
    assert draws(gate) == draws(other)


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="temperature"):
        Softmax(COUNTS, temperature=0.0)
    with pytest.raises(InvalidInputError, match="seed"):
        Sum(COUNTS, rate=0.5)
    with pytest.raises(InvalidInputError, match="rate"):
        Sum(COUNTS, rate=1.0, seed=0)
    with pytest.raises(InvalidInputError, match="'two'"):
        Binary(COUNTS, paths="three", seed=0)  # type: ignore[arg-type]
