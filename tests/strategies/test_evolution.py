"""Evolution's mutations by kind and crossovers, what each may change, and the warm start."""

from __future__ import annotations

import json
from collections import Counter
from random import Random as Generator
from typing import Any

import pytest

import nasturtium as nas
from nasturtium.errors import InvalidInputError, UnknownNameError
from nasturtium.space import Architecture, Block, Space, int_range, one_of, subset
from nasturtium.strategies import RegularizedEvolution
from nasturtium.strategies.kinds import Mutation, kind_of, moves
from nasturtium.study.codec import describe, restore
from nasturtium.testing import check_strategy, drive, toy_problem, toy_space

WEIGHTS = {"depth": 1, "operator": 1, "number": 1}


class Stage(Block):
    width: Any
    op: Any
    kernel: Any = 3

    def forward(self, x: Any) -> Any:
        return x


class Net(Block):
    stages: Any

    def forward(self, x: Any) -> Any:
        return x


def network() -> Space:
    """Two stages of 1 to 3 blocks; each block chooses a width (given out of order), an operator and a kernel."""
    block = Stage(one_of(32, 8, 16), one_of("conv", "pool", "skip"), int_range(3, 7, step=2))
    return Space(Net(tuple(nas.repeat(block, times=int_range(1, 3)) for _ in range(2))))


def changed(a: Architecture, b: Architecture) -> set[str]:
    return {n for n in a.decisions.keys() & b.decisions.keys() if a.decisions[n] != b.decisions[n]}


def test_kinds() -> None:
    space = network()
    found = Counter(kind_of(d) for d in space.decisions)
    assert found == {"depth": 2, "operator": 6, "number": 12}
    assert kind_of(Space(Net(subset(("a", "b", "c"), 2))).decisions[0]) == "operator"


def test_moves_by_hand() -> None:
    """Widths 32, 8, 16 by index: from 32 to 16 only, from 8 to 16, from 16 to both; operators to any other."""
    width, op = Space(Net((one_of(32, 8, 16), one_of("a", "b", "c")))).decisions
    assert [sorted(moves(width, i, near=False)) for i in range(3)] == [[2], [2], [0, 1]]
    assert list(moves(op, 1, near=False)) == [0, 2]


def test_a_mutation_of_depth_appends_or_removes_the_last_block() -> None:
    space = network()
    mutate, rng = Mutation(space, {"depth": 1}), Generator(0)
    drawn: set[Any] = set()
    for _ in range(300):
        parent = space.sample(rng, "hierarchical")
        child = mutate(parent, rng)
        assert child is not None
        [name] = changed(parent, child)
        assert abs(parent.decisions[name] - child.decisions[name]) == 1
        gone, come = parent.decisions.keys() - child.decisions.keys(), child.decisions.keys() - parent.decisions.keys()
        assert (len(gone), len(come)) in ((3, 0), (0, 3))
        longer = max(parent.decisions[name], child.decisions[name])
        assert all(f".{longer}." in n for n in gone | come)
        drawn |= {(n.rpartition(".")[2], child.decisions[n]) for n in come}
    assert len(drawn) == 9  # what is appended is drawn, not copied


@pytest.mark.parametrize("kind", ["operator", "number", "*.width", "stages.0.*"])
def test_a_mutation_of_a_kind_changes_one_decision_of_it(kind: str) -> None:
    space = network()
    mutate, rng = Mutation(space, {kind: 2.5}), Generator(1)
    for _ in range(200):
        parent = space.sample(rng)
        child = mutate(parent, rng)
        assert child is not None
        [name] = changed(parent, child)
        decision = space.decision(name)
        assert child.decisions[name] in moves(decision, parent.decisions[name], near=False)
        assert {"operator": "op", "*.width": "width", "number": ""}.get(kind, "") in name
        if kind == "stages.0.*":
            assert name.startswith("stages.0.")
        if kind == "number":
            assert not name.endswith((".op", "length"))


def test_kinds_are_drawn_by_weight() -> None:
    """3 : 1 within 4 standard deviations of 2,000 draws (0.0097)."""
    space = network()
    mutate, rng = Mutation(space, {"depth": 3, "operator": 1}), Generator(2)
    parent = space.sample(rng)
    drawn = [kind_of(space.decision(changed(parent, mutate(parent, rng)).pop())) for _ in range(2000)]  # type: ignore[arg-type]
    assert abs(drawn.count("depth") / 2000 - 0.75) < 4 * 0.0097


def test_conditions_are_kept() -> None:
    space = network().where(lambda a: sum(v == 0 for n, v in a.decisions.items() if n.endswith(".op")) >= 2)
    mutate, rng = Mutation(space, WEIGHTS), Generator(3)
    for _ in range(100):
        child = mutate(space.sample(rng), rng)
        assert child is None or child in space


def test_no_change_is_said() -> None:
    space = Space(Net((one_of("a", "b"), one_of("x", "y")))).where(lambda a: len(set(a.decisions.values())) == 1)
    assert Mutation(space, {"operator": 1})(space.at(0), Generator(0)) is None
    run = drive(RegularizedEvolution(population=2, sample=1, mutation={"operator": 1}), toy_problem(space), 5)
    assert len(run.proposals) == 2
    assert run.exhausted


def test_laws_of_kinds() -> None:
    check_strategy(
        lambda: RegularizedEvolution(population=5, sample=2, crossover=0.5, how="stage", mutation={"number": 1}),
        skip=["infeasible", "constraints_kept", "replayed", "fresh_process", "out_of_order"],
    )


def test_replays_on_a_conditional_space() -> None:
    def make() -> RegularizedEvolution:
        return RegularizedEvolution(population=5, sample=2, crossover=0.3, mutation=WEIGHTS)

    problem = toy_problem(network(), seed=4)
    whole = drive(make(), problem, 40, concurrency=3, outcome=by_depth)
    for cut in range(0, len(whole.log), 7):
        again = drive(make(), problem, 40, concurrency=3, outcome=by_depth, replay=whole.log[:cut])
        assert again.keys == whole.keys
    assert {p.origin for p in whole.proposals} == {"random", "mutation", "crossover"}


def by_depth(architecture: Architecture) -> dict[str, float]:
    return {"accuracy": len(architecture.decisions) / 20, "params": 1.0}


@pytest.mark.parametrize("how", ["uniform", "one_point", "stage"])
def test_a_child_takes_each_decision_from_a_parent(how: str) -> None:
    """Without a mutation a crossover invents nothing; one point takes a head and a tail, stages come whole."""
    space, rng = toy_space(4, 9), Generator(5)
    seen = Counter()  # type: ignore[var-annotated]
    for _ in range(200):
        a, b = space.sample(rng), space.sample(rng)
        child = space.cross(a, b, rng, how)  # type: ignore[arg-type]
        sides = "".join(
            "ab"[child.decisions[n] != a.decisions[n]] for n in a.decisions if a.decisions[n] != b.decisions[n]
        )
        assert all(child.decisions[n] in (a.decisions[n], b.decisions[n]) for n in child.decisions)
        seen[sides] += 1
        if how == "one_point":
            assert "ba" not in sides
        if how == "stage":
            for stage in range(4):
                names = [n for n in a.decisions if f".{stage}." in n and a.decisions[n] != b.decisions[n]]
                assert len({child.decisions[n] == a.decisions[n] for n in names}) <= 1
    assert len(seen) > 5


def test_crossed_children_name_both_parents() -> None:
    run = drive(RegularizedEvolution(population=6, sample=2, crossover=1.0), toy_problem(toy_space(6, 3)), 30)
    assert {(p.origin, len(p.parents)) for p in run.proposals[6:]} == {("crossover", 2)}


def test_starts_warm_from_several() -> None:
    space = network()
    warm = [space.at(3), space.at(3), space.at(700)]
    strategy = RegularizedEvolution(population=5, sample=2, warm_start=warm, mutation=WEIGHTS)
    copy = restore(json.loads(json.dumps(describe(strategy, "strategy"))), "strategy")
    for each in (strategy, copy):
        run = drive(each, toy_problem(space), 8, outcome=by_depth)
        assert [p.origin for p in run.proposals[:5]] == ["given", "random", "given", "random", "random"]
        assert [run.proposals[0].architecture, run.proposals[2].architecture] == [space.at(3), space.at(700)]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RegularizedEvolution(mutation={}), "positive weights"),
        (lambda: RegularizedEvolution(mutation={"depth": 0}), "positive weights"),
        (lambda: RegularizedEvolution(mutation={"depth": 1}, only="*.width"), "not both"),
        (lambda: RegularizedEvolution(mutation={"dept": 1}).setup(toy_problem()), "Did you mean 'depth'"),
        (lambda: RegularizedEvolution(mutation={"depth": 1}).setup(toy_problem()), "no decision of the kinds depth"),
    ],
)
def test_settings_are_checked(make: Any, message: str) -> None:
    with pytest.raises((InvalidInputError, UnknownNameError), match=message):
        make()
