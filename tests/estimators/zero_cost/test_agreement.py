"""How far scores agree with what is believed: votes, correlations, a check that goes on, and what a search says."""

from __future__ import annotations

import json
from random import Random

import numpy as np
import pytest
from scipy.stats import kendalltau, spearmanr

import nasturtium as nas
from nasturtium.errors import InvalidInputError, TrialError
from nasturtium.estimators import Job, Trained, ZeroCost, from_dict
from nasturtium.estimators.footprinted import Footprinted
from nasturtium.estimators.zero_cost import check, vote
from nasturtium.estimators.zero_cost.agreement import agreement, check_scores
from nasturtium.study import EpochReported, RunFinished, Study
from nasturtium.tasks.dataless import without_data


@pytest.fixture(scope="module")
def digits():
    return nas.tasks.load("digits")


@pytest.fixture(scope="module")
def tiny():
    return nas.Space(
        nas.Sequential(nas.Conv(nas.int_range(2, 9, name="width"), stride=4, act="relu"), nas.Classifier())
    )


class Believed:
    """A reference for which wide networks are good; it may be stopped, and counts what it measured."""

    fingerprint = "believed"

    def __init__(self, stop_after: int = 10**9) -> None:
        self.measured: list[str] = []
        self.stop_after = stop_after

    def estimate(self, architecture, fidelity, job):
        if len(self.measured) == self.stop_after:
            raise KeyboardInterrupt
        self.measured.append(architecture.key)
        width = next(iter(architecture.choices.values()))
        if width == 3:
            raise TrialError("It does not fit.")
        return {"accuracy": float(width)}


def authors_vote(scores, truth):
    """The loop of the notebook of Abdelfattah et al., but for the 1 that they add to the number of pairs."""
    right = total = 0
    for i in range(len(truth)):
        for j in range(len(truth)):
            if truth[i] != truth[j]:
                above = sum(s[i] - s[j] > 0 for s in scores)
                sign = 1 if above >= len(scores) / 2 else -1
                right += sign * (truth[i] - truth[j]) > 0
                total += 1
    return right / total


def test_a_vote_by_hand():
    # pairs of (1, 2, 3) in truth: two of three scores order (1, 2) right, one (1, 3), all (2, 3)
    scores = [[1, 2, 3], [5, 2, 3], [2, 3, 4]]
    assert vote(scores, [1, 2, 3]) == pytest.approx(1.0)
    scores = [[1, 2, 3], [5, 2, 3], [5, 3, 4]]
    assert vote(scores, [1, 2, 3]) == pytest.approx(1 / 3)
    assert vote([[3, 2, 1]], [1, 2, 3]) == 0.0
    assert vote([[1, 2, np.nan, 3]], [1, 2, 0, 3]) == 1.0


def test_a_vote_is_the_authors_loop_and_no_correlation():
    rng = np.random.default_rng(3)
    truth = np.round(rng.normal(size=30), 1)
    scores = np.round(truth + rng.normal(size=(3, 30)), 1)
    assert vote(scores, truth) == pytest.approx(authors_vote(scores, truth))
    continuous = rng.normal(size=30)
    noisy = continuous + rng.normal(size=30)
    assert vote([noisy], continuous) == pytest.approx((1 + kendalltau(noisy, continuous).statistic) / 2)


def test_votes_of_nothing_are_refused():
    with pytest.raises(InvalidInputError, match="differ in truth"):
        vote([[1, 2]], [1, 1])
    with pytest.raises(InvalidInputError, match="each of the 3 networks"):
        vote([[1, 2]], [1, 2, 3])


def test_an_agreement_has_both_correlations():
    rng = np.random.default_rng(5)
    truth = np.round(rng.normal(size=25), 1)
    scores = truth + rng.normal(size=25)
    found = agreement("snip", [*scores, np.nan], [*truth, 0.0], believed="training alone")
    assert found.tau == pytest.approx(kendalltau(scores, truth).statistic)
    rho, low, high = found.spearman
    assert rho == pytest.approx(spearmanr(scores, truth).statistic)
    assert low < rho < high
    assert found.undefined == 1
    assert f"Spearman's rho is {rho:+.2f} ({low:+.2f} to {high:+.2f})." in found.sentence
    assert "training alone" in found.sentence
    flat = agreement("snip", [1.0] * 6, [1, 2, 3, 4, 5, 6])
    assert flat.to_dict()["spearman"] is flat.to_dict()["tau"] is None


def test_a_check_that_was_stopped_goes_on(tiny, digits, tmp_path):
    def found(reference, directory):
        return check(tiny, digits, "l2_norm", reference=reference, n=7, seed=2, directory=directory)

    whole, first, second, third = Believed(), Believed(stop_after=3), Believed(), Believed()
    expected = found(whole, None)
    assert len(set(whole.measured)) == 7
    with pytest.raises(KeyboardInterrupt):
        found(first, tmp_path)
    assert found(second, tmp_path) == expected
    assert first.measured + second.measured == whole.measured
    assert found(third, tmp_path) == expected
    assert not third.measured
    other = check(tiny, digits, "l2_norm", reference=third, n=5, seed=3, directory=tmp_path)
    assert len(third.measured) == 5
    assert other["params"].tau == 1.0


def test_a_search_says_what_its_scores_are_worth(tiny, digits, tmp_path):
    heard = []
    estimator = ZeroCost("l2_norm", images=8, seed=0, sample=5, alone=Trained(epochs=1))
    arguments = {
        "maximize": "l2_norm", "estimator": estimator, "trials": 2, "strategy": "random", "study": tmp_path / "s.db",
    }  # fmt: skip
    nas.search(tiny, digits, listeners=[heard.append], **arguments)
    study = Study.open(tmp_path / "s.db")
    said, cost = study.notes
    assert said.startswith("Kendall's tau of the scores 'l2_norm' with training alone is ")
    assert "over 5 networks (95% interval" in said
    assert "Spearman's rho" in said
    assert "Training 5 networks alone" in cost
    stored = study.ranking_check["scores"]
    assert set(stored) == {"l2_norm", "params", "macs"}
    assert stored["l2_norm"]["sentence"] == said
    assert [e.step for e in heard if isinstance(e, EpochReported) and e.role == "check"] == [1, 2, 3, 4, 5]
    assert [e.reason for e in heard if isinstance(e, RunFinished) and e.role == "check"] == [f"{said} {cost}"]
    again = []
    nas.search(tiny, digits, listeners=[again.append], **arguments)  # known: nothing is trained a second time
    assert not [e for e in again if getattr(e, "role", "") == "check"]


def test_tau_of_a_search_is_that_of_the_networks_trained(tiny, digits, tmp_path):
    estimator = ZeroCost("l2_norm", images=8, seed=0, sample=5, alone=Trained(epochs=1))
    found = estimator.check_ranking(tiny, Job(task=digits, seed=4, directory=tmp_path))
    drawn = {}
    rng = Random("check 4")
    while len(drawn) < 5:
        drawn.setdefault((a := tiny.sample(rng)).key, a)
    job = Job(task=digits, seed=4)
    truth = [Trained(epochs=1).estimate(a, job=job)["accuracy"] for a in drawn.values()]
    scores = [ZeroCost("l2_norm", seed=0).estimate(a, job=job)["l2_norm"] for a in drawn.values()]
    assert found["scores"]["l2_norm"]["tau"] == pytest.approx(kendalltau(scores, truth).statistic)


def test_what_was_not_checked_is_said(tiny, digits):
    for estimator, task in (
        (ZeroCost(("synflow", "snip"), sample=0), digits),
        (ZeroCost(("synflow", "snip")), without_data("table", (1, 8, 8), 10)),
    ):
        found = estimator.check_ranking(tiny, Job(task=task, seed=0))
        assert set(found) == {"notes"}
        assert found["notes"][0].startswith("Unchecked: how well the scores synflow, snip rank networks")
    study = nas.search(
        tiny, digits, maximize="l2_norm", estimator=ZeroCost("l2_norm", sample=0), trials=1, strategy="random"
    )
    assert study.notes == tuple(study.ranking_check["notes"])
    assert "Unchecked" in study.notes[0]


class Scorer:
    """Widths as scores; "some" has none for narrow networks. Keeps the seeds that it is asked with."""

    fingerprint = "scorer"
    names = ("some", "params", "macs")

    def __init__(self) -> None:
        self.seeds: list[int] = []

    def scores(self, architecture, job):
        self.seeds.append(job.seed)
        width = float(next(iter(architecture.choices.values())))
        odd = -width if width < 6 else width
        return {"some": np.nan if width < 6 else width, "params": odd, "macs": odd}


class Slow(Believed):
    """Says itself how long it took, and hears with which seed."""

    def estimate(self, architecture, fidelity, job):
        assert job.seed == 2
        return {**super().estimate(architecture, fidelity, job), "train_seconds": 5.0}


def test_every_network_of_a_check_has_a_seed_of_its_own_as_in_a_search(tiny, digits, tmp_path):
    scorer, job = Scorer(), Job(task=digits, seed=2, directory=tmp_path)
    found = check_scores(scorer, tiny, job, reference=Slow(), n=7)
    assert len(set(scorer.seeds)) == len(scorer.seeds) == found.networks
    assert found.networks + found.left_out == 7
    assert found.left_out in (0, 1)
    measured = found.networks * 5.0
    assert measured <= found.seconds < measured + 1  # as the reference says
    few = check_scores(Scorer(), tiny, job, reference=Slow(), n=5)
    assert few.seconds < 5 * 5.0 + 1  # of these five, and not of all that the file knows


def test_a_baseline_is_of_the_networks_that_a_score_is_defined_for(tiny, digits):
    found = check_scores(Scorer(), tiny, Job(task=digits, seed=2), reference=Slow(), n=7).found
    assert found["some"].undefined > 0
    assert found["some"].baseline == found["some"].tau == pytest.approx(1.0)
    assert found["params"].baseline < 1


def test_memory_that_was_short_is_no_result(tiny, digits, tmp_path):
    class Short(Believed):
        def estimate(self, architecture, fidelity, job):
            raise TrialError("Too little.", kind="memory")

    with pytest.raises(TrialError, match="Too little"):
        check(tiny, digits, "l2_norm", reference=Short(), n=5, seed=2, directory=tmp_path)
    assert not (tmp_path / "scores.json").exists()


def test_an_estimator_around_scores_is_checked_too(tiny, digits):
    inner = ZeroCost("l2_norm", images=8, seed=0, sample=0)
    outer = Footprinted(inner, digits.input_shape, digits.context)
    study = nas.search(tiny, digits, maximize="l2_norm", estimator=outer, trials=1, strategy="random")
    assert "Unchecked" in study.notes[0]
    around = Footprinted(Trained(epochs=1), digits.input_shape, digits.context)
    assert nas.search(tiny, digits, maximize="accuracy", estimator=around, trials=1, strategy="random").notes == ()


def test_studies_that_are_older_than_the_check_go_on():
    assert not {"sample", "alone"} & set(ZeroCost("snip").to_dict())
    assert ZeroCost("snip", sample=0).to_dict()["sample"] == 0


def test_how_it_is_checked_is_kept_but_changes_no_score():
    estimator = ZeroCost("snip", sample=7, alone=Trained(epochs=2))
    assert from_dict(json.loads(json.dumps(estimator.to_dict()))) == estimator
    assert estimator.fingerprint == ZeroCost("snip").fingerprint != ZeroCost("synflow").fingerprint
    with pytest.raises(InvalidInputError, match="`sample` must be 0, or an integer of 5"):
        ZeroCost("snip", sample=3)
    with pytest.raises(InvalidInputError, match="`alone` must be"):
        ZeroCost("snip", alone="Trained")
