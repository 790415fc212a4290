"""Every strategy keeps the laws that third parties are held to, and the suite notices those that do not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint
from random import Random as Generator
from typing import Any

import pytest

from nasturtium.errors import InvalidInputError, UnknownNameError
from nasturtium.strategies import STRATEGIES, Grid, LocalSearch, Random, RegularizedEvolution, load, registry
from nasturtium.testing import STRATEGY_LAWS, ContractError, check_strategy
from nasturtium.testing.strategies import finite, fresh_process
from nasturtium.trial import Exhausted, Problem, Proposal, Trial
from tests.strategies.warm import WarmEvolution

MAKERS: dict[str, Callable[[], Any]] = {
    "random": Random,
    "hierarchical": lambda: Random(sampler="hierarchical"),
    "evolution": RegularizedEvolution,
    "crossover": lambda: RegularizedEvolution(population=5, sample=2, crossover=0.5),
    "local": LocalSearch,
    "near": lambda: LocalSearch(initial=1, near=True),
    "grid": Grid,
    "coarse": lambda: Grid(points=2),
    "grid 3": lambda: Grid(points=3),
    "warm": WarmEvolution,
}


VARIANTS = ("hierarchical", "crossover", "near", "coarse", "grid 3")
"""Other settings of a strategy that is there already: a process of their own, which is slow, has nothing to add."""


def lawful(name: str, law: Callable[..., None]) -> Any:
    marks = pytest.mark.slow if law is fresh_process and name in VARIANTS else ()
    return pytest.param(name, law, marks=marks, id=f"{law.__name__}-{name}")


@pytest.mark.parametrize(("name", "law"), [lawful(name, law) for law in STRATEGY_LAWS for name in MAKERS])
def test_strategy_keeps_the_laws(name: str, law: Callable[..., None]) -> None:
    if law is finite:
        finite(MAKERS[name], exhaustive=name not in ("coarse", "grid 3"))
    else:
        law(MAKERS[name])


@dataclass
class Forgetful:
    """Draws what it likes: repeats, and breaks constraints."""

    seen: int = field(default=0, init=False)

    def setup(self, problem: Problem) -> None:
        self.problem = problem

    def ask(self, number: int) -> Proposal | Exhausted:
        rng = Generator(f"{self.problem.seed}/{number}")
        return Proposal(number=number, architecture=self.problem.space.sample(rng))

    def recall(self, proposal: Proposal) -> None:
        pass

    def tell(self, trial: Trial) -> None:
        pass


class Unseeded(Forgetful):
    def ask(self, number: int) -> Proposal | Exhausted:
        return Proposal(number=number, architecture=self.problem.space.sample(Generator()))


class Counting(Forgetful):
    """Depends on how often it was asked, which a resumed run does not repeat."""

    def setup(self, problem: Problem) -> None:
        self.problem = problem
        self.seen = 0

    def ask(self, number: int) -> Proposal | Exhausted:
        self.seen += 1
        return Proposal(number=number, architecture=self.problem.space.sample(Generator(self.seen)))


class Prying(Forgetful):
    def ask(self, number: int) -> Proposal | Exhausted:
        assert self.problem.space._plan
        return super().ask(number)


@pytest.mark.parametrize(
    ("maker", "law", "message"),
    [
        (Unseeded, "seeded", "one seed differ"),
        (Counting, "replayed", "resumed strategy"),
        (Forgetful, "one_network", "one network gave 8"),
        (Forgetful, "finite", "twice"),
        (Forgetful, "distinct", "equal an earlier one"),
        (Forgetful, "constraints_kept", "breaks `params <= 9`"),
        (Forgetful, "infeasible", "nothing meets"),
        (Prying, "public_only", "not public"),
    ],
)
def test_the_suite_notices_a_broken_law(maker: Callable[[], Any], law: str, message: str) -> None:
    skipped = [each.__name__ for each in STRATEGY_LAWS if each.__name__ != law]
    with pytest.raises(ContractError, match=message) as raised:
        check_strategy(maker, skip=skipped)
    assert raised.value.law == law
    assert f"law '{law}' does not hold" in str(raised.value)


class Fragile(Forgetful):
    def tell(self, trial: Trial) -> None:
        _ = trial.metrics["accuracy"]


def test_an_error_of_the_strategy_says_in_which_law_it_came() -> None:
    skipped = [each.__name__ for each in STRATEGY_LAWS if each.__name__ != "failures"]
    with pytest.raises(KeyError, match="accuracy") as raised:
        check_strategy(Fragile, skip=skipped)
    assert "law 'failures' was checked: Failed trials" in raised.value.__notes__[0]


def test_the_suite_says_what_it_checked() -> None:
    skipped = [each.__name__ for each in STRATEGY_LAWS if each.__name__ not in ("seeded", "pending")]
    assert check_strategy(Random, skip=skipped) == ["seeded", "pending"]


def test_the_suite_refuses_to_skip_an_unknown_law() -> None:
    with pytest.raises(UnknownNameError, match="Unknown law 'speed'"):
        check_strategy(Random, skip=["speed"])


def test_names_at_the_text_boundary() -> None:
    assert list(STRATEGIES) == [
        "asha", "auto", "bananas", "bayesian", "controller", "evolution", "grid", "halving", "hyperband", "local",
        "nsga2", "optuna", "predictor", "random",
    ]  # fmt: skip
    for name, target in STRATEGIES.items():
        assert type(load(name)).__name__ == target.rpartition(":")[2]
    assert load("evolution", population=7, sample=3) == RegularizedEvolution(population=7, sample=3)
    with pytest.raises(UnknownNameError, match="Did you mean 'evolution'"):
        load("evolutoin")
    with pytest.raises(InvalidInputError, match="does not take these settings"):
        load("random", population=3)


def test_packages_are_looked_through_for_other_names_only(monkeypatch: pytest.MonkeyPatch) -> None:
    def installed(*entries: tuple[str, str]) -> None:
        group = registry.ENTRY_POINTS
        found = [EntryPoint(name=name, value=value, group=group) for name, value in entries]
        monkeypatch.setattr(registry, "entry_points", lambda group: found)

    installed(("warm", "tests.strategies.warm:WarmEvolution"), ("evolution", "somebodys.module:Evolution"))
    assert load("random") == Random()
    with pytest.raises(InvalidInputError, match="Two strategies are called 'evolution'"):
        load("warm")
    installed(("warm", "tests.strategies.warm:WarmEvolution"))
    assert isinstance(load("warm"), WarmEvolution)
    with pytest.raises(UnknownNameError, match="Did you mean 'warm'"):
        load("worm")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RegularizedEvolution(population=1), "`population` must be an integer of 2"),
        (lambda: RegularizedEvolution(population=5, sample=9), r"`sample` must be in \[1, population=5\], got 9"),
        (lambda: RegularizedEvolution(crossover=1.5), "probability"),
        (lambda: LocalSearch(initial=0), "`initial`"),
        (lambda: Grid(points=1), "`points`"),
        (lambda: Grid(best=0), "`best`"),
    ],
)
def test_settings_are_checked(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        make()
