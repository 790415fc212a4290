"""Methods that learn architecture and weights together, as the first part of a study."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from nasturtium.errors import InfeasibleError, InvalidInputError, UnknownNameError
from nasturtium.space import Architecture
from nasturtium.strategies.naming import Named, import_object
from nasturtium.study import events
from nasturtium.study.database import Location
from nasturtium.study.starting import StartFrom
from nasturtium.study.store import Store
from nasturtium.trial import Problem, format_constraint, violation

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nasturtium.study.arguments import Setup
    from nasturtium.supernets import SearchResult

METHODS: dict[str, str] = {
    "darts": "nasturtium.supernets:DARTS",
    "enas": "nasturtium.supernets:ENAS",
    "one-shot": "nasturtium.supernets:OneShot",
    "once-for-all": "nasturtium.supernets:OnceForAll",
    "proxylessnas": "nasturtium.supernets:ProxylessNAS",
}
"""Where text comes in: name -> class."""

ROLE = "method"
FINISHED = "method finished"
"""Event of the log that holds what the method found."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Learned:
    """What a method came to, as the study keeps it."""

    name: str
    """Of the method's class."""
    found: tuple[tuple[Architecture, Mapping[str, float]], ...]
    """Architectures, best first, with what speaks for each."""
    history: tuple[Mapping[str, float], ...]
    """One record an epoch."""
    seconds: float
    """Of training shared weights and choosing: the supernet's cost."""
    steps: int
    notes: tuple[str, ...]
    """Sentences for people."""
    trust: Mapping[str, Any] | None = None
    """How the ranking by shared weights agrees with that of networks trained alone (`nas.supernets.Trust`, as plain
    JSON); None where that was not asked for, or the method does not rank networks."""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        found = [{"architecture": a.to_dict(), "evidence": dict(evidence)} for a, evidence in self.found]
        return asdict(self) | {"found": found, "history": [dict(h) for h in self.history]}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], *, trust: bool = False) -> Learned:
        """Inverse of `to_dict`."""
        found = tuple(
            (Architecture.from_dict(item["architecture"], trust=trust), item["evidence"]) for item in data["found"]
        )
        return cls(**{**data, "found": found, "history": tuple(data["history"]), "notes": tuple(data["notes"])})


def read_method(method: Any) -> Any:
    """The method of an argument, made from text such as "darts(epochs=20)" or "darts(initial='weights.safetensors')".

    `initial` makes it a `StartFrom`, but for a class that has a setting of this name itself.

    Raises:
        UnknownNameError: no method of that name.
        InvalidInputError: it is none, or does not take these options.
    """
    if method is None:
        return None
    if isinstance(method, StartFrom):
        return replace(method, method=read_method(method.method))
    if isinstance(method, str):
        named = Named.parse(method)
        if ":" not in named.name and named.name not in METHODS:
            raise UnknownNameError("method", named.name, METHODS)
        module, _, name = METHODS.get(named.name, named.name).partition(":")
        try:
            known = named.name in METHODS
            kind = getattr(importlib.import_module(module), name) if known else import_object(named.name, "method")
            options = dict(named.options)
            initial = None if "initial" in _settings_of(kind) else options.pop("initial", None)
            made = kind(**options)
            return made if initial is None else StartFrom(initial, made)
        except TypeError as error:
            raise InvalidInputError(f"The method {named.name!r} does not take these options: {error}.") from error
    if not all(callable(getattr(method, name, None)) for name in ("check", "search", "to_dict")):
        raise InvalidInputError(
            f"`method` must have check, search and to_dict (`nas.supernets.Searcher`), or be one of "
            f"{', '.join(METHODS)}; got {method!r}."
        )
    return method


def _settings_of(kind: Any) -> frozenset[str]:
    """Names that a class or a function takes; none where that is not known."""
    try:
        return frozenset(inspect.signature(kind).parameters)
    except (TypeError, ValueError):
        return frozenset()


def learned(store: Store, *, trust: bool = True) -> Learned | None:
    """What the study's method found, where one has finished."""
    for _, kind, detail in reversed(store.events()):
        if kind == FINISHED:
            return Learned.from_dict(detail, trust=trust)
    return None


def learn(setup: Setup, store: Store, location: Location, emit: Callable[[events.Event], None]) -> Learned:
    """Run the study's method to its end, or go on with it, and log what it found.

    Checkpoints lie in `<files>/method`, and go when what was found is in the log; the shared weights are left there as
    `weights.safetensors`, and the check of the ranking as `trust.json`.
    """
    from nasturtium.supernets.searcher import Run, remove_checkpoints  # noqa: PLC0415  (loads torch)

    directory = location.files / ROLE
    known = learned(store)
    if known is not None:
        remove_checkpoints(directory)
        return known
    directory.mkdir(parents=True, exist_ok=True)
    epochs = int(getattr(setup.method, "epochs", 0))
    emit(events.RunStarted(role=ROLE, trials=epochs, finished=0))

    def report(record: Mapping[str, float]) -> None:
        step = int(record.get("epoch", 0))
        emit(events.EpochReported(role=ROLE, number=0, step=step, report=dict(record)))

    run = Run(
        task=setup.task, seed=setup.options.seed, device=setup.options.device or "auto", directory=directory,
        report=report,
    )  # fmt: skip
    with _threads(setup.options.threads):
        result = setup.method.search(setup.space, run)
    _keep_weights(result, directory / "weights.safetensors")
    made = Learned(
        name=setup.method.name if isinstance(setup.method, StartFrom) else type(setup.method).__name__,
        found=tuple((f.architecture, dict(f.evidence)) for f in result.found),
        history=tuple(dict(h) for h in result.history),
        seconds=result.seconds,
        steps=result.steps,
        notes=tuple(result.notes),
        trust=None if result.trust is None else result.trust.to_dict(),
    )
    store.add_event(FINISHED, made.to_dict())
    remove_checkpoints(directory)  # only now: a search that is killed before goes on from them
    emit(events.RunFinished(role=ROLE, status="finished", reason=" ".join(made.notes) or None))
    return made


def meeting(found: Learned, problem: Problem) -> list[Architecture]:
    """What was found and meets the constraints that are known before training, in the given order.

    Raises:
        InfeasibleError: nothing does; says how near the nearest comes, and what to do.
    """
    costs = [(architecture, problem.cheap_metrics(architecture)) for architecture, _ in found.found]
    limits = [c for c in problem.constraints if c.metric in costs[0][1]]
    kept = [architecture for architecture, cost in costs if violation(cost, limits) == 0]
    if not kept:
        _, nearest = min(costs, key=lambda pair: violation(pair[1], limits))
        values = ", ".join(f"{c.metric} = {nearest[c.metric]:g} ({format_constraint(c)})" for c in limits)
        raise InfeasibleError(
            f"{found.name} found {len(costs)} architectures, and none meets the constraints; the nearest has {values}. "
            "Put the cost into its loss (`cost=` of DARTS and ProxylessNAS, `budgets=` of OnceForAll), take a smaller "
            "space, or search with a strategy on `SharedWeights`, which keeps to constraints. What it found is kept in "
            "the study."
        )
    return kept


def _keep_weights(result: SearchResult, path: Any) -> None:
    from safetensors.torch import save_file  # noqa: PLC0415

    if result.state:
        partial = path.with_name(path.name + ".partial")
        save_file({name: tensor.contiguous().cpu() for name, tensor in result.state.items()}, partial)
        partial.replace(path)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """PyTorch's threads inside the block."""
    import torch  # noqa: PLC0415

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
