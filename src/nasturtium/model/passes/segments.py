"""Recomputation: a schedule in segments, of which only the values between them are kept for the gradient.

The forward pass of a segment is run again in the backward pass, so that the values inside of one segment at a time
take memory. Where the segments end is chosen from the sizes of values: what is kept between them, and what the
largest segment keeps for its own gradient, together as little as possible.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from types import TracebackType

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from nasturtium.errors import InvalidInputError
from nasturtium.model.passes.norms import Norm, PointwiseNorm
from nasturtium.model.passes.schedule import Instruction, Schedule, changes_first, only_adds

MOST = 32
"""Segments at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """Instructions `start` to `stop - 1`.

    Attributes:
        start: The first.
        stop: After the last.
        reads: Numbers of the values from before that are read.
        changed: Those of them that would be changed in place, so that a copy is taken.
        writes: Numbers of the values that are read later, or are outputs.
        dead: Numbers of the values that were kept until now and are not read later.
    """

    start: int
    stop: int
    reads: tuple[int, ...]
    changed: frozenset[int]
    writes: tuple[int, ...]
    dead: tuple[int, ...]


def segments(plan: Schedule) -> tuple[Segment, ...]:
    """Divide a schedule so that little is kept.

    Args:
        plan: The schedule, with the sizes of its values.

    Returns:
        Segments in order, which together have all instructions.

    Reference:
        Chen, Xu, Zhang, Guestrin (2016), "Training Deep Nets with Sublinear Memory Cost", arXiv 1604.06174, section 4.
        Differs from the paper: the number of segments is the best of 1 to `MOST`, by the sizes of values.
    """
    live = _live(plan)
    kept = [_kept(plan.instructions[i : i + 1], plan.sizes) for i in range(len(plan.instructions))]
    best: tuple[float, list[int]] | None = None
    for number in range(1, MOST + 1):
        stops = _stops(live, kept, sum(kept) / number)
        made = [(a, b) for a, b in zip([0, *stops[:-1]], stops, strict=True)]
        largest = max(_kept(plan.instructions[a:b], plan.sizes) for a, b in made)
        cost = largest + sum(live[stop] for stop in stops[:-1])
        if best is None or cost < best[0]:
            best = (cost, stops)
    assert best is not None
    stops = best[1]
    return tuple([_segment(plan, a, b) for a, b in zip([0, *stops[:-1]], stops, strict=True)])


def run_segment(plan: Schedule, segment: Segment, shares: Sequence[Tensor], *given: Tensor) -> tuple[Tensor, ...]:
    """Run the instructions of a segment.

    Args:
        plan: The schedule.
        segment: One of its segments.
        shares: The coefficients.
        *given: A value for each of `segment.reads`.

    Returns:
        A value for each of `segment.writes`.
    """
    values: dict[int, Tensor] = {}
    for number, value in zip(segment.reads, given, strict=True):
        values[number] = value.clone() if number in segment.changed else value
    for function, reads, coefficient, writes, dead in plan.instructions[segment.start : segment.stop]:
        read = [values[i] for i in reads]
        values[writes] = function(*read) if coefficient < 0 else function(*read, shares[coefficient])
        del read
        for i in dead:
            del values[i]
    return tuple([values[i] for i in segment.writes])


def run_segments(plan: Schedule, parts: Sequence[Segment], shares: Sequence[Tensor], values: dict[int, Tensor]) -> None:
    """Run a schedule of which only the values between segments are kept for the gradient.

    In the backward pass each segment is computed again with the weights and random numbers of the forward pass, and
    leaves all buffers (running statistics) as they are.

    Args:
        plan: The schedule.
        parts: Its segments.
        shares: The coefficients.
        values: The inputs, by number; gets the outputs.

    Raises:
        InvalidInputError: in the backward pass, a weight is another tensor than in the forward pass
            (`torch.func.functional_call`), or was changed.
    """
    for segment in parts:
        given = [values[i] for i in segment.reads]
        if segment is parts[-1]:  # its gradient comes first: nothing would be gained
            made = run_segment(plan, segment, shares, *given)
        else:
            again = _Again(_modules(plan.instructions[segment.start : segment.stop]))
            made = checkpoint(
                partial(run_segment, plan, segment, shares), *given, use_reentrant=False,
                context_fn=partial(_contexts, again),
            )  # fmt: skip
        values.update(zip(segment.writes, made, strict=True))
        del given, made
        for number in segment.dead:
            del values[number]


class _Again:
    """The context in which a segment is computed again; may be entered several times (`retain_graph=True`)."""

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        self.modules = modules
        self.weights = [(p, p._version) for p in self._parameters()]
        self._saved: list[tuple[Tensor, Tensor]] = []

    def _parameters(self) -> list[Tensor]:
        return [p for module in self.modules for p in module.parameters()]

    def __enter__(self) -> None:
        now = self._parameters()
        same = len(now) == len(self.weights) and all(
            p is before and p._version == version for p, (before, version) in zip(now, self.weights, strict=True)
        )
        if not same:
            raise InvalidInputError(
                "A weight was replaced or changed between the forward and the backward pass, but a mixture with "
                "`recompute=True` computes with the weights in both: take the gradient first, or use `recompute=False`."
            )
        buffers = [b for module in self.modules for b in module.buffers()]
        self._saved = [(b, b.clone()) for b in buffers]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with torch.no_grad():
            for buffer, before in self._saved:
                buffer.copy_(before)
        self._saved = []


def _contexts(again: _Again) -> tuple[nullcontext[None], _Again]:
    return nullcontext(), again


def _modules(instructions: Sequence[Instruction]) -> list[nn.Module]:
    """The layers that instructions compute with, each once."""
    found: dict[int, nn.Module] = {}
    stack: list[object] = [instruction.function for instruction in instructions]
    while stack:
        item = stack.pop()
        if isinstance(item, nn.Module):
            found[id(item)] = item
        elif isinstance(item, partial):
            stack += [item.func, *item.args, *item.keywords.values()]
        elif isinstance(item, Norm):
            stack += [*item.layers, *([item.convolution] if isinstance(item, PointwiseNorm) else [])]
    return [*found.values()]


def _live(plan: Schedule) -> list[int]:
    """Elements alive before each instruction, and after the last, that must be kept if a segment ends there."""
    last: dict[int, int] = {}
    first: dict[int, int] = {}
    for place, instruction in enumerate(plan.instructions):
        for number in instruction.reads:
            last[number] = place
        first.setdefault(instruction.writes, place)
    for number in plan.outputs:
        last[number] = len(plan.instructions)
    change = [0] * (len(plan.instructions) + 2)
    for number, place in last.items():
        start = first[number] + 1 if number in first else 0
        change[start] += plan.sizes[number]
        change[place + 1] -= plan.sizes[number]
    total, found = 0, []
    for step in change[:-1]:
        total += step
        found.append(total)
    return found


def _kept(instructions: Sequence[Instruction], sizes: Sequence[int]) -> int:
    """Elements that instructions keep for their gradient, about: the values that others than sums read."""
    numbers = {i for each in instructions if not only_adds(each.function) for i in each.reads}
    return sum(sizes[i] for i in numbers)


def _stops(live: Sequence[int], kept: Sequence[int], most: float) -> list[int]:
    """Ends of segments that keep about `most` each: where the least is alive, between half of it and all."""
    stops: list[int] = []
    since, total, candidate = 0, 0.0, -1
    for place, own in enumerate(kept):
        if total + own > most and place > since:
            stops.append(candidate if candidate > since else place)
            total = float(sum(kept[stops[-1] : place]))
            since, candidate = stops[-1], -1
        total += own
        if total >= most / 2 and (candidate < 0 or live[place + 1] <= live[candidate]):
            candidate = place + 1
    return [*stops, len(kept)] if not stops or stops[-1] < len(kept) else stops


def _segment(plan: Schedule, start: int, stop: int) -> Segment:
    made: set[int] = set()
    reads: dict[int, None] = {}
    changed: set[int] = set()
    for function, numbers, _, writes, _ in plan.instructions[start:stop]:
        outside = [i for i in numbers if i not in made]
        reads.update(dict.fromkeys(outside))
        if numbers and numbers[0] in outside and changes_first(function):
            changed.add(numbers[0])
        made.add(writes)
    later = {i for instruction in plan.instructions[stop:] for i in instruction.reads} | set(plan.outputs)
    return Segment(
        start=start,
        stop=stop,
        reads=tuple(reads),
        changed=frozenset(changed),
        writes=tuple(sorted(made & later)),
        dead=tuple([i for i in reads if i not in later]),
    )
