"""Where the supernet of an estimator is: in memory, in a file, or still to be trained, by one process at a time."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

import torch
from torch import Tensor

from nasturtium.errors import StoreError
from nasturtium.estimators import results
from nasturtium.estimators.comparing import compare_rankings
from nasturtium.estimators.protocol import Job
from nasturtium.estimators.trained import Trained
from nasturtium.model import Supernet, supernet
from nasturtium.space import Architecture, Space
from nasturtium.supernets.calibration import calibration_batches
from nasturtium.supernets.paths import PathSampler
from nasturtium.supernets.sampling import distinct, network_key
from nasturtium.supernets.single_path import measure, train_single_path
from nasturtium.supernets.storage import load, read_weights, save
from nasturtium.supernets.trust import Trust
from nasturtium.training import Recipe, checkpoint
from nasturtium.training.randomness import derived_seed
from nasturtium.trial.types import Fidelity

WEIGHTS, FACTS = "supernet.safetensors", "supernet.json"
FACTS_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """What a supernet is of, and how it is trained; see `SharedWeights`."""

    space: Space
    epochs: int
    recipe: Recipe
    sampler: PathSampler
    paths: int
    weights: Path | None
    initial: Path | None
    calibration: int
    seed: int
    fingerprint: str
    sample: int
    alone: Trained


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ready:
    """A supernet that is ready to be measured by."""

    supernet: Supernet
    calibration: list[Tensor]
    """Batches for the norms' statistics."""
    seconds: float
    """Its training, interruptions not counted; 0 where it was given as a file."""
    trust: Trust | None
    """How its ranking agrees with that of networks trained alone; None where it was not asked for."""
    identity: str


_latest: list[Ready] = []
"""The supernet of this process, at most one: a study asks for the same again and again."""


def supernet_of(training: Training, job: Job, device: torch.device, directory: Path | None) -> Ready:
    """The supernet of these settings for a task.

    It is in memory from the second call on. Else its file is looked for: in `directory`, or, where that is None, in the
    folder of this trial and those beside it. Else it is trained, under a lock that all processes of the study take,
    and written. What a stopped training left is continued.

    Args:
        training: Space and settings.
        job: Of the estimate that asks.
        device: Where.
        directory: Where supernets are kept, or None.
    """
    who = checkpoint.identity(
        settings=training.fingerprint, task=job.task.fingerprint, device=str(device), torch=torch.__version__
    )
    if _latest and _latest[0].identity == who:
        return _latest[0]
    context: dict[str, Any] = job.task.context
    made = supernet(training.space, job.task.input_shape, seed=training.seed, **context)
    batches = calibration_batches(job.task, images=training.calibration, seed=training.seed, device=device)
    with _only_process(directory or (None if job.directory is None else job.directory.parent)):
        folder = _folder(job, directory, who)
        if training.weights is not None:
            load(made, training.weights)
            seconds = 0.0
        else:
            seconds = _read_or_train(made, training, job, device, folder, who)
        made.to(device).eval()
        trust = _trust(made, batches, training, job, folder, who) if training.sample else None
    found = Ready(supernet=made, calibration=batches, seconds=seconds, trust=trust, identity=who)
    _latest[:] = [found]
    return found


def _folder(job: Job, directory: Path | None, who: str) -> Path | None:
    """The supernet's own folder, that exists or is to be made."""
    name = f"supernet-{who[:16]}"
    if directory is not None:
        return directory / name
    if job.directory is None:
        return None
    beside = sorted(job.directory.parent.glob(f"*/{name}"))
    return beside[0] if beside else job.directory / name


def _read_or_train(
    made: Supernet, training: Training, job: Job, device: torch.device, folder: Path | None, who: str
) -> float:
    """Put the trained weights in; returns the seconds that they took."""
    facts = None if folder is None else _facts(folder / FACTS, who)
    if folder is not None and facts is not None:
        load(made, folder / WEIGHTS)
        return float(facts["seconds"])
    result = train_single_path(
        made, training.space, job.task, training.recipe, epochs=training.epochs, seed=training.seed,
        sampler=training.sampler, paths=training.paths, device=device, directory=folder, on_epoch=job.report,
        initial=None if training.initial is None else read_weights(training.initial),
    )  # fmt: skip
    if folder is not None:
        said = {
            "version": FACTS_VERSION, "identity": who, "seconds": result.seconds, "steps": result.steps,
            "paths": result.paths, "history": [dict(record) for record in result.history],
        }  # fmt: skip
        save(made, folder / WEIGHTS)
        results.replace(folder / FACTS, json.dumps(said, indent=1).encode())  # last: it says that all is there
        checkpoint.remove(folder)
    return result.seconds


@dataclass(frozen=True, slots=True)
class _Inherited:
    """Measures networks by the weights of one supernet."""

    supernet: Supernet
    batches: list[Tensor]

    def estimate(self, architecture: Architecture, fidelity: Fidelity, job: Job) -> dict[str, float]:
        """Accuracy on validation."""
        return {"accuracy": measure(self.supernet, architecture, job.task, batches=self.batches).accuracy}


def _trust(made: Supernet, batches: list[Tensor], training: Training, job: Job, folder: Path | None, who: str) -> Trust:
    """Train a sample alone, or read what came of it."""
    key = network_key(job.task)
    drawn = distinct(training.space, training.sample, Random(derived_seed(training.seed, 5)), key=key)
    own = replace(job, seed=training.seed, directory=folder)
    return compare_rankings(_Inherited(made, batches), training.alone, drawn, own, identity=who)


def _facts(path: Path, who: str) -> dict[str, Any] | None:
    """What is known of the supernet in a folder, or None where there is none, or another."""
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    known = isinstance(stored, dict) and stored.get("version") == FACTS_VERSION and stored.get("identity") == who
    return stored if known else None


@contextmanager
def _only_process(folder: Path | None) -> Iterator[None]:
    """Hold the lock of a folder: of all processes that ask, one goes on at a time. It is given back if it dies."""
    if folder is None:
        yield
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise StoreError(f"The folder of the supernet, '{folder}', cannot be used: {error}.") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
