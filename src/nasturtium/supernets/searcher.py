"""What a searcher is: something that learns an architecture and its weights together, or weights for all of a space."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from nasturtium.space import Architecture, Space
from nasturtium.supernets.parallel import Parted, Team
from nasturtium.supernets.trust import Trust
from nasturtium.tasks import Task
from nasturtium.training import checkpoint, resolve_device


def ignore(record: Mapping[str, float]) -> None:
    """Report to nobody."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Run:
    """The circumstances of one search.

    Args:
        task: The data; its test split is never read.
        seed: Determines everything random.
        device: "cpu", "cuda", "cuda:1" or "auto".
        directory: Where checkpoints are written, so that the same call goes on exactly where it was stopped; None for
            nowhere. They stay when the search is done, until `remove_checkpoints`.
        initial: Weights to start from, by the supernet's own names; names that are missing keep their random start.
        report: Called with a record of progress after each epoch, and after each network that is trained alone.
        parts: Into how many parts each batch is split. Each has norm statistics and dropout of its own, and gradients
            are averaged over the images of all parts ("ghost" batch normalisation). None for one a process.
        parallel: Whether the processes of `torch.distributed`'s default group search together, each with
            `parts / processes` of the parts of every batch. With the same `parts` they find what one process does, up
            to the rounding of sums; running statistics of norms are averaged over the processes after each epoch, which
            one process does not do. The first process reads and writes the checkpoints, and trains the networks of a
            sample alone, while the others wait: the group's timeout must be longer than that takes. `report` is called
            for epochs in every process. An error in one process other than the first ends the others only where what
            started them does so, as `torchrun` does.
    """

    task: Task
    seed: int
    device: str = "cpu"
    directory: Path | None = None
    initial: Mapping[str, Tensor] = field(default_factory=dict)
    report: Callable[[Mapping[str, float]], None] = ignore
    parts: int | None = None
    parallel: bool = False

    @property
    def team(self) -> Team:
        """The processes that search together.

        Raises:
            InvalidInputError: there is no process group.
        """
        return Team.of_group(resolve_device(self.device)) if self.parallel else Team()

    def parted(self, device: torch.device, gate: nn.Module | None = None) -> Parted:
        """How batches are split, for training on a device; see `Parted`.

        Raises:
            InvalidInputError: there is no process group, or `parts` does not go with it.
        """
        return Parted.of(self.team, self.parts, device, gate)


def remove_checkpoints(directory: Path) -> None:
    """Delete the checkpoints of a search that is done, and whose result is kept; nothing else."""
    for path in sorted(directory.rglob(checkpoint.FILE)):
        checkpoint.remove(path.parent)


@dataclass(frozen=True, kw_only=True)
class Found:
    """An architecture with what speaks for it."""

    architecture: Architecture
    """Of the space that was searched; an ordinary one."""
    evidence: Mapping[str, float] = field(default_factory=dict)
    """By name, in base units: "shared_accuracy" (validation, shared weights), "probability", "expected_macs" …"""


@dataclass(frozen=True, kw_only=True)
class SearchResult:
    """What a search came to."""

    found: tuple[Found, ...]
    """At least one, best first."""
    history: tuple[Mapping[str, float], ...]
    """One record an epoch: "epoch" (from 1), "loss", "seconds", and the method's own."""
    seconds: float
    """Wall-clock time of training and choosing, resumed parts included; without that of checking the ranking."""
    steps: int
    """Optimiser steps on weights."""
    notes: tuple[str, ...] = ()
    """Sentences for people: warnings of a collapse, why it stopped early."""
    trust: Trust | None = None
    """How the ranking by shared weights agrees with that of networks trained alone; None where none was asked for, and
    for methods that do not rank networks by shared weights."""
    state: Mapping[str, Tensor] = field(default_factory=dict, repr=False)
    """The shared weights at the end, by the supernet's names."""


@runtime_checkable
class Searcher(Protocol):
    """A method; a frozen dataclass of its settings."""

    def check(self, space: Space, task: Task) -> None:
        """Raise before anything trains where the method does not go with the space or the task.

        Raises:
            IncompatibleError: says why, and what to change.
        """
        ...

    def search(self, space: Space, run: Run) -> SearchResult:
        """Search.

        Raises:
            IncompatibleError: as `check`.
            TrialError: kind "diverged": a loss is not finite.
        """
        ...

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON: the name of the method and its settings.

        Those that change no result may be named in an attribute `incidental`: a study goes on when they differ.
        """
        ...
