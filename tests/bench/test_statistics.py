"""Statistics against values of the literature, of scipy, and of hand computation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from nasturtium.bench.statistics import band, cliques, critical_difference, difference, from_average_ranks, rank

DEMSAR_Q = {2: 1.960, 3: 2.343, 4: 2.569, 5: 2.728, 6: 2.850, 7: 2.949, 8: 3.031, 9: 3.102, 10: 3.164}
"""Demšar (2006), table 5 (a): critical values of the two-tailed Nemenyi test at 5 %."""


@pytest.mark.parametrize(("k", "q"), DEMSAR_Q.items())
def test_critical_values_are_those_of_the_paper(k, q):
    assert critical_difference(k, 1) / math.sqrt(k * (k + 1) / 6) == pytest.approx(q, abs=0.0015)


def test_demsars_example_of_four_classifiers_on_fourteen_data_sets():
    """Section 3.2.4: ranks 3.143, 2.000, 2.893, 1.964 give chi-square 9.28, F 3.69 and CD 1.25."""
    found = from_average_ranks([3.143, 2.000, 2.893, 1.964], 14)
    assert found.chi_square == pytest.approx(9.28, abs=0.01)
    assert found.critical_difference == pytest.approx(1.25, abs=0.005)
    assert found.p_value == pytest.approx(stats.f.sf(3.69, 3, 39), rel=0.01)


def test_friedman_is_scipys_where_nothing_ties():
    scores = np.random.default_rng(0).normal(size=(9, 5)) + np.arange(5)
    assert rank(scores).chi_square == pytest.approx(stats.friedmanchisquare(*scores.T).statistic)


def test_ranks_average_ties():
    assert rank(np.array([[1.0, 1.0, 2.0], [3.0, 1.0, 2.0]])).mean == (2.25, 1.25, 2.5)


def test_one_block_or_one_strategy_has_no_test():
    assert math.isnan(rank(np.array([[1.0, 2.0]])).p_value)
    assert math.isnan(rank(np.array([[1.0], [2.0]])).critical_difference)


def test_ranks_that_never_differ_are_certain():
    assert rank(np.array([[1.0, 2.0, 3.0]] * 5)).p_value == 0.0


def test_cliques_are_the_largest_groups_within_the_difference():
    assert cliques([1.0, 1.5, 2.4, 4.0], 1.0) == [(0, 1), (1, 2)]
    assert cliques([3.0, 1.0, 2.0], 2.0) == [(1, 2, 0)]
    assert cliques([1.0, 3.0], 1.0) == []


def test_the_band_is_scipys_percentile_bootstrap():
    samples = np.random.default_rng(1).exponential(size=30)
    found = band(samples[:, None], resamples=20_000)
    interval = stats.bootstrap(
        (samples,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(2)
    ).confidence_interval
    assert found.mean[0] == pytest.approx(samples.mean())
    assert found.low[0] == pytest.approx(interval.low, abs=0.03)
    assert found.high[0] == pytest.approx(interval.high, abs=0.03)
    assert found.n == 30


def test_the_band_of_a_constant_is_the_constant():
    found = band(np.full((5, 3), 0.25))
    assert (found.mean == 0.25).all()
    assert (found.low == 0.25).all()
    assert (found.high == 0.25).all()


def test_differences_are_paired():
    found = difference([1.0, 2.0, 3.0], [0.9, 1.9, 2.9])
    assert found.mean == pytest.approx(0.1)
    assert found.low == pytest.approx(0.1)
    assert (found.verdict(0.2), found.verdict(0.05), found.n) == ("no", "yes", 3)
    assert difference([0.0, 1.0], [0.0, 0.0]).verdict(0.5) == "open"
