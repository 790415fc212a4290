"""Path samplers: what each promises of the paths it draws."""

from __future__ import annotations

import json
from collections import Counter
from random import Random

import pytest

import nasturtium as nas
from nasturtium.errors import InfeasibleError, InvalidInputError, UnknownNameError
from nasturtium.supernets import CostBalanced, Fair, Independent
from nasturtium.supernets.paths import sampler_from
from nasturtium.zoo import nasbench201

INPUT = (3, 8, 8)
EDGES = nasbench201.space(width=4, cells=1)


def test_a_fair_draw_holds_every_option_of_every_decision_once() -> None:
    draw = Fair().bind(EDGES, INPUT, {"classes": 10})
    rng = Random(0)
    for _ in range(5):
        paths = draw(rng)
        assert len(paths) == 5
        for decision in EDGES.decisions:
            assert sorted(path.decisions[decision.name] for path in paths) == [0, 1, 2, 3, 4]


def test_fair_draws_are_uniform_over_permutations() -> None:
    """Two decisions of three options: the six ways to pair them are equally likely."""
    space = nas.Space(nas.Conv(nas.one_of(1, 2, 3), kernel=nas.one_of(1, 3, 5)))
    draw, rng = Fair().bind(space, INPUT, {}), Random(0)
    seen = Counter(frozenset((p.block.width, p.block.kernel) for p in draw(rng)) for _ in range(600))
    assert len(seen) == 6
    assert sum((n - 100) ** 2 / 100 for n in seen.values()) < 20.5  # chi-squared, 5 degrees: 1 in 1,000


def test_fair_draws_where_decisions_differ_in_size_or_are_conditional() -> None:
    width, kernel = nas.one_of(2, 4, 6, 8), nas.one_of(3, 5)
    space = nas.Space(nas.repeat(nas.Conv(width, kernel=kernel), nas.one_of(1, 2, 3)))
    paths = Fair().bind(space, INPUT, {})(Random(0))
    counts = [Counter(p.decisions[d.name] for p in paths if d.name in p.decisions) for d in space.decisions]
    by_name = dict(zip([d.name for d in space.decisions], counts, strict=True))
    assert len(paths) == 4
    for decision in space.decisions:
        found = by_name[decision.name]
        if sum(found.values()) == 4:  # always active
            assert max(found.values()) - min(found[i] for i in range(decision.count)) <= 1


def test_fair_draws_under_conditions() -> None:
    a, b = nas.one_of(1, 2, 3), nas.one_of(1, 3, 5)
    space = nas.Space(nas.Conv(a, kernel=b)).where(lambda width, kernel: width != 1 or kernel == 5, [a, b])
    draw = Fair().bind(space, INPUT, {})
    assert all(path in space for path in draw(Random(0)))
    never = nas.Space(nas.Conv(a, kernel=b)).where(lambda width: width > 1, [a])
    with pytest.raises(InfeasibleError, match="fair rounds"):
        Fair().bind(never, INPUT, {})(Random(0))
    table = nas.Space.from_table(space, list(space.enumerate())[:3])
    with pytest.raises(InvalidInputError, match="list of architectures"):
        Fair().bind(table, INPUT, {})


def test_cost_balanced_paths_are_uniform_over_the_bins() -> None:
    """Where independent ones crowd in the middle."""

    model = nas.CostModel(INPUT, classes=10)
    low, high = 35_000.0, 115_000.0
    draw, rng = CostBalanced(low=low, high=high, bins=4).bind(EDGES, INPUT, {"classes": 10}), Random(0)
    values = [model(draw(rng)[0].block).macs for _ in range(120)]
    bins = Counter(min(3, int((v - low) / (high - low) * 4)) for v in values)
    assert sum((bins[i] - 30) ** 2 / 30 for i in range(4)) < 16.3  # chi-squared, 3 degrees: 1 in 1,000
    assert all(low <= value <= high for value in values)


def test_an_empty_bin_gives_the_nearest_path() -> None:
    space = nas.Space(nas.Conv(nas.one_of(1, 2)))  # 1,728 or 3,456 MACs
    draw = CostBalanced(low=5000, high=6000, bins=1, tries=20).bind(space, INPUT, {})
    assert {draw(Random(seed))[0].block.width for seed in range(5)} == {2}
    with pytest.raises(InvalidInputError, match="width"):
        CostBalanced().bind(nas.Space(nas.Conv(4, act=nas.one_of("relu", "relu6"))), INPUT, {})


@pytest.mark.parametrize("rule", [Independent(), Independent(sampler="uniform"), Fair(), CostBalanced(low=1, high=2)])
def test_rules_are_plain_json(rule: object) -> None:
    assert sampler_from(json.loads(json.dumps(rule.to_dict()))) == rule


def test_bad_rules_are_refused() -> None:
    assert sampler_from("uniform") == Independent(sampler="uniform")
    for wrong in ("fairest", {"type": "x"}):
        with pytest.raises(UnknownNameError, match="fair"):
            sampler_from(wrong)
    with pytest.raises(InvalidInputError, match="settings"):
        sampler_from({"type": "fair", "rounds": 2})
    with pytest.raises(InvalidInputError, match="Fair"):
        sampler_from(3)
    with pytest.raises(InvalidInputError, match="below"):
        CostBalanced(low=2, high=1)
    with pytest.raises(UnknownNameError, match="macs"):
        CostBalanced(metric="accuracy")
