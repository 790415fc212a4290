"""Judge networks by weights that all of them share: a supernet is trained once, then each network is only measured."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from nasturtium.errors import InvalidArchitectureError, InvalidInputError, TrialError
from nasturtium.estimators import results
from nasturtium.estimators.protocol import Job
from nasturtium.estimators.supernet_files import Ready, Training, supernet_of
from nasturtium.estimators.trained import SECONDS_PER_IMAGE, SECONDS_PER_MAC, Trained, torch_threads
from nasturtium.space import Architecture, Space
from nasturtium.supernets.calibration import recalibrate
from nasturtium.supernets.paths import PathSampler, sampler_from
from nasturtium.supernets.storage import file_digest
from nasturtium.tasks import Task
from nasturtium.training import FitResult, Recipe, checkpoint, evaluate, resolve_device
from nasturtium.trial.types import FULL, Fidelity

VERSION = 1


@dataclass(frozen=True, kw_only=True, eq=False)
class SharedWeights:
    """Train the supernet of a space once, and measure each network on validation with the weights that it inherits.

    Before it is measured, a network's norms take their statistics from train images (not augmented, drawn by `seed`).
    The first estimate of a study trains the supernet, or goes on with a training that was stopped; all others find it:
    in `directory`, else in the folder of the trial that trained it. Of several worker processes one trains, the others
    wait. So the first trial's time is long: a `time_limit` must allow for it.

    Each estimate also says what the supernet cost, "supernet_seconds": the same number in every trial, to be counted
    once. Whether its ranking can be trusted is measured, too: a sample of networks is trained alone, and the agreement
    of the two rankings, Kendall's tau, stands with its 95% interval in every estimate. `trust.json` in the supernet's
    folder has it in words (`nasturtium.estimators.read_trust`). That costs `sample` trainings.

    Args:
        space: The space of which the networks are.
        epochs: Passes of the supernet over the train images, at least 1.
        recipe: How the supernet is trained.
        sampler: How paths are drawn: "hierarchical", "uniform", "fair", "cost_balanced", or a rule of
            `nasturtium.supernets.paths`.
        paths: Draws in each step, at least 1.
        weights: A file of a trained supernet of the space (`nasturtium.supernets.save`), instead of training one;
            `epochs`, `recipe`, `sampler` and `paths` then have no effect.
        initial: A file of weights to start training from, by the supernet's names; names that are missing start at
            random. As of `nas.study.StartFrom`.
        directory: Where the supernet is kept, for several studies or machines with one file system; None for the
            folder of the trial that trained it.
        calibration: Train images for the norms' statistics, at least 2.
        sample: Networks, drawn uniformly, that are trained alone; 0 for none: nothing is then known of the trust.
        alone: How they are trained.
        seed: Of the supernet's weights, its training, the calibration images and the sample.
        device: "auto" (a GPU where there is one), "cpu", "cuda", "cuda:1" …

    Reference:
        Guo et al. (2020), "Single Path One-Shot Neural Architecture Search with Uniform Sampling", arXiv 1904.00420,
        sections 3.2 and 3.3. Differs from the authors' code: statistics are taken in batches of 200 (there 200 batches
        of 128).
    """

    incidental: ClassVar[tuple[str, ...]] = ("weights", "initial")
    """Settings that change no result: where files are, of which the digests count. A study goes on when they differ."""

    space: Space
    epochs: int = 30
    recipe: Recipe = field(default_factory=Recipe)
    sampler: str | PathSampler = "hierarchical"
    paths: int = 1
    weights: str | Path | None = None
    initial: str | Path | None = None
    directory: str | Path | None = None
    calibration: int = 2000
    sample: int = 10
    alone: Trained = field(default_factory=lambda: Trained(epochs=10))
    seed: int = 0
    device: str = "auto"
    weights_digest: str | None = None
    """SHA-256 of the file `weights`; filled in, and compared where it is given."""
    initial_digest: str | None = None
    """That of the file `initial`."""

    def __post_init__(self) -> None:
        if not isinstance(self.space, Space):
            raise InvalidInputError(f"`space` must be the `Space` that is searched, got {self.space!r}.")
        for name, least in (("epochs", 1), ("paths", 1), ("calibration", 2), ("sample", 0), ("seed", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise InvalidInputError(f"`{name}` must be an integer of {least} or more, got {value!r}.")
        object.__setattr__(self, "sampler", sampler_from(self.sampler))
        if self.weights is not None:
            object.__setattr__(self, "weights_digest", file_digest(Path(self.weights), self.weights_digest))
        if self.initial is not None:
            if self.weights is not None:
                raise InvalidInputError("Give trained `weights`, or `initial` ones to train from, not both.")
            object.__setattr__(self, "initial_digest", file_digest(Path(self.initial), self.initial_digest))

    @property
    def deterministic(self) -> bool:
        """True, apart from measured times."""
        return True

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all settings that change the result: not of where the supernet is kept."""
        said = self.to_dict()
        if self.weights is not None:
            for name in ("weights", "epochs", "recipe", "sampler", "paths"):
                said.pop(name)
        del said["directory"]
        said.pop("initial", None)  # its digest counts
        said["space"] = self.space.fingerprint
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON; `nasturtium.estimators.from_dict` is the inverse.

        Raises:
            InvalidInputError: the space has a condition that JSON cannot hold, such as a lambda.
        """
        assert isinstance(self.sampler, PathSampler)
        late: dict[str, Any] = {}  # settings that came later are left out at their defaults: older studies go on
        if self.initial is not None:
            late = {"initial": str(self.initial), "initial_digest": self.initial_digest}
        return {
            "version": VERSION,
            "type": "shared_weights",
            "space": self.space.to_dict(),
            "epochs": self.epochs,
            "recipe": self.recipe.to_dict(),
            "sampler": self.sampler.to_dict(),
            "paths": self.paths,
            "weights": None if self.weights is None else str(self.weights),
            "directory": None if self.directory is None else str(self.directory),
            "calibration": self.calibration,
            "sample": self.sample,
            "alone": self.alone.to_dict(),
            "seed": self.seed,
            "device": self.device,
            "weights_digest": self.weights_digest,
            **late,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], *, trust: bool = False) -> SharedWeights:
        """Inverse of `to_dict`.

        Args:
            data: What `to_dict` gave.
            trust: Whether modules other than nasturtium's may be imported for the space's blocks.
        """
        values = {key: value for key, value in data.items() if key not in ("version", "type")}
        unknown = set(values) - {f.name for f in fields(cls)}
        if unknown or data.get("version", VERSION) != VERSION or "space" not in values:
            raise InvalidInputError(
                f"A stored `SharedWeights` estimator must have version {VERSION}, a space and no unknown keys, got "
                f"version {data.get('version')!r} and {sorted(unknown)!r} besides. Use the version of nasturtium that "
                "wrote it."
            )
        space = Space.from_dict(values["space"], trust=trust)
        values["recipe"] = Recipe.from_dict(values.get("recipe", {}))
        if "alone" in values:
            values["alone"] = Trained.from_dict(values["alone"])
        return cls(**{**values, "space": space})

    def estimate(
        self, architecture: Architecture, fidelity: Fidelity = FULL, job: Job | None = None
    ) -> dict[str, float]:
        """Measure one network by inherited weights.

        Writes `weights.safetensors` (the network's own, recalibrated), `correct.npy` and `history.json` into
        `job.directory`, as `Trained` does; the estimate that trains the supernet also its folder, `supernet-…`.

        Args:
            architecture: Of the space.
            fidelity: Only the full one: shares of a training mean nothing where none takes place.
            job: Task, folder, threads. Its seed has no effect.

        Returns:
            "accuracy" (fraction), "loss" (nats), "supernet_seconds" (training of the supernet, all trials together),
            "measure_seconds" (this estimate); of the sample "shared_tau", with "_low", "_high" and "_networks", where
            it is large enough to have them.

        Raises:
            InvalidArchitectureError: the architecture is not of the space.
            InvalidInputError: another fidelity.
            TrialError: the supernet diverged, or the network's outputs are not finite.
            StoreError: the supernet's file cannot be read or written.
        """
        if job is None:
            raise InvalidInputError("`SharedWeights.estimate` needs a job: `Job(task=…, seed=…)`.")
        if fidelity != FULL:
            raise InvalidInputError(
                f"Shared weights measure at full fidelity only, got {fidelity.text}: take a strategy without "
                "fidelities, or the estimator `Trained`."
            )
        if architecture not in self.space:
            raise InvalidArchitectureError(
                f"{architecture!r} is not of the space that the supernet shares weights for, so it inherits none. "
                "Networks of other spaces (references) are measured by `Trained`."
            )
        identity = checkpoint.identity(
            estimator=self.fingerprint, architecture=architecture.to_dict(), task=job.task.fingerprint
        )
        finished = None if job.directory is None else results.read_metrics(job.directory, identity)
        if finished is not None:
            return finished
        with torch_threads(job.threads):
            return self._measure(architecture, job, identity)

    def _measure(self, architecture: Architecture, job: Job, identity: str) -> dict[str, float]:
        trained = self.supernet(job)
        begin = time.perf_counter()
        network = recalibrate(trained.supernet.extract(architecture), trained.calibration)
        evaluation = evaluate(network, job.task, "validation")
        if not np.isfinite(evaluation.loss):
            raise TrialError("The network's outputs on validation are not finite.", kind="diverged")
        metrics = {
            "accuracy": evaluation.accuracy,
            "loss": evaluation.loss,
            "supernet_seconds": trained.seconds,
            "measure_seconds": time.perf_counter() - begin,
        }
        if trained.trust is not None:
            metrics |= trained.trust.metrics("shared_tau")
        if job.directory is not None:
            nothing = FitResult(
                history=(), seconds=0.0, images=0, stopped=False, resumed=0, precision="float32", channels_last=False
            )
            results.write(job.directory, identity, network, evaluation, nothing, metrics)
        return metrics

    def supernet(self, job: Job) -> Ready:
        """The trained supernet: found, or trained now.

        Args:
            job: Task, folder, device and reports, as of an estimate.

        Raises:
            TrialError: it diverged.
            StoreError: its file cannot be read or written.
        """
        assert isinstance(self.sampler, PathSampler)
        device = resolve_device(self.device if job.device in (None, "auto") else job.device)
        return supernet_of(
            Training(
                space=self.space, epochs=self.epochs, recipe=self.recipe, sampler=self.sampler, paths=self.paths,
                weights=None if self.weights is None else Path(self.weights),
                initial=None if self.initial is None else Path(self.initial), calibration=self.calibration,
                seed=self.seed, fingerprint=self.fingerprint, sample=self.sample, alone=self.alone,
            ),
            job, device, None if self.directory is None else Path(self.directory),
        )  # fmt: skip

    def expected_seconds(self, task: Task, macs: float) -> float:
        """Forecast of one estimate, without the training of the supernet.

        Args:
            task: The data.
            macs: Of one sample.
        """
        images = len(task.split("validation")) + min(self.calibration, len(task.split("train")))
        return images * (SECONDS_PER_IMAGE + SECONDS_PER_MAC * macs / 3)
