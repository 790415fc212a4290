"""Samplers of Optuna as strategies: the laws, exact resumption, known networks, constraints, settings."""

from __future__ import annotations

import copy
import json
import logging
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nasturtium.errors import InvalidInputError, MissingExtraError, UnknownNameError
from nasturtium.space import Block, Space, one_of
from nasturtium.strategies.optuna_sampler import Optuna
from nasturtium.testing import STRATEGY_LAWS, check_strategy, drive, toy_problem, toy_space
from nasturtium.testing.problems import at_most, outcome_of, toy_metrics
from nasturtium.trial import Objective

optuna = pytest.importorskip("optuna")

TRAJECTORY = Path(__file__).with_name("trajectories") / "optuna.json"
TWO = (*toy_problem().objectives, Objective(metric="params", direction="minimize"))
SLOW = "fast"
"""Not ours to keep: Optuna takes what it takes (`benchmarks/strategies.py` measures it)."""


LAWS = {
    "nsga2": (
        "failures", "seeded", "distinct", "promoted", "told_again", "constraints_kept", "infeasible", "pending",
        "several_objectives", "public_only",
    ),
    "tpe": ("failures", "told_again", "infeasible", "pending", "public_only"),
}  # fmt: skip
"""Those that are checked each time; the slow test has all."""


@pytest.mark.parametrize(
    ("sampler", "options"), [("tpe", {"n_startup_trials": 20, "n_ei_candidates": 4}), ("nsga2", {"population_size": 8})]
)
def test_laws(sampler: str, options: dict[str, int]) -> None:
    skipped = [law.__name__ for law in STRATEGY_LAWS if law.__name__ not in LAWS[sampler]]
    check_strategy(lambda: Optuna(sampler, options, tries=3), skip=skipped)


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["tpe", "nsga2", "nsga3", "random", "qmc"])
def test_every_law(sampler: str) -> None:
    check_strategy(lambda: Optuna(sampler), skip=[SLOW])


@pytest.mark.parametrize("concurrency", [1, 3])
@pytest.mark.parametrize("sampler", ["tpe", "nsga2", "nsga3", "random", "qmc", "cmaes"])
def test_resumes_exactly(sampler: str, concurrency: int) -> None:
    """Generations (population 6), the sequence of QMC and CMA's covariance come back, wherever the log is cut."""
    options = {"population_size": 6} if sampler.startswith("nsga") else {}
    options = {"n_startup_trials": 8, "n_ei_candidates": 6} if sampler == "tpe" else options

    def make() -> Optuna:
        return Optuna(sampler, options, tries=3)

    spaces = [toy_space(3, 3, conditional=True), *([toy_space(3, 3)] if sampler != "tpe" else [])]
    for space in spaces:
        problem = toy_problem(space, seed=5, constraints=at_most(18), key=lambda a: str(sorted(a.decisions.values())))
        whole = drive(make(), problem, 20, concurrency=concurrency)
        for cut in (7, len(whole.log) - 6):
            again = drive(make(), problem, 20, concurrency=concurrency, replay=whole.log[:cut])
            assert [(p.architecture.key, p.origin) for p in again.proposals] == [
                (p.architecture.key, p.origin) for p in whole.proposals
            ]


@pytest.mark.slow
def test_the_gaussian_process_resumes_exactly() -> None:
    problem = toy_problem(toy_space(3, 3), seed=5)
    whole = drive(Optuna("gp"), problem, 16, concurrency=2)
    again = drive(Optuna("gp"), problem, 16, concurrency=2, replay=whole.log[:25])
    assert again.keys == whole.keys


def test_the_gaussian_process_runs() -> None:
    run = drive(Optuna("gp", {"n_startup_trials": 3}, tries=2), toy_problem(toy_space(1, 3)), 4, concurrency=2)
    assert len(set(run.keys)) == 4


def test_trajectory() -> None:
    """A snapshot of our own, with the version of Optuna that it was made with; written anew by `python -m
    tests.strategies.test_optuna`.
    """
    stored = json.loads(TRAJECTORY.read_text(encoding="utf-8"))
    if stored["optuna"] != optuna.__version__:
        pytest.skip(f"the snapshot is of Optuna {stored['optuna']}, this is {optuna.__version__}")
    assert {sampler: trajectory(sampler) for sampler in ("tpe", "nsga2")} == stored["keys"]


def trajectory(sampler: str) -> list[str]:
    problem = toy_problem(toy_space(4, 3, conditional=True), seed=7, constraints=at_most(18))
    return drive(Optuna(sampler), problem, 30, concurrency=2).keys


def test_suggestions_are_those_of_optuna_alone() -> None:
    """With the sampler's generators seeded alike, the proposals are what a plain loop over Optuna's own API gives."""
    space = Space(Cell((one_of("a", "b", "c"), one_of(2, 4, 8))))
    strategy = Optuna("random")
    strategy.setup(toy_problem(space, seed=3))
    ours = strategy.ask(0).architecture  # type: ignore[union-attr]
    from random import Random

    sampler = optuna.samplers.RandomSampler()
    sampler._rng.rng.seed(Random("3/0/0").getrandbits(32))
    trial = optuna.create_study(sampler=sampler).ask()
    names = [d.name for d in space.decisions]
    alone = [trial.suggest_categorical(names[0], (0, 1, 2)), trial.suggest_int(names[1], 0, 2)]
    assert list(ours.decisions.values()) == alone


class Cell(Block):
    edges: Any

    def forward(self, x: Any) -> Any:
        return x


@pytest.mark.parametrize(("ordered", "integers"), [(True, [False, True, False]), (False, [False] * 3)])
def test_increasing_numbers_are_integers(ordered: bool, integers: list[bool]) -> None:
    space = Space(Cell((one_of("a", "b"), one_of(8, 16, 24), one_of(24, 8))))
    strategy = Optuna(Recorder(), ordered=ordered)
    drive(strategy, toy_problem(space), 3)
    kinds = strategy._study._study.sampler.kinds
    assert [kinds[d.name] == "IntDistribution" for d in space.decisions] == integers


class Recorder(optuna.samplers.RandomSampler):  # type: ignore[misc, name-defined]
    """Notes the distributions that it is asked for."""

    def __init__(self, again: int = 0) -> None:
        optuna.samplers.RandomSampler.__init__(self)
        self.kinds: dict[str, str] = {}

    def sample_independent(self, study: Any, trial: Any, name: str, distribution: Any) -> Any:
        self.kinds[name] = type(distribution).__name__
        return optuna.samplers.RandomSampler.sample_independent(self, study, trial, name, distribution)


class Stubborn(Recorder):
    """Suggests the last option of everything, again and again."""

    def sample_independent(self, study: Any, trial: Any, name: str, distribution: Any) -> Any:
        return getattr(distribution, "high", None) if hasattr(distribution, "high") else distribution.choices[-1]


def test_a_known_network_costs_nothing_and_is_told_again() -> None:
    strategy = Optuna(Stubborn(), tries=4)
    run = drive(strategy, toy_problem(toy_space(2, 3)), 5)
    assert [p.origin for p in run.proposals] == ["optuna Stubborn", *["random"] * 4]
    assert len(set(run.keys)) == 5
    trials = strategy._study._study.trials
    best = max(trial.metrics["accuracy"] for trial in run.trials[:1])
    again = [t for t in trials[1:] if t.values == [best]]
    assert len(again) == 4 * 4  # four tries of four proposals


def test_a_trial_under_way_is_running_and_failures_are_fail() -> None:
    strategy = Optuna("tpe")
    problem = toy_problem()
    run = drive(strategy, problem, 6, concurrency=3, outcome=lambda a: {})
    states = [t.state.name for t in strategy._study._study.trials]
    assert states == ["FAIL"] * len(run.trials) + ["RUNNING"] * (6 - len(run.trials))


def test_a_failed_trial_that_completes_after_all_is_told_again() -> None:
    strategy = Optuna("tpe")
    strategy.setup(toy_problem())
    proposal: Any = strategy.ask(0)
    for outcome in (lambda _: {}, None, None):
        strategy.tell(outcome_of(proposal, outcome))
    first, second = strategy._study._study.trials
    assert (first.state.name, second.state.name) == ("FAIL", "COMPLETE")
    assert first.params == second.params


def test_cheap_constraints_are_pruned_and_measured_ones_told() -> None:
    cheap = Optuna("tpe")
    drive(cheap, toy_problem(toy_space(3, 3), constraints=at_most(12)), 15)
    assert {t.state.name for t in cheap._study._study.trials} >= {"PRUNED", "COMPLETE"}
    measured = Optuna("tpe", {"n_startup_trials": 20})
    problem = toy_problem(toy_space(5, 3), constraints=at_most(16), cheap_metrics=lambda _: {}, trials=100)
    run = drive(measured, problem, 50)
    asked = measured._study._study.trials[0]
    [stored] = [v for k, v in asked.system_attrs.items() if k.startswith("constraints")]
    amount = stored[0] if isinstance(stored, (list, tuple)) else stored
    assert math.isclose(amount, toy_metrics(run.proposals[0].architecture)["params"] / 16 - 1)
    kept = [trial.metrics["params"] <= 16 for trial in run.trials]
    assert sum(kept[-15:]) > sum(kept[:15])


@pytest.mark.parametrize("sampler", ["tpe", "nsga2", "nsga3", "gp"])
def test_several_objectives(sampler: str) -> None:
    if sampler == "gp" and tuple(map(int, optuna.__version__.split(".")[:2])) < (4, 5):
        pytest.skip(f"the GP sampler of Optuna {optuna.__version__} takes one objective")
    trials = 10 if sampler == "gp" else 20
    options = {"n_startup_trials": 8} if sampler == "gp" else {}
    run = drive(Optuna(sampler, options, tries=3), toy_problem(toy_space(3, 3), objectives=TWO), trials, concurrency=2)
    assert len(run.proposals) == trials


def test_optuna_log_and_settings_are_left_alone(capfd: pytest.CaptureFixture[str]) -> None:
    before = optuna.logging.get_verbosity()
    drive(Optuna("tpe", {"group": True, "multivariate": True}), toy_problem(toy_space(3, 3, conditional=True)), 14)
    assert optuna.logging.get_verbosity() == before == logging.INFO
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""


def test_an_instance_is_not_changed() -> None:
    sampler = optuna.samplers.NSGAIISampler(population_size=4)
    copies = [copy.deepcopy(vars(sampler)).keys()]
    first = drive(Optuna(sampler), toy_problem(), 20).keys
    assert drive(Optuna(sampler), toy_problem(), 20).keys == first
    assert vars(sampler).keys() == copies[0]


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Optuna("tpa"), UnknownNameError, "Did you mean 'tpe'"),
        (lambda: Optuna("tpe", {"population": 3}), InvalidInputError, "TPESampler` does not take"),
        (lambda: Optuna("tpe", {"seed": 3}), InvalidInputError, "problem's seed"),
        (lambda: Optuna("GridSampler"), InvalidInputError, r"nas\.strategies\.Grid"),
        (lambda: Optuna("somewhere.else:Sampler"), InvalidInputError, "not imported"),
        (lambda: Optuna(3), InvalidInputError, "a name or a sampler"),
        (lambda: Optuna("tpe", tries=0), InvalidInputError, "`tries`"),
        (lambda: Optuna("tpe", 3), InvalidInputError, "`options` must be a mapping"),  # type: ignore[arg-type]
        (lambda: Optuna(Recorder(), {"seed": 1}), InvalidInputError, "on the instance"),
    ],
)
def test_settings_are_checked(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make().setup(toy_problem())


def test_cma_es_refuses_what_it_cannot_model() -> None:
    with pytest.raises(InvalidInputError, match="one objective, got 2"):
        Optuna("cmaes").setup(toy_problem(objectives=TWO))
    with pytest.raises(InvalidInputError, match="would be random search"):
        Optuna("cmaes").setup(toy_problem(Space(Cell((one_of("a", "b"),)))))


class Refusing(Recorder):
    def sample_independent(self, study: Any, trial: Any, name: str, distribution: Any) -> Any:
        raise ValueError("cannot be used for this")


def test_what_a_sampler_refuses_is_said() -> None:
    with pytest.raises(InvalidInputError, match=rf"optuna Refusing of Optuna {optuna.__version__} refuses: cannot be"):
        drive(Optuna(Refusing()), toy_problem(), 1)


@pytest.mark.parametrize("name", ["TPESampler", "optuna.samplers:TPESampler"])
def test_a_sampler_by_the_name_of_its_class(name: str) -> None:
    problem = toy_problem(toy_space(2, 3))
    assert drive(Optuna(name), problem, 11).keys == drive(Optuna("tpe"), problem, 11).keys


def test_without_optuna_the_command_to_install_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr("importlib.import_module", missing)
    with pytest.raises(MissingExtraError, match=r"pip install 'nasturtium\[optuna\]'"):
        Optuna().setup(toy_problem())


def test_optuna_is_imported_when_it_is_used() -> None:
    code = "import sys; import nasturtium.strategies.optuna_sampler; assert 'optuna' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


if __name__ == "__main__":
    made = {sampler: trajectory(sampler) for sampler in ("tpe", "nsga2")}
    TRAJECTORY.parent.mkdir(exist_ok=True)
    TRAJECTORY.write_text(json.dumps({"optuna": optuna.__version__, "keys": made}) + "\n", encoding="utf-8")
