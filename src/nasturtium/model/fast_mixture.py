"""The fast executor of a mixture: the same outputs and gradients as the plain one's, in less time and memory.

Passes rewrite the program once, on operations and what they read, for any open graph (see `model.passes`):

- what is equal is computed once: an activation or a pooling on several edges, norms without weights on one input;
- weights of the mixture become scales of the norms before them; sums are flat and added up in place;
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

import torch
from torch import Tensor

from nasturtium.graph import operations as ops
from nasturtium.model.gate import Hard, Shares
from nasturtium.model.mixture import Call, Executor, PlainExecutor, Program
from nasturtium.model.passes.expressions import Rules, express
from nasturtium.model.passes.forms import Coefficient
from nasturtium.model.passes.kernels import channels_last
from nasturtium.model.passes.layers import elastic_of
from nasturtium.model.passes.schedule import Schedule, schedule


class FastExecutor:
    """Runs a program whose weights are all tensors.

    Args:
        program: The program.
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        self._plain = PlainExecutor(program)
        self._schedules: dict[tuple[bool, str], Schedule] = {}
        calls = [step for step in program.steps if isinstance(step, Call)]
        norms = [elastic_of(c.function) for c in calls if isinstance(c.form.operation, ops.BatchNorm)]
        self._norms = [norm for norm in norms if norm is not None]

    def __call__(self, inputs: Sequence[Tensor], weights: Mapping[int, Shares | Hard]) -> list[Tensor]:
        """Run it; see `mixture.Executor`."""
        device = inputs[0].device.type
        if torch.is_autocast_enabled(device) or torch.compiler.is_compiling():
            return self._plain(inputs, weights)
        training = bool(self._norms) and all(norm.training for norm in self._norms)
        plan = self._schedule(training, device)
        shares = _values(plan.coefficients, weights)
        values: list[Tensor | None] = [None] * plan.size
        for place, given in zip(plan.inputs, inputs, strict=False):
            if place >= 0:
                values[place] = channels_last(given)
        for function, reads, coefficient, writes, dead in plan.instructions:
            read = [values[i] for i in reads]
            values[writes] = function(*read) if coefficient < 0 else function(*read, shares[coefficient])
            for i in dead:
                values[i] = None
        if training:
            torch._foreach_add_([norm.get_buffer("num_batches_tracked") for norm in self._norms], 1)
        outputs = [values[i] for i in plan.outputs]
        return [y for y in outputs if y is not None]

    def _schedule(self, training: bool, device: str) -> Schedule:
        found = self._schedules.get((training, device))
        if found is None:
            cpu = device == "cpu"
            expression = express(self.program, Rules(merge_norms=training, phases=cpu))
            found = schedule(expression, training=training, fast_columns=cpu)
            self._schedules[training, device] = found
        return found


def soft_executor(program: Program, *, optimize: bool) -> Executor:
    """The executor of a program whose weights are all tensors.

    Args:
        program: The program.
        optimize: Whether passes that keep outputs and gradients may rewrite it; False for the plain one.
    """
    return FastExecutor(program) if optimize else PlainExecutor(program)


def _values(coefficients: Sequence[Coefficient], weights: Mapping[int, Shares | Hard]) -> list[Tensor]:
    """The numbers that coefficients stand for, with their gradients."""
    parts = {p: given.unbind() for p, given in weights.items() if isinstance(given, Tensor)}
    found = []
    for coefficient in coefficients:
        total: Tensor | None = None
        for monomial, number in coefficient:
            product: Tensor | None = None
            for position, option in monomial:
                part = parts[position][option]
                product = part if product is None else product * part
            if product is None:
                product = next(iter(parts.values()))[0].new_tensor(number)
            elif number != 1.0:
                product = product * number
            total = product if total is None else total + product
        assert total is not None
        found.append(total)
    return found
