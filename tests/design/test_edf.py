"""Error distributions: weights, curves, tests and effect sizes, against hand-computed cases, scipy and brute force."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
from scipy.stats import ks_2samp, mannwhitneyu

import nasturtium as nas
from nasturtium.design import Distribution, ErrorSample, compare_spaces, complexity_weights, normalized, sample_errors
from nasturtium.design.comparing import ks_statistic, superiority
from nasturtium.design.edf import bin_edges, bin_of
from nasturtium.errors import InfeasibleError, InvalidInputError, TrialError


def sample(name, errors, complexities=None):
    return ErrorSample(
        name=name, errors=tuple(map(float, errors)),
        complexities=tuple(map(float, complexities if complexities is not None else np.ones(len(errors)))),
    )  # fmt: skip


def test_weights_of_the_papers_definition():
    """METHODS, section 6: c = [.1, .12, .5, .9], 3 bins on [0, 1]."""
    found = complexity_weights([0.1, 0.12, 0.5, 0.9], bin_edges(0.0, 1.0, 3))
    np.testing.assert_allclose(found, [1 / 6, 1 / 6, 1 / 3, 1 / 3], rtol=1e-15)


def test_weights_are_those_of_numpys_histogram():
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.uniform(0.008, 0.129, 1000), [0.008, 0.129]])
    edges = bin_edges(0.008, 0.129, 40)
    counts, theirs = np.histogram(values, bins=40, range=(0.008, 0.129))
    np.testing.assert_allclose(edges, theirs)
    np.testing.assert_array_equal(np.bincount(bin_of(values, edges), minlength=40), counts)
    weights = complexity_weights(values, edges)
    np.testing.assert_allclose(np.bincount(bin_of(values, edges), weights=weights), 1 / 40)


def test_empty_bins_and_networks_outside_are_refused():
    with pytest.raises(InvalidInputError, match=r"1 of 4 are empty, the first from 0.5 to 0.75"):
        complexity_weights([0.1, 0.3, 0.9], bin_edges(0.0, 1.0, 4))
    with pytest.raises(InvalidInputError, match=r"1 of 2 complexities lie outside"):
        complexity_weights([0.5, 1.5], bin_edges(0.0, 1.0, 1))
    with pytest.raises(InvalidInputError, match="at least 1"):
        bin_edges(0.0, 1.0, 0)
    with pytest.raises(InvalidInputError, match="span a range"):
        bin_edges(1.0, 1.0, 2)


def test_the_distribution_by_hand():
    found = Distribution([0.4, 0.2, 0.3, 0.3], [1, 1, 3, 3], name="a")
    assert [found.below(e) for e in (0.2, 0.3, 0.35, 0.5)] == [0.0, 0.125, 0.875, 1.0]
    assert [found.above(e) for e in (0.1, 0.2, 0.3, 0.4)] == [1.0, 0.875, 0.125, 0.0]
    np.testing.assert_allclose(found.up_to([0.1, 0.2, 0.3, 0.4]), [0, 0.125, 0.875, 1])
    assert found.minimum == 0.2
    assert found.mean == pytest.approx(0.2 / 8 + 0.3 * 6 / 8 + 0.4 / 8)
    assert found.label == "a [20.0|30.0]"
    x, y = found.curve()
    np.testing.assert_allclose(x, [0.2, 0.2, 0.3, 0.4])
    np.testing.assert_allclose(y, [0, 0.125, 0.875, 1])
    for wrong in (([0.1], [0.0]), ([0.1, 0.2], [1.0]), ([float("nan")], [1.0]), ([0.1], [-1.0])):
        with pytest.raises(InvalidInputError):
            Distribution(*wrong)


def test_share_below_and_above_count_every_network_once():
    rng = np.random.default_rng(1)
    errors = rng.integers(0, 6, 50) / 10
    weights = rng.uniform(0, 1, 50)
    found = Distribution(errors, weights)
    for e in np.unique(errors):
        assert found.below(e) == pytest.approx(weights[errors < e].sum() / weights.sum())
        assert found.above(e) == pytest.approx(weights[errors > e].sum() / weights.sum())
        assert found.before([e])[0] == found.below(e)


def test_the_best_of_k_is_the_exact_expectation():
    errors, weights = np.array([0.1, 0.2, 0.4]), np.array([0.2, 0.3, 0.5])
    found = Distribution(errors, weights)
    for k in (1, 2, 3):
        expected = sum(
            np.prod(weights[list(chosen)]) * errors[list(chosen)].min()
            for chosen in itertools.product(range(3), repeat=k)
        )
        assert found.best_of([k])[0] == pytest.approx(expected)
    assert found.best_of([1])[0] == pytest.approx(found.mean)
    assert found.best_of([1000])[0] == pytest.approx(0.1)
    rng = np.random.default_rng(0)  # the paper resamples
    resampled = rng.choice(errors, size=(20_000, 5), p=weights).min(axis=1).mean()
    assert found.best_of([5])[0] == pytest.approx(resampled, abs=0.002)
    with pytest.raises(InvalidInputError, match="at least 1"):
        found.best_of([0])


def test_without_weights_it_is_scipys_test():
    rng = np.random.default_rng(2)
    a, b = sample("a", rng.normal(0.3, 0.05, 60)), sample("b", rng.normal(0.32, 0.05, 80))
    found = compare_spaces(a, b, resamples=200)
    theirs = ks_2samp(a.errors, b.errors)
    assert found.statistic == pytest.approx(theirs.statistic)
    assert found.p_value == pytest.approx(theirs.pvalue)
    assert found.at == pytest.approx(theirs.statistic_location)
    assert found.better == "first"
    u = mannwhitneyu(b.errors, a.errors).statistic  # pairs in which A's error is smaller
    assert found.superiority == pytest.approx(u / (60 * 80))
    assert found.superiority_low < found.superiority < found.superiority_high
    assert found.effect == pytest.approx(2 * found.superiority - 1)
    assert found.mean_difference == pytest.approx(np.mean(a.errors) - np.mean(b.errors))
    assert found.mean_difference_low < found.mean_difference < found.mean_difference_high
    assert "a against b: D = " in found.sentence


def test_the_permutation_test_is_the_exact_one_on_a_small_case():
    """Two bins; all labellings that keep two of A in the first bin of four, and one in the second of three."""
    errors = np.array([0.1, 0.4, 0.15, 0.2, 0.3, 0.5, 0.6])
    places = np.array([0, 0, 1, 0, 0, 1, 1])  # A is the first three
    complexities = np.where(places == 0, 0.2, 0.8)
    edges = bin_edges(0.0, 1.0, 2)

    def distance(of_a):
        of_b = [i for i in range(7) if i not in of_a]
        curves = [Distribution(errors[list(g)], complexity_weights(complexities[list(g)], edges)) for g in (of_a, of_b)]
        return ks_statistic(*curves)[0]

    mine = distance((0, 1, 2))
    every = [distance((*pair, one)) for pair in itertools.combinations([0, 1, 3, 4], 2) for one in (2, 5, 6)]
    exact = np.mean([d >= mine - 1e-12 for d in every])
    a, b = sample("a", errors[:3], complexities[:3]), sample("b", errors[3:], complexities[3:])
    found = compare_spaces(a, b, edges=edges, permutations=2000)
    assert "(no interval)" in found.sentence  # bins of one and two networks
    assert found.superiority == pytest.approx(1 / 4 + 1 / 4 * 1 / 2 + 1 / 2)
    assert found.to_dict()["superiority_low"] is None
    assert found.statistic == pytest.approx(mine)
    assert found.p_value == pytest.approx(exact, abs=0.04)
    assert found.method == "permutation within bins"


def test_a_difference_that_is_only_of_complexity_is_no_difference():
    """Errors depend on complexity alone; one space has more large networks. The plain test is fooled."""
    rng = np.random.default_rng(3)
    small, large = rng.uniform(0, 1, 150) ** 2, rng.uniform(0, 1, 150) ** 0.5
    a, b = (sample(n, 0.5 - 0.3 * c + rng.normal(0, 0.02, 150), c) for n, c in (("small", small), ("large", large)))
    assert compare_spaces(a, b, resamples=1).p_value < 1e-6
    kept, edges, curves = normalized([a, b], bins=5)
    found = compare_spaces(*kept, edges=edges, permutations=200, resamples=50)
    assert found.p_value > 0.05
    assert abs(found.mean_difference) < 0.02
    assert found.statistic == pytest.approx(ks_statistic(*curves)[0])
    shifted = sample("worse", np.array(b.errors) + 0.05, b.complexities)
    kept, edges, _ = normalized([a, shifted], bins=5)
    worse = compare_spaces(*kept, edges=edges, permutations=200, resamples=50)
    assert worse.p_value == pytest.approx(1 / 201)
    assert worse.better == "first"
    assert worse.mean_difference_high < 0


def test_p_values_are_uniform_where_the_spaces_are_alike():
    rng = np.random.default_rng(4)
    found = []
    for seed in range(30):
        c = rng.uniform(0, 1, 60)
        e = 0.5 - 0.2 * c + rng.normal(0, 0.05, 60)
        a, b = sample("a", e[:25], c[:25]), sample("b", e[25:], c[25:])
        kept, edges, _ = normalized([a, b], bins=2)
        found.append(compare_spaces(*kept, edges=edges, permutations=40, resamples=1, seed=seed).p_value)
    assert np.sum(np.array(found) <= 0.1) <= 9  # 3 of 30 expected; 10 or more have probability 5e-4
    assert 0.3 < np.mean(found) < 0.7


def test_intervals_cover_the_truth_where_bins_hold_few_networks():
    """Two spaces of one distribution, five bins of three networks. As many draws as a bin holds cover 82 to 87 %."""
    rng, edges, covered, rounds = np.random.default_rng(5), np.arange(6.0), np.zeros(2), 80
    complexities = np.repeat(np.arange(5) + 0.5, 3)
    for seed in range(rounds):
        a, b = (sample(n, 0.5 - 0.02 * complexities + rng.normal(0, 0.05, 15), complexities) for n in "ab")
        found = compare_spaces(a, b, edges=edges, permutations=1, resamples=100, seed=seed)
        covered += [
            found.superiority_low <= 0.5 <= found.superiority_high,
            found.mean_difference_low <= 0 <= found.mean_difference_high,
        ]
    assert (covered / rounds >= 0.86).all()  # 0.93 expected; 0.86 or less has probability 0.02


def test_the_bootstrap_has_the_variance_of_a_mean():
    """Each bin's mean varies with s^2 / m, s^2 the unbiased variance; differences of means add up."""
    rng, edges = np.random.default_rng(6), np.arange(3.0)
    complexities = np.repeat([0.5, 1.5], [3, 4])
    errors = [rng.normal(0.5, 0.1, 7) for _ in "ab"]
    a, b = (sample(n, e, complexities) for n, e in zip("ab", errors, strict=True))
    found = compare_spaces(a, b, edges=edges, permutations=1, resamples=4000, confidence=0.6827)
    exact = sum((e[:3].var(ddof=1) / 3 + e[3:].var(ddof=1) / 4) / 4 for e in errors) ** 0.5
    assert (found.mean_difference_high - found.mean_difference_low) / 2 == pytest.approx(exact, rel=0.12)


def test_the_difference_of_complexity_within_a_bin_is_told():
    a, b = sample("a", [0.1, 0.2, 0.3], [1.0, 2.0, 11.0]), sample("b", [0.1, 0.2, 0.3], [3.5, 13.0, 15.0])
    found = compare_spaces(a, b, edges=np.array([0.0, 10.0, 20.0]), permutations=1, resamples=0)
    assert found.complexity_shift == pytest.approx((-0.2 - 0.3) / 2)
    assert found.largest_shift == pytest.approx(-0.3)
    assert "differ by -0.25 of its width, at most by -0.30" in found.sentence
    assert compare_spaces(a, b, resamples=0).complexity_shift is None


def test_errors_that_are_no_fractions_are_not_shown_in_per_cent():
    a, b = sample("a", [1.5, 2.5, 3.5, 20.0]), sample("b", [2.0, 2.5, 4.5, 25.0])
    assert not a.in_per_cent
    assert Distribution(a.errors, name="a").label == "a [1.5|6.875]"
    assert "mean error -1.625 [" in compare_spaces(a, b, resamples=20).sentence
    loss = ErrorSample(name="loss", errors=(0.2, 0.3), complexities=(1.0, 1.0), fraction=False)
    assert Distribution(loss.errors, name="loss", fraction=loss.in_per_cent).label == "loss [0.2|0.25]"


def test_superiority_counts_ties_half():
    assert superiority(Distribution([1.0, 2.0]), Distribution([2.0, 3.0])) == pytest.approx(7 / 8)
    assert superiority(Distribution([1.0]), Distribution([1.0])) == 0.5


def test_normalized_takes_the_common_range():
    a, b = sample("a", [0.1, 0.2, 0.3], [1, 2, 3]), sample("b", [0.1, 0.2, 0.3, 0.4], [2, 2.5, 3, 9])
    kept, edges, curves = normalized([a, b], bins=1)
    assert [len(s.errors) for s in kept] == [2, 3]
    assert edges.tolist() == [2.0, 3.0]
    assert [c.name for c in curves] == ["a", "b"]
    with pytest.raises(InvalidInputError, match="The space 'a': Each bin"):
        normalized([a, b], bins=3)
    with pytest.raises(InvalidInputError, match="span a range"):
        normalized([a, sample("c", [0.1], [7])], bins=1)
    with pytest.raises(InvalidInputError, match="No network of 'a'"):
        a.within(7, 8)
    with pytest.raises(InvalidInputError, match="needs one complexity for each"):
        ErrorSample(name="a", errors=(0.1,), complexities=())
    with pytest.raises(InvalidInputError, match="finite"):
        ErrorSample(name="a", errors=(float("nan"),), complexities=(1.0,))


SPACE = nas.Space(nas.Conv(nas.int_range(1, 100), kernel=nas.one_of(1, 3)))


def width(architecture):
    return float(architecture.block.width)


def test_sampled_errors_are_the_estimators_and_can_be_continued():
    asked = []

    def estimate(architecture, number):
        asked.append(number)
        return 1 / architecture.block.width

    found = sample_errors(SPACE, estimate, 12, 5, complexity=width, name="convs", low=10, high=60)
    assert asked == list(range(12))
    assert all(10 <= c <= 60 for c in found.complexities)
    np.testing.assert_allclose(np.array(found.errors) * found.complexities, 1)
    asked.clear()
    known = dict(enumerate(found.errors[:9]))
    again = sample_errors(SPACE, estimate, 12, 5, complexity=width, name="convs", low=10, high=60, known=known)
    assert again == found
    assert asked == [9, 10, 11]
    fewer = sample_errors(SPACE, estimate, 3, 5, complexity=width, name="convs", low=10, high=60)
    assert fewer.errors == found.errors[:3]


def test_failed_networks_are_counted_and_other_errors_pass():
    def estimate(architecture, number):
        if number % 2:
            raise TrialError("diverged", kind="diverged")
        return 0.5

    found = sample_errors(SPACE, estimate, 6, 0, complexity=width, failure=TrialError)
    assert (len(found.errors), found.failed) == (3, 3)
    with pytest.raises(TrialError):
        sample_errors(SPACE, estimate, 6, 0, complexity=width)
    with pytest.raises(InvalidInputError, match="All 2 networks"):
        sample_errors(SPACE, lambda a, k: float("nan"), 2, 0, complexity=width)
    with pytest.raises(InfeasibleError, match="the nearest has 100"):
        sample_errors(SPACE, estimate, 1, 0, complexity=width, low=101)


def test_uniform_sampling_is_uniform_over_architectures():
    space = nas.Space(nas.repeat(nas.MBConv(8, kernel=nas.one_of(3, 5, 7)), nas.one_of(1, 2)))
    rng = random.Random(0)
    deep = np.mean([len(space.sample(rng).block.blocks) == 2 for _ in range(600)])
    assert deep == pytest.approx(9 / 12, abs=0.06)
    drawn = sample_errors(space, lambda a, k: 0.0, 600, 1, complexity=lambda a: len(a.block.blocks))
    assert np.mean(np.array(drawn.complexities) == 2) == pytest.approx(9 / 12, abs=0.06)
