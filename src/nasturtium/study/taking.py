"""Take a trained network home: its weights checked, measured on test once, written by the export room."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from nasturtium import export, tasks
from nasturtium.errors import StoreError
from nasturtium.estimators import measure_test
from nasturtium.export.card import Proof
from nasturtium.graph import trace
from nasturtium.study.evidence import conditions_of, without
from nasturtium.trial import Constraint, of_device

if TYPE_CHECKING:
    from nasturtium.study.results import Member


def export_member(
    member: Member,
    directory: Path,
    task: Any,
    constraints: tuple[Constraint, ...],
    facts: dict[str, Any],
    *,
    overwrite: bool,
) -> dict[str, float]:
    """Write one trial's network; returns its test metrics, measured now only if they were not before.

    Raises:
        StoreError: the trial left no weights.
        ExportError: what was written does not compute what was trained.
    """
    if not member.weights.is_file():
        raise StoreError(
            f"Trial {member.number} ({member.role}) left no weights at {str(member.weights)!r}: it failed, its "
            "estimator trains none, or the files were moved (give their place by `files`)."
        )
    from safetensors.torch import load_file  # noqa: PLC0415

    weights = load_file(member.weights)
    graph = trace(member.architecture, tuple(task.input_shape), **task.context)
    tested = dict(member.test_metrics or {})
    if not tested:
        evaluation = measure_test(member.architecture, task, weights=member.weights)
        tested = {"accuracy": evaluation.accuracy, "loss": evaluation.loss, "images": float(evaluation.n)}
    correct = round(tested["accuracy"] * tested["images"])
    metrics: dict[str, float | tasks.Interval] = {
        "test_accuracy": tasks.wilson(correct, int(tested["images"])),
        **{f"validation_{name}": member.metrics[name] for name in ("accuracy", "loss") if name in member.metrics},
    }
    export.write(
        directory,
        graph=graph,
        weights=weights,
        architecture=member.architecture,
        task=task,
        metrics=metrics,
        constraints=constraints,
        costs=_of_devices(member),
        proofs=_proofs(member),
        provenance=facts | {"trial": f"{member.number} of {member.role}"},
        overwrite=overwrite,
    )
    return tested


def _of_devices(member: Member) -> dict[str, float]:
    """What is known of a network on devices but for latencies and memory: energy, where it was measured."""
    proved = member.study.evidences.metrics
    return {name: value for name, value in member.metrics.items() if of_device(name) and name not in proved}


def _proofs(member: Member) -> list[Proof]:
    """The latencies and memories of a network: measured, with the prediction beside, or only predicted."""
    found = []
    for name in member.study.evidences.metrics:
        evidence = member.evidence.get(name)
        if evidence is None or evidence.measurement is None:
            source = member.study.evidences.source(name)
            reason = member.study.evidences.unproved.get(name, "") if evidence is None else evidence.reason
            found.append(
                Proof(
                    metric=name, value=None, predicted=member.metrics.get(name), source=source,
                    unmeasured=without(name), warnings=(f"{without(name)}: {reason}",) if reason else (),
                )
            )  # fmt: skip
            continue
        m = evidence.measurement
        found.append(
            Proof(
                metric=name, value=m.value, low=m.low, high=m.high, confidence=m.confidence,
                predicted=evidence.predicted, source=evidence.source, conditions=conditions_of(m), warnings=m.warnings,
            )
        )  # fmt: skip
    return found


def stored_task(description: dict[str, Any], data_root: str | Path | None) -> Any:
    """The task of a study, opened again; `data_root` where its data were moved.

    Raises:
        StoreError: it lived in the process that began the study.
        DataError: the data changed, or are not there.
    """
    reference = description["reference"]
    if reference is None:
        raise StoreError(
            f"The task {description['name']!r} lived in the process that began the study, so its test images are not "
            "at hand; give it again: `study.export(directory, task=…)`."
        )
    if data_root is not None:
        arguments = reference["arguments"] | {"data_root": str(Path(data_root).resolve())}
        reference = reference | {"arguments": arguments}
    return tasks.open(tasks.TaskReference.from_dict(reference))
