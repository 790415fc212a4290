"""The laws of strategies."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from random import Random as Generator
from typing import Any

from nasturtium.errors import InfeasibleError, UnknownNameError
from nasturtium.space import Architecture, Space
from nasturtium.study.codec import describe, restore
from nasturtium.testing.contract import ContractError, law, require
from nasturtium.testing.problems import (
    Run,
    at_most,
    described,
    drive,
    outcome_of,
    toy_metrics,
    toy_outcome,
    toy_problem,
    toy_space,
)
from nasturtium.trial import Exhausted, Fidelity, Objective, Proposal, Strategy, Trial, Wait, violation

Make = Callable[[], Strategy]

INFEASIBLE_SECONDS = 20.0
"""Longest time to find out that a space holds nothing that fits."""
STEP_SECONDS = 0.02
"""Longest mean time of one ask and tell on a space of 20 decisions, where a strategy does not state another."""
AHEAD = 3
"""Proposals that are compared after each cut of a log."""
THINNED = 7
"""Of a strategy that may take longer than `STEP_SECONDS`, every log but the first is cut at each so many entries."""
RUNGS = 8
"""More fidelities than any strategy under test measures a network at."""


@law
def seeded(make: Make) -> None:
    """The same seed gives the same proposals, whatever was set up before."""
    problem = toy_problem(seed=3)
    first = drive(make(), problem, 30, concurrency=3)
    require(first.keys == drive(make(), problem, 30, concurrency=3).keys, "Two runs with one seed differ.")
    used = make()
    drive(used, toy_problem(seed=4), 12)
    require(drive(used, problem, 30, concurrency=3).keys == first.keys, "`setup` does not forget an earlier problem.")
    numbers = [p.number for p in first.proposals]
    require(numbers == list(range(len(numbers))), f"Proposals carry other numbers than asked: {numbers}.")
    for proposal in first.proposals:
        require(all(0 <= n < proposal.number for n in proposal.parents), f"{proposal!r} has parents not yet proposed.")


@law
def fresh_process(make: Make) -> None:
    """The same seed gives the same proposals in a fresh process, from the settings as a study stores them."""
    stored = json.dumps(describe(make(), "strategy"))
    code = (
        "import json, sys; from nasturtium.testing.strategies import keys_of; "
        "print(json.dumps(keys_of(json.loads(sys.argv[1]))))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "4711", "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    done = subprocess.run(  # noqa: S603  (our own interpreter and code)
        [sys.executable, "-c", code, stored], capture_output=True, text=True, check=False, env=environment, timeout=120
    )
    require(done.returncode == 0, f"The strategy cannot be made in a fresh process: {done.stderr[-2000:]}")
    require(json.loads(done.stdout) == keys_of(json.loads(stored)), "A fresh process proposes other networks.")


def keys_of(stored: Mapping[str, Any]) -> list[str]:
    """The first proposals of a stored strategy on a toy problem."""
    strategy = restore(stored, "strategy", trust=True)
    return drive(strategy, toy_problem(seed=5), 25, concurrency=2).keys


@law
def replayed(make: Make, *, thorough: bool = True) -> None:
    """Telling a log again gives the same continuation as never having stopped, wherever it is cut.

    At every cut the next proposals are compared, at some all that follow; with one and with four trials under way;
    with failed trials, inactive decisions, equal networks, limits that few meet, and at the end of a finite space.
    Where it is not thorough, every cut of the first log, and each seventh of the others.
    """
    step = 1
    for concurrency in (1, 4):
        for problem, outcome, trials in (
            (toy_problem(seed=1), None, 32),
            (toy_problem(toy_space(5, 3, conditional=True), seed=1), _sometimes_failing, 24),
            (toy_problem(toy_space(4, 3), seed=1, constraints=at_most(14), key=_merged), _sometimes_failing, 24),
            (toy_problem(toy_space(1, 4), seed=1, key=_merged), None, 20),
        ):
            whole = drive(make(), problem, trials, concurrency=concurrency, outcome=outcome)
            some = {0, 7, len(whole.log) // 2, len(whole.log)} if step == 1 else {len(whole.log) // 2}
            for cut in sorted({*range(0, len(whole.log) + 1, step), *some}):
                known = sum(isinstance(entry, Proposal) for entry in whole.log[:cut])
                until = trials if cut in some else min(trials, known + (AHEAD if step == 1 else 1))
                _resumes(make, whole, cut, until, problem=problem, concurrency=concurrency, outcome=outcome)
            step = 1 if thorough else THINNED
    hard = toy_problem(toy_space(10, 4), seed=2, constraints=at_most(4))
    whole = drive(make(), hard, 5, concurrency=3)
    for cut in (1, len(whole.log) // 2):
        _resumes(make, whole, cut, 5, problem=hard, concurrency=3)


def _resumes(make: Make, whole: Run, cut: int, trials: int, **circumstances: Any) -> None:
    again = drive(make(), trials=trials, replay=whole.log[:cut], **circumstances)
    told = [(p.number, described(p), p.parents, p.origin) for p in whole.proposals[:trials]]
    found = [(p.number, described(p), p.parents, p.origin) for p in again.proposals]
    if found != told:
        first = next(
            (i for i, (a, b) in enumerate(zip(found, told, strict=False)) if a != b), min(map(len, (found, told)))
        )
        raise ContractError(
            f"A resumed strategy proposes other networks than one that ran on: after {cut} of {len(whole.log)} entries "
            f"of the log, with {circumstances['concurrency']} under way, proposal {first} is "
            f"{found[first : first + 1]} instead of {told[first : first + 1]}. `ask` may depend on the problem, its "
            "number, and what was recalled and told only; draw from a generator of the seed and the number."
        )


@law
def failures(make: Make) -> None:
    """Failed trials, NaN and infinite values are survived, even when there is nothing else."""
    bad: tuple[Callable[[Architecture], Mapping[str, float]], ...] = (
        lambda _: {},
        lambda a: {**toy_metrics(a), "accuracy": float("nan")},
        lambda a: {**toy_metrics(a), "accuracy": float("-inf")},
        _sometimes_failing,
    )
    for outcome in bad:
        run = drive(make(), toy_problem(), 40, concurrency=2, outcome=outcome)
        require(len(run.proposals) == 40 or run.exhausted, "A strategy stops when trials fail.")
        require(len(set(run.keys)) == len(run.keys), "A network is proposed again after a failure.")


@law
def one_network(make: Make) -> None:
    """A space of one network gives it once, or once at each of its fidelities, and then is exhausted."""
    run = drive(make(), toy_problem(toy_space(2, 1), trials=RUNGS), RUNGS)
    once = len(set(run.keys)) == len(run.proposals) and run.exhausted
    require(once, f"A space of one network gave {len(run.proposals)}.")
    require(any(p.fidelity.is_full for p in run.proposals), "The only network is not measured at full fidelity.")


@law
def finite(make: Make, *, exhaustive: bool = True) -> None:
    """A finite space gives every distinct network that meets the constraints, then is exhausted.

    Each comes exactly once, or at most once at each fidelity.
    """
    for problem in (
        toy_problem(toy_space(2, 3)),
        toy_problem(toy_space(2, 3, conditional=True), key=_merged),
        toy_problem(toy_space(2, 3), constraints=at_most(6), key=_merged),
    ):
        fits = [a for a in problem.space.enumerate() if not violation(toy_metrics(a), problem.constraints)]
        expected = {problem.key(a) for a in fits}
        for concurrency in (1, 4):
            run = drive(make(), problem, RUNGS * problem.space.size, concurrency=concurrency)
            measured = [described(p, problem.key) for p in run.proposals]
            require(len(set(measured)) == len(measured), "An equal network is proposed twice.")
            found = {problem.key(p.architecture) for p in run.proposals}
            require(found <= expected, "A network outside the space or the constraints is proposed.")
            require(run.exhausted, "A finite space does not end in `Exhausted`.")
            require(not exhaustive or found == expected, f"Only {len(found)} of {len(expected)} networks came.")
            require(any(p.fidelity.is_full for p in run.proposals), "No network is measured at full fidelity.")


@law
def distinct(make: Make) -> None:
    """No two proposals are equal networks by `Problem.key` at one fidelity, though most architectures are equal."""
    for concurrency in (1, 4):
        problem = toy_problem(toy_space(4, 3), key=_unordered, seed=6)
        run = drive(make(), problem, 60, concurrency=concurrency)
        keys = [described(p, problem.key) for p in run.proposals]
        twice = [str(p.architecture) for i, p in enumerate(run.proposals) if keys[i] in keys[:i]]
        require(not twice, f"Networks that equal an earlier one by `Problem.key` are proposed: {'; '.join(twice[:3])}.")


@law
def promoted(make: Make) -> None:
    """A network that is measured again is so at a higher fidelity, and names a trial of its own that was told."""
    problem = toy_problem(toy_space(4, 3), seed=8, trials=90)
    for concurrency in (1, 4):
        told: set[int] = set()
        proposals: list[Proposal] = []
        for entry in drive(make(), problem, 90, concurrency=concurrency, outcome=_sometimes_failing).log:
            if isinstance(entry, Trial):
                told.add(entry.number)
                continue
            before = [p for p in proposals if problem.key(p.architecture) == problem.key(entry.architecture)]
            proposals.append(entry)
            if before:
                require(
                    all(_lower(p.fidelity, entry.fidelity) for p in before),
                    f"{entry!r} measures a network again, but not at a higher fidelity.",
                )
                require(
                    any(p.number in entry.parents and p.number in told for p in before),
                    f"{entry!r} measures a network again; an earlier trial of it that was told must be a parent.",
                )


@law
def told_again(make: Make) -> None:
    """A trial that was told as failed may be told again as completed."""
    strategy = make()
    strategy.setup(toy_problem())
    number = 0
    for _ in range(30):
        answer = strategy.ask(number)
        if isinstance(answer, Wait):
            continue
        if isinstance(answer, Exhausted):
            break
        strategy.tell(outcome_of(answer, lambda _: {}))
        strategy.tell(outcome_of(answer))
        number += 1
    require(number >= 2, "It stops, or waits, when trials are told again.")


@law
def given(make: Make) -> None:
    """Networks that another proposed may be recalled and told; they are not proposed again."""
    problem = toy_problem(toy_space(2, 3), seed=9)
    strategy = make()
    strategy.setup(problem)
    others = [a for i, a in enumerate(problem.space.enumerate()) if i % 9 == 0]
    for number, architecture in enumerate(others):
        strategy.recall(Proposal(number=number, architecture=architecture))
        strategy.tell(outcome_of(Proposal(number=number, architecture=architecture)))
    keys = [architecture.key for architecture in others]
    for number in range(len(others), len(others) + 20):
        answer = strategy.ask(number)
        if not isinstance(answer, Proposal):
            break
        keys.append(described(answer))
        strategy.tell(outcome_of(answer))
    require(len(keys) > len(others), "Nothing is proposed after networks of another.")
    require(len(set(keys)) == len(keys), "A network that another proposed is proposed again.")


@law
def constraints_kept(make: Make) -> None:
    """No network that breaks a cheap constraint is proposed, though few meet it; measured ones do not matter here."""
    limits = at_most(9)
    space = toy_space(10, 4)
    run = drive(make(), toy_problem(space, constraints=limits), 25, concurrency=2)
    require(run.proposals, "Nothing is proposed where few networks meet the constraints.")
    for proposal in run.proposals:
        metrics = toy_metrics(proposal.architecture)
        require(not violation(metrics, limits), f"{proposal.architecture} breaks `params <= 9`: {metrics}.")
        require(proposal.architecture in space, f"{proposal.architecture} is not of the space.")


@law
def infeasible(make: Make) -> None:
    """Where nothing meets the constraints, `InfeasibleError` comes soon and names the nearest miss."""
    for space in (toy_space(2, 3), toy_space(10, 4)):
        strategy = make()
        begun = time.perf_counter()
        try:
            strategy.setup(toy_problem(space, constraints=at_most(0.5)))
            answer = strategy.ask(0)
        except InfeasibleError as error:
            require("params" in str(error), f"The error does not name what is missed: {error}")
        else:
            require(False, f"{answer!r} is proposed, though nothing meets the constraints.")
        taken = time.perf_counter() - begun
        require(taken < INFEASIBLE_SECONDS, f"It took {taken:.1f} s to see that nothing fits.")


@law
def pending(make: Make) -> None:
    """Several asks without a tell give different networks, or `Wait` once something is pending."""
    strategy = make()
    strategy.setup(toy_problem())
    found: list[str] = []
    for _ in range(15):
        answer = strategy.ask(len(found))
        if isinstance(answer, Wait):
            require(found, "It waits for the first trial, before any is proposed.")
            break
        require(isinstance(answer, Proposal), f"It answers {answer!r} on a space of {toy_space().size:,} networks.")
        if isinstance(answer, Proposal):
            found.append(described(answer))
    require(len(set(found)) == len(found), "A pending network is proposed again.")


@law
def out_of_order(make: Make) -> None:
    """Trials may be told in any order."""
    rng = Generator(11)
    strategy = make()
    strategy.setup(toy_problem())
    open_: list[Proposal] = []
    keys: list[str] = []
    log: list[Proposal | Trial] = []
    for _ in range(60):
        if open_ and (len(open_) >= 6 or rng.random() < 0.4):
            trial = outcome_of(open_.pop(rng.randrange(len(open_))))
            strategy.tell(trial)
            log.append(trial)
        answer = strategy.ask(len(keys))
        if isinstance(answer, Exhausted):
            break
        if isinstance(answer, Proposal):
            open_.append(answer)
            keys.append(described(answer))
            log.append(answer)
        else:
            require(open_, "It waits though nothing is pending.")
    require(len(keys) >= 2 and len(set(keys)) == len(keys), "Trials told out of order confuse it.")
    for cut, expected in enumerate(log):
        if isinstance(expected, Proposal):
            _retell(again := make(), log[:cut])
            answer = again.ask(expected.number)
            same = isinstance(answer, Proposal) and described(answer) == described(expected)
            require(same, f"After a log told out of order it proposes {answer!r} instead of {expected!r}.")


def _retell(strategy: Strategy, log: Iterable[Proposal | Trial]) -> None:
    strategy.setup(toy_problem())
    for entry in log:
        if isinstance(entry, Proposal):
            strategy.recall(entry)
        else:
            strategy.tell(entry)


@law
def several_objectives(make: Make) -> None:
    """Two objectives, and a constraint on a measured metric, are taken."""
    objectives = (*toy_problem().objectives, *_minimize("params"))
    run = drive(make(), toy_problem(objectives=objectives), 40, concurrency=2)
    require(len(run.proposals) == 40 or run.exhausted, "A strategy stops with two objectives.")


@law
def public_only(make: Make) -> None:
    """It uses what the space and the problem show, and nothing with a leading underscore."""
    guarded: Any = _PublicOnly(toy_space())
    open_run = drive(make(), toy_problem(), 30, concurrency=2)
    run = drive(make(), toy_problem(guarded), 30, concurrency=2)
    require(run.keys == open_run.keys, "It behaves differently when the space's internals cannot be seen.")


@law
def fast(make: Make, *, step_seconds: float = STEP_SECONDS) -> None:
    """An ask and a tell on a space of 20 decisions take little time of the processor."""
    strategy = make()
    trials = 300 if step_seconds <= STEP_SECONDS else 100
    begun = time.process_time()
    run = drive(strategy, toy_problem(toy_space(10, 8), trials=trials), trials)
    taken = (time.process_time() - begun) / max(1, len(run.proposals))
    require(taken < step_seconds, f"One ask and tell takes {1e3 * taken:.1f} ms; at most {1e3 * step_seconds:g} ms.")


STRATEGY_LAWS: tuple[Callable[..., None], ...] = (
    seeded, fresh_process, replayed, failures, one_network, finite, distinct, promoted, told_again, given,
    constraints_kept, infeasible, pending, out_of_order, several_objectives, public_only, fast,
)  # fmt: skip
"""The laws, each a function of a maker of strategies, in the order in which they are checked."""


def check_strategy(
    make_strategy: Make,
    *,
    step_seconds: float = STEP_SECONDS,
    exhaustive: bool = True,
    skip: Iterable[str] = (),
) -> list[str]:
    """Check that a strategy keeps every law of `STRATEGY_LAWS`. Takes some seconds.

    Args:
        make_strategy: Makes a new strategy with the same settings each time.
        step_seconds: Longest mean time of one ask and tell on a space of 20 decisions. A strategy that trains models
            may state more; "replayed" then cuts fewer of its logs everywhere.
        exhaustive: Whether it reaches every network of a small space; false for one that stops earlier by design.
        skip: Names of laws that it is not meant to keep, such as "fresh_process" for a class in a notebook.

    Returns:
        Names of the laws that were checked, in order; all hold.

    Raises:
        ContractError: A law does not hold; the message says which, and the traceback where. An error of the strategy
            itself comes as it is, with a note of the law.
        UnknownNameError: `skip` holds a name that is no law.

    Example:
        >>> import nasturtium as nas
        >>> laws = nas.testing.check_strategy(nas.strategies.Random)
        >>> "replayed" in laws
        True
    """
    left_out = set(skip)
    unknown = left_out - {each.__name__ for each in STRATEGY_LAWS}
    if unknown:
        raise UnknownNameError("law", min(unknown), [each.__name__ for each in STRATEGY_LAWS])
    checked = [each for each in STRATEGY_LAWS if each.__name__ not in left_out]
    settings: dict[str, dict[str, Any]] = {
        "finite": {"exhaustive": exhaustive},
        "replayed": {"thorough": step_seconds <= STEP_SECONDS},
        "fast": {"step_seconds": step_seconds},
    }
    for each in checked:
        each(make_strategy, **settings.get(each.__name__, {}))
    return [each.__name__ for each in checked]


class _PublicOnly:
    """A space whose underscored attributes cannot be read."""

    def __init__(self, space: Space) -> None:
        object.__setattr__(self, "_PublicOnly__space", space)

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("_") and not name.startswith("__"):
            raise ContractError(f"A strategy reads {name!r}, which is not public.")
        return getattr(object.__getattribute__(self, "_PublicOnly__space"), name)

    def __contains__(self, architecture: object) -> bool:
        return bool(object.__getattribute__(self, "_PublicOnly__space").contains(architecture))


def _lower(one: Fidelity, other: Fidelity) -> bool:
    """Whether no share of one is above the other's, and one is below."""
    pairs = [(getattr(one, f.name), getattr(other, f.name)) for f in fields(one)]
    return one != other and all(a <= b for a, b in pairs)


def _minimize(metric: str) -> tuple[Any, ...]:
    return (Objective(metric=metric, direction="minimize"),)


def _merged(architecture: Architecture) -> str:
    """A key under which architectures whose first two indices are swapped are one network."""
    indices = list(architecture.decisions.values())
    return str([*sorted(indices[:2]), *indices[2:]])


def _unordered(architecture: Architecture) -> str:
    """A key under which the order of decisions does not matter: 6,561 architectures, 45 networks."""
    return str(sorted(architecture.decisions.values()))


def _sometimes_failing(architecture: Architecture) -> dict[str, float]:
    outcome = toy_outcome(architecture)
    remainder = int(outcome["params"]) % 4
    if remainder == 0:
        return {}
    return {**outcome, "accuracy": float("nan")} if remainder == 1 else outcome
