"""The bars of the default strategy in short: few seeds, small budgets. In full: benchmarks/search.py."""

from __future__ import annotations

import pytest

from nasturtium.bench import compare, summarize
from nasturtium.trial import Objective

TABLES = ("nasbench201/cifar10", "nasbench201/cifar100", "nasbench201/imagenet16")
EVOLUTION = "evolution(population=20, sample=5)"
MARGIN = 0.1
"""Points of validation accuracy by which the default may be worse, set beforehand by the issue."""
SEEDS, EVALUATIONS = 5, 60


@pytest.fixture(scope="module")
def nasbench201(data_root) -> str:
    """The folder of the tables' data."""
    if not (data_root / "nasbench201").is_dir():
        pytest.skip(f"no table of NAS-Bench-201: {data_root / 'nasbench201'} is absent")
    return str(data_root)


@pytest.mark.slow
def test_the_default_is_better_than_random_and_not_worse_than_evolution(nasbench201, tmp_path):
    found = compare(
        ["auto", "random", EVOLUTION], TABLES, directory=tmp_path, seeds=SEEDS, evaluations=EVALUATIONS, processes=1,
        data_root=nasbench201,
    )  # fmt: skip
    standings = summarize(found, checkpoints=(EVALUATIONS,)).standings
    regret = {(s.strategy, s.table): s.regret for s in standings}
    for table in TABLES:
        assert regret["auto", table] < regret["random", table]
        assert regret["auto", table] < regret[EVOLUTION, table] + MARGIN


@pytest.mark.slow
def test_with_two_objectives_the_default_covers_more_than_random(nasbench201, tmp_path):
    objectives = (
        Objective(metric="accuracy", direction="maximize"), Objective(metric="latency_raspi4", direction="minimize"),
    )  # fmt: skip
    found = compare(
        ["auto", "random"], TABLES[:1], directory=tmp_path, seeds=SEEDS, evaluations=EVALUATIONS, processes=1,
        objectives=objectives, data_root=nasbench201,
    )  # fmt: skip
    volume = {s.strategy: s.hypervolume for s in summarize(found, checkpoints=(EVALUATIONS,)).standings}
    assert volume["auto"] > volume["random"]
