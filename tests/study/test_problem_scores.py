"""Zero-cost scores as features of strategies, on a space that no table describes."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest
import study_fakes as fakes

import nasturtium as nas
from nasturtium.errors import InvalidInputError, UnknownNameError
from nasturtium.estimators import Job, Trained, ZeroCost
from nasturtium.strategies import Auto, Bananas, BayesianOptimization, Hyperband, PredictorGuided
from nasturtium.study import TrialFinished
from nasturtium.study.arguments import Options
from nasturtium.study.on_device import OnDevices
from nasturtium.study.problem import problem_of
from nasturtium.study.scores import IMAGES, Scores, asked_of
from nasturtium.zoo import nasbench201

FEATURES = ("synflow", "snip")


@dataclass
class Asks:
    """A strategy, as far as its features go."""

    features: list[str] = field(default_factory=lambda: list(FEATURES))


def setup(strategy=None, *, space=None, estimator=None, seed=5):
    return SimpleNamespace(
        space=space or fakes.space(), task=fakes.task(), strategy=strategy or Asks(), estimator=estimator or Trained(),
        objectives=(), constraints=(), options=Options(seed=seed), on_devices=OnDevices(),
    )  # fmt: skip


@pytest.fixture
def scored(monkeypatch):
    """What was worked out, by the architecture's key."""
    found = []
    plain = ZeroCost.scores

    def scores(self, architecture, job):
        found.append(architecture.key)
        return plain(self, architecture, job)

    monkeypatch.setattr(ZeroCost, "scores", scores)
    return found


def test_they_are_the_scores_on_a_batch_of_the_searchs_seed(scored):
    asked = setup()
    problem = problem_of(asked)
    architecture = asked.space.at(7)
    metrics = problem.cheap_metrics(architecture)
    assert {"params", "macs", *FEATURES} <= set(metrics)
    assert len(metrics) == len(list(metrics))
    assert metrics["params"] > 0
    assert not scored  # worked out when they are read
    expected = ZeroCost(FEATURES, images=IMAGES).estimate(architecture, job=Job(task=asked.task, seed=5, threads=1))
    assert {name: metrics[name] for name in FEATURES} == expected
    assert {name: problem.cheap_metrics(architecture)[name] for name in FEATURES} == expected
    assert scored == [architecture.key]
    other = problem_of(setup(seed=6)).cheap_metrics(architecture)
    assert other["snip"] != expected["snip"]


def test_equal_networks_have_one_score(scored):
    """An operation that nothing reads does not tell two cells apart."""
    space = nasbench201.space(width=4, cells=1)
    one, other = (
        nasbench201.architecture(f"|{dead}~0|+|nor_conv_3x3~0|none~1|+|skip_connect~0|none~1|nor_conv_1x1~2|", space)
        for dead in ("nor_conv_3x3", "avg_pool_3x3")
    )
    assert one != other
    problem = problem_of(setup(space=space))
    assert problem.key(one) == problem.key(other)
    assert problem.cheap_metrics(one)["synflow"] == problem.cheap_metrics(other)["synflow"]
    assert scored == [one.key]
    cut_off = nasbench201.architecture("|none~0|+|none~0|none~1|+|none~0|none~1|none~2|", space)
    assert math.isnan(problem.cheap_metrics(cut_off)["synflow"])


def test_a_file_keeps_them(scored, tmp_path):
    asked = setup()
    first, second = asked.space.at(1), asked.space.at(2)
    one = problem_of(asked, tmp_path).cheap_metrics(first)["synflow"]
    (path,) = tmp_path.iterdir()
    with path.open("a") as file:
        file.write('["torn", {"synf')  # a power cut
    again = problem_of(asked, tmp_path)
    assert again.cheap_metrics(first)["synflow"] == one
    assert scored == [first.key]
    two = again.cheap_metrics(second)["synflow"]
    assert problem_of(asked, tmp_path).cheap_metrics(second)["synflow"] == two
    problem_of(setup(seed=6), tmp_path).cheap_metrics(first)["synflow"]  # of another batch: a file of its own
    assert len(list(tmp_path.iterdir())) == 2
    assert scored == [first.key, second.key, first.key]


def test_names_are_checked_before_anything_runs():
    with pytest.raises(UnknownNameError, match=r"Unknown feature 'sinflow'.*Did you mean 'synflow'"):
        problem_of(setup(Asks(["params", "sinflow"])))
    with pytest.raises(InvalidInputError, match="'synflow' is what the estimator measures"):
        problem_of(setup(estimator=ZeroCost("synflow")))
    assert "synflow" not in problem_of(setup(), features=False).cheap_metrics(fakes.space().at(0))
    assert "synflow" not in problem_of(setup(Asks([]))).cheap_metrics(fakes.space().at(0))


def test_who_asks_for_features():
    for make in (Auto, Bananas, BayesianOptimization, PredictorGuided):
        assert asked_of(make(features=["naswot"])) == ("naswot",)
        assert asked_of(make()) == ()
        with pytest.raises(InvalidInputError, match="`features` must be a list"):
            make(features="naswot")
    assert asked_of(Hyperband(strategy=BayesianOptimization(features=["zen", "params"]))) == ("zen", "params")
    assert asked_of(Hyperband()) == asked_of(fakes.Climber()) == ()


@pytest.mark.parametrize(
    "strategy",
    [
        pytest.param(lambda: Auto(features=["synflow"]), marks=pytest.mark.slow),
        lambda: Bananas(features=["synflow"], initial=3, batch=2, candidates=6, members=2, epochs=2),
        lambda: PredictorGuided(features=["synflow"], initial=3, batch=2, candidates=8),
    ],
    ids=["auto", "bananas", "predictor"],
)
def test_a_search_with_features_goes_on_as_if_it_had_not_been_stopped(run, monkeypatch, strategy):
    monkeypatch.setattr(Scores, "_scorer", lambda _: Sized())
    options = {"strategy": strategy(), "trials": 6, "concurrency": 1, "minimize": ()}
    whole = run("whole.db", **options)
    finished = []

    def stop(event):
        if isinstance(event, TrialFinished):
            finished.append(event)
            if len(finished) == 4:
                raise KeyboardInterrupt

    with pytest.raises(nas.study.StudyInterrupted):
        run("stopped.db", **{**options, "strategy": strategy()}, listeners=[stop])
    study = run("stopped.db", **{**options, "strategy": strategy()})
    assert [t.architecture for t in study.trials] == [t.architecture for t in whole.trials]
    assert [t.metrics for t in study.trials] == [t.metrics for t in whole.trials]
    assert all(t.metrics["synflow"] > 0 for t in whole.trials)


class Sized:
    """Scores that take no time: the logarithm of the parameters."""

    fingerprint = "sized"

    def scores(self, architecture, job):
        graph = nas.trace(architecture, job.task.input_shape, **job.task.context)
        return {"synflow": math.log(graph.params)}
