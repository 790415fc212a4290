"""Judge a network by the beginning of its training."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from nasturtium.errors import InvalidInputError
from nasturtium.estimators.protocol import Job
from nasturtium.estimators.trained import Trained
from nasturtium.space import Architecture
from nasturtium.surrogates.curves import FEWEST, extrapolate
from nasturtium.tasks import Task
from nasturtium.training import FitResult
from nasturtium.trial.types import FULL, Fidelity

VERSION = 1


@dataclass(frozen=True)
class Extrapolated:
    """Train a share of the epochs, and extrapolate the learning curve to their end.

    Cost: that share of `of`, and some tenths of a second. The schedule of the learning rate is that of all epochs, so
    what is trained is the beginning of a full training.

    Args:
        epochs: Share of the epochs that are trained, in (0, 1); at least `curves.FEWEST` epochs are.
        of: The full training.

    Notes:
        A schedule that falls to zero lifts the curve in its last epochs, which no family of curves foresees: the
        forecast is then too low, for all networks alike. Compare what it ranks, not what it says.

    Reference:
        Domhan, Springenberg, Hutter (2015), "Speeding up automatic hyperparameter optimization of deep neural networks
        by extrapolation of learning curves", IJCAI; see `nasturtium.surrogates.curves.extrapolate` for what differs.
    """

    epochs: float = 0.25
    of: Trained = field(default_factory=Trained)

    def __post_init__(self) -> None:
        if isinstance(self.epochs, bool) or not isinstance(self.epochs, (int, float)) or not 0 < self.epochs < 1:
            raise InvalidInputError(f"`epochs` must be a share of the epochs in (0, 1), got {self.epochs!r}.")
        if not isinstance(self.of, Trained):
            raise InvalidInputError(f"`of` must be a `Trained` estimator, got {self.of!r}.")
        if self.of.epochs <= FEWEST:
            raise InvalidInputError(f"`of` must train more than {FEWEST} epochs, got {self.of.epochs}.")

    @property
    def deterministic(self) -> bool:
        """As the training is."""
        return self.of.deterministic

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all settings."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON; `nasturtium.estimators.from_dict` is the inverse."""
        return {"version": VERSION, "type": "extrapolated", "epochs": self.epochs, "of": self.of.to_dict()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Extrapolated:
        """Inverse of `to_dict`."""
        values = {key: value for key, value in data.items() if key not in ("version", "type")}
        unknown = set(values) - {f.name for f in fields(cls)}
        if unknown or data.get("version", VERSION) != VERSION:
            raise InvalidInputError(
                f"A stored `Extrapolated` estimator must have version {VERSION} and no unknown keys, got version "
                f"{data.get('version')!r} and {sorted(unknown)!r} besides. Use the version of nasturtium that wrote it."
            )
        return cls(epochs=values.get("epochs", 0.25), of=Trained.from_dict(values.get("of", {})))

    def estimate(
        self, architecture: Architecture, fidelity: Fidelity = FULL, job: Job | None = None
    ) -> dict[str, float]:
        """Train the beginning, and forecast the end.

        Args:
            architecture: Closed.
            fidelity: As of `Trained`; a share of the epochs is one of `of`'s, before this estimator's own.
            job: Task, seed, folder, threads.

        Returns:
            "accuracy", the expected one at the end, with its standard deviation "accuracy_std"; "accuracy_trained", the
            last that was measured; "loss", "train_seconds", "train_loss", "epochs" of what was trained.

        Raises:
            TrialError: training diverged, or memory ran out.
            InvalidInputError: a fidelity with too few epochs, or one that `Trained` does not have.
        """
        if job is None:
            raise InvalidInputError("`Extrapolated.estimate` needs a job: `Job(task=…, seed=…)`.")
        all_epochs = self.of.epochs_at(fidelity)
        if all_epochs <= FEWEST:
            raise InvalidInputError(
                f"More than {FEWEST} epochs are needed to extrapolate, got {all_epochs} at {fidelity.text}. Raise the "
                "fidelity's lowest share of the epochs."
            )
        until = max(FEWEST, round(all_epochs * self.epochs))

        def forecast(metrics: dict[str, float], result: FitResult) -> dict[str, float]:
            curve = [epoch["validation_accuracy"] for epoch in result.history]
            if len(curve) < FEWEST:  # the limit of time, or a stopping rule, came first
                return {**metrics, "accuracy_trained": metrics["accuracy"], "accuracy_std": 0.0}
            found = extrapolate(curve, all_epochs)
            return {
                **metrics, "accuracy": found.mean, "accuracy_std": found.std, "accuracy_trained": metrics["accuracy"],
            }  # fmt: skip

        trained = replace(self.of, report_validation=True)
        return trained.train_until(
            architecture, fidelity, job, described=self.to_dict(), until=until, summary=forecast
        )  # fmt: skip

    def expected_seconds(self, task: Task, macs: float) -> float:
        """Forecast of one estimate; see `Trained.expected_seconds`."""
        return self.epochs * self.of.expected_seconds(task, macs)
