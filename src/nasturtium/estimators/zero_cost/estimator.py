"""Zero-cost proxies as an estimator: scores of the untrained network."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, get_args

from nasturtium.errors import DataError, InvalidInputError, TrialError, UnknownNameError
from nasturtium.estimators.protocol import Job
from nasturtium.estimators.trained import Trained, torch_threads
from nasturtium.estimators.zero_cost.agreement import BASELINES, check_scores
from nasturtium.estimators.zero_cost.features import depends_on_input
from nasturtium.estimators.zero_cost.proxies import PROXIES, Subject
from nasturtium.graph import trace
from nasturtium.space import Architecture, Space
from nasturtium.tasks import Task
from nasturtium.training import resolve_device
from nasturtium.training.randomness import local_randomness
from nasturtium.trial import METRICS, Metric
from nasturtium.trial.types import FULL, Fidelity

VERSION = 1
SECONDS_PER_MAC = 1e-10
"""Of a forward pass on one core."""
SAMPLE, EPOCHS = 10, 5
"""Networks that are trained alone to check scores, and for how long."""
Initialization = Literal["pytorch", "library"]


@dataclass(frozen=True)
class ZeroCost:
    """Score the untrained network: one number for each proxy, from one batch or none, in a second or less.

    How far a score can be trusted depends on the space. So a search with it first trains a small sample of networks,
    and says how far the two rankings agree: Kendall's tau and Spearman's rho with their intervals, in `Study.notes`.
    These trainings take place in the process that searches, before its trials: neither `seconds` nor the limits of a
    trial count for them. `check` does the same for larger samples and other references.

    Args:
        proxies: Names of `PROXIES`: "synflow", "snip", "grasp", "fisher", "grad_norm", "plain", "jacob_cov", "naswot",
            "zen", "zen_residual", "zico", "l2_norm", "params", "macs". Each is the metric of that name, larger for what
            its paper holds to be better.
        images: Of a batch; 64 as in Abdelfattah et al. NASWOT's paper takes 128.
        batches: For ZiCo, which compares gradients between batches; the others take the first.
        initialization: "pytorch": as PyTorch's layers start, which the published scores are of; "library": as training
            starts here.
        repeats: Draws of "zen".
        seed: Of weights and images for all networks; None for the job's own. Within a search each trial's job has a
            seed of its own; with one for all, scores differ less by chance.
        device: "auto" (a GPU where there is one), "cpu", "cuda", "cuda:1" …
        sample: Networks of the space, drawn uniformly, that a search trains before it begins, at least 5; 0 for none:
            its notes then say that the scores are unchecked.
        alone: How they are trained.

    Notes:
        Cost: a few forward and backward passes of a batch, see `benchmarks/zero_cost.py`. "synflow", "zen", "l2_norm",
        "params" and "macs" need no images, so they can be had for a task without data.

    Reference:
        Abdelfattah, Mehrotra, Dudziak, Lane (2021), "Zero-cost proxies for lightweight NAS", arXiv 2101.08134; each
        score's function names its own.
    """

    proxies: str | Sequence[str]
    images: int = 64
    batches: int = 2
    initialization: Initialization = "pytorch"
    repeats: int = 32
    seed: int | None = None
    device: str = "auto"
    sample: int = SAMPLE
    alone: Trained = field(default_factory=lambda: Trained(epochs=EPOCHS))

    def __post_init__(self) -> None:
        names = (self.proxies,) if isinstance(self.proxies, str) else tuple(self.proxies)
        for name in names:
            if name not in PROXIES:
                raise UnknownNameError("zero-cost proxy", str(name), PROXIES)
        if not names or len(set(names)) < len(names):
            raise InvalidInputError(f"`proxies` must name one proxy or several different ones, got {self.proxies!r}.")
        object.__setattr__(self, "proxies", names)
        for name, least in (("images", 2), ("batches", 1), ("repeats", 1)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise InvalidInputError(f"`{name}` must be an integer of {least} or more, got {value!r}.")
        if "zico" in names and self.batches < 2:
            raise InvalidInputError("ZiCo compares gradients between batches: `batches` must be 2 or more, got 1.")
        if self.initialization not in get_args(Initialization):
            raise InvalidInputError(f"`initialization` must be 'pytorch' or 'library', got {self.initialization!r}.")
        if self.seed is not None and (isinstance(self.seed, bool) or not isinstance(self.seed, int)):
            raise InvalidInputError(f"`seed` must be an integer or None, got {self.seed!r}.")
        number = isinstance(self.sample, int) and not isinstance(self.sample, bool)
        if not number or (self.sample != 0 and self.sample < 5):
            raise InvalidInputError(f"`sample` must be 0, or an integer of 5 or more, got {self.sample!r}.")
        if not isinstance(self.alone, Trained):
            raise InvalidInputError(f"`alone` must be a `Trained`, got {self.alone!r}.")

    @property
    def names(self) -> tuple[str, ...]:
        """The proxies."""
        return tuple(self.proxies)

    @property
    def known_metrics(self) -> dict[str, Metric]:
        """What it measures besides the library's own metrics, so that objectives can name it."""
        return {
            name: Metric(
                name=name, direction="maximize", lowest=-math.inf, description=f"zero-cost: {PROXIES[name].description}"
            )
            for name in self.names
            if name not in METRICS
        }

    @property
    def deterministic(self) -> bool:
        """True: on one machine, for one seed, thread count and device."""
        return True

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all settings that change a score: not of how the ranking is checked."""
        return hashlib.sha256(json.dumps(self._settings(), sort_keys=True).encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON; `nasturtium.estimators.from_dict` is the inverse."""
        late: dict[str, Any] = {}  # settings that came later are left out at their defaults: older studies go on
        if self.sample != SAMPLE:
            late["sample"] = self.sample
        if self.alone != Trained(epochs=EPOCHS):
            late["alone"] = self.alone.to_dict()
        return {**self._settings(), **late}

    def _settings(self) -> dict[str, Any]:
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("sample", "alone")}
        return {"version": VERSION, "type": "zero-cost", **values, "proxies": list(self.names)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ZeroCost:
        """Inverse of `to_dict`.

        Raises:
            InvalidInputError: another version, or unknown keys.
        """
        values = {key: value for key, value in data.items() if key not in ("version", "type")}
        unknown = set(values) - {f.name for f in fields(cls)}
        if unknown or data.get("version", VERSION) != VERSION or "proxies" not in values:
            raise InvalidInputError(
                f"A stored `ZeroCost` estimator must have version {VERSION}, proxies and no unknown keys, got version "
                f"{data.get('version')!r} and {sorted(unknown)!r} besides. Use the version of nasturtium that wrote it."
            )
        if "alone" in values:
            values["alone"] = Trained.from_dict(values["alone"])
        return cls(**values)

    def estimate(
        self, architecture: Architecture, fidelity: Fidelity = FULL, job: Job | None = None
    ) -> dict[str, float]:
        """Score one architecture.

        Args:
            architecture: Closed, with one output in evaluation.
            fidelity: The full one only: nothing is trained that could be shortened.
            job: Task, seed, threads, device.

        Returns:
            Each proxy's score by its name; that of "synflow" as its natural logarithm.

        Raises:
            TrialError: kind "missing": a score is not defined for this network, such as one that zeros cut off from
                its input, or is not finite.
            InvalidInputError: no job, a reduced fidelity, or too few train images.
        """
        if job is None:
            raise InvalidInputError("`ZeroCost.estimate` needs a job: `Job(task=…, seed=…)`.")
        if not fidelity.is_full:
            raise InvalidInputError(
                f"Zero-cost scores have no fidelities, got {fidelity!r}: use a strategy with a single one."
            )
        subject = self._subject(architecture, job)
        if subject is None:
            raise TrialError("The network's output does not depend on its input, so no score is defined.", "missing")
        with torch_threads(job.threads), local_randomness(subject.seed, subject.device):
            return {name: _score(name, subject) for name in self.names}

    def scores(self, architecture: Architecture, job: Job) -> dict[str, float]:
        """As `estimate`, but NaN for a score that is not defined or not finite."""
        subject = self._subject(architecture, job)
        if subject is None:
            return dict.fromkeys(self.names, math.nan)
        with torch_threads(job.threads), local_randomness(subject.seed, subject.device):
            found = {name: PROXIES[name].score(subject) for name in self.names}
        return {name: value if math.isfinite(value) else math.nan for name, value in found.items()}

    def _subject(self, architecture: Architecture, job: Job) -> Subject | None:
        """What is scored; None where the output does not depend on the input."""
        graph = trace(architecture, job.task.input_shape, **job.task.context)
        if not depends_on_input(graph):
            return None
        return Subject(
            names=self.names, graph=graph, task=job.task, seed=job.seed if self.seed is None else self.seed,
            images=self.images, batches=self.batches, initialization=self.initialization, repeats=self.repeats,
            device=resolve_device(self.device if job.device in (None, "auto") else job.device),
        )  # fmt: skip

    def check_ranking(self, space: Space, job: Job) -> dict[str, Any]:
        """Train a sample of a space alone, and say how far the scores rank it alike; a search calls it first.

        Each network is scored with a seed of its own unless `seed` is one for all, as the search's trials are.

        Args:
            space: That is searched.
            job: Task, seed, folder (what was stopped goes on there), threads, device; its `report` hears "done", "of".

        Returns:
            "notes", sentences for people, and "scores", what was found for each score, as plain JSON.

        Raises:
            TrialError: kind "memory": there is too little to train one of the networks.
            StoreError: the folder cannot be written.
        """
        said = ", ".join(self.names)
        if not self.sample:
            return {
                "notes": [f"Unchecked: how well the scores {said} rank networks of this space is not known (sample=0)."]
            }
        try:
            job.task.split("train")
        except DataError as error:
            return {
                "notes": [f"Unchecked: how well the scores {said} rank networks of this space is not known. {error}"]
            }
        with torch_threads(job.threads):
            came = check_scores(
                with_baselines(self), space, job, reference=self.alone, n=self.sample, believed="training alone"
            )
        cost = f"Training {came.networks + came.left_out} networks alone to check the scores took {came.seconds:.3g} s."
        if came.left_out:
            cost += f" {came.left_out} of them could not be trained, so they are left out."
        return {
            "notes": [*(came.found[name].sentence for name in self.names), cost],
            "scores": {name: checked.to_dict() for name, checked in came.found.items()},
        }

    def expected_seconds(self, task: Task, macs: float) -> float:
        """Forecast from the cost alone, on one thread of a CPU; right within a factor of about 5."""
        return sum(0.05 + PROXIES[name].passes * self.images * macs * SECONDS_PER_MAC for name in self.names)


def _score(name: str, subject: Subject) -> float:
    """One score.

    Raises:
        TrialError: it is not finite.
    """
    value = PROXIES[name].score(subject)
    if not math.isfinite(value):
        raise TrialError(
            f"The score {name!r} is {value} for this network: it is not defined there (no unit that it looks at, "
            "images that the network does not tell apart, or numbers out of range).",
            "missing",
        )
    return value


def with_baselines(estimator: ZeroCost) -> ZeroCost:
    """The estimator with "params" and "macs" besides."""
    names = (*estimator.names, *(name for name in BASELINES if name not in estimator.names))
    return replace(estimator, proxies=names)
