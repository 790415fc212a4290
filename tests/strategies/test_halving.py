"""Successive halving, Hyperband and ASHA: the laws, the papers' tables, and promotions worked out by hand."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import wilcoxon

from nasturtium.errors import InvalidInputError, StoreError, UnknownNameError
from nasturtium.strategies import Grid, LocalSearch, Random, RegularizedEvolution, load
from nasturtium.strategies.asha import ASHA
from nasturtium.strategies.halving import SuccessiveHalving
from nasturtium.strategies.hyperband import Hyperband
from nasturtium.strategies.ladder import bracket_sizes, shares
from nasturtium.study.codec import describe, restore
from nasturtium.testing import STRATEGY_LAWS, check_strategy, drive, toy_problem, toy_space
from nasturtium.testing.problems import at_most
from nasturtium.trial import FULL, Exhausted, Fidelity, Objective, Problem, Proposal, Trial, Wait

TRAJECTORIES = Path(__file__).with_name("trajectories") / "halving.json"
"""A snapshot of our own, written anew by `python -m tests.strategies.test_halving`; see `test_behaviour.py`."""

MAKERS: dict[str, Callable[[], Any]] = {
    "SuccessiveHalving()": SuccessiveHalving,
    "Hyperband()": Hyperband,
    "ASHA()": ASHA,
    "Hyperband(evolution)": lambda: Hyperband(strategy=RegularizedEvolution(population=5, sample=2), enough=6),
    "Hyperband(grid)": lambda: Hyperband(strategy=Grid(points=2), fidelity="seconds"),
    "SuccessiveHalving(local)": lambda: SuccessiveHalving(strategy=LocalSearch(initial=3), minimum=0.25, eta=2),
    "ASHA(evolution)": lambda: ASHA(
        strategy="evolution", options={"population": 6}, rungs=[0.06, 1.0], fidelity="data"
    ),
    "ASHA(offset=1)": lambda: ASHA(minimum=1 / 16, eta=2, offset=1, fidelity="width"),
}

ACCURACY = Objective(metric="accuracy", direction="maximize")
PARAMS = Objective(metric="params", direction="minimize")


SLOW = pytest.mark.slow
LAWFUL = (
    "SuccessiveHalving()", "Hyperband(evolution)", pytest.param("Hyperband(grid)", marks=SLOW), "ASHA(evolution)",
    pytest.param("ASHA(offset=1)", marks=SLOW),
)  # fmt: skip


@pytest.mark.parametrize("name", LAWFUL)
def test_the_laws_are_kept(name: str) -> None:
    laws = check_strategy(MAKERS[name], exhaustive=name != "Hyperband(grid)")
    assert len(laws) == len(STRATEGY_LAWS)


def trajectory(make: Callable[[], Any]) -> list[str]:
    problem = toy_problem(toy_space(4, 3, conditional=True), seed=7, constraints=at_most(18))
    return drive(make(), problem, 30, concurrency=2).keys


@pytest.mark.parametrize("name", MAKERS)
def test_trajectory(name: str) -> None:
    """Written anew by `python -m tests.strategies.test_halving`."""
    assert trajectory(MAKERS[name]) == json.loads(TRAJECTORIES.read_text(encoding="utf-8"))[name]


# -- Hyperband's table -----------------------------------------------------------------------------------------------

TABLE = {
    4: [(81, 1), (27, 3), (9, 9), (3, 27), (1, 81)],
    3: [(34, 3), (11, 9), (3, 27), (1, 81)],
    2: [(15, 9), (5, 27), (1, 81)],
    1: [(8, 27), (2, 81)],
    0: [(5, 81)],
}
"""METHODS.md, section 17: networks and epochs of each bracket s with R = 81 and eta = 3 (algorithm 1 of the paper)."""
COSTS = [405, 363, 351, 378, 405]


def test_the_brackets_are_those_of_the_paper() -> None:
    levels = shares(1 / 81, 3, None)
    assert [round(81 * share) for share in levels] == [1, 3, 9, 27, 81]
    sizes = bracket_sizes(levels, 3)
    assert [
        list(zip(row, [1, 3, 9, 27, 81][4 - s :], strict=True)) for s, row in zip(TABLE, sizes, strict=True)
    ] == list(TABLE.values())
    costs = [sum(n * r for n, r in row) for row in TABLE.values()]
    assert costs == COSTS
    assert sum(costs) == 1902


def test_hyperband_proposes_what_the_table_says() -> None:
    trials = sum(n for row in TABLE.values() for n, _ in row)
    run = drive(Hyperband(minimum=1 / 81), toy_problem(trials=trials), trials)
    epochs = [round(81 * p.fidelity.epochs) for p in run.proposals]
    expected = [r for row in TABLE.values() for n, r in row for _ in range(n)]
    assert epochs == expected  # one at a time nothing is under way, so brackets come one after the other
    assert sum(epochs) == 1902
    again = drive(Hyperband(minimum=1 / 81), toy_problem(trials=trials + 1), trials + 1)
    assert round(81 * again.proposals[-1].fidelity.epochs) == 1  # after the last bracket the first comes again


@pytest.mark.parametrize(
    ("minimum", "eta", "expected"),
    [
        (1 / 9, 3, [1 / 9, 1 / 3, 1]),
        (0.1, 3, [1 / 9, 1 / 3, 1]),
        (0.5, 2, [0.5, 1]),
        (1 / 1000, 10, [0.001, 0.01, 0.1, 1]),
    ],
)
def test_shares(minimum: float, eta: int, expected: list[float]) -> None:
    assert shares(minimum, eta, None) == pytest.approx(expected)


def test_explicit_rungs_make_brackets_of_about_one_cost() -> None:
    """A table of 12 and 200 epochs: 2 rungs, so each bracket may cost 2 full measurements.

    From the bottom: n (0.06 + 1/3) = 2 gives n = 5.08, so 6 start and 2 go on; at the top 2 start.
    """
    assert bracket_sizes((0.06, 1.0), 3) == [(6, 2), (2,)]


# -- successive halving ----------------------------------------------------------------------------------------------


def told(proposal: Proposal, **metrics: float) -> Trial:
    return Trial(
        number=proposal.number, architecture=proposal.architecture, fidelity=proposal.fidelity,
        parents=proposal.parents, origin=proposal.origin, metrics=metrics,
        state="completed" if metrics else "failed",
    )  # fmt: skip


def test_successive_halving_by_hand() -> None:
    """Four networks with accuracies .2 .8 .4 .6 at one quarter, .7 (the second) and .9 (the fourth) at one half."""
    made = {(0, 0.25): 0.2, (1, 0.25): 0.8, (2, 0.25): 0.4, (3, 0.25): 0.6, (1, 0.5): 0.7, (3, 0.5): 0.9, (3, 1.0): 0.5}
    strategy = SuccessiveHalving(minimum=0.25, eta=2)
    strategy.setup(toy_problem(trials=7))
    plain = drive(Random(), toy_problem(trials=7), 4).proposals
    networks: dict[str, int] = {}
    seen = []
    for number in range(7):
        proposal = strategy.ask(number)
        assert isinstance(proposal, Proposal)
        network = networks.setdefault(proposal.architecture.key, len(networks))
        seen.append((network, proposal.fidelity.epochs, proposal.parents, proposal.origin))
        strategy.tell(told(proposal, accuracy=made[network, proposal.fidelity.epochs]))
    assert seen == [
        (0, 0.25, (), "random"), (1, 0.25, (), "random"), (2, 0.25, (), "random"), (3, 0.25, (), "random"),
        (1, 0.5, (1,), "promoted"), (3, 0.5, (3,), "promoted"),
        (3, 1.0, (5,), "promoted"),
    ]  # fmt: skip
    assert list(networks) == [p.architecture.key for p in plain]  # the networks that random search would draw


def test_successive_halving_waits_where_hyperband_begins_the_next_bracket() -> None:
    halving, hyperband = SuccessiveHalving(), Hyperband()
    for strategy in (halving, hyperband):
        strategy.setup(toy_problem(trials=None))
        for number in range(9):
            answer = strategy.ask(number)
            assert isinstance(answer, Proposal)
            assert answer.fidelity == Fidelity(epochs=1 / 9)
    assert isinstance(halving.ask(9), Wait)
    answer = hyperband.ask(9)
    assert isinstance(answer, Proposal)
    assert answer.fidelity == Fidelity(epochs=1 / 3)
    assert answer.origin == "random"


def test_failed_trials_leave_their_place_to_others() -> None:
    strategy = SuccessiveHalving(minimum=1 / 3)
    strategy.setup(toy_problem(trials=None))
    proposals = [strategy.ask(number) for number in range(3)]
    strategy.tell(told(proposals[0]))
    strategy.tell(told(proposals[1], accuracy=math.nan))
    assert isinstance(strategy.ask(3), Wait)
    strategy.tell(told(proposals[2], accuracy=0.1))
    assert strategy.ask(3).parents == (2,)


def test_when_all_of_a_round_fail_the_next_begins() -> None:
    run = drive(SuccessiveHalving(), toy_problem(trials=None), 20, outcome=lambda _: {})
    assert {p.fidelity.epochs for p in run.proposals} == {1 / 9}
    assert len(set(run.keys)) == 20


def test_the_default_round_fits_the_budget() -> None:
    """9 + 3 + 1 = 13 trials. With 8, 6 + 2 + 1 do not fit, but 5 + 1 + 1 do."""
    for budget, bottom in ((13, 9), (8, 5), (40, 9)):
        run = drive(SuccessiveHalving(), toy_problem(trials=budget), budget)
        assert [p.origin for p in run.proposals][: bottom + 1] == ["random"] * bottom + ["promoted"]
        assert any(p.fidelity.is_full for p in run.proposals)


@pytest.mark.parametrize("make", [SuccessiveHalving, Hyperband, ASHA])
@pytest.mark.parametrize("budget", [2, 3, 5, 8])
def test_a_small_budget_ends_with_a_full_measurement_of_the_best(make: Callable[[], Any], budget: int) -> None:
    run = drive(make(), toy_problem(trials=budget), budget)
    last = run.proposals[-1]
    full = [p for p in run.proposals if p.fidelity.is_full]
    assert full
    assert full[-1].origin == "promoted"
    if make is Hyperband:
        best = max(run.trials, key=lambda t: t.metrics["accuracy"])
        assert last.architecture == best.architecture


# -- ASHA ------------------------------------------------------------------------------------------------------------


def test_asha_by_hand() -> None:
    """Eta 2 and two rungs: a network goes on once it is in the top half of what was told, the best first.

    Trials told with .5, then .7: floor(2/2) = 1 may go on, the second. Then .9: floor(3/2) = 1, it is the best, and
    goes on too. Then .8: floor(4/2) = 2, the best two are .9, which went on, and .8, which goes on. Then .6: still 2.
    """
    strategy = ASHA(minimum=0.5, eta=2)
    strategy.setup(toy_problem(trials=None))
    seen = []
    values = iter([0.5, 0.7, 0.9, 0.8, 0.6])
    for number in range(8):
        proposal = strategy.ask(number)
        seen.append((proposal.fidelity.epochs, proposal.parents))
        strategy.tell(told(proposal, accuracy=0.3 if proposal.fidelity.is_full else next(values)))
    assert seen == [
        (0.5, ()), (0.5, ()), (1.0, (1,)), (0.5, ()), (1.0, (3,)), (0.5, ()), (1.0, (5,)), (0.5, ()),
    ]  # fmt: skip


def test_asha_never_waits() -> None:
    strategy = ASHA()
    strategy.setup(toy_problem(trials=None))
    assert all(isinstance(strategy.ask(number), Proposal) for number in range(100))


def test_asha_shares_of_the_rungs() -> None:
    """After many trials each rung has a third of the one below, and a few more: late-comers replace the best."""
    run = drive(ASHA(), toy_problem(trials=400), 400, concurrency=8)
    counts = Counter(p.fidelity.epochs for p in run.proposals)
    assert counts[1 / 3] / counts[1 / 9] == pytest.approx(1 / 3, abs=0.06)
    assert counts[1.0] / counts[1 / 3] == pytest.approx(1 / 3, abs=0.06)


def test_asha_offset_begins_higher() -> None:
    run = drive(ASHA(minimum=1 / 27, offset=2), toy_problem(trials=30), 30)
    assert {p.fidelity.epochs for p in run.proposals} == {1 / 3, 1.0}


# -- several objectives ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make", [lambda: SuccessiveHalving(minimum=0.5, eta=2, networks=6), lambda: ASHA(rungs=[0.5, 1.0], eta=2)]
)
def test_promotion_by_front_then_crowding(make: Callable[[], Any]) -> None:
    """Six networks: a front of (.9, 9), (.8, 4), (.5, 1); behind it (.7, 8) and (.4, 3); and one that breaks a limit.

    Of a front the ends have infinite crowding: they go on first, then the one between. With eta 2 three of six go on.
    """
    points = [(0.7, 8), (0.9, 9), (0.4, 3), (0.8, 4), (0.95, 30), (0.5, 1)]
    strategy = make()
    strategy.setup(
        toy_problem(trials=None, objectives=(ACCURACY, PARAMS), constraints=at_most(20), cheap_metrics=lambda _: {})
    )
    started = [strategy.ask(number) for number in range(6)]
    for proposal, (accuracy, params) in zip(started, points, strict=True):
        strategy.tell(told(proposal, accuracy=accuracy, params=params))
    assert [strategy.ask(number).parents for number in (6, 7, 8)] == [(1,), (5,), (3,)]
    answer = strategy.ask(9)
    assert isinstance(answer, Wait) or answer.origin == "random"


def test_asha_ranks_a_long_rung_again_when_a_tenth_more_have_come() -> None:
    """Up to 20 results each is ranked; then at 22, 24 … 30, 33. A resumed search, whose asks were fewer, agrees."""
    problem = toy_problem(toy_space(8, 3), objectives=(ACCURACY, PARAMS), trials=None)
    make = lambda: ASHA(rungs=[0.5, 1.0], eta=2)  # noqa: E731
    run = drive(make(), problem, 300)
    cut = next(i for i, e in enumerate(run.log) if isinstance(e, Proposal) and e.number == 250)
    assert drive(make(), problem, 300, replay=run.log[:cut]).keys == run.keys

    strategy = make()
    strategy.setup(problem)
    rung, due = strategy._rungs[0], []
    for network in range(34):
        rung.add(network)
        due.append(rung._due)
    assert due[:21] == [*range(1, 21), 20]
    assert due[21:] == [22, 22, 24, 24, 26, 26, 28, 28, 30, 30, 30, 33, 33]


# -- another's proposals ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [lambda: ASHA(rungs=[0.5, 1.0]), lambda: Hyperband(rungs=[0.5, 1.0])])
def test_anothers_proposals_are_survived(make: Callable[[], Any]) -> None:
    """A fidelity that is no rung, a promotion of nothing, and parents that are not known."""
    space = toy_space(4, 3)
    problem = toy_problem(space, trials=None)
    foreign = [
        Proposal(number=0, architecture=space.at(0), fidelity=Fidelity(epochs=0.3)),
        Proposal(number=1, architecture=space.at(1), origin="promoted"),
        Proposal(number=2, architecture=space.at(2), origin="promoted", parents=(99,)),
        Proposal(number=3, architecture=space.at(3), origin="mutation", parents=(98,)),
    ]
    log: list[Proposal | Trial] = [*foreign, *[told(p, accuracy=0.99, params=1.0) for p in foreign]]
    run = drive(make(), problem, 30, replay=log)
    assert all(p.architecture != space.at(0) for p in run.proposals if p.number)  # known, so not proposed again
    again = drive(make(), problem, 30, replay=run.log[: len(run.log) // 2])
    assert again.keys == run.keys


# -- the strategy inside ---------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Listening:
    """Random search that notes what it is told."""

    inner: Any = field(default_factory=Random, init=False)

    def setup(self, problem: Problem) -> None:
        HEARD.clear()
        self.inner.setup(problem)

    def ask(self, number: int) -> Proposal | Exhausted:
        return self.inner.ask(number)  # type: ignore[no-any-return]

    def recall(self, proposal: Proposal) -> None:
        assert proposal.fidelity == FULL
        self.inner.recall(proposal)

    def tell(self, trial: Trial) -> None:
        assert trial.fidelity == FULL
        HEARD.append((trial.number, trial.state, round(trial.metrics.get("accuracy", -1), 3)))


HEARD: list[tuple[int, str, float]] = []


def test_the_inner_strategy_learns_from_the_highest_fidelity_with_enough_results() -> None:
    """Eta 2, rungs 1/2 and 1, 4 networks a round, two results are enough.

    Round one: accuracies .1 .4 .3 .2 at one half are told as they come; then the second and third are measured in full.
    The first of them is not heard of; with the second there are two results, and all is told anew: what has no full
    result as failed.
    """
    strategy = SuccessiveHalving(strategy=Listening(), minimum=0.5, eta=2, networks=4, enough=2)
    strategy.setup(toy_problem(trials=None))
    low = [strategy.ask(number) for number in range(4)]
    for proposal, value in zip(low, (0.1, 0.4, 0.3, 0.2), strict=True):
        strategy.tell(told(proposal, accuracy=value))
    assert HEARD == [(0, "completed", 0.1), (1, "completed", 0.4), (2, "completed", 0.3), (3, "completed", 0.2)]
    high = [strategy.ask(number) for number in (4, 5)]
    assert [p.parents for p in high] == [(1,), (2,)]
    strategy.tell(told(high[0], accuracy=0.8))
    assert len(HEARD) == 4
    strategy.tell(told(high[1], accuracy=0.9))
    assert HEARD == [
        (0, "failed", -1), (1, "failed", -1), (2, "failed", -1), (3, "failed", -1), (1, "completed", 0.8),
        (2, "completed", 0.9),
    ]  # fmt: skip
    fresh = strategy.ask(6)
    strategy.tell(told(fresh, accuracy=0.99))
    assert HEARD[-1] == (4, "failed", -1)


def test_parents_inside_and_outside() -> None:
    """Whoever descends from network k names the first trial of that network."""
    make = MAKERS["Hyperband(evolution)"]
    run = drive(make(), toy_problem(trials=120), 120, concurrency=3)
    first: dict[str, int] = {}
    children = 0
    for proposal in run.proposals:
        if proposal.origin == "promoted":
            continue
        first[proposal.architecture.key] = proposal.number
        for parent in proposal.parents:
            children += 1
            assert parent in first.values()
    assert children > 10


@dataclass(slots=True)
class Own:
    """A user's strategy, with settings."""

    seed: int = 0
    inner: Any = field(default_factory=Random, init=False, repr=False, compare=False)

    def setup(self, problem: Problem) -> None:
        self.inner.setup(problem)

    def ask(self, number: int) -> Any:
        return self.inner.ask(number)

    def recall(self, proposal: Proposal) -> None:
        self.inner.recall(proposal)

    def tell(self, trial: Trial) -> None:
        self.inner.tell(trial)


@pytest.mark.parametrize(
    "strategy",
    [
        SuccessiveHalving(networks=27, minimum=1 / 27, fidelity="resolution"),
        Hyperband(strategy="evolution", options={"population": 7}),
        Hyperband(strategy=RegularizedEvolution(population=7), enough=3),
        ASHA(strategy=LocalSearch(initial=2), rungs=[0.1, 1.0], fidelity="seconds"),
        ASHA(strategy=Own(seed=4), offset=1),
    ],
)
def test_settings_as_json(strategy: Any) -> None:
    stored = json.loads(json.dumps(describe(strategy, "strategy")))
    assert describe(restore(stored, "strategy"), "strategy") == stored
    keys = [drive(one, toy_problem(seed=3), 20).keys for one in (strategy, restore(stored, "strategy"))]
    assert keys[0] == keys[1]


def test_a_stored_strategy_of_an_unknown_module_is_not_imported() -> None:
    stored = {"strategy": {"type": "somebodys.module:Strategy", "arguments": {}}}
    with pytest.raises(StoreError, match="not part of nasturtium"):
        Hyperband.from_dict(stored)


def test_names_at_the_text_boundary() -> None:
    assert load("hyperband", strategy="local") == Hyperband(strategy="local")
    assert load("halving") == SuccessiveHalving()
    assert load("asha", eta=4) == ASHA(eta=4)


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (lambda: Hyperband(fidelity="epoch"), UnknownNameError, "Did you mean 'epochs'"),
        (lambda: Hyperband(strategy="evolutoin"), UnknownNameError, "Did you mean 'evolution'"),
        (lambda: Hyperband(strategy="evolution", options={"populations": 3}), InvalidInputError, "does not take"),
        (lambda: Hyperband(strategy=Random(), options={"sampler": "uniform"}), InvalidInputError, "has its own"),
        (lambda: Hyperband(strategy=3), InvalidInputError, "must be a strategy's name"),
        (lambda: ASHA(eta=1), InvalidInputError, "`eta` must be an integer of 2"),
        (lambda: ASHA(minimum=0.0), InvalidInputError, "`minimum` must be a share"),
        (lambda: ASHA(minimum=1.0), InvalidInputError, "`minimum` must be a share"),
        (lambda: ASHA(rungs=[0.5, 0.9]), InvalidInputError, "of which the last is 1"),
        (lambda: ASHA(rungs=[0.5, 0.1, 1.0]), InvalidInputError, "rising"),
        (lambda: ASHA(rungs=[]), InvalidInputError, "rising"),
        (lambda: ASHA(offset=3), InvalidInputError, r"`offset` must be in \[0, 3\)"),
        (lambda: SuccessiveHalving(networks=3), InvalidInputError, "`networks` must be 9 or more"),
        (lambda: SuccessiveHalving(enough=0), InvalidInputError, "`enough`"),
    ],
)
def test_settings_are_checked(make: Callable[[], Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        make()


def test_a_race_in_a_race_is_refused() -> None:
    strategy = Hyperband(strategy=Hyperband())
    strategy.setup(toy_problem())
    with pytest.raises(InvalidInputError, match="leave the fidelity to the race"):
        strategy.ask(0)


# -- is it worth it --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [lambda: Hyperband(minimum=1 / 27), lambda: ASHA(minimum=1 / 27)])
def test_more_found_than_by_random_search_at_equal_cost(make: Callable[[], Any]) -> None:
    """One-sided Wilcoxon test on the best full accuracy at a cost of 40 full measurements, 30 seeds, alpha 0.001."""
    found, chance = [], []
    for seed in range(30):
        problem = toy_problem(seed=seed, trials=400)
        cost, best = 0.0, 0.0
        run = drive(make(), problem, 400)
        for trial in run.trials:
            cost += trial.fidelity.epochs
            if cost > 40:
                break
            if trial.fidelity.is_full:
                best = max(best, trial.metrics["accuracy"])
        found.append(best)
        chance.append(max(t.metrics["accuracy"] for t in drive(Random(), problem, 41).trials[:40]))
    assert wilcoxon(found, chance, alternative="greater").pvalue < 0.001


if __name__ == "__main__":
    TRAJECTORIES.write_text(json.dumps({name: trajectory(make) for name, make in MAKERS.items()}, indent=1) + "\n")
