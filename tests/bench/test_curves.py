"""Curves of runs that are small enough to work out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nasturtium.bench import simulate
from nasturtium.bench.comparison import Comparison
from nasturtium.bench.curves import (
    best_at,
    best_at_seconds,
    evaluation_grid,
    evaluations_to_reach,
    hypervolume_at,
    mean_evaluations_to_reach,
    regret,
    report_at,
    scale_of,
)  # fmt: skip
from nasturtium.bench.summary import checkpoints_of, ranking, regrets, summarize
from nasturtium.trial import Objective
from tests.bench.toy import Listed, Scripted

VALUES = [0.5, 0.7, 0.6, 0.9]


def run_of(values, durations=None, seed=0, **changes):
    listed = Listed([*values, 0.95, 0.1], [*(durations or [1.0] * len(values)), 1, 1])
    made = simulate(Scripted(), listed, evaluations=len(values), seed=seed, **changes)
    made.settings["table"] = "listed"  # what `compare` adds
    return made


def labelled(run, label):
    run.facts["label"] = label
    return run


def test_regret_is_in_points_behind_the_tables_best():
    run = run_of(VALUES)
    best = best_at(run, np.array([1, 2, 3, 4, 9]))
    assert best == pytest.approx([0.5, 0.7, 0.7, 0.9, 0.9])
    assert regret(run, best) == pytest.approx([45, 25, 25, 5, 5])


def test_before_the_first_result_the_tables_worst_stands_in():
    listed = Listed([0.5, 0.95, 0.1], [8, 8, 8])
    run = simulate(Scripted(epochs=0.25), listed, evaluations=0.5)
    assert best_at(run, np.array([0.0, 0.5])).tolist() == [0.1, 0.1]
    assert regret(run, best_at(run, np.array([0.5]))) == pytest.approx([85])
    assert np.isnan(report_at(run, "test_accuracy", np.array([0.5]))).all()


def test_over_time_an_evaluation_counts_from_its_end():
    run = run_of(VALUES, [4, 1, 1, 1], workers=2)  # ends: 4; 1, 2, 3
    assert run.number.tolist() == [1, 2, 3, 0]
    assert best_at_seconds(run, np.array([0.5, 1, 2.9, 3, 4])) == pytest.approx([0.1, 0.7, 0.7, 0.9, 0.9])


def test_over_time_the_deterministic_schedule_does_not_wait_to_be_told():
    run = run_of(VALUES, [4, 1, 1, 1], workers=2, schedule="deterministic")
    assert run.number.tolist() == [0, 1, 2, 3]
    assert best_at_seconds(run, np.array([1, 4]))[0] == pytest.approx(0.7)


def test_the_report_is_read_at_the_same_evaluations():
    assert report_at(run_of(VALUES), "test_accuracy", np.array([1, 3, 4])) == pytest.approx([0.0, 0.2, 0.4])


def test_evaluations_to_reach():
    runs = [run_of(VALUES), run_of([0.9, 0.1, 0.1, 0.1])]
    assert [evaluations_to_reach(run, 0.7) for run in runs] == [2, 1]
    assert evaluations_to_reach(runs[0], 0.94) == math.inf
    assert mean_evaluations_to_reach(runs, 0.8) == 2  # the mean is 0.7, 0.8, 0.8, 0.9
    assert mean_evaluations_to_reach(runs, 0.92) == math.inf


def test_hypervolume_is_the_share_of_the_tables_box():
    """Accuracy from 0.0 to 1.0, cost (the place in the list) from 0 to 4: boxes by hand."""
    both = (Objective(metric="accuracy", direction="maximize"), Objective(metric="cost", direction="minimize"))
    bounds = {"accuracy": {"best": 1.0, "worst": 0.0}, "cost": {"best": 0.0, "worst": 4.0}}
    listed = Listed([0.5, 0.25, 0.75, 1.0], [1] * 4)
    run = simulate(Scripted(), listed, evaluations=4, objectives=both, bounds=bounds)
    # (0.5, cost 0): 0.5; (0.25, 1) is dominated; (0.75, 2): + 0.25 * 0.5; (1, 3): + 0.25 * 0.25
    assert hypervolume_at(run, np.array([0, 1, 2, 3, 4])) == pytest.approx([0, 0.5, 0.5, 0.625, 0.6875])


def test_grids_are_whole_and_bounded():
    assert evaluation_grid(5).tolist() == [1, 2, 3, 4, 5]
    grid = evaluation_grid(100_000)
    assert len(grid) <= 300
    assert grid[-1] == 100_000
    assert (grid == np.rint(grid)).all()


def test_points_for_fractions_and_plain_units_for_others():
    assert scale_of("accuracy") == (100.0, "points")
    assert scale_of("test_accuracy") == (100.0, "points")
    assert scale_of("macs") == (1.0, "count")
    assert scale_of("latency_pixel3") == (1.0, "latency_pixel3")


def test_a_summary_by_hand():
    """Two strategies, two seeds, one table: means, ranks, margins and targets."""
    good = [labelled(run_of(VALUES, seed=s), "evolution") for s in (0, 1)]
    bad = [labelled(run_of([0.5, 0.5, 0.5, 0.6 + 0.1 * s], seed=s), "random") for s in (0, 1)]
    comparison = Comparison.of([*good, *bad])
    assert checkpoints_of(comparison, (2, 4, 10)) == [2, 4]
    assert checkpoints_of(comparison, (3, 10)) == [3, 4]
    summary = summarize(comparison, checkpoints=(2, 4))
    standing = {(s.strategy, s.evaluations): s for s in summary.standings}
    assert standing["evolution", 4].regret == pytest.approx(5)
    assert standing["random", 4].regret == pytest.approx(30)
    assert (standing["random", 4].regret_low, standing["random", 4].regret_high) == pytest.approx((25, 35))
    assert standing["random", 4].report == {"test_accuracy": pytest.approx(0.15)}
    margins = {m.evaluations: m for m in summary.margins}
    assert margins[4].difference == pytest.approx(-25)
    assert (margins[4].other, margins[4].worse, margins[4].seeds) == ("random", "no", 2)
    reach = {r.strategy: r for r in summary.reaches}
    assert (reach["evolution"].mean, reach["random"].mean, reach["random"].share) == (4, math.inf, 0)
    found = ranking(comparison, 4)
    assert found is not None
    assert (found.strategies, found.runs.mean, found.runs.blocks) == (("evolution", "random"), (1.0, 2.0), 2)
    assert (found.tables.mean, found.tables.blocks) == ((1.0, 2.0), 1)
    assert summary.to_dict()["reaches"][1]["mean"] is None  # plain JSON has no infinity


def test_regrets_are_one_row_a_seed():
    assert regrets([run_of(VALUES), run_of(VALUES)], np.array([1.0, 4.0])) == pytest.approx(
        np.array([[45, 5], [45, 5]])
    )
