"""A trial of a study with what it left behind, and what was measured of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from nasturtium.space import Architecture
from nasturtium.study.evidence import Evidence, without
from nasturtium.trial import Constraint, Trial, violation

if TYPE_CHECKING:
    from nasturtium.study.results import Study


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Member:
    """A trial with what it left behind."""

    trial: Trial
    role: str
    directory: Path
    """Weights, the validation record, the training's history."""
    test_metrics: Mapping[str, float] | None
    """Measured once, when it was exported; None before."""
    study: Study
    evidence: Mapping[str, Evidence] = field(default_factory=dict)
    """What was measured of it on its devices, by metric; its `metrics` hold these values."""

    @property
    def number(self) -> int:
        """Number of the trial in its run."""
        return self.trial.number

    @property
    def architecture(self) -> Architecture:
        """The network."""
        return self.trial.architecture

    @property
    def metrics(self) -> Mapping[str, float]:
        """Metrics on validation data, and costs; a measured latency, where there is one, in place of a prediction."""
        return self.trial.metrics

    def verdict(self, constraint: Constraint) -> str:
        """Whether it is shown to meet a limit.

        Returns:
            "met" or "missed"; on a device also "not shown" (the limit lies inside the interval) or "not measured", and
            "not proved" of a microcontroller's memory where no int8 file of it was allocated.
        """
        evidence = self.evidence.get(constraint.metric)
        if evidence is not None:
            return evidence.verdict(constraint)
        if constraint.metric in self.study.evidences.metrics:
            return without(constraint.metric)
        return "missed" if violation(self.metrics, [constraint]) else "met"

    def may_meet(self, limits: Sequence[Constraint]) -> bool:
        """Whether no measurement speaks against that it meets limits on devices: each is met, or was not tried."""
        return all(c.metric not in self.evidence or self.verdict(c) == "met" for c in limits)

    @property
    def weights(self) -> Path:
        """The trained weights; not there if the estimator trains none."""
        return self.directory / "weights.safetensors"

    def export(self, directory: str | Path, *, overwrite: bool = False) -> Path:
        """Write model, weights, ONNX and model card; see `Study.export`."""
        return self.study.export(directory, self, overwrite=overwrite)


FrontMember = Member
"""A member of the Pareto front."""
