"""The fast executor of a mixture: the same outputs and gradients as the plain one's, in less time and memory.

Passes rewrite the program once, on operations and what they read, for any open graph (see `model.passes`):

- what is equal is computed once: an activation or a pooling on several edges, norms without weights on one input;
- weights of the mixture become scales of the norms before them; sums are flat and added up in place;
- branches whose weight is the number 0 are left out, those whose weight is 1 are added as they are;
- convolution, norm and ReLU are one operation that keeps the convolution's input only, and computes the rest again;
- images lie with channels last in memory;
- on the CPU, depthwise convolutions with holes become plain ones on sub-sampled images, and gradients of depthwise
  kernels of five columns are computed by three columns at a time, both of which have faster kernels there.

Parameters keep their names and shapes, and running statistics are changed as each norm alone would change them.

Differs from the plain executor: sums are rounded in another order; hooks on the layers do not run; a gradient cannot
be differentiated again (fused operations say so: use `optimize=False`); dropout on images draws other masks from the
same distribution, because they are drawn in the order of memory. Under autocast, with gradients of gradients in
`torch.func`, and while compiling, the plain executor runs: the fused operations are eager and of one type of numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from nasturtium.graph import operations as ops
from nasturtium.model.elastic import Elastic
from nasturtium.model.gate import Hard, Shares
from nasturtium.model.latest import Latest
from nasturtium.model.mixture import PLAIN, Call, Mix, PlainExecutor, Program, listed, reduced
from nasturtium.model.passes.expressions import Rules, express
from nasturtium.model.passes.forms import Coefficient
from nasturtium.model.passes.kernels import channels_last
from nasturtium.model.passes.layers import elastic_of
from nasturtium.model.passes.norms import Norm
from nasturtium.model.passes.schedule import Schedule, schedule
from nasturtium.model.passes.segments import Segment, run_segments, segments

Pattern = tuple[tuple[int, tuple[int | None, ...]], ...]
"""By position of a mixed decision, for each option: its number, `PLAIN` where its weight is the number 1, None where it
is the number 0."""
PREPARED = 8
"""Patterns, modes and devices for which schedules are remembered. Path dropout has a pattern of its own in each step,
for which a schedule is made in a small part of the step's time."""


class Prepared(NamedTuple):
    """A schedule, and the norms that are fused in it, whose batches the executor counts; others count themselves."""

    schedule: Schedule
    norms: tuple[Elastic, ...]


class FastExecutor:
    """Runs a program whose weights are tensors or numbers.

    Branches whose weight is the number 0 are not computed, as by the plain executor.

    Args:
        program: The program.
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        self.counts = {step.position: len(step.reads) for step in program.steps if isinstance(step, Mix)}
        self._plain = PlainExecutor(program)
        self._prepared: Latest[tuple[Pattern, bool, str], Prepared] = Latest(PREPARED)
        self._segments: Latest[tuple[Pattern, bool, str], tuple[Segment, ...]] = Latest(PREPARED)
        self._norms = _norms(program)

    def __call__(
        self, inputs: Sequence[Tensor], weights: Mapping[int, Shares | Hard], *, recompute: bool = False
    ) -> list[Tensor]:
        """Run it; see `mixture.Executor`.

        Args:
            inputs: Each `(batch, *shape)`.
            weights: Of the mixed decisions.
            recompute: Whether to keep little for the gradient, and compute the rest again. No effect where the plain
                executor runs.
        """
        device = inputs[0].device.type
        if torch.is_autocast_enabled(device) or torch.compiler.is_compiling():
            return self._plain(inputs, weights)
        training = bool(self._norms) and all(norm.training for norm in self._norms)
        parts = {position: listed(weights[position], count) for position, count in self.counts.items()}
        pattern = tuple([(position, _marks(given)) for position, given in parts.items()])
        key = (pattern, training, device)
        plan, norms = self._prepared.get(key, lambda: self._prepare(pattern, device, training=training))
        shares = _values(plan.coefficients, parts, inputs[0])
        values: dict[int, Tensor] = {}
        for place, given in zip(plan.inputs, inputs, strict=False):
            if place >= 0:
                values[place] = channels_last(given)
        if recompute and torch.is_grad_enabled():
            run_segments(plan, self._segments.get(key, lambda: segments(plan)), shares, values)
        else:
            for function, reads, coefficient, writes, dead in plan.instructions:
                read = [values[i] for i in reads]
                values[writes] = function(*read) if coefficient < 0 else function(*read, shares[coefficient])
                for i in dead:
                    del values[i]
        if training and norms:
            torch._foreach_add_([norm.get_buffer("num_batches_tracked") for norm in norms], 1)
        return [values[i] for i in plan.outputs]

    def _prepare(self, pattern: Pattern, device: str, *, training: bool) -> Prepared:
        cpu = device == "cpu"
        program = reduced(self.program, dict(pattern))
        expression = express(program, Rules(merge_norms=training, phases=cpu))
        plan = schedule(expression, training=training, fast_columns=cpu)
        fused = [i.function for i in plan.instructions if isinstance(i.function, Norm)]
        return Prepared(plan, tuple([layer for norm in fused for layer in norm.layers]))


def _norms(program: Program) -> tuple[Elastic, ...]:
    """The norms of a program."""
    calls = [step for step in program.steps if isinstance(step, Call)]
    norms = [elastic_of(c.function) for c in calls if isinstance(c.form.operation, ops.BatchNorm)]
    return tuple([norm for norm in norms if norm is not None])


def _marks(weights: Sequence[Tensor | float]) -> tuple[int | None, ...]:
    """What the pattern says of one decision's weights."""
    return tuple(
        [
            option if isinstance(w, Tensor) or w not in (0, 1) else (PLAIN if w == 1 else None)
            for option, w in enumerate(weights)
        ]
    )


def _values(
    coefficients: Sequence[Coefficient], parts: Mapping[int, Sequence[Tensor | float]], like: Tensor
) -> list[Tensor]:
    """The numbers that coefficients stand for, with their gradients."""
    found = []
    for coefficient in coefficients:
        total: Tensor | float = 0.0
        for monomial, number in coefficient:
            product: Tensor | float = number
            for position, option in monomial:
                part = parts[position][option]
                product = part if isinstance(product, float) and product == 1.0 else product * part
            total = product if isinstance(total, float) and total == 0.0 else total + product
        found.append(total if isinstance(total, Tensor) else like.new_tensor(total))
    return found
