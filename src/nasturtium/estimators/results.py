"""What a trained trial leaves in its folder."""

from __future__ import annotations

import contextlib
import io
import json
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.torch import save as safetensors_bytes
from torch import nn

from nasturtium.errors import StoreError
from nasturtium.training import Evaluation, FitResult

WEIGHTS, CORRECT, HISTORY = "weights.safetensors", "correct.npy", "history.json"
RESULTS_VERSION = 1


def write(
    directory: Path,
    identity: str,
    model: nn.Module,
    evaluation: Evaluation,
    result: FitResult,
    metrics: Mapping[str, float],
) -> None:
    """Write weights, correctness and history, each in one step; the history comes last and says that all is there.

    Args:
        directory: Made where it is missing.
        identity: Of the estimate: estimator, architecture, fidelity, seed and data.
        model: The trained network.
        evaluation: On validation.
        result: Of the training.
        metrics: What the estimate returned.

    Raises:
        StoreError: a file cannot be written.
    """
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    correct = io.BytesIO()
    np.save(correct, evaluation.correct, allow_pickle=False)
    history = {
        "version": RESULTS_VERSION,
        "identity": identity,
        "metrics": dict(metrics),
        "history": [dict(epoch) for epoch in result.history],
        "precision": result.precision,
        "channels_last": result.channels_last,
        "stopped": result.stopped,
    }
    try:
        directory.mkdir(parents=True, exist_ok=True)
        replace(directory / WEIGHTS, safetensors_bytes(weights))
        replace(directory / CORRECT, correct.getvalue())
        replace(directory / HISTORY, json.dumps(history, indent=1).encode())
    except OSError as error:
        raise StoreError(f"Cannot write the results of a trial into '{directory}': {error}.") from error


def read_metrics(directory: Path, identity: str) -> dict[str, float] | None:
    """Metrics of this very estimate where it was finished here before, else None.

    A search that is killed between the end of a trial and its record asks again; the answer is the same.
    """
    try:
        stored = json.loads((directory / HISTORY).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(stored, dict) or stored.get("identity") != identity or stored.get("version") != RESULTS_VERSION:
        return None
    return {str(name): float(value) for name, value in stored["metrics"].items()}


def read_correct(directory: Path) -> NDArray[np.bool_]:
    """`(n,)` whether the trial in this folder classified each validation image rightly, in the split's order.

    Raises:
        StoreError: it is missing or damaged.
    """
    path = directory / CORRECT
    try:
        return np.asarray(np.load(path, allow_pickle=False), dtype=np.bool_)
    except (OSError, ValueError, EOFError) as error:
        raise StoreError(f"Cannot read which images a trial classified rightly from '{path}': {error}.") from error


def replace(path: Path, content: bytes) -> None:
    """Write a file in one step: at any instant it is the old one or the new one, whole."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
