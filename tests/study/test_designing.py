"""Accuracy of scaled networks: what is kept, gone on with after a cut, fresh seeds, and failures that pass."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
from tests.design import toy

import nasturtium as nas
from nasturtium.design.scaling import Scaled
from nasturtium.errors import InvalidInputError, StoreError, TrialError
from nasturtium.study.designing import ScaledAccuracy

NETWORK = Scaled(nas.Sequential(nas.Conv(4), nas.Classifier()), (1, 8, 8))
TASK = SimpleNamespace(input_shape=(1, 8, 8), fingerprint="digits")


class Seeds:
    """The accuracy is a hundredth of the seed; some seeds fail."""

    fingerprint = "seeds"

    def __init__(self, **kinds: str) -> None:
        self.kinds, self.asked = {int(k[1:]): v for k, v in kinds.items()}, []

    def estimate(self, architecture, fidelity, job):
        self.asked.append(job.seed)
        if job.seed in self.kinds:
            raise TrialError("it failed", kind=self.kinds[job.seed])
        return {"accuracy": job.seed / 100}


def test_it_goes_on_after_a_line_that_a_kill_cut_short(tmp_path):
    path = tmp_path / "trainings.jsonl"
    assert ScaledAccuracy(TASK, Seeds(), repeats=3, path=path)(NETWORK) == pytest.approx(0.01)
    content = path.read_bytes()
    path.write_bytes(content[:-9])
    for seeds in ([2], []):  # the second run reads what the first one wrote after the cut
        estimator = Seeds()
        assert ScaledAccuracy(TASK, estimator, repeats=3, path=path)(NETWORK) == pytest.approx(0.01)
        assert estimator.asked == seeds
        assert path.read_bytes() == content
    path.write_bytes(b'{"key": 1}\n' + content)
    with pytest.raises(StoreError, match="Line 1 of"):
        ScaledAccuracy(TASK, Seeds(), path=path)
    path.write_bytes(b"{\n")
    with pytest.raises(StoreError, match="is no JSON"):
        ScaledAccuracy(TASK, Seeds(), path=path)


def test_only_what_diverged_is_kept_as_failed(tmp_path):
    path = tmp_path / "trainings.jsonl"
    score = ScaledAccuracy(TASK, Seeds(s0="diverged"), repeats=2, path=path)
    assert score(NETWORK) == pytest.approx(0.01)
    assert math.isnan(ScaledAccuracy(TASK, Seeds(), path=path).values(NETWORK)[0])
    with pytest.raises(TrialError, match="it failed"):
        ScaledAccuracy(TASK, Seeds(s2="memory"), repeats=3, path=path)(NETWORK)
    assert ScaledAccuracy(TASK, Seeds(), repeats=3, path=path)(NETWORK) == pytest.approx(0.015)


def test_fresh_trainings_have_seeds_of_their_own():
    estimator = Seeds()
    score = ScaledAccuracy(TASK, estimator, seed=5, repeats=2)
    score.values(NETWORK, 3)
    seen = set(estimator.asked)
    estimator.asked.clear()
    score.values(NETWORK, fresh=True)
    assert len(estimator.asked) == 2
    assert not seen & set(estimator.asked)


def test_an_estimator_without_accuracy_is_refused():
    estimator = SimpleNamespace(fingerprint="loss", estimate=lambda *_: {"loss": 1.0})
    with pytest.raises(InvalidInputError, match="must measure accuracy"):
        ScaledAccuracy(toy.task(), estimator)(NETWORK)
