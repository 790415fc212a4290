"""The fidelities of a race between networks: from a cheap measurement, step by step, to the full one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, get_args

from nasturtium.errors import InvalidInputError, UnknownNameError
from nasturtium.trial.types import Fidelity

Kind = Literal["epochs", "data", "width", "resolution", "seconds"]
KINDS: tuple[Kind, ...] = get_args(Kind)
"""What may be reduced: the fields of `Fidelity`."""

MOST_RUNGS = 20
SLACK = 1e-9
"""Of logarithms and quotients of floating point, before they are rounded to a whole number."""


def check(fidelity: str, minimum: float, eta: int, rungs: Sequence[float] | None) -> None:
    """Check the settings that `shares` takes.

    Raises:
        UnknownNameError: no such fidelity.
        InvalidInputError: a number out of range; the message says which and why.
    """
    if fidelity not in KINDS:
        raise UnknownNameError("fidelity", fidelity, KINDS)
    if isinstance(eta, bool) or not isinstance(eta, int) or eta < 2:
        raise InvalidInputError(f"`eta` must be an integer of 2 or more, got {eta!r}.")
    if rungs is not None:
        numbers = all(isinstance(r, (int, float)) and not isinstance(r, bool) for r in rungs)
        if not numbers or list(rungs) != sorted({*rungs}) or not rungs or rungs[0] <= 0 or rungs[-1] != 1:
            raise InvalidInputError(
                f"`rungs` must be rising shares in (0, 1] of which the last is 1, such as [0.06, 1.0], got {rungs!r}."
            )
    elif isinstance(minimum, bool) or not isinstance(minimum, (int, float)) or not eta**-MOST_RUNGS <= minimum < 1:
        raise InvalidInputError(
            f"`minimum` must be a share in (0, 1) of the full {fidelity}, at least eta^-{MOST_RUNGS}, got {minimum!r}."
        )
    elif minimum * eta > 1 + SLACK:
        raise InvalidInputError(
            f"`minimum` must be at most 1/eta = {1 / eta:.3g}, so that there is a fidelity below the full one, got "
            f"{minimum!r}; or give `rungs`."
        )


def shares(minimum: float, eta: int, rungs: Sequence[float] | None) -> tuple[float, ...]:
    """Shares of the full measurement, rising to 1: those given, or 1, 1/eta, 1/eta^2 … down to `minimum`."""
    if rungs is not None:
        return tuple(map(float, rungs))
    highest = math.floor(math.log(1 / minimum) / math.log(eta) + SLACK)
    return tuple(1 / eta**power for power in range(highest, -1, -1))


def fidelities(kind: str, levels: Sequence[float]) -> tuple[Fidelity, ...]:
    """A fidelity for each share."""
    return tuple(Fidelity(**{kind: share}) for share in levels)


def bracket_sizes(levels: Sequence[float], eta: int) -> list[tuple[int, ...]]:
    """Networks on each rung of each of Hyperband's brackets, the most aggressive bracket first.

    Each bracket may spend as many full measurements as there are rungs. One that begins at rung b has room for
    `n = ceil(rungs / sum of eta^-i share_(b+i))` networks, of which `floor(n eta^-i)` reach its i-th rung; where each
    share is eta times the one before this is the paper's `ceil(B/R eta^s / (s+1))`.

    Args:
        levels: Shares, rising to 1.
        eta: Of as many networks one goes on.

    Reference:
        Li et al. (2018), "Hyperband", JMLR 18, algorithm 1.
    """
    found = []
    for bottom in range(len(levels)):
        cost = sum(share / eta**i for i, share in enumerate(levels[bottom:]))
        networks = math.ceil(len(levels) / cost - SLACK)
        found.append(tuple(max(1, networks // eta**i) for i in range(len(levels) - bottom)))
    return found
