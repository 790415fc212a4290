"""Data-parallel training: several processes, each with its part of every batch, hold the same weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn

from nasturtium.errors import InvalidInputError


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
    def of_group(cls) -> Team:
        """The team of `torch.distributed`'s default group.

        Raises:
            InvalidInputError: there is none.
        """
        if not (distributed.is_available() and distributed.is_initialized()):
            raise InvalidInputError(
                "Data-parallel training needs a process group: call `torch.distributed.init_process_group(...)` in "
                "each process first, or leave `parallel` out."
            )
        return cls(distributed.get_rank(), distributed.get_world_size())

    @torch.no_grad()
    def share_start(self, module: nn.Module) -> None:
        """Give every process the weights and statistics of the first."""
        if self.size > 1:
            for tensor in module.state_dict().values():
                distributed.broadcast(tensor, 0)

    @torch.no_grad()
    def sum_gradients(self, parameters: Sequence[Tensor]) -> None:
        """Add up the gradients of all processes; a weight without a gradient in every process stays without one."""
        if self.size == 1:
            return
        used = torch.tensor([p.grad is not None for p in parameters], dtype=torch.int32, device=parameters[0].device)
        distributed.all_reduce(used, distributed.ReduceOp.MAX)
        chosen = [p for p, flag in zip(parameters, used.tolist(), strict=True) if flag]
        parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in chosen]
        whole = torch.cat([part.flatten() for part in parts])
        distributed.all_reduce(whole)
        for p, part in zip(chosen, torch.split(whole, [p.numel() for p in chosen]), strict=True):
            p.grad = part.view(p.shape)

    @torch.no_grad()
    def average_statistics(self, module: nn.Module) -> None:
        """Replace running statistics by their mean over the processes, and their counters by the largest."""
        if self.size == 1:
            return
        for buffer in module.buffers():
            if buffer.is_floating_point():
                distributed.all_reduce(buffer)
                buffer /= self.size
            else:
                distributed.all_reduce(buffer, distributed.ReduceOp.MAX)

    def add_up(self, value: Tensor) -> Tensor:
        """The sum of a number over the processes."""
        if self.size > 1:
            distributed.all_reduce(value)
        return value

    def wait(self) -> None:
        """Go on when all processes have come here."""
        if self.size > 1:
            distributed.barrier()
