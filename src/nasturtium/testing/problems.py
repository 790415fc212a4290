"""Small problems with a known optimum, and the loop that drives a strategy over them."""

from __future__ import annotations

import math
import zlib
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from nasturtium.space import Architecture, Block, Prefix, Space, int_range, one_of
from nasturtium.testing.contract import ContractError
from nasturtium.trial import FULL, Constraint, Exhausted, Fidelity, Objective, Problem, Proposal, Strategy, Trial

LUCK = 0.1
"""Most accuracy lost by bad luck at a low fidelity: at a ninth the ranks correlate to .84 with the full ones."""


class ToyLayer(Block):
    """Two numbers; it computes nothing."""

    a: Any
    b: Any

    def forward(self, x: Any) -> Any:
        """Return the input."""
        return x


class ToyNetwork(Block):
    """Layers one after the other."""

    layers: Any

    def forward(self, x: Any) -> Any:
        """Return the input."""
        return x


def toy_space(layers: int = 10, options: int = 3, *, conditional: bool = False) -> Space:
    """A space of `2 * layers` decisions with `options` values each.

    Args:
        layers: Layers, each with two decisions.
        options: Values of a decision.
        conditional: Whether the number of layers, from one up, is a decision too, so that others may be inactive.
    """
    built = tuple(ToyLayer(one_of(*range(options)), int_range(0, options - 1)) for _ in range(layers))
    return Space(ToyNetwork(Prefix(built, int_range(1, layers)) if conditional else built))


def toy_metrics(architecture: Architecture) -> dict[str, float]:
    """`params` of a toy architecture: the sum of its indices, weighted 1, 2, 3 in turn, plus one."""
    weighted = sum((1 + i % 3) * index for i, index in enumerate(architecture.decisions.values()))
    return {"params": float(1 + weighted)}


def toy_outcome(architecture: Architecture, fidelity: Fidelity = FULL) -> dict[str, float]:
    """Metrics of a toy architecture: `accuracy` grows with each index, in [0, 1), so the last option is best.

    At a lower fidelity accuracies are lower, and ranked otherwise; see `at_fidelity`.
    """
    cheap = toy_metrics(architecture)
    return at_fidelity({**cheap, "accuracy": 1 - math.exp(-cheap["params"] / 40)}, architecture, fidelity)


def at_fidelity(metrics: Mapping[str, float], architecture: Architecture, fidelity: Fidelity) -> dict[str, float]:
    """Full metrics as they are measured at a fidelity.

    With the product s of the shares, `accuracy` becomes `accuracy (1 + s) / 2 - 0.1 (1 - s) u`, where u in [0, 1) is
    the network's own, so that the order of the networks changes too. The other metrics stay as they are.
    """
    if fidelity.is_full or "accuracy" not in metrics:
        return dict(metrics)
    share = math.prod(fidelity.reductions.values())
    luck = zlib.crc32(architecture.key.encode()) / 2**32
    return {**metrics, "accuracy": metrics["accuracy"] * (1 + share) / 2 - LUCK * (1 - share) * luck}


def toy_problem(space: Space | None = None, **changes: Any) -> Problem:
    """The problem of making `accuracy` large on a toy space; `changes` are fields of `Problem`."""
    settings: dict[str, Any] = {
        "space": space or toy_space(),
        "objectives": (Objective(metric="accuracy", direction="maximize"),),
        "cheap_metrics": toy_metrics,
        "trials": 40,
    }
    return Problem(**{**settings, **changes})


def at_most(limit: float) -> tuple[Constraint, ...]:
    """The constraint `params <= limit`."""
    return (Constraint(metric="params", relation="<=", limit=limit),)


def outcome_of(proposal: Proposal, outcome: Callable[[Architecture], Mapping[str, float]] | None = None) -> Trial:
    """The completed trial of a proposal on the toy problem; failed where `outcome` gives nothing.

    `outcome` gives the metrics at full fidelity; those at the proposal's follow by `at_fidelity`.
    """
    full = (outcome or toy_outcome)(proposal.architecture)
    metrics = at_fidelity(full, proposal.architecture, proposal.fidelity)
    state = "completed" if metrics else "failed"
    return Trial(
        number=proposal.number,
        architecture=proposal.architecture,
        fidelity=proposal.fidelity,
        parents=proposal.parents,
        origin=proposal.origin,
        state=state,  # type: ignore[arg-type]
        metrics=metrics,
        error=None if metrics else "made to fail",
        error_kind=None if metrics else "crashed",
    )


@dataclass(slots=True)
class Run:
    """What a drive did: its proposals, and the log of every "proposal" and "trial" in order."""

    proposals: list[Proposal] = field(default_factory=list)
    trials: list[Trial] = field(default_factory=list)
    log: list[Proposal | Trial] = field(default_factory=list)
    exhausted: str | None = None

    @property
    def keys(self) -> list[str]:
        """What was proposed: the architecture's key, and the fidelity where it is not full."""
        return [described(p) for p in self.proposals]


def described(proposal: Proposal, key: Callable[[Architecture], str] | None = None) -> str:
    """An architecture's key, or another one of it, with the fidelity where it is not full: "0120 at epochs 11.1 %"."""
    name = key(proposal.architecture) if key else proposal.architecture.key
    return name if proposal.fidelity.is_full else f"{name} at {proposal.fidelity.text}"


def drive(
    strategy: Strategy,
    problem: Problem,
    trials: int,
    *,
    concurrency: int = 1,
    outcome: Callable[[Architecture], Mapping[str, float]] | None = None,
    replay: list[Proposal | Trial] | None = None,
) -> Run:
    """Run a strategy as a study does: proposal k is made after exactly the trials up to k - concurrency are told.

    Args:
        strategy: To drive.
        problem: To solve.
        trials: Proposals to ask for.
        concurrency: Trials under way at once.
        outcome: Metrics of an architecture at full fidelity; nothing for a failed trial. Default: the toy's.
        replay: A log to recall and tell first.

    Raises:
        ContractError: The strategy waits though nothing is pending.
    """
    strategy.setup(problem)
    run = Run()
    pending: deque[Proposal] = deque()
    for entry in replay or ():
        run.log.append(entry)
        if isinstance(entry, Proposal):
            strategy.recall(entry)
            run.proposals.append(entry)
            pending.append(entry)
        else:
            strategy.tell(entry)
            run.trials.append(entry)
            pending.remove(next(p for p in pending if p.number == entry.number))

    def tell() -> None:
        trial = outcome_of(pending.popleft(), outcome)
        strategy.tell(trial)
        run.trials.append(trial)
        run.log.append(trial)

    while len(run.proposals) < trials:
        while len(pending) >= concurrency:
            tell()
        answer = strategy.ask(len(run.proposals))
        if isinstance(answer, Exhausted):
            run.exhausted = answer.reason
            break
        if isinstance(answer, Proposal):
            run.proposals.append(answer)
            run.log.append(answer)
            pending.append(answer)
        elif pending:
            tell()
        else:
            raise ContractError(f"{strategy!r} waits though every trial is told; it must propose or be exhausted.")
    return run
