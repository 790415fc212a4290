"""Laws of the intervals."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nasturtium.errors import InvalidInputError
from nasturtium.tasks import mean_interval, paired_difference, smallest_difference, wilson


def test_wilson_published_example():
    # Newcombe (1998), Statistics in Medicine 17, table I: 81 of 263, method 3 (score, no correction).
    interval = wilson(81, 263)
    assert (round(interval.low, 4), round(interval.high, 4)) == (0.2553, 0.3662)
    interval = wilson(0, 20)
    assert (interval.low, round(interval.high, 4)) == (0.0, 0.1611)


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_holds_the_estimate(case):
    correct, n = case
    interval = wilson(correct, n)
    assert 0.0 <= interval.low <= interval.estimate <= interval.high <= 1.0
    mirrored = wilson(n - correct, n)
    assert mirrored.low == pytest.approx(1 - interval.high, abs=1e-12)


@given(st.integers(1, 100_000), st.floats(0, 1))
def test_smallest_difference_shrinks_with_the_root_of_n(n, accuracy):
    one, four = smallest_difference(n, accuracy), smallest_difference(4 * n, accuracy)
    assert 0 < four <= one
    if one > 1 / n and four > 1 / (4 * n):
        assert one == pytest.approx(2 * four)


def test_smallest_difference_value():
    assert smallest_difference(720) == pytest.approx(0.03099, abs=1e-5)


def test_paired_difference_is_antisymmetric_and_needs_the_same_images():
    rng = random.Random(0)
    a = [rng.random() < 0.9 for _ in range(300)]
    b = [rng.random() < 0.8 for _ in range(300)]
    ab, ba = paired_difference(a, b), paired_difference(b, a)
    assert ab.estimate == pytest.approx(-ba.estimate)
    assert ab.low == pytest.approx(-ba.high)
    assert paired_difference(a, a).estimate == 0
    assert not paired_difference(a, a).excludes_zero
    with pytest.raises(InvalidInputError, match="same images"):
        paired_difference(a, b[:-1])


def test_paired_interval_covers_the_truth():
    """Nominal 95 %; 1,000 draws of 200 pairs with a true difference of 0.05 must be covered 93 to 98 % of the time."""
    rng = random.Random(1)
    covered = 0
    for _ in range(1000):
        a, b = [], []
        for _ in range(200):
            u = rng.random()
            a.append(u < 0.90)
            b.append(u < 0.80 or 0.90 <= u < 0.95)
        interval = paired_difference(a, b)
        covered += interval.low <= 0.05 <= interval.high
    assert 0.93 <= covered / 1000 <= 0.98


def test_mean_interval():
    interval = mean_interval([1.0, 2.0, 3.0])
    # t(0.975, 2) = 4.3027; s = 1
    assert interval.high - interval.estimate == pytest.approx(4.30265 / 3**0.5, abs=1e-4)
    assert mean_interval([0.5]).high == float("inf")
    with pytest.raises(InvalidInputError):
        mean_interval([])


@pytest.mark.parametrize("bad", [(-1, 10), (11, 10), (0, 0)])
def test_wilson_refuses(bad):
    with pytest.raises(InvalidInputError, match="correct"):
        wilson(*bad)
