"""How far an estimator's ranking can be trusted on the space at hand: it says so itself, before the search begins.

What is trained for that is trained in the process that searches, one network after the other. It is no trial: the
search's `seconds`, and the `time_limit` and `memory_limit` of its trials, do not count it. The same holds of the sample
that a method with shared weights trains alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

from nasturtium.estimators.protocol import Enclosing
from nasturtium.space import Space
from nasturtium.study import events
from nasturtium.study.arguments import Setup
from nasturtium.study.database import Location
from nasturtium.study.store import Store

ROLE = "check"
CHECKED = "ranking checked"
"""Kind of the event that holds what was found."""


@runtime_checkable
class SelfChecking(Protocol):
    """What an estimator may have besides: it measures how far its ranking of a space can be trusted.

    For estimators that do not know the space from their settings, such as zero-cost scores.
    """

    def check_ranking(self, space: Space, job: Any) -> Mapping[str, Any]:
        """Plain JSON: "notes" are sentences for people, also where nothing was checked; the rest is its own.

        Args:
            space: That is searched.
            job: `nasturtium.estimators.Job`: task, seed, threads, device, and a folder in which a check that was
                stopped goes on. Its `report` hears "done" and "of" after each network.
        """
        ...


def check_ranking(setup: Setup, store: Store, location: Location, emit: Callable[[events.Event], None]) -> None:
    """Let the estimator check its ranking, once in the life of a study, and log what it says.

    Networks that it trains for that lie in `<files>/check`.
    """
    estimator = _self_checking(setup.estimator)
    if estimator is None or checked(store) is not None:
        return
    from nasturtium.estimators import Job  # noqa: PLC0415  (PyTorch, which reading a study does not need)

    emit(events.RunStarted(role=ROLE, trials=int(getattr(estimator, "sample", 0)), finished=0))

    def report(record: Mapping[str, float]) -> None:
        emit(events.EpochReported(role=ROLE, number=0, step=int(record.get("done", 0)), report=dict(record)))

    options = setup.options
    job = Job(
        task=setup.task, seed=options.seed, directory=location.files / ROLE, threads=options.threads,
        device=options.device, report=report,
    )  # fmt: skip
    found = dict(estimator.check_ranking(setup.space, job))
    store.add_event(CHECKED, found)
    emit(events.RunFinished(role=ROLE, status="finished", reason=" ".join(found.get("notes", ())) or None))


def _self_checking(estimator: Any) -> SelfChecking | None:
    """The estimator, or that which it encloses, where one checks its ranking."""
    while not isinstance(estimator, SelfChecking) and isinstance(estimator, Enclosing):
        estimator = estimator.of
    return estimator if isinstance(estimator, SelfChecking) else None


def checked(store: Store) -> dict[str, Any] | None:
    """What the study's estimator said of its ranking; None where it did not, or not yet."""
    return next((dict(detail) for _, kind, detail in reversed(store.events()) if kind == CHECKED), None)
