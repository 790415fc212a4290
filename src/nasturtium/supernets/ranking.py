"""A cheap ranking of networks beside the one that is believed, on a sample that is measured by both.

`compare` is the mechanism. `check_ranking` uses it for searchers that rank by shared weights, and
`estimators.compare_rankings` for estimators, of which `SharedWeights` is one.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from random import Random
from typing import Any

import torch
from torch import Tensor

from nasturtium.errors import InvalidInputError, StoreError, TrialError
from nasturtium.graph.trace import trace
from nasturtium.model import Supernet, build
from nasturtium.space import Architecture, Space
from nasturtium.supernets.sampling import distinct, network_key
from nasturtium.supernets.searcher import Found, Run
from nasturtium.supernets.single_path import measure
from nasturtium.supernets.storage import digest_of, replace_file, require_known
from nasturtium.supernets.trust import Trust, measure_trust
from nasturtium.tasks import Task
from nasturtium.training import Recipe, checkpoint, evaluate, fit
from nasturtium.training.randomness import derived_seed

FILE = "trust.json"
VERSION = 1
STREAM = 0x54525553
"""Keeps the draws of a sample apart from all others of a seed."""

Measure = Callable[[Architecture, int], float | None]
"""(network, its number in the sample) -> its value, of which more is better in both or less is; None where it has
none."""


@dataclass(frozen=True, slots=True)
class Timed:
    """A value with the time that it took, of which a measure may know better than a clock around it."""

    value: float | None
    seconds: float
    """Interruptions not counted, what was done before one included."""


TimedMeasure = Callable[[Architecture, int], float | Timed | None]
"""As `Measure`, with the time or without."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What measuring networks in two ways came to."""

    trust: Trust
    seconds: float
    """That the believed measure took for these networks, interruptions not counted."""
    left_out: int = 0
    """Networks that one of the two measures has no value for."""


def compare(
    cheap: Measure,
    full: TimedMeasure,
    architectures: Sequence[Architecture],
    *,
    seed: int,
    names: tuple[str, str] = ("shared weights", "training alone"),
    directory: Path | None = None,
    identity: str | None = None,
    metric: str = "accuracy",
) -> Comparison:
    """Measure networks in two ways, and say how far the cheap one's ranking can be trusted.

    Args:
        cheap: Called first for each network.
        full: What is believed. What it raises leaves the network unmeasured: the same call tries it again.
        architectures: Each once.
        seed: Of the bootstrap.
        names: Of the two, for the sentence; plural.
        directory: Gets `trust.json`, written anew after each network: values, interval and sentence.
        identity: What the values depend on: values that `trust.json` has of this identity are not measured again. None
            measures all.
        metric: What is measured; kept in the file.

    Raises:
        StoreError: `trust.json` cannot be written.
    """
    known = _known(directory, identity)
    rows: list[dict[str, Any]] = []

    def write(trust: Trust | None) -> None:
        if directory is not None:
            said = {
                "version": VERSION, "identity": identity, "metric": metric,
                "trust": None if trust is None else trust.to_dict(), "networks": rows,
            }  # fmt: skip
            replace_file(directory / FILE, json.dumps(said, indent=1, allow_nan=False).encode())

    for number, architecture in enumerate(architectures):
        row = known.get(architecture.key)
        if row is None:
            row = {"architecture": architecture.key, "cheap": cheap(architecture, number)}
            begin = time.perf_counter()
            found = full(architecture, number)
            timed = found if isinstance(found, Timed) else Timed(found, time.perf_counter() - begin)
            row |= {"full": timed.value, "seconds": timed.seconds}
            rows.append(row)
            write(None)
        else:
            rows.append(row)
    values = [[float("nan") if row[name] is None else row[name] for row in rows] for name in ("cheap", "full")]
    trust = measure_trust(values[0], values[1], seed=seed, names=names)
    write(trust)
    left_out = sum(row["cheap"] is None or row["full"] is None for row in rows)
    return Comparison(trust=trust, seconds=sum(row["seconds"] for row in rows), left_out=left_out)


def read_trust(directory: Path) -> Trust:
    """What `compare` left in a folder.

    Raises:
        StoreError: there is nothing, the comparison is not finished, or it cannot be read.
    """
    try:
        stored = json.loads((directory / FILE).read_text(encoding="utf-8"))["trust"]
        if stored is not None:
            return Trust.from_dict(stored)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"Cannot read the comparison of rankings in '{directory / FILE}': {error}.") from error
    raise StoreError(f"The comparison of rankings in '{directory / FILE}' is not finished: run the same search again.")


def _known(directory: Path | None, identity: str | None) -> dict[str, dict[str, Any]]:
    """Rows of this comparison that a file holds, by network."""
    if directory is None or identity is None:
        return {}
    try:
        stored = json.loads((directory / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(stored, dict) or stored.get("version") != VERSION or stored.get("identity") != identity:
        return {}
    return {row["architecture"]: row for row in stored["networks"]}


@dataclass(frozen=True, slots=True, kw_only=True)
class Alone:
    """How each network of a sample is trained alone: from scratch on train, measured on validation.

    Args:
        epochs: Passes over the train images, at least 1.
        recipe: How.
    """

    epochs: int = 10
    recipe: Recipe = field(default_factory=Recipe)

    def __post_init__(self) -> None:
        if isinstance(self.epochs, bool) or not isinstance(self.epochs, int) or self.epochs < 1:
            raise InvalidInputError(f"`epochs` must be an integer of 1 or more, got {self.epochs!r}.")

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {**asdict(self), "recipe": self.recipe.to_dict()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Alone:
        """Inverse of `to_dict`; keys that are missing take their defaults.

        Raises:
            InvalidInputError: an unknown key, or a value out of range.
        """
        values = dict(data)
        require_known(values, [f.name for f in fields(cls)], "`Alone`")
        if "recipe" in values:
            values["recipe"] = Recipe.from_dict(values["recipe"])
        return cls(**values)

    def accuracy(
        self, architecture: Architecture, task: Task, *, seed: int, device: str = "cpu", directory: Path | None = None
    ) -> float | None:
        """Train a network; its accuracy on validation, a fraction, or None where training diverged; see `train`."""
        return self.train(architecture, task, seed=seed, device=device, directory=directory).value

    def train(
        self, architecture: Architecture, task: Task, *, seed: int, device: str = "cpu", directory: Path | None = None
    ) -> Timed:
        """Train a network; its accuracy on validation, a fraction, or None where training diverged, and the time.

        Args:
            architecture: Closed.
            task: Its test split is not read.
            seed: Of the weights and of the training.
            device: "cpu", "cuda", "cuda:1" or "auto".
            directory: Of the checkpoint, which stays.

        Raises:
            TrialError: kind "memory": the GPU's memory is too small, perhaps only now.
        """
        model = build(trace(architecture, task.input_shape, **task.context), seed=seed)
        begin = time.perf_counter()
        try:
            result = fit(
                model, task, self.recipe, epochs=self.epochs, seed=seed, device=device, directory=directory,
                keep_checkpoint=True,
            )  # fmt: skip
        except TrialError as error:
            if error.kind != "diverged":
                raise
            return Timed(None, time.perf_counter() - begin)
        return Timed(evaluate(model, task, "validation").accuracy, result.seconds)


def check_sample(sample: object) -> None:
    """Refuse a number of networks that is none.

    Raises:
        InvalidInputError: it is no integer of 0 or more.
    """
    if isinstance(sample, bool) or not isinstance(sample, int) or sample < 0:
        raise InvalidInputError(f"`sample` must be an integer of 0 or more, got {sample!r}.")


def without_defaults(values: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a searcher without `sample` and `alone` where they are the usual ones: older studies go on."""
    usual = {"sample": 10, "alone": Alone().to_dict()}
    return {name: value for name, value in values.items() if name not in usual or value != usual[name]}


def training_settings(values: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a searcher that its shared weights depend on: not how their ranking is checked."""
    return {name: value for name, value in values.items() if name not in ("sample", "alone")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What is known of a ranking by shared weights."""

    trust: Trust | None
    """None where no network was trained alone."""
    note: str
    """What it means, for people."""

    def marked(self, found: Sequence[Found]) -> tuple[Found, ...]:
        """Architectures with the trust beside what speaks for each: "shared_tau" and its interval."""
        added = {} if self.trust is None else self.trust.metrics("shared_tau")
        return tuple([replace(one, evidence={**one.evidence, **added}) for one in found])


def check_ranking(
    shared: Supernet,
    space: Space,
    run: Run,
    *,
    sample: int,
    alone: Alone,
    batches: Sequence[Tensor],
    facts: Mapping[str, object],
    epoch: float = 0.0,
) -> Checked:
    """Train a sample of a space alone, and compare its ranking with that by shared weights.

    Costs `sample` trainings, in this process; where several search together, in the first one, for which all wait. A
    call that was killed goes on in `run.directory`, where `trust.json` stays.

    Args:
        shared: Trained.
        space: Of which it is the supernet; the sample is uniform over its architectures, of which those that are one
            network (of equal canonical hash) count once.
        run: Task, seed, device, folder; `report` is called after each network with "trained_alone" and "networks".
        sample: Networks; 0 for none, and a note that says so.
        alone: How they are trained.
        batches: To recalibrate norms with.
        facts: What the shared weights depend on besides the run: the method's settings.
        epoch: For the reports: the number of the last one.

    Raises:
        TrialError: kind "memory": a network of the sample does not fit into the GPU's memory.
        StoreError: `trust.json` cannot be written.
    """
    if not sample:
        return Checked(
            trust=None,
            note="Whether shared weights rank networks as training alone does was not checked (`sample=0`).",
        )

    def checked() -> Checked:
        drawn = distinct(space, sample, Random(derived_seed(run.seed, STREAM)), key=network_key(run.task))
        who = checkpoint.identity(
            facts=dict(facts), space=space.fingerprint, task=run.task.fingerprint, seed=run.seed, device=run.device,
            sample=sample, alone=alone.to_dict(), initial=digest_of(run.initial),
            weights=digest_of(shared.state_dict()), torch=torch.__version__,
        )  # fmt: skip
        folder = None if run.directory is None else run.directory / "alone"

        def full(architecture: Architecture, number: int) -> Timed:
            place = None if folder is None else folder / f"{who[:16]}-{number}"
            found = alone.train(architecture, run.task, seed=run.seed, device=run.device, directory=place)
            run.report({"epoch": epoch, "trained_alone": number + 1.0, "networks": float(len(drawn))})
            return found

        found = compare(
            lambda architecture, _: measure(shared, architecture, run.task, batches=batches).accuracy,
            full, drawn, seed=run.seed, directory=run.directory, identity=who,
        )  # fmt: skip
        for number in range(len(drawn)):
            if folder is not None:
                checkpoint.remove(folder / f"{who[:16]}-{number}")
        left = f" The training of {found.left_out} diverged, so they are left out." if found.left_out else ""
        cost = f" Training these {len(drawn)} alone took {found.seconds:.3g} s besides."
        return Checked(trust=found.trust, note=found.trust.sentence + left + cost)

    return run.team.of_first(checked)
