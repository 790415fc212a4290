"""The one measurement on test, for what is exported."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from nasturtium.errors import InvalidInputError, StoreError
from nasturtium.estimators.results import WEIGHTS
from nasturtium.graph import trace
from nasturtium.model import build
from nasturtium.space import Architecture
from nasturtium.tasks import Task
from nasturtium.training import Evaluation, evaluate, resolve_device


def load_weights(model: nn.Module, path: Path) -> None:
    """Put the weights of a safetensors file into a network; all must be there and fit.

    Args:
        model: The network.
        path: The file, or the folder of a trial, which holds `weights.safetensors`.

    Raises:
        StoreError: the file is missing, damaged or of another network.
    """
    path = path / WEIGHTS if path.is_dir() else path
    try:
        model.load_state_dict(load_file(path))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise StoreError(f"Cannot load the weights in '{path}' into this network: {error}.") from error


def measure_test(
    network: Architecture | nn.Module, task: Task, *, weights: Path | None = None, device: str = "cpu"
) -> Evaluation:
    """Measure a trained network on the test split.

    To be done once, on what is exported: whoever chooses by test no longer has one. Nothing in a search calls this.

    Args:
        network: A trained module; or an architecture, together with its weights.
        task: The task.
        weights: A safetensors file or a trial's folder; None for a module as it is.
        device: Where to compute.

    Returns:
        Accuracy, loss and which test images were right.

    Raises:
        InvalidInputError: an architecture without weights.
        StoreError: the weights cannot be loaded.
    """
    if isinstance(network, nn.Module):
        model = network
    elif weights is None:
        raise InvalidInputError("An architecture alone cannot be measured: give `weights`, or a trained module.")
    else:
        model = build(trace(network, task.input_shape, **task.context), seed=0)
    if weights is not None:
        load_weights(model, Path(weights))
    return evaluate(model.to(resolve_device(device)), task, "test")
