"""Evolution with inherited weights: a child goes on from what its parent has learnt."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from nasturtium.errors import InvalidInputError, StoreError
from nasturtium.estimators import results
from nasturtium.estimators.protocol import Job, Parent
from nasturtium.estimators.trained import Trained
from nasturtium.graph import Graph, trace
from nasturtium.model.build import Network
from nasturtium.space import Architecture
from nasturtium.supernets.calibration import calibration_batches
from nasturtium.supernets.inheritance import Inheritance, inherit
from nasturtium.tasks import Task
from nasturtium.training import Recipe
from nasturtium.trial.types import FULL, Fidelity

VERSION = 1


@dataclass(frozen=True)
class Inherited:
    """Train a child from its parent's weights, for fewer epochs; train who has no parent from scratch.

    For strategies that say from which trial a proposal descends (evolution, local search, NSGA-II). Of several parents
    it takes the one whose function the child keeps, or of whose weights it keeps most; see `supernets.inherit` for what
    goes over and what changes nothing. A child's accuracy then counts the training of all its ancestors: compare such
    a search with others at equal total time, and train what it found from scratch.

    Deterministic as `Trained` is, for one log of the search. Cost: `epochs` passes over the train images for a child.

    Args:
        epochs: Passes over the train images for a child, at full fidelity.
        first: How to train what has no parent.
        recipe: How to train a child; None: as `first` does. A lower learning rate keeps more of what was learnt: a
            tenth in Net2Net, section 3.
        noise: On copied channels, as a share of the weights' standard deviation; see `supernets.inherit`.

    Reference:
        Chen, Goodfellow, Shlens (2016), "Net2Net", arXiv 1511.05641; Elsken, Metzen, Hutter (2017), "Simple and
        efficient architecture search for convolutional neural networks", arXiv 1711.04528, section 3; Elsken, Metzen,
        Hutter (2019), "Efficient multi-objective neural architecture search via Lamarckian evolution" (LEMONADE), arXiv
        1804.09081, section 3.2. Differs from the papers: any strategy, hence any mutation; where one changes the
        function, the child starts from what fits, and it is said (`preserved`).
    """

    epochs: int = 3
    first: Trained = field(default_factory=Trained)
    recipe: Recipe | None = None
    noise: float = 0.01

    def __post_init__(self) -> None:
        if isinstance(self.epochs, bool) or not isinstance(self.epochs, int) or self.epochs < 1:
            raise InvalidInputError(f"`epochs` must be an integer of 1 or more, got {self.epochs!r}.")
        if not isinstance(self.first, Trained):
            raise InvalidInputError(f"`first` must be a `Trained` estimator, got {self.first!r}.")
        if not isinstance(self.noise, (int, float)) or not 0 <= self.noise < math.inf:
            raise InvalidInputError(f"`noise` must be a number of 0 or more, got {self.noise!r}.")

    @property
    def deterministic(self) -> bool:
        """As the training is."""
        return self.first.deterministic

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all settings."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()

    @property
    def next(self) -> Trained:
        """How a child is trained."""
        recipe = self.first.recipe if self.recipe is None else self.recipe
        return replace(self.first, epochs=self.epochs, recipe=recipe)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON; `nasturtium.estimators.from_dict` is the inverse."""
        return {
            "version": VERSION,
            "type": "inherited",
            "epochs": self.epochs,
            "first": self.first.to_dict(),
            "recipe": None if self.recipe is None else self.recipe.to_dict(),
            "noise": self.noise,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Inherited:
        """Inverse of `to_dict`."""
        values = {key: value for key, value in data.items() if key not in ("version", "type")}
        unknown = set(values) - {f.name for f in fields(cls)}
        if unknown or data.get("version", VERSION) != VERSION:
            raise InvalidInputError(
                f"A stored `Inherited` estimator must have version {VERSION} and no unknown keys, got version "
                f"{data.get('version')!r} and {sorted(unknown)!r} besides. Use the version of nasturtium that wrote it."
            )
        if "first" in values:
            values["first"] = Trained.from_dict(values["first"])
        if values.get("recipe") is not None:
            values["recipe"] = Recipe.from_dict(values["recipe"])
        return cls(**values)

    def estimate(
        self, architecture: Architecture, fidelity: Fidelity = FULL, job: Job | None = None
    ) -> dict[str, float]:
        """Train, from a parent's weights where the job has parents, and measure on validation.

        Args:
            architecture: Closed.
            fidelity: As of `Trained`, without a width below 1: the shares are of `first`'s or of a child's epochs.
            job: Task, seed, folder, threads, parents.

        Returns:
            Those of `Trained`, and "inherited", the share of the network's tensors that come from a parent (0 without
            one), and "preserved", 1 where the child started from its parent's function, else 0.

        Raises:
            TrialError: training diverged, or memory ran out.
            StoreError: a parent left no weights, or they cannot be read.
            InvalidInputError: a fidelity that this estimator does not have.
        """
        if job is None:
            raise InvalidInputError("`Inherited.estimate` needs a job: `Job(task=…, seed=…)`.")
        if fidelity.width < 1.0:
            raise InvalidInputError(
                f"Weights are inherited at full width only, got the fidelity {fidelity.text}. Reduce epochs "
                "or data instead."
            )
        if not job.parents:
            return self.first.train_until(
                architecture, fidelity, job, described=self.to_dict(),
                summary=lambda metrics, _: {**metrics, "inherited": 0.0, "preserved": 0.0},
            )  # fmt: skip
        known = [(parent.architecture.to_dict(), _identity(parent)) for parent in job.parents]
        reports: list[Inheritance] = []

        def start(graph: Graph) -> nn.Module:
            network, report = self._start(graph, job)
            reports.append(report)
            return network

        return self.next.train_until(
            architecture, fidelity, job, described={**self.to_dict(), "parents": known}, start=start,
            summary=lambda metrics, _: {
                **metrics, "inherited": reports[-1].share, "preserved": float(reports[-1].preserved),
            },
        )  # fmt: skip

    def _start(self, graph: Graph, job: Job) -> tuple[Network, Inheritance]:
        """The network with the weights of the nearest parent of those that give most."""
        shapes = {node.path: node.shape for node in graph.nodes[: len(graph.inputs)]}
        batches = calibration_batches(job.task, seed=job.seed, images=256)
        usable = batches if tuple(shapes.values()) == (tuple(job.task.input_shape),) else []
        best: tuple[Network, Inheritance] | None = None
        for parent in job.parents:
            found = inherit(
                trace(parent.architecture, shapes, **job.task.context), _weights(parent), graph,
                seed=job.seed, noise=self.noise, batches=usable,
            )  # fmt: skip
            if best is None or _worth(found[1]) > _worth(best[1]):
                best = found
        assert best is not None
        return best

    def expected_seconds(self, task: Task, macs: float) -> float:
        """Forecast of one estimate of a child; see `Trained.expected_seconds`."""
        return self.next.expected_seconds(task, macs)


def _worth(report: Inheritance) -> tuple[bool, float]:
    return report.preserved, report.share


def _identity(parent: Parent) -> str:
    """Of the estimate that left the parent's weights."""
    try:
        stored = json.loads((parent.directory / results.HISTORY).read_text(encoding="utf-8"))
        return str(stored["identity"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"The parent in '{parent.directory}' left no trained network to inherit from ({error}). Every trial of the "
            "search must be measured by an estimator that trains, such as `Trained` or `Inherited`, and kept."
        ) from error


def _weights(parent: Parent) -> dict[str, Any]:
    path = parent.directory / results.WEIGHTS
    try:
        return dict(load_file(path))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise StoreError(f"Cannot read the parent's weights from '{path}': {error}.") from error
