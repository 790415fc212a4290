"""Checkpoints of one training: written atomically, read without pickle, refused by another training."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from nasturtium.errors import InvalidInputError, StoreError

FILE = "checkpoint.pt"
CHECKPOINT_VERSION = 1


def identity(**facts: object) -> str:
    """SHA-256 of what makes a training what it is: a checkpoint of another one is never continued."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()


def write(directory: Path, who: str, state: Mapping[str, Any]) -> None:
    """Replace the checkpoint in one step: at any instant the file is the old one or the new one, whole.

    Args:
        directory: Made where it is missing.
        who: `identity` of the training.
        state: Tensors and plain values.

    Raises:
        StoreError: it cannot be written; the message says why.
    """
    path = directory / FILE
    temporary = directory / f".{FILE}.{os.getpid()}"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            torch.save({"version": CHECKPOINT_VERSION, "identity": who, **state}, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except (OSError, RuntimeError) as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise StoreError(
            f"Cannot write the checkpoint '{path}': {error}. Free disk space or change the folder."
        ) from error


def read(directory: Path, who: str, device: torch.device) -> dict[str, Any] | None:
    """The checkpoint of this training, or None where there is none.

    Raises:
        StoreError: the file is damaged.
        InvalidInputError: it belongs to a training with other settings.
    """
    path = directory / FILE
    if not path.exists():
        return None
    try:
        state = torch.load(path, map_location=device, weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        raise StoreError(
            f"The checkpoint '{path}' cannot be read ({error}). Delete it: the training then starts again and, being "
            "deterministic, comes to the same result."
        ) from error
    if state.get("version") != CHECKPOINT_VERSION or state.get("identity") != who:
        raise InvalidInputError(
            f"The checkpoint '{path}' belongs to a training with another network, recipe, data, seed, number of epochs "
            "or version. Delete it, or use another folder."
        )
    return dict(state)


def remove(directory: Path) -> None:
    """Delete the checkpoint, if there is one."""
    (directory / FILE).unlink(missing_ok=True)
