"""Which paths each step of a supernet's training takes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from random import Random
from typing import Any, ClassVar, Protocol, runtime_checkable

from nasturtium.errors import InfeasibleError, InvalidInputError, UnknownNameError
from nasturtium.graph import CostModel
from nasturtium.graph.trace import Inputs
from nasturtium.space import Architecture, Space
from nasturtium.space.space import Sampler

SAMPLED = 200
"""Architectures drawn to find the range of costs, where none is given."""
TRIES = 100
"""Fair rounds that conditions may refuse in a row."""


class Draw(Protocol):
    """Draws paths, one draw after the other."""

    def __call__(self, rng: Random) -> list[Architecture]:
        """One draw: at least one path; all randomness is `rng`'s."""
        ...


@runtime_checkable
class PathSampler(Protocol):
    """A rule by which paths are drawn; a frozen dataclass of plain settings."""

    @property
    def summed(self) -> bool:
        """Whether the gradients of a draw's paths are summed; else all of a step's are averaged."""
        ...

    def bind(self, space: Space, inputs: Inputs, context: Mapping[str, object]) -> Draw:
        """The rule on one space; inputs and context are as for `trace`, for rules that look at costs."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON with the rule's name as "type"; `sampler_from` is the inverse."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Independent:
    """Each draw is one random architecture.

    Args:
        sampler: "hierarchical" (each active decision uniform; what SPOS and Once-for-All train with) or "uniform" (over
            architectures, by counting).

    Reference:
        Guo et al. (2020), "Single Path One-Shot", arXiv 1904.00420, section 3.2; there all decisions are independent,
        and both samplers are one.
    """

    sampler: Sampler = "hierarchical"
    summed: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.sampler not in ("hierarchical", "uniform"):
            raise UnknownNameError("sampler", str(self.sampler), ("hierarchical", "uniform"))

    def bind(self, space: Space, inputs: Inputs, context: Mapping[str, object]) -> Draw:
        """See `PathSampler`."""
        return lambda rng: [space.sample(rng, self.sampler)]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {"type": "independent", **asdict(self)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fair:
    """Each draw holds every option of every decision equally often; gradients are summed, then one update is made.

    With M the largest number of options: M paths, whose values of each decision are a random permutation of its
    options. A decision of fewer options goes through permutations one after another until it has M values: its options
    are then taken equally often where their number divides M, and else as equally as possible. A decision that is not
    always active is fair among the paths in which it stands. Where conditions refuse a path, all M are drawn anew.

    Reference:
        Chu, Zhang, Xu (2021), "FairNAS: Rethinking evaluation fairness of weight sharing neural architecture search",
        arXiv 1907.01845, section 3.3 and algorithm 1. Differs from the paper: decisions may differ in the number of
        their options, and be conditional.
    """

    summed: ClassVar[bool] = True

    def bind(self, space: Space, inputs: Inputs, context: Mapping[str, object]) -> Draw:
        """See `PathSampler`."""
        if space.is_table:
            raise InvalidInputError(
                "Fair paths compose an architecture decision by decision, but this space is a list of architectures: "
                "take the 'uniform' sampler."
            )
        counts = {decision.name: decision.count for decision in space.decisions}
        length = max(counts.values(), default=1)

        def round_(rng: Random) -> list[Architecture] | None:
            columns = {name: _permutations(count, length, rng) for name, count in counts.items()}
            found = [space.settle({name: column[i] for name, column in columns.items()}) for i in range(length)]
            return [a for a in found if a is not None] if None not in found else None

        def draw(rng: Random) -> list[Architecture]:
            for _ in range(TRIES):
                paths = round_(rng)
                if paths is not None:
                    return paths
            raise InfeasibleError(
                f"The space's conditions refused {TRIES} fair rounds of {length} paths in a row: no step can train "
                "every option equally often. Take the 'uniform' or 'hierarchical' sampler."
            )

        return draw

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {"type": "fair"}


@dataclass(frozen=True, slots=True, kw_only=True)
class CostBalanced:
    """Each draw is a path whose cost is about uniform over a range, not concentrated in its middle.

    A bin of costs is drawn uniformly, then paths (each active decision uniform) until one falls in it. After `tries`
    paths the one nearest to the bin is taken: the result is always a path, and an empty bin costs `tries` looks.

    Args:
        low: Lower end of the range, in the metric's unit; None for the smallest of 200 random paths.
        high: Upper end; None for the largest of them.
        bins: Equal parts of the range; 7 in the authors' code (290 to 360 million MACs by 10 million).
        metric: A cost that is known without training: "macs", "params", "activations" or "peak_memory".
        tries: Paths looked at for one draw; 500 in the authors' code.

    Reference:
        Guo et al. (2020), arXiv 1904.00420; the authors' code (`get_uniform_sample_cand`), not the paper.
        Differs from the code: after the last try the nearest path is taken, there any random one.
    """

    low: float | None = None
    high: float | None = None
    bins: int = 7
    metric: str = "macs"
    tries: int = 500
    summed: ClassVar[bool] = False

    def __post_init__(self) -> None:
        for name in ("bins", "tries"):
            _whole(name, getattr(self, name))
        if self.metric not in ("macs", "params", "activations", "peak_memory"):
            raise UnknownNameError("cost", self.metric, ("macs", "params", "activations", "peak_memory"))
        if self.low is not None and self.high is not None and not 0 <= self.low < self.high < math.inf:
            raise InvalidInputError(f"`low` must be below `high`, got {self.low!r} and {self.high!r}.")

    def bind(self, space: Space, inputs: Inputs, context: Mapping[str, object]) -> Draw:
        """See `PathSampler`."""
        model = CostModel(inputs, **context)

        def cost(architecture: Architecture) -> float:
            return float(getattr(model(architecture.block), self.metric))

        low, high = self.low, self.high
        if low is None or high is None:
            rng = Random(0)
            seen = [cost(space.sample(rng, "hierarchical")) for _ in range(SAMPLED)]
            low = min(seen) if low is None else low
            high = max(seen) if high is None else high
        if not low < high:
            raise InvalidInputError(
                f"The range of {self.metric} to balance must have a width, got {low:g} to {high:g}: "
                "give `low` and `high`, or take another metric."
            )
        width = (high - low) / self.bins

        def one(rng: Random) -> Architecture:
            start = low + width * rng.randrange(self.bins)
            nearest: tuple[float, Architecture] | None = None
            for _ in range(self.tries):
                path = space.sample(rng, "hierarchical")
                value = cost(path)
                away = max(start - value, value - (start + width), 0.0)
                if nearest is None or away < nearest[0]:
                    nearest = away, path
                if away == 0.0:
                    break
            assert nearest is not None
            return nearest[1]

        return lambda rng: [one(rng)]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {"type": "cost_balanced", **asdict(self)}


SAMPLERS: dict[str, Callable[..., PathSampler]] = {
    "uniform": partial(Independent, sampler="uniform"),
    "hierarchical": partial(Independent, sampler="hierarchical"),
    "independent": Independent,
    "fair": Fair,
    "cost_balanced": CostBalanced,
}
"""Rules by name, where text comes in; in Python, give the object."""


def sampler_from(given: object) -> PathSampler:
    """The rule of an argument.

    Args:
        given: A rule, the name of one of `SAMPLERS`, or what its `to_dict` gave.

    Raises:
        UnknownNameError: there is no such rule.
        InvalidInputError: a setting is unknown or out of range.
    """
    if isinstance(given, str):
        given = {"type": given}
    if isinstance(given, Mapping):
        values = {str(key): value for key, value in given.items() if key != "type"}
        name = str(given.get("type"))
        if name not in SAMPLERS:
            raise UnknownNameError("path sampler", name, SAMPLERS)
        try:
            return SAMPLERS[name](**values)
        except TypeError as error:
            raise InvalidInputError(f"The path sampler {name!r} does not take these settings: {error}.") from error
    if not isinstance(given, PathSampler):
        raise InvalidInputError(
            f"`sampler` must be one of {', '.join(map(repr, SAMPLERS))} or a rule such as `Fair()`, got {given!r}."
        )
    return given


def _permutations(count: int, length: int, rng: Random) -> list[int]:
    """So many indices below `count`: permutations one after another."""
    found: list[int] = []
    while len(found) < length:
        found += rng.sample(range(count), count)
    return found[:length]


def _whole(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InvalidInputError(f"`{name}` must be an integer of 1 or more, got {value!r}.")
