"""Gradients of gates by probing: branches that the forward pass left out are computed in the backward pass.

Where a gate takes one branch y_a of the branches y_1 … y_n of a decision with weight 1, the gradient of the gate of
branch j is <dL/dy, y_j>. The backward pass computes one y_j after another, without gradients, from values that the
active path has, and keeps only the inner product. A probe leaves no trace, and sees what the forward pass saw:

- buffers (running statistics of norms) are put aside while branches are probed, so they change once, by the forward
  pass, and for the active branch only. A norm in training mode uses the statistics of its batch, as ever;
- every layer is in the mode (training or evaluation) that it had in the forward pass, also if it changed since;
- the global random state is that of the forward pass while a branch with dropout is probed (for each the same), and is
  put back afterwards; so gradients are a function of the seed, and what is drawn next does not depend on probing;
- automatic mixed precision is as it was.

Weights are read in the backward pass: change none between forward and backward.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from types import MethodType
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from nasturtium.graph import operations as ops
from nasturtium.space.open_graph import OpenNode

RANDOM = (ops.Dropout, ops.DropPath, ops.Opaque)
"""Operations that may draw random numbers."""


class Circumstances:
    """What the result of layers depends on besides their inputs and weights; recorded when it is made.

    Args:
        functions: What is called.
        random: Whether any of it may draw random numbers.
        device: Where tensors are.
    """

    def __init__(self, functions: Iterable[Callable[..., Tensor]], *, random: bool, device: torch.device) -> None:
        modules: dict[nn.Module, None] = {}
        for function in functions:
            modules.update(dict.fromkeys(_modules(function)))
        self._modes = [(module, module.training) for module in modules]
        self._buffers = [module for module in modules if module._buffers]
        self._device = device
        self._random: tuple[Tensor, Tensor | None] | None = None
        if random:
            own = torch.get_device_module(device).get_rng_state(device) if device.type != "cpu" else None
            self._random = (torch.get_rng_state(), own)
        kind = device.type
        self._precision = (torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind))

    @contextmanager
    def again(self) -> Iterator[Callable[[], None]]:
        """Bring them about, and put everything back at the end; the result starts the random numbers over."""
        devices = [self._device] if self._device.type != "cpu" and self._random is not None else []
        now = [module.training for module, _ in self._modes]
        held = [dict(module._buffers) for module in self._buffers]
        random = torch.random.fork_rng(devices, enabled=self._random is not None, device_type=self._kind())
        enabled, dtype = self._precision
        autocast = torch.autocast(self._device.type, dtype, enabled)
        with torch.no_grad(), random, autocast:
            try:
                for module, mode in self._modes:
                    module.training = mode
                for module in self._buffers:
                    for name, buffer in module._buffers.items():
                        module._buffers[name] = None if buffer is None else buffer.clone()
                yield self._start
            finally:
                for (module, _), mode in zip(self._modes, now, strict=True):
                    module.training = mode
                for module, buffers in zip(self._buffers, held, strict=True):
                    module._buffers.update(buffers)

    def _kind(self) -> str:
        return "cuda" if self._device.type == "cpu" else self._device.type

    def _start(self) -> None:
        if self._random is None:
            return
        torch.set_rng_state(self._random[0])
        if self._random[1] is not None:
            torch.get_device_module(self._device).set_rng_state(self._random[1], self._device)


class Called(Protocol):
    """A call of a layer in a branch."""

    @property
    def node(self) -> OpenNode:
        """Its node."""
        ...

    @property
    def function(self) -> Callable[..., Tensor]:
        """What computes it."""
        ...


class Branch(NamedTuple):
    """A branch that can be probed."""

    option: int
    """Its number among the branches of the mix."""
    frontier: tuple[int, ...]
    """Numbers of the values of the active path that it is computed from."""
    compute: Callable[[dict[int, Tensor]], Tensor]
    """Its output, from values by number (those of `frontier` at least; they stay)."""
    calls: tuple[Called, ...]
    """What is called for it."""


class Branches:
    """The branches of one mix that are probed.

    Args:
        active: The branch that is computed in the forward pass.
        counts: Whether its gate gets a gradient too.
        others: The branches to be probed.
    """

    def __init__(self, active: int, counts: bool, others: Sequence[Branch]) -> None:
        self.active, self.counts, self.others = active, counts, tuple(others)
        self.frontier = tuple(sorted({number for branch in others for number in branch.frontier}))

    def attach(self, output: Tensor, gates: Tensor, frontier: Sequence[Tensor]) -> Tensor:
        """The active branch's output, through which the gates get their gradients.

        Args:
            output: `(batch, …)`, of the active branch.
            gates: `(count,)`.
            frontier: Values of `frontier`.
        """
        calls = [call for branch in self.others for call in branch.calls]
        random = any(issubclass(call.node.kind, RANDOM) for call in calls)
        now = Circumstances([call.function for call in calls], random=random, device=output.device)
        kept = [value.detach() for value in frontier]
        result: Tensor = _Probe.apply(output, gates, self, now, *kept)  # type: ignore[no-untyped-call]
        return result

    def outputs(self, frontier: Sequence[Tensor], circumstances: Circumstances) -> Iterator[tuple[int, Tensor]]:
        """Number and output of each inactive branch, one at a time, without gradients."""
        values = dict(zip(self.frontier, frontier, strict=True))
        with circumstances.again() as start:
            for branch in self.others:
                start()
                yield branch.option, branch.compute(dict(values))


class _Probe(torch.autograd.Function):
    """The active branch's output, as it is; its backward pass gives the gates' gradients."""

    @staticmethod
    def forward(
        ctx: Any, output: Tensor, gates: Tensor, branches: Branches, circumstances: Circumstances, *frontier: Tensor
    ) -> Tensor:
        ctx.save_for_backward(output, gates, *frontier)
        ctx.branches, ctx.circumstances = branches, circumstances
        return output.view_as(output)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        output, gates, *frontier = ctx.saved_tensors
        branches: Branches = ctx.branches
        found = None
        if ctx.needs_input_grad[1]:
            found = torch.zeros_like(gates)
            if branches.counts:
                found[branches.active] = _inner(gradient, output)
            for option, other in branches.outputs(frontier, ctx.circumstances):
                found[option] = _inner(gradient, other)
        return (gradient, found, None, None, *[None] * len(frontier))


def _inner(gradient: Tensor, output: Tensor) -> Tensor:
    return (gradient * output).sum(dtype=torch.float32 if gradient.dtype.itemsize < 4 else None)


def _modules(function: Callable[..., Tensor]) -> Iterable[nn.Module]:
    """The modules whose mode and buffers a call uses."""
    while isinstance(function, partial):
        function = function.func
    if isinstance(function, MethodType):  # reads the mode of the module that it belongs to
        owner = function.__self__
        return [owner] if isinstance(owner, nn.Module) else []
    return function.modules() if isinstance(function, nn.Module) else []
