"""Local search: where climbs end, plateaus, what is known from earlier climbs, exact resumption on the way."""

from __future__ import annotations

from random import Random as Generator
from typing import Any

import pytest

from nasturtium.space import Architecture, Block, Space, one_of
from nasturtium.strategies import LocalSearch
from nasturtium.testing import drive, toy_problem, toy_space
from nasturtium.testing.problems import Run
from nasturtium.trial import Proposal


class Cell(Block):
    edges: Any

    def forward(self, x: Any) -> Any:
        return x


SPACE = Space(Cell(tuple(one_of(*range(4)) for _ in range(5))))
"""1,024 networks of 15 neighbours each."""


def rugged(seed: int) -> Any:
    """Independent values: about one network in 16 is a local optimum."""
    return lambda a: {"accuracy": Generator(f"{seed}/{a.key}").random(), "params": 1.0}


def climbs(run: Run) -> list[list[int]]:
    """Numbers of the trials of each climb, in order."""
    found: list[list[int]] = [[]]
    for proposal in run.proposals:
        if proposal.origin == "restart":
            found.append([])
        found[-1].append(proposal.number)
    return found


def is_optimum(space: Space, architecture: Architecture, outcome: Any) -> bool:
    height = outcome(architecture)["accuracy"]
    return all(outcome(a)["accuracy"] <= height for a in space.neighbours(architecture))


@pytest.mark.parametrize("seed", range(4))
def test_a_climb_ends_at_a_local_optimum(seed: int) -> None:
    """Whatever of the neighbourhood is known already: from the last network stood on, known steps up lead to one."""
    outcome = rugged(seed)
    run = drive(LocalSearch(initial=5), toy_problem(SPACE, seed=seed, cheap_metrics=lambda _: {}), 500, outcome=outcome)
    told = {p.architecture.key: p.number for p in run.proposals}
    ends = 0
    for climb, later in zip(climbs(run), climbs(run)[1:]):
        last = run.proposals[climb[-1]]
        stood = [run.proposals[n].architecture for n in last.parents or climb]
        here = max([last.architecture, *stood], key=lambda a: outcome(a)["accuracy"])
        while not is_optimum(SPACE, here, outcome):
            around = [a for a in SPACE.neighbours(here) if told.get(a.key, 10**9) < later[0]]
            assert len(around) == 15
            here = max(around, key=lambda a: outcome(a)["accuracy"])
        ends += 1
    assert ends > 5


def test_a_known_better_neighbour_is_taken() -> None:
    """Of three values a climb from "b" knows "c", of the random ones, as better: it moves there and asks its neighbour.

    The space: two decisions of three; values by hand, so that (1, 1) is a dead end beside the known (2, 1).
    """
    space = Space(Cell((one_of(*range(3)), one_of(*range(3)))))
    height = {(0, 0): 0, (1, 0): 1, (2, 0): 2, (0, 1): 3, (1, 1): 5, (2, 1): 6, (0, 2): 4, (1, 2): 4, (2, 2): 7}
    for seed in range(30):
        run = drive(
            LocalSearch(initial=1),
            toy_problem(space, seed=seed, cheap_metrics=lambda _: {}),
            9,
            outcome=lambda a: {"accuracy": float(height[tuple(a.decisions.values())])},  # type: ignore[index]
        )
        top = next(i for i, t in enumerate(run.trials) if t.metrics["accuracy"] == 7)
        assert all(p.origin != "restart" for p in run.proposals[: top + 1])  # one hill: every climb leads to the top


def test_plateaus_are_walked() -> None:
    """A staircase whose steps are flat in all but one decision is climbed without a restart."""
    space = Space(Cell(tuple(one_of(0, 1) for _ in range(8))))

    def stairs(a: Architecture) -> dict[str, float]:
        bits = list(a.decisions.values())
        rise = next((i for i, bit in enumerate(bits) if not bit), 8)
        return {"accuracy": float(rise // 2)}  # two bits for one step: between them it is flat

    won = 0
    for seed in range(20):
        run = drive(
            LocalSearch(initial=1), toy_problem(space, seed=seed, cheap_metrics=lambda _: {}), 60, outcome=stairs
        )
        top = next((i for i, t in enumerate(run.trials) if t.metrics["accuracy"] == 4), None)
        won += top is not None and all(p.origin != "restart" for p in run.proposals[: top + 1])
    assert won >= 18


def test_anothers_proposals_are_survived() -> None:
    """Origin "neighbour" without parents, or with one that is not known: the climb stays where it is."""
    problem = toy_problem(SPACE, cheap_metrics=lambda _: {}, trials=None)
    log = drive(LocalSearch(initial=3), problem, 6).log
    foreign = [
        Proposal(number=6, architecture=SPACE.at(5), origin="neighbour"),
        Proposal(number=7, architecture=SPACE.at(7), origin="neighbour", parents=(99,)),
    ]
    run = drive(LocalSearch(initial=3), problem, 20, replay=[*log, *foreign])
    assert len(set(run.keys)) == len(run.keys)


@pytest.mark.parametrize("concurrency", [1, 3])
def test_resumes_on_the_way(concurrency: int) -> None:
    """Moves to known networks leave no proposal behind; the log restores them all the same."""
    space = Space(Cell(tuple(one_of(*range(3)) for _ in range(4))))

    def make() -> LocalSearch:
        return LocalSearch(initial=3)

    problem = toy_problem(space, seed=9, cheap_metrics=lambda _: {})
    whole = drive(make(), problem, 81, concurrency=concurrency, outcome=rugged(9))
    climb_of = {n: k for k, climb in enumerate(climbs(whole)) for n in climb}
    assert any(climb_of[n] != climb_of[p.number] for p in whole.proposals for n in p.parents)  # it moved to a known one
    for cut in range(0, len(whole.log) + 1, 3):
        again = drive(make(), problem, 81, concurrency=concurrency, outcome=rugged(9), replay=whole.log[:cut])
        assert [(p.architecture.key, p.parents) for p in again.proposals] == [
            (p.architecture.key, p.parents) for p in whole.proposals
        ]


def test_every_climb_starts_anew() -> None:
    run = drive(LocalSearch(initial=2), toy_problem(toy_space(2, 3)), 81, outcome=rugged(1))
    starts = [p for p in run.proposals if p.origin == "restart"]
    assert len(run.proposals) == 81
    assert starts
    assert all(p.parents == () for p in starts)
