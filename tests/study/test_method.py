"""A study whose architectures a method finds: its cost is kept, random search gets as much, and it goes on."""

from __future__ import annotations

import dataclasses
import hashlib
import random
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import study_fakes as fakes
import torch
from safetensors.torch import load_file, save_file

import nasturtium as nas
from nasturtium.errors import (
    IncompatibleError,
    InfeasibleError,
    InvalidInputError,
    StudyMismatchError,
    UnknownNameError,
)
from nasturtium.study.method import FINISHED, read_method
from nasturtium.study.store import Store
from nasturtium.supernets import Found, Run, Searcher, SearchResult, Trust
from nasturtium.training import checkpoint

TRUST = Trust(
    tau=0.5, low=0.1, high=0.8, n=20, confidence=0.95, cheap="shared weights", full="training alone"
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Guess:
    """A method that takes random architectures, and says that it took long."""

    epochs: int = 2
    seconds: float = 0.0
    fails: int = 0
    runs: ClassVar[list[int]] = []
    started: ClassVar[list[dict[str, list[float]]]] = []

    def check(self, space: nas.Space, task: Any) -> None:
        if self.epochs > 5:
            raise IncompatibleError("this method knows no more than 5 epochs; give fewer")

    def search(self, space: nas.Space, run: Run) -> SearchResult:
        self.runs.append(run.seed)
        self.started.append({name: value.tolist() for name, value in run.initial.items()})
        if run.directory is not None:
            checkpoint.write(run.directory / "phase", "guess", {})
        if len(self.runs) <= self.fails:
            raise KeyboardInterrupt
        rng = random.Random(run.seed)
        history = tuple({"epoch": float(i + 1), "loss": 1.0 / (i + 1), "seconds": 1.0} for i in range(self.epochs))
        for record in history:
            run.report(record)
        found = tuple(
            Found(architecture=space.sample(rng), evidence={"shared_accuracy": 0.5 - i / 10}) for i in range(3)
        )
        return SearchResult(
            found=found, history=history, seconds=self.seconds, steps=7, notes=("It guessed.",), trust=TRUST,
            state={"weights.w": torch.arange(3.0)},
        )  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


@pytest.fixture(autouse=True)
def _fresh() -> None:
    Guess.runs.clear()
    Guess.started.clear()


def test_what_the_method_found_is_trained_in_its_order(run) -> None:
    assert isinstance(Guess(), Searcher)
    heard: list[object] = []
    study = run(strategy=None, method=Guess(), seed=5, listeners=[heard.append])
    rng = random.Random(5)
    wanted = [fakes.space().sample(rng).key for _ in range(3)]
    assert [t.architecture.key for t in study.trials] == wanted
    assert {t.origin for t in study.trials} == {"Guess"}
    assert study.learned is not None
    assert [a.key for a, _ in study.learned.found] == wanted
    assert [e["shared_accuracy"] for _, e in study.learned.found] == [0.5, 0.4, 0.3]
    assert (study.learned.steps, study.learned.notes) == (7, ("It guessed.",))
    assert [h["epoch"] for h in study.learned.history] == [1.0, 2.0]
    epochs = [e.step for e in heard if isinstance(e, nas.study.EpochReported) and e.role == "method"]
    assert epochs == [1, 2]
    assert load_file(study.location.files / "method" / "weights.safetensors")["weights.w"].tolist() == [0.0, 1.0, 2.0]
    assert study.notes[1:] == ("It guessed.",)
    assert study.notes[0].startswith("Guess took ")
    assert study.facts["method"]["type"].endswith("Guess")


def test_no_more_than_the_budget_is_trained(run) -> None:
    assert len(run(strategy=None, method=Guess(), trials=2).trials) == 2


def test_random_search_gets_the_methods_time_too(run) -> None:
    study = run(strategy=None, method=Guess(seconds=1.0), fake={"pause": 0.05}, baseline="random")
    each = sum(t.seconds for t in study.trials) / 3
    assert len(study.baseline) == pytest.approx(3 + 1.0 / each, abs=1.0)
    assert len(study.baseline) > 3


def test_it_is_not_run_twice(run) -> None:
    first = fakes.summary(run(strategy=None, method=Guess()))
    assert fakes.summary(run(strategy=None, method=Guess())) == first
    assert len(Guess.runs) == 1


def test_it_goes_on_after_a_stop(run, tmp_path) -> None:
    with pytest.raises(nas.study.StudyInterrupted):
        run(strategy=None, method=Guess(fails=1))
    study = nas.resume(tmp_path / "study.db")
    assert len(Guess.runs) == 2
    assert len(study.trials) == 3


def test_other_settings_are_another_study(run) -> None:
    run(strategy=None, method=Guess())
    with pytest.raises(StudyMismatchError):
        run(strategy=None, method=Guess(epochs=3))
    with pytest.raises(StudyMismatchError):
        run(strategy=None)


def test_what_does_not_go_is_said_before_anything_is_written(run, tmp_path) -> None:
    with pytest.raises(IncompatibleError, match="no more than 5"):
        run(strategy=None, method=Guess(epochs=6))
    assert not (tmp_path / "study.db").exists()
    with pytest.raises(InvalidInputError, match="a strategy or a method"):
        run(method=Guess())
    with pytest.raises(UnknownNameError, match="darts"):
        run(strategy=None, method="dart")
    with pytest.raises(InvalidInputError, match="does not take these options"):
        run(strategy=None, method="enas(epoch=3)")
    with pytest.raises(InvalidInputError, match="must have check, search"):
        run(strategy=None, method=3)


def test_what_breaks_a_constraint_is_not_trained(run) -> None:
    rng = random.Random(0)
    costs = sorted(nas.cost(fakes.space().sample(rng), (1, 8, 8), classes=10).params for _ in range(3))
    study = run(strategy=None, method=Guess(), constraints=[f"params <= {costs[1]}"])
    assert sorted(t.metrics["params"] for t in study.trials) == costs[:2]
    assert study.notes[-1] == "1 of what it found break a constraint and were not trained."


def test_nothing_that_was_found_meets_the_constraints(run, tmp_path) -> None:
    rng = random.Random(0)
    least = min(nas.cost(fakes.space().sample(rng), (1, 8, 8), classes=10).params for _ in range(3))
    with pytest.raises(InfeasibleError, match=f"found 3 architectures, and none meets .* params = {least}"):
        run(strategy=None, method=Guess(), constraints=[f"params <= {least - 1}"])
    assert nas.Study.open(tmp_path / "study.db").learned is not None
    with pytest.raises(InfeasibleError):
        run("other.db", strategy=None, method=Guess(), constraints=["params <= 1"])
    assert not (tmp_path / "other.db").exists()
    assert len(Guess.runs) == 1


def test_a_method_starts_from_given_weights(run, tmp_path) -> None:
    path = tmp_path / "mine.safetensors"
    save_file({"weights.w": torch.ones(3)}, path)
    study = run(strategy=None, method=nas.study.StartFrom(path, Guess()))
    assert Guess.started == [{"weights.w": [1.0, 1.0, 1.0]}]
    assert study.learned is not None
    assert study.learned.name == "Guess"
    stored = study.facts["method"]["arguments"]
    assert stored["digest"] == hashlib.sha256(path.read_bytes()).hexdigest()
    torch.save({"weights.w": torch.zeros(3)}, tmp_path / "mine.pt")
    text = f"{__name__}:Guess(epochs=2, initial='{tmp_path / 'mine.pt'}')"
    made = read_method(text)
    assert made == nas.study.StartFrom(str(tmp_path / "mine.pt"), Guess(epochs=2))
    run("other.db", strategy=None, method=made)
    assert Guess.started[1] == {"weights.w": [0.0, 0.0, 0.0]}
    path.rename(tmp_path / "moved.safetensors")
    assert len(run(strategy=None, method=nas.study.StartFrom(tmp_path / "moved.safetensors", Guess())).trials) == 3
    save_file({"weights.w": torch.zeros(3)}, path)
    with pytest.raises(StudyMismatchError):
        run(strategy=None, method=nas.study.StartFrom(path, Guess()))
    with pytest.raises(InvalidInputError, match="have changed"):
        nas.study.StartFrom(path, Guess(), stored["digest"]).search(fakes.space(), Run(task=None, seed=0))
    with pytest.raises(InvalidInputError, match="cannot be read"):
        nas.study.StartFrom(tmp_path / "none.safetensors", Guess())


def own_initial(epochs: int = 2, initial: str = "") -> Guess:
    """A third party's method with a setting that is called `initial`."""
    return Guess(epochs=epochs + len(initial))


def test_a_setting_of_that_name_stays_the_methods_own() -> None:
    assert read_method(f"{__name__}:own_initial(initial='abc')") == Guess(epochs=5)


@dataclass(frozen=True, kw_only=True)
class Thrifty(Guess):
    """A method with a setting that changes no result."""

    thrifty: bool = False
    incidental: ClassVar[tuple[str, ...]] = ("thrifty",)

    def to_dict(self) -> dict[str, Any]:
        values = dataclasses.asdict(self)
        return values if self.thrifty else {name: value for name, value in values.items() if name != "thrifty"}


def test_a_setting_that_changes_no_result_may_differ(run, tmp_path) -> None:
    with pytest.raises(nas.study.StudyInterrupted):
        run(strategy=None, method=Thrifty(fails=1))
    study = run(strategy=None, method=Thrifty(fails=1, thrifty=True))
    assert study.facts["method"]["arguments"]["thrifty"] is True
    with pytest.raises(StudyMismatchError):
        run(strategy=None, method=Thrifty(fails=1, thrifty=True, epochs=3))


def test_checkpoints_stay_until_the_result_is_logged(run, tmp_path, monkeypatch) -> None:
    real = Store.add_event

    def killed(self: Store, kind: str, *detail: Any) -> None:
        if kind == FINISHED:
            raise KeyboardInterrupt
        real(self, kind, *detail)

    folder = tmp_path / "study.db.files" / "method"
    with monkeypatch.context() as patched:
        patched.setattr(Store, "add_event", killed)
        with pytest.raises(nas.study.StudyInterrupted):
            run(strategy=None, method=Guess())
    assert (folder / "phase" / "checkpoint.pt").exists()
    run(strategy=None, method=Guess())
    assert not (folder / "phase" / "checkpoint.pt").exists()
    assert (folder / "weights.safetensors").exists()


def test_trust_of_a_method_is_kept(run) -> None:
    study = run(strategy=None, method=Guess())
    assert study.learned is not None
    assert Trust.from_dict(study.learned.trust) == TRUST


def test_trust_in_shared_weights_is_said(run) -> None:
    study = run(strategy="random", estimator=Ranked(), trials=2)
    (said,) = study.notes
    assert "tau of shared weights with training alone is +0.50 over 20 networks (95% interval +0.10 to +0.80)" in said
    assert run("other.db").notes == ()


@dataclass(frozen=True)
class Ranked:
    """An estimator on shared weights, with its trust."""

    def estimate(self, architecture, fidelity, job):
        tau = {"shared_tau": 0.5, "shared_tau_low": 0.1, "shared_tau_high": 0.8, "shared_tau_networks": 20.0}
        return {"accuracy": 0.5, **tau}
