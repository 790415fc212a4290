"""The whole bench against figures that others measured on the same table."""

from __future__ import annotations

import numpy as np
import pytest

from nasturtium.bench import compare, summarize

TABLES = ("nasbench201/cifar10", "nasbench201/cifar100", "nasbench201/imagenet16")
EVOLUTION = "evolution(population=20, sample=5)"
TEST_AT_100 = {EVOLUTION: (94.12, 72.58, 46.06), "random": (93.80, 71.42, 45.41)}
"""Mean test accuracy of the best by validation after 100 evaluations, in %, by another program on this table."""


@pytest.mark.slow
@pytest.mark.parametrize("strategy", TEST_AT_100)
def test_baselines_are_where_others_measured_them(strategy, data_root, tmp_path):
    """50 seeds; the tolerance is four standard errors of our mean."""
    found = compare(
        [strategy], TABLES, directory=tmp_path, seeds=50, evaluations=100, processes=1, data_root=str(data_root)
    )
    for standing in summarize(found, checkpoints=(100,)).standings:
        expected = TEST_AT_100[strategy][TABLES.index(standing.table)]
        last = [100 * run.report["test_accuracy"][-1] for run in found.runs[strategy, standing.table]]
        error = float(np.std(last, ddof=1) / np.sqrt(len(last)))
        assert 100 * standing.report["test_accuracy"] == pytest.approx(expected, abs=4 * error)


@pytest.mark.slow
def test_the_bests_of_the_tables_are_the_published_ones(data_root, tmp_path):
    """Dong et al. (2021), NATS-Bench: best validation accuracy, and its own test accuracy, in %."""
    found = compare(
        ["random"], TABLES, directory=tmp_path, seeds=1, evaluations=2, processes=1, data_root=str(data_root)
    )
    for table, best, test in zip(TABLES, (91.61, 73.49, 46.73), (94.37, 73.51, 46.20), strict=True):
        bounds = found.runs["random", table][0].extremes["accuracy"]
        assert 100 * bounds["best"] == pytest.approx(best, abs=0.006)
        assert 100 * bounds["report"]["test_accuracy"] == pytest.approx(test, abs=0.006)
