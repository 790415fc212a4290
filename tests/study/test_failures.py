"""Trials that fail in every way: each is a failed trial with its kind, not a dead search."""

from __future__ import annotations

import pytest
import study_fakes as fakes

import nasturtium as nas
from nasturtium.errors import InvalidInputError, StoreError, TrialError
from nasturtium.study import Study, WorkerLost


@pytest.mark.parametrize("workers", [1, 2])
def test_exceptions_and_divergence_are_failed_trials(run, workers) -> None:
    faults = {"1": "raise", "2": "diverge", "3": "nan", "4": "memory error"}
    study = run(fake={"faults": faults}, workers=workers)
    kinds = {t.number: t.error_kind for t in study.trials}
    assert kinds == {0: None, 1: "crashed", 2: "diverged", 3: "diverged", 4: "memory", 5: None, 6: None, 7: None}
    failed = study.failures
    assert [t.number for t in failed] == [1, 2, 3, 4]
    assert all(not t.metrics for t in failed)
    assert "ValueError: the layer does not like this" in failed[0].error
    assert "misbehave" in failed[0].error  # the traceback
    assert "accuracy = nan" in failed[2].error
    assert all(m.number in (0, 5, 6, 7) for m in study.front)


@pytest.mark.slow
def test_a_trial_that_kills_itself_or_takes_too_much_is_stopped_alone(run) -> None:
    faults = {"1": "hog", "2": "hang", "3": "segfault", "4": "exit", "5": "die"}
    study = run(fake={"faults": faults}, workers=2, time_limit=5.0, memory_limit=1 << 30, retries=1)
    kinds = {t.number: t.error_kind for t in study.trials if t.state == "failed"}
    assert kinds == {1: "memory", 2: "time", 3: "crashed", 4: "crashed", 5: "worker"}
    errors = {t.number: t.error for t in study.failures}
    assert "more than its limit of 1,073,741,824 bytes" in errors[1]
    assert "longer than its time limit of 5 s" in errors[2]
    assert "SIGSEGV" in errors[3]
    assert "exit code 7" in errors[4]
    assert "last words" in errors[4]
    assert "in each of 2 attempts" in errors[5]
    assert (study.members()[5].directory / "attempts").read_text() == "xx"


def test_a_killed_worker_is_replaced_and_its_trial_tried_again(run) -> None:
    lost = []
    study = run(
        fake={"faults": {"1": "die once", "4": "die once"}}, workers=2,
        listeners=[lambda event: lost.append(event.number) if isinstance(event, WorkerLost) else None],
    )  # fmt: skip
    assert sorted(lost) == [1, 4]
    assert not study.failures
    assert fakes.summary(study) == fakes.summary(run("whole.db"))


def test_limits_work_for_one_worker(run) -> None:
    study = run(fake={"faults": {"1": "hang"}}, trials=3, time_limit=1.5)
    assert [t.error_kind for t in study.trials] == [None, "time", None]


def test_a_search_whose_first_trials_all_fail_stops_and_says_why(run, tmp_path) -> None:
    for _ in range(2):  # the same again on a rerun, without running anything
        with pytest.raises(TrialError, match=r"first 5 trials all failed.*ValueError: the layer does not like this"):
            run(fake={"faults": {"all": "raise"}}, trials=30)
    study = Study.open(tmp_path / "study.db")
    assert study.status == "stopped"
    assert len(study.trials) <= 8
    with pytest.raises(StoreError, match=r"no best one yet"):
        _ = study.best


def test_all_trials_failing_below_that_number_is_said_after_the_budget(run) -> None:
    with pytest.raises(TrialError, match=r"All 3 trials failed"):
        run(fake={"faults": {"all": "nan"}}, trials=3)


def test_a_full_disk_in_a_trial_stops_the_search_and_fails_no_trial(run, tmp_path) -> None:
    for workers in (1, 2):
        with pytest.raises(StoreError, match=r"disk is full.*run the same command again"):
            run(f"{workers}.db", fake={"faults": {"2": "disk"}}, workers=workers)
        study = Study.open(tmp_path / f"{workers}.db")
        assert not study.failures
        assert study.status == "running"


def test_a_worker_that_cannot_open_the_task_ends_the_search(run) -> None:
    task = nas.tasks.load("digits")
    object.__setattr__(task, "loader", (task.loader[0], {**task.loader[1], "name_or_path": "/nowhere"}))
    with pytest.raises(InvalidInputError, match=r"worker process could not .* open its task.*nowhere"):
        run(task=task, workers=2)


def test_a_task_of_this_process_cannot_have_workers(run, tmp_path) -> None:
    task = nas.tasks.load("digits")
    object.__setattr__(task, "loader", None)
    with pytest.raises(InvalidInputError, match=r"lives in this process only.*from_factory"):
        run(task=task, workers=2)
    assert not (tmp_path / "study.db").exists()
    assert len(run(task=task).trials) == 8


def test_what_a_listener_raises_stops_the_search_but_not_the_study(run) -> None:
    def angry(event) -> None:
        if type(event).__name__ == "EpochReported" and event.number == 3:
            raise RuntimeError("no more")

    for workers in (1, 2):
        with pytest.raises(RuntimeError, match=r"no more"):
            run(f"{workers}.db", listeners=[angry], workers=workers)
        assert fakes.summary(run(f"{workers}.db")) == fakes.summary(run("whole.db"))
