"""Accuracy and loss of a network on one split."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from nasturtium.errors import InvalidInputError
from nasturtium.tasks import Split, Task
from nasturtium.tasks.task import SplitName
from nasturtium.training.feed import Feed

EVALUATION_BATCH = 256


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Evaluation:
    """How a network did on some images.

    Args:
        accuracy: Share of the images that it classified rightly, in [0, 1].
        loss: Mean cross entropy in nats, without label smoothing.
        correct: `(n,)` whether each image was classified rightly, in the split's order.
        n: Images.
    """

    accuracy: float
    loss: float
    correct: NDArray[np.bool_]
    n: int


def resolve_device(device: str | torch.device) -> torch.device:
    """The device of a name: "cpu", "cuda", "cuda:1", or "auto" for a GPU where there is one.

    Raises:
        InvalidInputError: an unknown name, or a GPU that is not there.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
    except RuntimeError as error:
        raise InvalidInputError(f"`device` must be 'auto', 'cpu', 'cuda' or 'cuda:0' …, got {device!r}.") from error
    if resolved.type == "cuda" and (
        not torch.cuda.is_available() or (resolved.index or 0) >= torch.cuda.device_count()
    ):
        raise InvalidInputError(
            f"The device {str(device)!r} is not there: PyTorch {torch.__version__} sees "
            f"{torch.cuda.device_count()} GPUs. Use device='cpu', or 'auto'."
        )
    return resolved


def autocast(precision: str, device: torch.device) -> torch.autocast | nullcontext[None]:
    """The context of a precision ("float32" or "bfloat16")."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bfloat16" else nullcontext()


def outputs_of(result: object) -> tuple[Tensor, list[Tensor]]:
    """The main output of a network, and its training-only ones.

    A network returns logits, or a tuple or dict whose first entry are the logits.

    Raises:
        InvalidInputError: it returned something else.
    """
    if isinstance(result, Tensor):
        return result, []
    values = list(result.values()) if isinstance(result, dict) else list(result) if isinstance(result, tuple) else []
    if not values or not all(isinstance(v, Tensor) for v in values):
        raise InvalidInputError(
            f"A network must return logits, or a tuple or dict of them, got {type(result).__name__}."
        )
    return values[0], values[1:]


def check_logits(logits: Tensor, task: Task) -> None:
    """Raise where the logits do not fit the task.

    Raises:
        InvalidInputError: they are not `(batch, classes)`.
    """
    if logits.ndim != 2 or logits.shape[1] != task.classes:
        raise InvalidInputError(
            f"The network must return logits of shape (batch, {task.classes}) for the {task.classes} classes of "
            f"{task.name!r}, got {tuple(logits.shape)}. End it with `nas.Classifier()`."
        )


def evaluate(
    model: nn.Module,
    task: Task,
    split: SplitName | Split = "validation",
    *,
    device: str | torch.device | None = None,
    size: tuple[int, int] | None = None,
    precision: Literal["float32", "bfloat16"] = "float32",
    batch_size: int = EVALUATION_BATCH,
) -> Evaluation:
    """Measure a network in evaluation mode; its mode is as before afterwards.

    Args:
        model: Takes `(batch, channels, height, width)` float32, normalised by the task's statistics; returns logits.
        task: The task.
        split: A split's name, or images of the task's kind.
        device: Where to compute; None for where the model is.
        size: (height, width) that the images are resized to, or None.
        precision: Of the computation.
        batch_size: Images at a time.

    Returns:
        Accuracy, loss, and which images were right. Logits that are not finite count as wrong and give a NaN loss.

    Raises:
        InvalidInputError: the logits do not fit the task.
    """
    target = torch.device(device) if device is not None else device_of(model)
    images = task.split(split) if isinstance(split, str) else split
    feed = Feed(images, task, device=target, size=size)
    was_training = model.training
    model.eval()
    total = torch.zeros((), dtype=torch.float64, device=target)
    correct: list[Tensor] = []
    try:
        with torch.inference_mode(), autocast(precision, target):
            for x, y in feed.in_order(batch_size):
                logits = outputs_of(model(x))[0].float()
                check_logits(logits, task)
                total += functional.cross_entropy(logits, y, reduction="sum").double()
                correct.append((logits.argmax(dim=1) == y) & logits.isfinite().all(dim=1))
    finally:
        model.train(was_training)
    right = torch.cat(correct).cpu().numpy()
    return Evaluation(accuracy=float(right.mean()), loss=float(total) / len(right), correct=right, n=len(right))


def device_of(model: nn.Module) -> torch.device:
    """Where a model's first parameter or buffer is; the CPU for one without any."""
    for tensor in (*model.parameters(), *model.buffers()):
        return tensor.device
    return torch.device("cpu")
