"""What is read from a study: the front, the best, the comparison, what is taken home."""

from __future__ import annotations

import dataclasses
import itertools
import json
import subprocess
import sys

import numpy as np
import pytest
import study_fakes as fakes

import nasturtium as nas
from nasturtium.errors import StoreError
from nasturtium.study import Study
from nasturtium.study.comparison import Contender, compare, hypervolume_histories
from nasturtium.trial import Constraint, Objective, Trial

UP, DOWN = Objective(metric="accuracy", direction="maximize"), Objective(metric="macs", direction="minimize")


def trial(number: int, accuracy: float | None, macs: float = 1.0) -> Trial:
    metrics = {} if accuracy is None else {"accuracy": accuracy, "macs": macs}
    state = "failed" if accuracy is None else "completed"
    return Trial(number=number, architecture=nas.Architecture.of(fakes.Net()), state=state, metrics=metrics)


def test_front_and_best_keep_the_constraints(run) -> None:
    study = run(trials=25, constraints=["macs <= 40k", "loss <= 0.4"], fake={"epochs": 1, "faults": {"3": "raise"}})
    feasible = [
        t for t in study.trials if t.state == "completed" and t.metrics["macs"] <= 40_000 and t.metrics["loss"] <= 0.4
    ]
    best = max(feasible, key=lambda t: (t.metrics["accuracy"], -t.metrics["macs"]))
    assert study.best.number == best.number
    points = [(-t.metrics["accuracy"], t.metrics["macs"]) for t in feasible]
    front = {
        t.number
        for t, p in zip(feasible, points, strict=True)
        if not any(q != p and q[0] <= p[0] and q[1] <= p[1] for q in points)
    }
    assert {m.number for m in study.front} == front
    accuracies = [m.metrics["accuracy"] for m in study.front]
    assert accuracies == sorted(accuracies, reverse=True)
    assert [row["number"] for row in study.to_table()] == [m.number for m in study.front]
    json.dumps([study.facts, study.to_table("search"), dict(study.settings)])


def test_irregularity_is_an_objective_and_a_constraint(run) -> None:
    study = run(
        space=nas.zoo.space("mobile"), maximize="accuracy", minimize="irregularity",
        constraints=[nas.irregularity <= 1.15, "params <= 60k"], strategy=nas.strategies.Random(), trials=6,
    )  # fmt: skip
    assert len(study.trials) == 6
    for trial in study.trials:
        graph = nas.trace(trial.architecture, (1, 8, 8), classes=10)
        assert trial.metrics["irregularity"] == graph.irregularity <= 1.15
    assert study.best.metrics["irregularity"] >= 1


def test_baseline_references_and_curves(run, tmp_path) -> None:
    references = [("small", fakes.Net(first=2)), ("large", fakes.Net(first=12, deep=True))]
    study = run(trials=6, baseline="random", references=references)
    assert len(study.baseline) == 6
    assert [t.origin for t in study.references] == ["small", "large"]
    assert [c["epoch"] for c in study.curves(2)] == [1, 2, 3]
    for role in ("search", "baseline:random", "reference"):
        assert all(m.directory.is_dir() for m in study.members(role))
    comparison = study.comparison()
    assert comparison.search == study.best.metrics["accuracy"]
    ours, theirs = (np.load(m.directory / "correct.npy") for m in (study.best, study.best_of("baseline:random")))
    assert comparison.difference.estimate == pytest.approx(ours.mean() - theirs.mean())
    again = nas.resume(tmp_path / "study.db", trials=9)
    assert (len(again.trials), len(again.baseline), len(again.references)) == (9, 9, 2)


def test_comparison_says_plainly_what_is_not_significant() -> None:
    def text(search: int, random: int, n: int = 300) -> str:
        right = [np.arange(n) < k for k in (search, random)]
        ours, theirs = (
            Contender(trial=trial(i, float(r.mean())), correct=r) for i, r in enumerate(right)
        )  # fmt: skip
        return compare([UP], [], (ours, [ours.trial]), (theirs, [theirs.trial])).text

    assert "not significant" in text(250, 249)
    assert "significantly better" in text(250, 200)
    assert "significantly worse" in text(200, 250)
    assert "Neither the search nor" in compare([UP], [], (None, [trial(0, None)]), (None, [trial(0, None)])).text
    one = Contender(trial=trial(0, 0.5), correct=None)
    assert "found none" in compare([UP], [], (one, [one.trial]), (None, [])).text
    assert "there is no interval" in compare([UP], [], (one, [one.trial]), (one, [one.trial])).text


def test_hypervolume_grows_and_is_a_share_of_a_common_box() -> None:
    runs = {
        "search": [trial(0, 0.5, 10), trial(1, None), trial(2, 0.9, 30), trial(3, 0.9, 5)],
        "baseline:random": [trial(0, 0.6, 40), trial(1, 0.95, 50)],
    }
    curves = hypervolume_histories([UP, DOWN], [Constraint(metric="macs", relation="<=", limit=45)], runs)
    assert len(curves["search"]) == 4
    assert len(curves["baseline:random"]) == 2
    for curve in curves.values():
        assert all(0 <= a <= b <= 1 for a, b in itertools.pairwise(curve))
    assert curves["search"][0] == curves["search"][1]
    assert curves["search"][3] == pytest.approx(1.0)  # the best in both is the whole box
    assert curves["baseline:random"][0] == curves["baseline:random"][1]  # the second breaks the constraint
    assert hypervolume_histories([UP], [], runs) == {}


def test_export_measures_test_once_and_keeps_it(run, tmp_path, monkeypatch) -> None:
    real = nas.estimators.Trained(epochs=1)
    study = run(trials=2, concurrency=1, estimator=real)
    first = study.export(tmp_path / "best")
    stored = Study.open(tmp_path / "study.db").best.test_metrics
    assert 0 <= stored["accuracy"] <= 1
    monkeypatch.setattr("nasturtium.study.taking.measure_test", lambda *a, **k: pytest.fail("measured again"))
    study.best.export(tmp_path / "again")
    assert Study.open(tmp_path / "study.db").best.test_metrics == stored
    code = (
        "import sys; sys.modules['nasturtium'] = None; import model, torch; "
        "print(model.load().eval()(torch.zeros(1, 1, 8, 8)).shape)"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=first, capture_output=True, text=True, check=False)
    assert "[1, 10]" in result.stdout, result.stderr


def test_a_trial_without_weights_cannot_be_exported(run, tmp_path) -> None:
    with pytest.raises(StoreError, match="left no weights"):
        run(trials=1, concurrency=1).export(tmp_path / "best")
    assert not (tmp_path / "best").exists()


def test_a_temporary_study_lives_as_long_as_its_object(run) -> None:
    study = run(study=None, trials=2)
    files = study.location.files
    assert files.is_dir()
    assert len(study.trials) == 2
    del study
    import gc

    gc.collect()
    assert not files.exists()


def test_plan_tells_what_it_takes_and_writes_nothing(tmp_path) -> None:
    plan = nas.study.plan(
        fakes.space(), "digits", maximize="accuracy", minimize="macs", constraints=["params <= 1k"],
        estimator=fakes.Fake(pause=0.5), strategy=fakes.Climber(), trials=40, workers=2, baseline="random", samples=300,
    )  # fmt: skip
    assert plan.space_size == fakes.space().size
    true = [nas.cost(a.block, (1, 8, 8), classes=10).params <= 1000 for a in fakes.space().enumerate()]
    assert plan.feasible.low <= sum(true) / len(true) <= plan.feasible.high
    assert plan.seconds == pytest.approx(80 * 1.5 / 2)
    assert plan.validation_images == 359
    for word in ("726 networks", "params <= 1k", "minimize macs", "2 workers", "80 in all"):
        assert word in plan.text
    json.dumps(plan.to_dict())
    with pytest.raises(nas.errors.InvalidInputError):
        nas.study.plan(fakes.space(), "digits", maximize="accuracy", trials=0)


def test_events_are_complete_and_in_order(run) -> None:
    seen = []
    run(trials=3, listeners=[seen.append])
    kinds = [type(e).__name__ for e in seen]
    assert kinds[0] == "RunStarted"
    assert kinds[-2:] == ["RunFinished", "SearchFinished"]
    assert kinds.count("TrialStarted") == kinds.count("TrialFinished") == 3
    assert kinds.count("EpochReported") == 9
    assert all(dataclasses.is_dataclass(e) for e in seen)
