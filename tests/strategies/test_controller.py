"""The reinforcement-learning controller: its tokens, its gradients, its rewards, and that it learns."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random as Generator
from statistics import mean
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from nasturtium import zoo
from nasturtium.errors import InvalidInputError, StoreError
from nasturtium.space import Block, Space, int_range, one_of, subset, walk
from nasturtium.space.choice import Choice
from nasturtium.strategies.learned.controller import Controller, ppo, reinforce
from nasturtium.strategies.learned.controller_policy import Adam, Policy, Scores
from nasturtium.strategies.learned.controller_rewards import Judge, Standing, penalised
from nasturtium.strategies.learned.controller_tokens import Emission, Tokens, coder
from nasturtium.strategies.nested import UNMEASURED
from nasturtium.strategies.random_search import Random
from nasturtium.study.codec import describe, restore
from nasturtium.testing import STRATEGY_LAWS, drive, toy_problem, toy_space
from nasturtium.testing.problems import at_most
from nasturtium.trial import Constraint, Objective, Proposal, Trial
from nasturtium.trial.reward import soft

TRAJECTORIES = Path(__file__).with_name("trajectories") / "controller.json"
"""A snapshot of our own: the first 30 proposals by seed. It changes only with the controller's random decisions, and
then users' seeded searches change too: say so in CHANGELOG as a breaking change, and write the file anew with
`python -m tests.strategies.test_controller`."""

SMALL: dict[str, Callable[[], Controller]] = {
    "reinforce": lambda: Controller(hidden=8, batch=4),
    "ppo": lambda: Controller("ppo", hidden=8, batch=6, epochs=2),
}


LONG = ("replayed", "fresh_process")
"""For the slow run; `test_weights_are_the_same_wherever_a_log_is_cut` and `test_trajectory` are their short forms."""


@pytest.mark.parametrize("algorithm", SMALL)
@pytest.mark.parametrize(
    "law",
    [
        pytest.param(law, marks=pytest.mark.slow if law.__name__ in LONG else (), id=law.__name__)
        for law in STRATEGY_LAWS
    ],
)
def test_it_keeps_the_laws(algorithm: str, law: Callable[..., None]) -> None:
    law(SMALL[algorithm])


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", SMALL)
@pytest.mark.parametrize("law", STRATEGY_LAWS, ids=lambda law: law.__name__)
def test_it_keeps_the_laws_with_its_defaults(algorithm: str, law: Callable[..., None]) -> None:
    law(lambda: Controller(algorithm))  # type: ignore[arg-type]


def trajectory(make: Callable[[], Any]) -> list[str]:
    problem = toy_problem(toy_space(4, 3, conditional=True), seed=7, constraints=at_most(18))
    return drive(make(), problem, 30, concurrency=2).keys


@pytest.mark.parametrize("algorithm", SMALL)
def test_trajectory(algorithm: str) -> None:
    assert trajectory(SMALL[algorithm]) == json.loads(TRAJECTORIES.read_text(encoding="utf-8"))[algorithm]


# Tokens


class Pair(Block):
    a: Any
    b: Any

    def forward(self, x: Any) -> Any:
        return x


def emitted(space: Space, architecture: Any) -> list[tuple[str, int]]:
    """Decision and value of every token."""
    tokens = Tokens(space)
    owner = [name for name, each in zip(tokens.names, tokens.coders, strict=True) for _ in each.widths]
    sentence = tokens.write(architecture)
    return [(owner[slot], value) for slot, value in zip(sentence.slots, sentence.values, strict=True)]


def test_nasnet_is_five_decisions_a_block() -> None:
    """Two inputs out of the states so far, an operation on each, how they are joined; both cells (Zoph et al. 2018)."""
    space = zoo.space("nasnet")
    tokens = Tokens(space)
    found = emitted(space, space.sample(Generator(0)))
    assert len(found) == 5 * 5 * 2
    for number, (name, _) in enumerate(found):
        cell, rest = divmod(number, 25)
        block, part = divmod(rest, 5)
        assert tokens.widths[number] == (block + 2, block + 2, 13, 13, 2)[part], name
        assert name.startswith(("normal", "reduction")[cell])
        assert f".{block}." in name
        same_block = [other.rpartition(".")[0] for other, _ in found[number - part : number - part + 5]]
        assert len(set(same_block)) == 1
    fields = [name.rpartition(".")[2] for name, _ in found[:5]]
    assert fields == [
        "first_hidden_state", "second_hidden_state", "first_operation", "second_operation", "combiner",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "space",
    [
        toy_space(5, 3),
        toy_space(5, 3, conditional=True),
        Space(Pair(one_of(Pair(one_of(1, 2), 0), Pair(one_of(1, 2, 3), one_of(5, 6))), one_of(1, 2))),
    ],
)
def test_only_active_decisions_are_emitted_in_the_order_in_which_they_are_met(space: Space) -> None:
    for architecture in map(space.at, range(0, space.size, max(1, space.size // 40))):
        assert emitted(space, architecture) == list(architecture.decisions.items())


def test_a_shared_choice_is_emitted_once_and_after_what_activates_it() -> None:
    shared = one_of(1, 2, 3, name="shared")
    space = Space(Pair(one_of(Pair(shared, 0), 7), one_of(8, Pair(0, shared))))
    lengths = set()
    for architecture in space.enumerate():
        found = emitted(space, architecture)
        assert dict(found) == dict(architecture.decisions)
        assert len(found) == len(architecture.decisions)
        lengths.add(len(found))
    assert lengths == {2, 3}


@pytest.mark.parametrize(
    "name", ["autodeeplab", "darts", "enas_micro", "mobile", "nasbench101", "nasbench201", "nasfpn", "spos"]
)
def test_every_published_space_is_written_and_read(name: str) -> None:
    space = zoo.space(name)
    tokens = Tokens(space)
    rng = Generator(1)
    policy = small(space)
    for emission in policy.draw(rng, 5):
        architecture = tokens.read(emission.indices)
        if architecture is not None:
            again = Emission(tokens)
            for value in tokens.write(architecture).values:
                again.take(value)
            assert again.indices == emission.indices
            assert again.slot is None


def sentences(choice: Choice) -> list[tuple[int, ...]]:
    """All that a choice's numbers may be, by the allowed ranges."""
    made = coder(choice)
    found: list[tuple[int, ...]] = [()]
    for _ in made.widths:
        found = [(*before, value) for before in found for value in range(*made.allowed(before))]
    return found


@pytest.mark.parametrize(
    ("choice", "widths"),
    [
        (int_range(1, 256), (256,)),
        (int_range(1, 257), (16, 17)),  # 17 is the smallest base whose square is 257 or more
        (int_range(0, 9_999), (21, 22, 22)),  # 22^3 = 10,648; (10,000 - 1) // 22^2 = 20 is the largest first digit
        (subset(range(12), 6), (12,) * 6),  # 924 subsets
        (subset(range(6), 2), (15,)),
        (walk(range(4), 7, start=0), (233,)),
        (walk(range(4), 8, start=0), (4,) * 8),
        (walk((4, 8, 16), 9), (3,) * 9),
    ],
)
def test_large_decisions_are_several_small_tokens_one_to_one(choice: Choice, widths: tuple[int, ...]) -> None:
    made = coder(choice)
    assert made.widths == widths
    found = sentences(choice)
    assert len(found) == len(set(found)) == choice.count
    assert sorted(map(made.index, found)) == list(range(choice.count))
    assert all(tuple(made.numbers(made.index(numbers))) == numbers for numbers in found[:: max(1, len(found) // 500)])


def test_a_space_of_enormous_decisions_is_searched() -> None:
    space = Space(Pair((int_range(1, 10**4), subset(range(60), 30)), (walk(range(5), 40), subset(range(300), 3))))
    tokens = Tokens(space)
    assert tokens.rows < 5_000

    def outcome(architecture: Any) -> Mapping[str, float]:
        return {"accuracy": architecture.block.a[0] / 10**4} | {"params": 1.0}

    run = drive(Controller(hidden=8), toy_problem(space), 30, outcome=outcome)
    assert len(set(run.keys)) == 30
    assert {p.origin for p in run.proposals} == {"controller"}


def test_conditions_of_the_space_are_met() -> None:
    space = toy_space(2, 3).where(lambda a, b: a != b, reads=["layers.0.a", "layers.0.b"])
    run = drive(Controller(hidden=8), toy_problem(space), space.size + 1)
    assert len(run.proposals) == space.size == 6 * 9
    assert all(p.architecture in space for p in run.proposals)


# The policy


def small(space: Space, **options: Any) -> Policy:
    settings = {"hidden": 5, "layers": 2, "seed": 3, "temperature": 1.0, "tanh_constant": None, "dtype": torch.float64}
    return Policy(Tokens(space), **{**settings, **options})


def widen(policy: Policy, factor: float) -> None:
    """Make a policy's distributions far from uniform."""
    with torch.no_grad():
        for weight in policy.parameters:
            weight *= factor


CONDITIONAL = Space(Pair(one_of(0, Pair(one_of(1, 2, 3), one_of(5, 6))), one_of(1, 2)))


@pytest.mark.parametrize("options", [{}, {"temperature": 2.0}, {"tanh_constant": 1.1, "temperature": 0.5}])
@pytest.mark.parametrize("space", [CONDITIONAL, Space(Pair(subset(range(11), 5), one_of(1, 2)))])
def test_what_is_drawn_follows_what_is_scored(space: Space, options: dict[str, Any]) -> None:
    """The probabilities of all architectures sum to one, and 4,000 draws follow them (chi-squared, p > 0.001)."""
    policy = small(space, **options)
    widen(policy, 12)
    tokens = policy.tokens
    architectures = list(space.enumerate())
    scores = policy.score([tokens.write(a) for a in architectures])
    chances = scores.log_probabilities.sum(1).exp().detach().numpy()
    assert chances.sum() == pytest.approx(1, abs=1e-12)
    assert chances.max() > 3 * chances.min()
    drawn = [tokens.read(e.indices) for e in policy.draw(Generator(5), 4_000)]
    number = {a.key: i for i, a in enumerate(architectures)}
    counts = np.bincount([number[a.key] for a in drawn if a is not None], minlength=len(architectures))
    order = np.argsort(chances)
    groups = np.array_split(order, min(40, len(order)))
    expected = [4_000 * chances[g].sum() for g in groups]
    assert chisquare([counts[g].sum() for g in groups], expected).pvalue > 0.001


def test_the_entropy_of_a_uniform_policy() -> None:
    policy = small(CONDITIONAL)
    widen(policy, 0)
    architecture = CONDITIONAL.at(CONDITIONAL.size - 1)
    scores = policy.score([policy.tokens.write(architecture), policy.tokens.write(CONDITIONAL.at(0))])
    expected = [[math.log(n) for n in (2, 3, 2, 2)], [math.log(2), math.log(2), 0, 0]]
    assert scores.entropies.tolist() == [pytest.approx(row) for row in expected]
    assert scores.log_probabilities.tolist() == [pytest.approx([-x for x in row]) for row in expected]


@pytest.mark.parametrize("baseline", [0.0, 0.7])
def test_reinforce_is_the_gradient_of_the_expected_reward(baseline: float) -> None:
    """Over all sequences of two decisions, E[estimator] = gradient of sum_a p(a) R(a), for any baseline."""
    space = Space(Pair(one_of(1, 2, 3), one_of(4, 5)))
    policy = small(space)
    widen(policy, 8)
    written = [policy.tokens.write(a) for a in space.enumerate()]
    rewards = torch.tensor([0.3, -1.0, 2.0, 0.5, 0.1, 1.2], dtype=torch.float64)

    def chances() -> torch.Tensor:
        return policy.score(written).log_probabilities.sum(1).exp()

    exact = torch.autograd.grad((chances() * rewards).sum(), policy.parameters)
    estimates = [
        torch.autograd.grad(reinforce(policy.score([s]), (r - baseline)[None]), policy.parameters)
        for s, r in zip(written, rewards, strict=True)
    ]
    weights = chances().tolist()
    for number, whole in enumerate(exact):
        expected = sum(p * estimate[number] for p, estimate in zip(weights, estimates, strict=True))
        assert torch.allclose(whole, expected, rtol=1e-9, atol=1e-14)
    assert max(float(g.abs().max()) for g in exact) > 1e-3


def scores_of(chances: list[list[float]]) -> tuple[Scores, torch.Tensor]:
    logs = torch.tensor(chances, dtype=torch.float64).log().requires_grad_()
    return Scores(logs, torch.zeros_like(logs)), logs


def test_ppo_has_no_gradient_beyond_the_clip() -> None:
    """Ratios 1.5, 1.1, 0.9 and 0.5 with e = 0.2; d(r A)/d(log p) = r A, and 0 where the clip is the smaller."""
    old = torch.full((2, 4), 0.2, dtype=torch.float64).log()
    scores, logs = scores_of([[0.3, 0.22, 0.18, 0.1]] * 2)
    value = ppo(scores, old, torch.tensor([2.0, -2.0], dtype=torch.float64), clip=0.2)
    # A = 2: min takes 1.2, 1.1, 0.9, 0.5 times 2; A = -2: 1.5, 1.1, 0.9, 0.8 times -2; the mean of the two sums.
    assert value.item() == pytest.approx((2 * 3.7 - 2 * 4.3) / 2)
    (gradient,) = torch.autograd.grad(value, logs)
    assert gradient.tolist() == [pytest.approx([0, 1.1, 0.9, 0.5]), pytest.approx([-1.5, -1.1, -0.9, 0])]


def test_the_entropy_bonus_is_added() -> None:
    logs = torch.zeros(2, 3, dtype=torch.float64)
    scores = Scores(logs, torch.tensor([[1.0, 2.0, 3.0], [1.0, 0.0, 0.0]], dtype=torch.float64))
    zero = torch.zeros(2, dtype=torch.float64)
    assert reinforce(scores, zero, 0.1).item() == pytest.approx(0.1 * (6 + 1) / 2)
    assert ppo(scores, logs, zero, 0.2, 0.1).item() == pytest.approx(0.1 * (6 + 1) / 2)


def test_adam_by_hand() -> None:
    """With a constant gradient every step is the learning rate; then a gradient of 0 decays the mean, not so fast."""
    weight = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    adam = Adam([weight], 0.01)
    for _ in range(2):
        adam.climb((weight * torch.tensor([4.0, -0.5], dtype=torch.float64)).sum())
    assert weight.tolist() == pytest.approx([0.02, -0.02], rel=1e-6)
    adam.climb((weight * 0).sum())
    mean_of = 0.9 * (1 - 0.9**2) / (1 - 0.9**3)
    root = math.sqrt(0.999 * (1 - 0.999**2) / (1 - 0.999**3))
    assert weight.tolist() == pytest.approx(
        [0.02 + 0.01 * mean_of / root] * 1 + [-0.02 - 0.01 * mean_of / root], rel=1e-6
    )


# Rewards


def trial(number: int, state: str = "completed", **metrics: float) -> Trial:
    return Trial(number=number, architecture=toy_space().at(number), state=state, metrics=metrics)  # type: ignore[arg-type]


def test_the_reward_of_one_objective() -> None:
    up = Judge(toy_problem(), None)
    assert up(trial(0, "failed")) is None
    assert up(trial(1, accuracy=0.8)) == 0.8
    assert up(trial(2, accuracy=0.6)) == 0.6
    assert up(trial(3, accuracy=0.7)) == 0.7
    assert [up(trial(4, "failed")), up(trial(5, accuracy=math.nan)), up(trial(6))] == [0.6] * 3  # the lowest so far
    down = Judge(toy_problem(objectives=(Objective(metric="macs", direction="minimize"),)), None)
    assert [down(trial(0, macs=2e6)), down(trial(1, macs=1e6))] == [-1.0, -0.5]


def test_a_missed_constraint_is_the_hard_reward() -> None:
    """A limit of 100 on a latency of 150 leaves R / 1.5, as MnasNet's beta = -1 does."""
    limit = (Constraint(metric="latency", relation="<=", limit=100.0),)
    judge = Judge(toy_problem(constraints=limit), None)
    assert judge(trial(0, accuracy=0.6, latency=90.0)) == 0.6
    assert judge(trial(1, accuracy=0.6, latency=150.0)) == pytest.approx(0.4)
    assert judge(trial(2, accuracy=0.6)) == 0.0  # nobody knows
    own = Judge(toy_problem(constraints=limit), soft("latency", 100.0))
    assert own(trial(0, accuracy=0.6, latency=200.0)) == pytest.approx(0.6 * 2**-0.07 / 2)
    assert penalised(-0.6, 0.5) == pytest.approx(-0.8)


def test_the_reward_of_several_objectives_is_the_share_that_does_not_dominate() -> None:
    objectives = (Objective(metric="accuracy", direction="maximize"), Objective(metric="macs", direction="minimize"))
    limit = (Constraint(metric="latency", relation="<=", limit=100.0),)
    judge = Judge(toy_problem(objectives=objectives, constraints=limit), None)
    given = [(0.5, 10, 90), (0.6, 20, 90), (0.5, 20, 90), (0.5, 10, 90), (0.9, 5, 200), (0.9, 5, 150)]
    found = [judge(trial(i, accuracy=a, macs=m, latency=t)) for i, (a, m, t) in enumerate(given)]
    # alone; beside; dominated by both of three; equal to the first; all four meet the limit; those and the 200 does not
    assert found == pytest.approx([1, 1, 1 / 3, 1, 1 / 5, 2 / 6])
    standing = Standing(2)
    assert [standing.join([0.0, -float(i)]) for i in range(200)] == pytest.approx([1 / (i + 1) for i in range(200)])


def test_the_baseline_moves_as_stated() -> None:
    """b begins at the first reward; then b <- 0.95 b + 0.05 R after each trial's advantage was taken."""
    strategy = Controller(batch=4)
    strategy.setup(toy_problem())
    for number, accuracy in enumerate((0.8, 0.6, 0.9)):
        strategy.tell(trial(number, accuracy=accuracy))
    assert [e.advantage for e in strategy._told] == pytest.approx([0, -0.2, 0.9 - 0.79])
    assert strategy._baseline == pytest.approx(0.95 * 0.79 + 0.05 * 0.9)


# Learning


def learns(make: Callable[[], Any], trials: int) -> None:
    """The mean reward of the last 50 proposals on 20 decisions is above random's by far more than either's spread.

    Random's mean is 0.63 with a standard error of 0.008: 50 draws of standard deviation 0.055.
    """
    for seed in range(3):
        problem = toy_problem(toy_space(10, 3), seed=seed, trials=trials)
        found, chance = (
            mean(t.metrics["accuracy"] for t in drive(each(), problem, trials).trials[-50:]) for each in (make, Random)
        )
        assert found > chance + 0.1


@pytest.mark.parametrize("algorithm", SMALL)
def test_it_learns_soon(algorithm: str) -> None:
    learns(lambda: Controller(algorithm, hidden=32), 150)  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", SMALL)
def test_it_learns(algorithm: str) -> None:
    learns(lambda: Controller(algorithm), 400)  # type: ignore[arg-type]


@pytest.mark.parametrize("algorithm", SMALL)
def test_weights_are_the_same_wherever_a_log_is_cut(algorithm: str) -> None:
    make = SMALL[algorithm]
    problem = toy_problem(toy_space(5, 3, conditional=True), seed=2)
    whole = make()
    log = drive(whole, problem, 40, concurrency=3).log
    for cut in (0, 11, 35, len(log)):
        again = make()
        drive(again, problem, 40, concurrency=3, replay=log[:cut])
        assert all(map(torch.equal, whole._policy.parameters, again._policy.parameters))


def test_ppo_compares_with_the_weights_of_the_proposal() -> None:
    strategy = Controller("ppo", hidden=8, batch=2)
    problem = toy_problem(toy_space(2, 3))
    strategy.setup(problem)
    answers = [strategy.ask(number) for number in range(3)]
    assert all(isinstance(answer, Proposal) for answer in answers)
    policy, third = strategy._policy, strategy._pending[2]
    before = policy.score([third.sentence(policy.tokens)]).log_probabilities.detach()
    for number in (0, 1):
        strategy.tell(Trial(number=number, architecture=answers[number].architecture, metrics={"accuracy": number / 2}))  # type: ignore[union-attr]
    assert third.old is not None
    assert torch.allclose(third.old, before[0], atol=1e-6)
    assert not torch.allclose(policy.score([third.sentence(policy.tokens)]).log_probabilities[0], before[0], atol=1e-6)


def test_what_a_race_has_not_measured_yet_is_not_punished() -> None:
    """Neither weights nor baseline move until its result comes, which counts as itself: 0.5 (0.5 + 0.9)."""
    strategy = Controller(hidden=8, baseline_decay=0.5)
    strategy.setup(toy_problem())
    first, second = [strategy.ask(number).architecture for number in range(2)]

    def said(number: int, architecture: Any, state: str, **changes: Any) -> Trial:
        return Trial(number=number, architecture=architecture, state=state, **changes)

    strategy.tell(said(0, first, "completed", metrics={"accuracy": 0.5}))
    before = [p.clone() for p in strategy._policy.parameters]
    strategy.tell(said(1, second, "failed", error=UNMEASURED))
    assert all(map(torch.equal, before, strategy._policy.parameters))
    assert strategy._baseline == 0.5
    strategy.tell(said(1, second, "completed", metrics={"accuracy": 0.9}))
    assert strategy._baseline == pytest.approx(0.7)
    assert not strategy._pending


def test_torchs_own_state_is_left_alone() -> None:
    torch.manual_seed(1)
    expected = torch.rand(3).tolist()
    threads, kind = torch.get_num_threads(), torch.get_default_dtype()
    torch.manual_seed(1)
    with torch.no_grad():
        drive(Controller("ppo", hidden=4, batch=3), toy_problem(), 8)
    assert torch.rand(3).tolist() == expected
    assert (torch.get_num_threads(), torch.get_default_dtype()) == (threads, kind)


# Settings


def own_reward(metrics: Mapping[str, float]) -> float:
    return -metrics["params"]


def test_settings_survive_a_study() -> None:
    for reward in (None, soft("params", 10.0), own_reward):
        strategy = Controller("ppo", clip=0.1, reward=reward)
        assert restore(json.loads(json.dumps(describe(strategy, "strategy"))), "strategy") == strategy
    with pytest.raises(InvalidInputError, match="cannot be stored with a study"):
        describe(Controller(reward=lambda metrics: 0.0), "strategy")
    stored = describe(Controller(), "strategy")
    stored["arguments"]["reward"] = "not_imported_yet:reward"
    with pytest.raises(StoreError, match="import 'not_imported_yet' first"):
        restore(stored, "strategy")


def test_a_users_reward_is_what_it_climbs() -> None:
    problem = toy_problem(toy_space(10, 3), trials=150)
    down = drive(Controller(hidden=32, reward=f"{__name__}:own_reward"), problem, 150).trials
    assert mean(t.metrics["params"] for t in down[-50:]) < 0.7 * mean(t.metrics["params"] for t in down[:50])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"algorithm": "a2c"}, "`algorithm` must be 'reinforce' or 'ppo', got 'a2c'"),
        ({"hidden": 0}, "`hidden` must be an integer of 1 or more"),
        ({"batch": 2.5}, "`batch`"),
        ({"learning_rate": 0}, "`learning_rate` must be a positive number"),
        ({"temperature": None}, "`temperature`"),
        ({"tanh_constant": -1}, "`tanh_constant`"),
        ({"entropy": -0.1}, "`entropy`"),
        ({"baseline_decay": 1}, r"`baseline_decay` must be in \[0, 1\)"),
        ({"clip": math.nan}, "`clip`"),
        ({"reward": "accuracy"}, "'module:function'"),
    ],
)
def test_settings_are_checked(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        Controller(**options)


def main() -> None:
    """Write the trajectories anew."""
    TRAJECTORIES.parent.mkdir(exist_ok=True)
    TRAJECTORIES.write_text(json.dumps({name: trajectory(make) for name, make in SMALL.items()}, indent=1) + "\n")


if __name__ == "__main__":
    main()
