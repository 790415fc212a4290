"""Searches over several fidelities: what counts, what is shown, and that a stop on the way changes nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path

import pytest
import study_fakes as fakes

import nasturtium as nas
from nasturtium.cli import main
from nasturtium.errors import StoreError
from nasturtium.strategies.asha import ASHA
from nasturtium.strategies.halving import SuccessiveHalving
from nasturtium.strategies.hyperband import Hyperband
from nasturtium.study import Study
from nasturtium.study.comparison import hypervolume_histories
from nasturtium.trial import Fidelity, Objective, Trial


@dataclass(frozen=True)
class Lowered:
    """A made-up accuracy that looks better at a low fidelity than it is: what counts must not be fooled."""

    def expected_seconds(self, task: object, macs: float) -> float:
        return 0.001

    def estimate(self, architecture, fidelity, job):
        return {"accuracy": fakes.score(architecture.key, 0) * (1.05 - 0.05 * fidelity.epochs)}


class Stop(Exception):
    pass


def stopper(count: int):
    seen = []

    def listen(event) -> None:
        seen.append(event)
        if len(seen) == count:
            raise Stop

    return listen


def search(path: Path, strategy, **options):
    settings = {
        "maximize": "accuracy", "estimator": Lowered(), "study": path, "strategy": strategy,
        "trials": 30, "listeners": [],
    } | options  # fmt: skip
    return nas.search(fakes.space(), fakes.task(), **settings)


def logged(study: Study) -> list[tuple]:
    return [(t.number, t.architecture.key, t.fidelity, t.parents, t.origin, dict(t.metrics)) for t in study.trials]


MAKERS = {
    "halving": lambda: SuccessiveHalving(networks=9),
    "hyperband": lambda: Hyperband(strategy="evolution", options={"population": 5}, enough=4),
    "asha": lambda: ASHA(strategy="local", options={"initial": 3}, fidelity="epochs"),
}


@pytest.mark.parametrize("name", MAKERS)
def test_stopped_anywhere_and_resumed(tmp_path, name) -> None:
    whole = search(tmp_path / "whole.db", MAKERS[name]())
    assert len(whole.trials) == 30
    assert {t.origin for t in whole.trials} >= {"random", "promoted"}
    for count in (4, 14, 21):
        with pytest.raises(Stop):
            search(tmp_path / "stopped.db", MAKERS[name](), listeners=[stopper(count)])
    assert logged(nas.resume(tmp_path / "stopped.db")) == logged(whole)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return search(tmp_path_factory.mktemp("studies") / "hyperband.db", Hyperband(), minimize="macs")


def test_only_full_measurements_count(study) -> None:
    full = [t for t in study.trials if t.fidelity.is_full]
    assert 0 < len(full) < len(study.trials)
    assert study.best.metrics["accuracy"] == max(t.metrics["accuracy"] for t in full)
    assert max(t.metrics["accuracy"] for t in study.trials) > study.best.metrics["accuracy"]
    assert {m.number for m in study.front} <= {t.number for t in full}
    assert {m.number for m in study.feasible()} == {t.number for t in full}
    assert {row["fidelity"] for row in study.to_table()} == {"full"}
    assert {row["fidelity"] for row in study.to_table("search")} == {"full", "epochs 33.3 %", "epochs 11.1 %"}


def test_random_search_gets_what_the_search_spent(tmp_path) -> None:
    """By hand: of the 24 trials, so many at a ninth, at a third and in full; the sum of the shares is rounded up."""
    study = search(tmp_path / "compared.db", Hyperband(), trials=24, baseline="random")
    shares = [Fraction(t.fidelity.epochs).limit_denominator(9) for t in study.trials]
    assert {share: shares.count(share) for share in set(shares)} == {
        Fraction(1, 9): 11, Fraction(1, 3): 8, Fraction(1): 5,
    }  # fmt: skip
    assert len(study.baseline) == 9  # 11/9 + 8/3 + 5 = 8.89
    assert all(t.fidelity.is_full for t in study.baseline)
    assert Fidelity(epochs=0.5, data=0.5, seconds=0.8, width=0.5, resolution=0.5).share == 0.5 * 0.5 * 0.8 / 16


def test_nine_ninths_are_a_whole(tmp_path) -> None:
    study = search(tmp_path / "ninths.db", SuccessiveHalving(networks=9), trials=13, baseline="random")
    assert [t.fidelity.epochs for t in study.trials] == [1 / 9] * 9 + [1 / 3] * 3 + [1]
    assert len(study.baseline) == 3


def test_a_promoted_trial_names_the_trial_before(study) -> None:
    trials = {t.number: t for t in study.trials}
    for trial in trials.values():
        if trial.origin == "promoted":
            [parent] = [trials[number] for number in trial.parents]
            assert parent.architecture == trial.architecture
            assert parent.fidelity.epochs < trial.fidelity.epochs


def test_nothing_at_full_fidelity(tmp_path) -> None:
    study = search(tmp_path / "low.db", MAKERS["halving"](), trials=40, listeners=[])
    assert study.best.trial.fidelity.is_full
    with pytest.raises(Stop):
        search(tmp_path / "begun.db", MAKERS["halving"](), listeners=[stopper(12)])
    begun = Study.open(tmp_path / "begun.db")
    assert begun.front == ()
    with pytest.raises(StoreError, match=r"None of the \d+ trials .* lower fidelity, and do not count"):
        _ = begun.best


def test_the_command_line_shows_the_fidelity(study, capsys) -> None:
    def output(*arguments: object) -> str:
        assert main([*map(str, arguments)]) == 0
        return capsys.readouterr().out

    name = study.location.text
    promoted = next(t for t in study.trials if t.origin == "promoted" and not t.fidelity.is_full)
    assert f"promoted of {promoted.parents[0]}; at epochs 33.3 %" in output("show", name, "--trial", promoted.number)
    assert "random at epochs 11.1 %" in output("front", name, "--all")
    assert " at epochs" not in output("front", name)
    as_json = json.loads(output("show", name, "--trial", promoted.number, "--format", "json"))
    assert as_json["fidelity"]["epochs"] == pytest.approx(1 / 3)


def test_the_hypervolume_grows_with_full_measurements_only() -> None:
    """By hand: the box spans the full points (.6, 2) and (.8, 4) and a tenth of the range behind the worst."""
    objectives = (Objective(metric="accuracy", direction="maximize"), Objective(metric="macs", direction="minimize"))
    architecture = fakes.space().sample(__import__("random").Random(0))

    def trial(number, accuracy, macs, fidelity):
        metrics = {"accuracy": accuracy, "macs": macs}
        return Trial(number=number, architecture=architecture, fidelity=fidelity, metrics=metrics)

    half, full = Fidelity(epochs=0.5), Fidelity()
    trials = [trial(0, 0.99, 1, half), trial(1, 0.6, 2, full), trial(2, 0.99, 1, half), trial(3, 0.8, 4, full)]
    [volumes] = hypervolume_histories(objectives, (), {"search": trials}).values()
    box = 0.22 * 2.2
    assert volumes == pytest.approx([0.0, 0.02 * 2.2 / box, 0.02 * 2.2 / box, (0.02 * 2.2 + 0.2 * 0.2) / box])


def test_a_study_without_a_share_of_the_time_still_opens() -> None:
    """As it was stored before there was one."""
    assert Fidelity(epochs=0.5, data=1.0, resolution=1.0, width=1.0) == Fidelity(epochs=0.5)
    assert set(asdict(Fidelity())) == {"epochs", "data", "resolution", "width", "seconds"}


REAL = """
import sys
sys.path.insert(0, {here!r})
import study_fakes as fakes, nasturtium as nas
from nasturtium.strategies.hyperband import Hyperband
nas.search(fakes.space(), "digits", maximize="accuracy", trials=13, study=sys.argv[1], workers=1,
           estimator=nas.estimators.Trained(epochs=9), strategy=Hyperband(strategy="evolution"))
"""


@pytest.mark.slow
def test_real_trainings_killed_and_resumed(tmp_path) -> None:
    script = REAL.format(here=str(Path(__file__).parent))

    def start(name: str) -> subprocess.Popen[str]:
        return subprocess.Popen([sys.executable, "-c", script, str(tmp_path / name)], stderr=subprocess.PIPE, text=True)

    whole = start("whole.db")
    assert whole.wait(300) == 0, whole.stderr.read()
    for seconds in (3, 4, 5):
        process = start("killed.db")
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    last = start("killed.db")
    assert last.wait(300) == 0, last.stderr.read()
    studies = [Study.open(tmp_path / name) for name in ("whole.db", "killed.db")]
    assert fakes.summary(studies[0]) == fakes.summary(studies[1])
    epochs = {t.fidelity.epochs: t.metrics["epochs"] for t in studies[0].trials}
    assert epochs == {1 / 9: 1, 1 / 3: 3, 1.0: 9}
