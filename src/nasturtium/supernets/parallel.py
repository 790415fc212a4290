"""Data-parallel training: several processes, each with some parts of every batch, hold the same weights."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn

from nasturtium.errors import InvalidInputError, TrialError
from nasturtium.model.gate import Die
from nasturtium.training.randomness import derived_seed, seed_generators

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Team:
    """The processes of one training; one alone is a team too.

    Args:
        rank: Number of this process, from 0.
        size: Number of processes.
    """

    rank: int = 0
    size: int = 1

    @classmethod
    def of_group(cls, device: torch.device | None = None) -> Team:
        """The team of `torch.distributed`'s default group.

        Args:
            device: Where this process trains.

        Raises:
            InvalidInputError: there is none; or it is of GPUs, and the device is not the process's current one.
        """
        if not (distributed.is_available() and distributed.is_initialized()):
            raise InvalidInputError(
                "Data-parallel training needs a process group: call `torch.distributed.init_process_group(...)` in "
                "each process first, or leave `parallel` out."
            )
        if distributed.get_backend() == "nccl" and device is not None:
            current = torch.cuda.current_device()
            if device.type != "cuda" or device.index not in (None, current):
                raise InvalidInputError(
                    f"The process group is of GPUs, and this process's current one is cuda:{current}, but it is to "
                    f"train on {device}: call `torch.cuda.set_device(local_rank)` before `init_process_group`, and "
                    "give `device='cuda'`."
                )
        return cls(distributed.get_rank(), distributed.get_world_size())

    @torch.no_grad()
    def share_start(self, module: nn.Module) -> None:
        """Give every process the weights and statistics of the first."""
        if self.size > 1:
            for tensor in [*module.parameters(), *module.buffers()]:
                dense = tensor.detach().contiguous()
                distributed.broadcast(dense, 0)
                tensor.copy_(dense)

    @torch.no_grad()
    def sum_gradients(self, parameters: Sequence[Tensor]) -> None:
        """Add up the gradients of all processes; a weight without a gradient in every process stays without one."""
        if self.size == 1:
            return
        summed = self._sum([p.grad for p in parameters], parameters)
        for p, gradient in zip(parameters, summed, strict=True):
            p.grad = gradient

    def gradients(
        self, losses: Tensor | Iterable[Tensor], tensors: Sequence[Tensor]
    ) -> tuple[Tensor, list[Tensor | None]]:
        """The sum of the losses of all processes, and its gradients, the same in each process.

        Args:
            losses: Of this process; an iterator that computes one after the other has one graph in memory at a time.
            tensors: Whose gradients are wanted.

        Returns:
            The sum, `()`, and a gradient for each tensor, None where no loss of any process depends on it.
        """
        found: list[Tensor | None] = [None] * len(tensors)
        value: Tensor | None = None
        for loss in [losses] if isinstance(losses, Tensor) else losses:
            value = loss.detach() if value is None else value + loss.detach()
            if loss.requires_grad:
                added = torch.autograd.grad(loss, list(tensors), allow_unused=True)
                found = [b if a is None else a if b is None else a + b for a, b in zip(found, added, strict=True)]
            del loss
        if value is None:
            raise InvalidInputError("There is no loss to differentiate: the iterator of losses is empty.")
        return self.add_up(value), self._sum(found, tensors)

    def _sum(self, gradients: Sequence[Tensor | None], tensors: Sequence[Tensor]) -> list[Tensor | None]:
        """Over the processes; None where none has one."""
        if self.size == 1 or not tensors:
            return list(gradients)
        used = torch.tensor([g is not None for g in gradients], dtype=torch.int32, device=tensors[0].device)
        distributed.all_reduce(used, distributed.ReduceOp.MAX)
        flags = used.tolist()
        if not any(flags):
            return list(gradients)
        pairs = [(t, g) for t, g, flag in zip(tensors, gradients, flags, strict=True) if flag]
        whole = torch.cat([(torch.zeros_like(t) if g is None else g).flatten() for t, g in pairs])
        distributed.all_reduce(whole)
        parts = iter(torch.split(whole, [t.numel() for t, _ in pairs]))
        return [_like(t, next(parts)) if flag else None for t, flag in zip(tensors, flags, strict=True)]

    @torch.no_grad()
    def average_statistics(self, module: nn.Module) -> None:
        """Replace running statistics by their mean over the processes, and their counters by the largest."""
        self.average_tensors(list(module.buffers()))

    @torch.no_grad()
    def average_tensors(self, tensors: Iterable[Tensor]) -> None:
        """Replace tensors by their mean over the processes, and those of integers by the largest."""
        if self.size == 1:
            return
        for tensor in tensors:
            if tensor.is_floating_point():
                distributed.all_reduce(tensor)
                tensor /= self.size
            else:
                distributed.all_reduce(tensor, distributed.ReduceOp.MAX)

    def add_up(self, value: Tensor) -> Tensor:
        """The sum of a tensor over the processes."""
        if self.size > 1:
            value = value.clone()
            distributed.all_reduce(value)
        return value

    def of_first(self, compute: Callable[[], T]) -> T:
        """What the first process computes, given to all, which wait for it meanwhile.

        Args:
            compute: Called in the first process alone. Its result is pickled for the others.

        Raises:
            TrialError: in the other processes, where the first one raised something, of its kind.
        """
        if self.size == 1:
            return compute()
        said: list[Any] = [None, "InterruptedError: it was stopped", "crashed"]
        if self.rank == 0:
            try:
                result = compute()
                pickle.dumps(result)
                said = [result, None, None]
            except BaseException as error:
                said[1:] = [f"{type(error).__name__}: {error}", getattr(error, "kind", "crashed")]
                raise
            finally:
                distributed.broadcast_object_list(said, 0)
            return result
        distributed.broadcast_object_list(said, 0)
        if said[1] is not None:
            raise TrialError(f"The first process failed: {said[1]}", kind=str(said[2]))
        given: T = said[0]
        return given

    def require_equal(self, what: str, value: str) -> None:
        """Raise in all processes where they do not agree.

        Args:
            what: For the message: "the settings of the search".
            value: Of this process.

        Raises:
            InvalidInputError: another process has another value.
        """
        if self.size == 1:
            return
        values: list[Any] = [None] * self.size
        distributed.all_gather_object(values, value)
        others = [rank for rank, other in enumerate(values) if other != values[0]]
        if others:
            raise InvalidInputError(
                f"The processes must agree on {what}, but process {others[0]} differs from process 0: give all of them "
                "the same data, space, settings, seed and folder."
            )

    def shared_out(self, tasks: Iterable[Callable[[], float]]) -> list[float]:
        """Some numbers, of which each process computes its share.

        Args:
            tasks: Each computes one, which must not depend on which process does. All are taken by all processes, one
                after the other.
        """
        values = torch.tensor(
            [task() if index % self.size == self.rank else 0.0 for index, task in enumerate(tasks)], dtype=torch.float64
        )
        if self.size > 1 and distributed.get_backend() == "nccl":
            values = values.cuda()
        found: list[float] = self.add_up(values).tolist()
        return found

    def wait(self) -> None:
        """Go on when all processes have come here."""
        if self.size > 1:
            distributed.barrier()


def _like(tensor: Tensor, values: Tensor) -> Tensor:
    """Values in order, in the shape and layout of a tensor: optimisers may pair the two as they lie in memory."""
    shaped = values.view(tensor.shape)
    return shaped if tensor.is_contiguous() else torch.empty_like(tensor).copy_(shaped)


@dataclass(frozen=True, eq=False)
class Parted:
    """How each batch is split into parts, and which of them this process has.

    Each part has norm statistics of its own, and dropout. Gates draw once for all parts, as for one batch.

    Args:
        team: The processes.
        parts: Of a batch, a multiple of the processes. With the same parts the gradients do not depend on how many
            processes share them, but for the rounding of sums.
        device: Where the random numbers of layers are drawn.
        gate: Whose dice fall alike for all parts.

    Raises:
        InvalidInputError: `parts` is no multiple of the processes.
    """

    team: Team
    parts: int
    device: torch.device
    gate: nn.Module | None = None

    def __post_init__(self) -> None:
        if isinstance(self.parts, bool) or not isinstance(self.parts, int) or self.parts < 1:
            raise InvalidInputError(f"`parts` of a batch must be an integer of 1 or more, or None, got {self.parts!r}.")
        if self.parts % self.team.size:
            raise InvalidInputError(
                f"`parts` of a batch must be a multiple of the {self.team.size} processes, got {self.parts}."
            )

    @classmethod
    def of(cls, team: Team, parts: int | None, device: torch.device, gate: nn.Module | None = None) -> Parted:
        """As the class; None is one part a process.

        Raises:
            InvalidInputError: `parts` is no multiple of the processes.
        """
        return cls(team, team.size if parts is None else parts, device, gate)

    def check(self, batch: int) -> None:
        """Raise where parts of a batch would be too small for their own statistics.

        Raises:
            InvalidInputError: a part has fewer than 2 images.
        """
        if batch // self.parts < 2:
            raise InvalidInputError(
                f"Each of the `parts` of a batch needs 2 images or more, got {self.parts} parts of a batch of {batch}."
            )

    def own(self, batch: tuple[Tensor, Tensor], *seed: int) -> Iterator[tuple[Tensor, Tensor, float]]:
        """This process's parts of a batch.

        Args:
            batch: Images `(batch, ...)` and labels `(batch,)`.
            *seed: Of the step: with the number of a part it determines what is random in it. Of no effect where there
                is one part.

        Yields:
            Images and labels of a part, and its share of the batch's images.

        Raises:
            InvalidInputError: a part has fewer than 2 images.
        """
        x, y = batch
        if self.parts > 1:
            self.check(len(x))
        dice = [module for module in self.gate.modules() if isinstance(module, Die)] if self.gate is not None else []
        before = [die.get_extra_state() for die in dice] if self.parts > 1 else []
        pairs = zip(x.tensor_split(self.parts), y.tensor_split(self.parts), strict=True)
        for part, (images, labels) in enumerate(pairs):
            if part % self.team.size != self.team.rank:
                continue
            if self.parts > 1:  # what is random in a part does not depend on which process has it
                seed_generators(derived_seed(*seed, part), self.device)
                for die, state in zip(dice, before, strict=True):
                    die.set_extra_state(state)
            yield images, labels, len(images) / len(x)
