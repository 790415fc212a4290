"""Statistics of latency on synthetic times whose truth is known."""

import math

import numpy as np
import pytest
from scipy import stats

from nasturtium.errors import InvalidInputError
from nasturtium.hardware import agent, statistics


def block(*milliseconds, switches=0):
    return [(int(1e6 * ms), int(1e6 * ms), switches) for ms in milliseconds]


def test_a_process_is_the_median_of_its_turns_each_with_the_references_around_it():
    result = {
        "network": [block(2, 3, 4), block(5, 5, 50)],
        "reference": [block(1), block(2), block(4)],
        "settled": True,
    }
    found = statistics.process_times(result, "wall")
    assert found.turns == (3e-3, 5e-3)
    assert found.references == (1.5e-3, 3e-3)
    assert found.seconds == pytest.approx(4e-3)
    assert found.wall == pytest.approx(4.5e-3)
    assert found.runs == 6
    assert found.outliers == pytest.approx(1 / 6)


def test_processor_time_leaves_out_what_the_system_took():
    taken = [(9_000_000, 2_000_000, 1)] * 3
    result = {"network": [taken], "reference": [block(1), block(1)], "settled": False}
    assert statistics.process_times(result, "processor").seconds == pytest.approx(2e-3)
    assert statistics.process_times(result, "wall").seconds == pytest.approx(9e-3)
    assert statistics.process_times(result, "wall").disturbed == 1.0


@pytest.mark.parametrize(
    "result", [{"network": [], "reference": [[(1, 1, 0)]]}, {"network": [[(1, 1, 0)]], "reference": []}]
)
def test_turns_without_references_are_refused(result):
    with pytest.raises(InvalidInputError, match="before, between and after"):
        statistics.process_times(result, "wall")


def test_the_tail_is_that_of_the_expanded_percentile_interval():
    # Phi(sqrt(5/4) * t(0.025; 4)) by tables: t = -2.776, so Phi(-3.104) = 0.00095
    assert statistics.expanded_tail(5, 0.95) == pytest.approx(0.00095, abs=2e-5)
    assert statistics.expanded_tail(10_000, 0.95) == pytest.approx(0.025, abs=1e-4)


@pytest.mark.parametrize(("shape", "count"), [("normal", 6), ("heavy", 6), ("skewed", 12)])
def test_nineteen_of_twenty_intervals_hold_the_median_over_processes(count, shape):
    rng = np.random.default_rng(7)
    draw = {
        "normal": lambda: rng.normal(0, 0.03, count),
        "heavy": lambda: 0.03 * rng.standard_t(3, count),
        "skewed": lambda: 0.05 * (rng.exponential(1, count) - math.log(2)),
    }[shape]
    held = 0
    for trial in range(150):  # each process differs by a draw; its turns scatter around it
        effects = draw()
        turns = [np.exp(effect + rng.normal(0, 0.01, 4)) for effect in effects]
        found = statistics.interval(turns, resamples=200, seed=trial)
        held += found.low <= 1.0 <= found.high
    assert held >= stats.binom.ppf(0.001, 150, 0.95)  # 133, or 89 %


def test_an_interval_over_runs_of_one_process_would_be_too_narrow():
    rng = np.random.default_rng(1)
    turns = [np.exp(effect + rng.normal(0, 0.001, 50)) for effect in rng.normal(0, 0.05, 6)]
    found = statistics.interval(turns)
    assert found.half_width > 0.02  # the processes' 5 %, not the turns' 0.1 %


def test_an_interval_is_the_same_for_the_same_times_and_holds_its_median():
    turns = [[1.0, 1.1], [1.2, 1.0], [0.9, 1.4]]
    assert statistics.interval(turns, seed=3) == statistics.interval(turns, seed=3)
    found = statistics.interval(turns)
    assert found.low <= found.seconds <= found.high


@pytest.mark.parametrize("turns", [[[1.0], [1.0]], [[1.0], [1.0], []], [[1.0], [1.0], [0.0]]])
def test_too_few_processes_and_impossible_times_are_refused(turns):
    with pytest.raises(InvalidInputError), np.errstate(divide="ignore"):
        statistics.interval(turns)


def test_the_reference_takes_out_what_slows_both():
    speed = np.exp(np.random.default_rng(0).normal(0, 0.1, 8))
    seconds, references = 2e-3 * speed, 1e-4 * speed
    ratios = [[s / r] for s, r in zip(seconds, references, strict=True)]
    known = statistics.interval(ratios, references=1e-4)
    assert known.seconds == pytest.approx(2e-3)
    assert known.half_width < 1e-9
    observed = statistics.interval(ratios, references=references)  # no known reference: its scatter is in the interval
    assert observed.seconds == pytest.approx(20 * math.exp(np.median(np.log(references))))
    assert observed.half_width > 0.03


def test_drift_is_found_and_chance_is_not():
    order = np.arange(12)
    assert statistics.drift(np.exp(0.02 * order)) == pytest.approx(math.expm1(0.22))
    assert statistics.drift([1.0, 1.1, 0.9, 1.05, 0.95, 1.02, 0.98, 1.0]) is None
    assert statistics.drift([1.0, 2.0, 3.0, 4.0, 5.0]) is None  # 2 in 120 by chance
    assert statistics.drift([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]) is not None  # 2 in 720
    assert statistics.drift([1.0, 2.0, 3.0, 4.0, 6.0, 5.0]) is None  # 12 in 720
    rng = np.random.default_rng(3)
    alarms = sum(statistics.drift(np.exp(rng.normal(0, 0.1, 10))) is not None for _ in range(300))
    assert alarms <= stats.binom.ppf(0.999, 300, statistics.DRIFT_LEVEL)


def test_times_settle_when_they_no_longer_fall():
    assert not agent.is_settled([1.0] * 8)  # too few to tell
    assert agent.is_settled([5.0, 3.0, 2.0] + [1.0] * 27)
    assert not agent.is_settled([10.0 * 0.9**i for i in range(30)])
    rng = np.random.default_rng(0)
    assert agent.is_settled(list(1 + rng.exponential(0.02, 60)))


def test_warming_up_ends_when_settled_or_gives_up(monkeypatch):
    times = iter([9, 8, 7, *[1] * 100])
    monkeypatch.setattr(agent, "sample", lambda run: (next(times),) * 3)
    runs, settled = agent.warm_up(lambda: None, least=0.0, most=10.0)
    assert settled
    assert 9 <= runs < 100
    falling = iter(10.0 * 0.9**i for i in range(10**6))
    monkeypatch.setattr(agent, "sample", lambda run: (next(falling),) * 3)
    assert agent.warm_up(lambda: None, least=0.0, most=0.0) == (3, False)
