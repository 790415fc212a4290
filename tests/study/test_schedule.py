"""What a strategy sees depends on the seed and the declared concurrency, never on workers, stops or chance."""

from __future__ import annotations

import random

import pytest
import study_fakes as fakes

from nasturtium.errors import InvalidInputError, StoreError
from nasturtium.study.runner import trial_seed


@pytest.mark.parametrize(("workers", "climber"), [(2, {}), (3, {"wait_every": 3})])
def test_any_number_of_workers_gives_the_same_trials(run, workers, climber) -> None:
    alone, several = (
        fakes.summary(run(f"{count}.db", trials=12, climber=climber, workers=count, fake={"pause": 0.01}))
        for count in (1, workers)
    )
    assert alone == several


def test_proposal_k_sees_exactly_the_trials_up_to_k_minus_concurrency(run) -> None:
    for concurrency in (1, 2, 4, 7):
        seen = {}
        strategy = Watcher(seen)
        run(f"{concurrency}.db", trials=10, concurrency=concurrency, strategy=strategy)
        assert seen == {k: list(range(max(0, k - concurrency + 1))) for k in range(10)}


class Watcher(fakes.Climber):
    def __init__(self, seen) -> None:
        super().__init__()
        self.seen = seen

    def to_dict(self):
        return {}

    def ask(self, number):
        self.seen[number] = [t.number for t in self.told]
        return super().ask(number)


def test_concurrency_and_seed_matter(run) -> None:
    results = [fakes.summary(run(f"{c}{s}.db", concurrency=c, seed=s)) for c, s in ((1, 0), (4, 0), (4, 1))]
    assert results[0] != results[1] != results[2]


@pytest.mark.slow
def test_the_asynchronous_schedule_is_replayed_from_its_log(run, tmp_path) -> None:
    whole = run("a.db", trials=12, schedule="asynchronous", workers=2, fake={"pause": 0.02})
    assert len(whole.trials) == 12
    assert run("a.db", trials=12, schedule="asynchronous", workers=2, fake={"pause": 0.02}).trials == whole.trials

    class Stop(Exception):
        pass

    def stop_at(limit):
        def listen(event) -> None:
            if type(event).__name__ == "TrialFinished" and event.trial.number == limit:
                raise Stop

        return listen

    options = {"trials": 12, "schedule": "asynchronous", "workers": 2, "fake": {"pause": 0.02}}
    for limit in (2, 7):
        with pytest.raises(Stop):
            run("b.db", listeners=[stop_at(limit)], **options)
    strategy = fakes.Climber()
    study = run("b.db", **(options | {"strategy": strategy}))
    assert [t.number for t in study.trials] == list(range(12))
    # The resumed strategy was told nothing twice. (What ends after the last proposal need not be told any more, and
    # trials end in any order here.)
    told = [t.number for t in strategy.told]
    assert len(told) == len(set(told)) >= 8


def test_exhausted_ends_the_search_and_a_rerun_says_the_same(run) -> None:
    for _ in range(2):
        study = run(climber={"limit": 5}, trials=20)
        assert len(study.trials) == 5
        assert study.status == "exhausted"
        assert study.facts["runs"]["search"]["reason"] == "the climber is tired"


def test_a_larger_budget_extends_a_study_as_if_it_had_been_given_at_once(run) -> None:
    run("grown.db", trials=5)
    grown = run("grown.db", trials=12)
    assert fakes.summary(grown) == fakes.summary(run("whole.db", trials=12))
    with pytest.raises(StoreError, match=r"budget of 12 trials, given 5. A budget can only be raised"):
        run("grown.db", trials=5)


def test_a_strategy_that_waits_for_nothing_is_refused(run) -> None:
    class Waiter(fakes.Climber):
        def ask(self, number):
            from nasturtium.trial import Wait

            return Wait() if number == 3 else super().ask(number)

    with pytest.raises(InvalidInputError, match=r"waits for a trial at proposal 3, but all are told"):
        run(strategy=Waiter())


def test_a_time_budget_ends_the_search_after_what_runs(run) -> None:
    study = run(trials=500, seconds=1.0, fake={"epochs": 1, "pause": 0.1})
    assert 2 <= len(study.trials) <= 20
    assert "time budget" in study.facts["runs"]["search"]["reason"]


def test_seeds_of_trials_are_keyed() -> None:
    rng = random.Random(0)
    keys = {(rng.randrange(5), rng.choice(["search", "reference"]), rng.randrange(100)) for _ in range(200)}
    seeds = {key: trial_seed(*key) for key in keys}
    assert len(set(seeds.values())) == len(keys)
    assert all(0 <= seed < 2**31 for seed in seeds.values())
