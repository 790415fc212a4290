"""The simulated clock, against event lists worked out by hand."""

from __future__ import annotations

import time

import numpy as np
import pytest

from nasturtium.bench import simulate
from nasturtium.errors import InvalidInputError
from nasturtium.trial import Constraint, Objective, Wait
from tests.bench.toy import Listed, Scripted, table

THREE = Listed([0.7, 0.6, 0.9], [3, 1, 2])


def test_two_workers_asynchronous():
    """0: 0-3 on worker 0; 1: 0-1 on worker 1; 2: 1-3 on worker 1; at 3 both are told, by number."""
    strategy = Scripted()
    run = simulate(strategy, THREE, evaluations=3, workers=2)
    assert strategy.calls == [("ask", 0), ("ask", 1), ("tell", 1), ("ask", 2), ("tell", 0), ("tell", 2)]
    assert run.number.tolist() == [1, 0, 2]
    assert run.start.tolist() == [0, 0, 1]
    assert run.end.tolist() == [1, 3, 3]
    assert run.worker.tolist() == [1, 0, 1]
    assert run.makespan() == 3
    assert run.busy_share() == run.busy_share(ramp_down=True) == 1.0


def test_two_workers_deterministic():
    """Proposal 2 waits for trial 0, which ends at 3; trial 1 is told in its turn, after 2 was asked for."""
    strategy = Scripted()
    run = simulate(strategy, THREE, evaluations=3, workers=2, schedule="deterministic")
    assert strategy.calls == [("ask", 0), ("ask", 1), ("tell", 0), ("ask", 2), ("tell", 1), ("tell", 2)]
    assert run.start.tolist() == [0, 0, 3]
    assert run.end.tolist() == [3, 1, 5]
    assert run.worker.tolist() == [0, 1, 0]
    assert run.busy_share() == pytest.approx(4 / 6)  # until 3, the last start: 3 s and 1 s of 2 workers
    assert run.busy_share(ramp_down=True) == pytest.approx(6 / 10)


def test_a_waiting_strategy_leaves_workers_idle():
    """Generations of two: the worker that is free at 1 gets nothing before 3."""
    strategy = Scripted(generation=2)
    run = simulate(strategy, Listed([0.1, 0.2, 0.3, 0.4], [3, 1, 2, 2]), evaluations=4, workers=2)
    assert strategy.calls == [
        ("ask", 0), ("ask", 1), ("tell", 1), ("wait", 2), ("tell", 0), ("ask", 2), ("ask", 3), ("tell", 2), ("tell", 3),
    ]  # fmt: skip
    assert run.start.tolist() == [0, 0, 3, 3]
    assert run.busy_share() == pytest.approx(4 / 6)


def test_a_waiting_strategy_under_the_deterministic_schedule_is_told_one_more():
    strategy = Scripted(generation=2)
    run = simulate(
        strategy, Listed([0.1, 0.2, 0.3, 0.4], [3, 1, 2, 2]), evaluations=4, workers=2, schedule="deterministic"
    )
    assert strategy.calls == [
        ("ask", 0), ("ask", 1), ("tell", 0), ("wait", 2), ("tell", 1), ("ask", 2), ("ask", 3), ("tell", 2), ("tell", 3),
    ]  # fmt: skip
    assert run.start.tolist() == [0, 0, 3, 3]


def test_one_worker_is_the_plain_loop():
    strategy = Scripted()
    for schedule in ("asynchronous", "deterministic"):
        run = simulate(strategy, THREE, evaluations=3, schedule=schedule)
        assert strategy.calls == [("ask", 0), ("tell", 0), ("ask", 1), ("tell", 1), ("ask", 2), ("tell", 2)]
        assert run.end.tolist() == [3, 4, 6]
        assert run.busy_share() == 1.0


def test_a_low_fidelity_costs_its_share_of_the_budget_and_is_no_result():
    strategy = Scripted(epochs=0.25)
    run = simulate(strategy, Listed([0.5] * 9, [8] * 9), evaluations=1.25)
    assert len(run) == 5
    assert run.spent.tolist() == [0.25, 0.5, 0.75, 1.0, 1.25]
    assert run.end.tolist() == [2, 4, 6, 8, 10]
    assert np.isnan(run.best()).all()


def test_the_budget_of_simulated_seconds_ends_asking_not_what_is_under_way():
    run = simulate(Scripted(), THREE, seconds=3.5)
    assert run.end.tolist() == [3, 4]
    assert run.settings["evaluations"] is None


def test_failed_lookups_are_failed_trials():
    run = simulate(Scripted(), Listed([0.2, None, 0.4], [1, 1, 1]), evaluations=3)
    assert run.failed.tolist() == [False, True, False]
    assert np.isnan(run.values[1, 0])
    assert np.isinf(run.violation[1])
    assert run.best().tolist() == [0.2, 0.2, 0.4]
    assert run.spent[-1] == 3


def test_the_report_is_of_the_best_by_validation():
    run = simulate(Scripted(), Listed([0.6, 0.9, 0.8], [1, 1, 1]), evaluations=3)
    assert run.best().tolist() == [0.6, 0.9, 0.9]
    assert run.report["test_accuracy"] == pytest.approx([0.1, 0.4, 0.4])
    assert run.key.tolist() == ["row 0", "row 1", "row 2"]


def test_what_breaks_a_constraint_is_no_result():
    limit = (Constraint(metric="cost", relation=">=", limit=1),)
    run = simulate(Scripted(), Listed([0.9, 0.3, 0.5], [1, 1, 1]), evaluations=3, constraints=limit, bounds={})
    assert np.isnan(run.best()[0])
    assert run.best()[1:].tolist() == [0.3, 0.5]
    assert np.isnan(run.report["test_accuracy"][0])


def test_a_strategy_that_ends_says_why():
    run = simulate(Scripted(last=2), Listed([0.1] * 9, [1] * 9), evaluations=9)
    assert len(run) == 2
    assert run.facts["ended"] == "the script ends"


def test_thinking_passes_on_the_clock_when_asked_to():
    run = simulate(Scripted(sleep=0.01), Listed([0.1] * 3, [1] * 3), evaluations=2, thinking=True)
    assert run.start[0] >= 0.01
    assert run.start[1] >= run.end[0] + 0.01
    assert simulate(Scripted(sleep=0.01), Listed([0.1] * 3, [1] * 3), evaluations=2).end.tolist() == [1, 2]


def test_a_strategy_that_waits_for_nothing_is_named():
    class Stuck(Scripted):
        def ask(self, number):
            return Wait()

    with pytest.raises(InvalidInputError, match="waits for a trial at proposal 0, but all are told"):
        simulate(Stuck(), THREE, evaluations=3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "needs a budget"),
        ({"evaluations": 0}, "`evaluations` must be positive"),
        ({"evaluations": 3, "workers": 0}, "`workers` must be positive"),
        ({"evaluations": 3, "schedule": "random"}, "`schedule` must be"),
    ],
)
def test_bad_settings_are_refused(changes, message):
    with pytest.raises(InvalidInputError, match=message):
        simulate("random", THREE, **changes)


def test_equal_seeds_give_equal_runs_and_512_workers_are_busy():
    costly = (Objective(metric="accuracy", direction="maximize"), Objective(metric="cost", direction="minimize"))
    first, second = (
        simulate("evolution(population=10)", table(), evaluations=60, seed=3, workers=7, objectives=costly)
        for _ in range(2)
    )
    assert first.key.tolist() == second.key.tolist()
    assert first.end.tolist() == second.end.tolist()
    assert first.values.shape == (60, 2)
    assert simulate("random", table(), evaluations=256, workers=128).busy_share() == 1.0


def test_the_time_of_an_event_does_not_grow():
    """A walk through a list on 512 workers, 1,000 and 10,000 events: the loop without a learner."""

    class Walk(Scripted):
        def setup(self, problem):
            Scripted.setup(self, problem)
            self._order = self._order * 40

    def seconds(evaluations):
        begun = time.process_time()
        listed = Listed([0.5] * 256, [1.0 + i % 7 for i in range(256)])
        assert len(simulate(Walk(), listed, evaluations=evaluations, workers=512)) == evaluations
        return (time.process_time() - begun) / evaluations

    assert seconds(10_000) < 3 * seconds(1_000)
