"""Compound scaling: which shares of a larger budget go to depth, width and resolution, found by a grid search.

Reference:
    Tan, Le (2019), "EfficientNet: Rethinking Model Scaling for CNNs", arXiv 1905.11946, sections 3.2 and 3.3.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Generic, NamedTuple

from nasturtium.design.multipliers import Multipliers, compound
from nasturtium.design.scaling import Network, Scaled, scale
from nasturtium.errors import InfeasibleError, InvalidInputError
from nasturtium.space import Architecture, Block

Score = Callable[[Scaled[Network]], float]
"""How good a scaled network is; larger is better."""
Cost = Callable[[Scaled[Network]], float]
"""What it costs, for example its MACs."""

STEP = 0.05
"""Of the paper's grid: its 1.2, 1.1 and 1.15 stand on it."""
KINDS = ("depth", "width", "resolution", "compound")
CHANCE = 0.05
"""Probability with which networks that are alike would be told apart, over all that were compared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """Where to look for alpha, beta and gamma.

    Args:
        cost: What `alpha * beta^2 * gamma^2` should be.
        tolerance: By how much it may differ, as in `compound`.
        step: Of all three, from 1 on, at the first level.
        levels: 1 looks at the whole grid; each further level looks around the best points of the one before, with a
            step `refine` times smaller.
        keep: Points around which a further level looks.
        refine: See `levels`.
        realised: By which factor the cost that rounding makes of a point may differ from `cost`; points farther off
            are left out, since a network that is larger by rounding is no better by scaling. None for any.

    Raises:
        InvalidInputError: a number is out of range.
    """

    cost: float = 2.0
    tolerance: float = 0.1
    step: float = STEP
    levels: int = 1
    keep: int = 2
    refine: int = 2
    realised: float | None = 1.25

    def __post_init__(self) -> None:
        if not (self.cost > 1 and self.tolerance >= 0 and 0 < self.step <= self.cost - 1):
            raise InvalidInputError(
                f"A grid needs `cost` above 1, `tolerance` of at least 0 and `step` in (0, cost - 1], got {self!r}."
            )
        if min(self.levels, self.keep) < 1 or self.refine < 2:
            raise InvalidInputError(f"`levels` and `keep` are at least 1 and `refine` at least 2, got {self!r}.")
        if self.realised is not None and not self.realised >= 1:
            raise InvalidInputError(f"`realised` must be a factor of at least 1, or None, got {self.realised!r}.")

    def points(self) -> list[Multipliers]:
        """The whole grid of the first level, alpha slowest."""
        alphas = self._axis(self.cost + self.tolerance)
        others = self._axis(math.sqrt(self.cost + self.tolerance))
        return [m for a in alphas for b in others for g in others if self.holds(m := Multipliers(a, b, g))]

    def around(self, centre: Multipliers, level: int) -> list[Multipliers]:
        """The points one coarser step around another, in the step of a level (2, 3, …)."""
        fine = self.step / self.refine ** (level - 1)
        offsets = [k * fine for k in range(-self.refine, self.refine + 1)]
        axes = [[round(x + o, 9) for o in offsets if x + o >= 1 - 1e-9] for x in centre]
        return [m for a in axes[0] for b in axes[1] for g in axes[2] if self.holds(m := Multipliers(a, b, g))]

    def holds(self, multipliers: Multipliers) -> bool:
        """Whether `alpha * beta^2 * gamma^2` is what it should be."""
        return abs(multipliers.cost - self.cost) <= self.tolerance + 1e-9

    def _axis(self, top: float) -> list[float]:
        return [round(1 + k * self.step, 9) for k in range(int((top - 1) / self.step + 1e-9) + 1)]


class Tried(NamedTuple):
    """One network of the grid. Several points that round to one network are one."""

    multipliers: Multipliers
    """The first of its points."""
    points: tuple[Multipliers, ...]
    level: int
    score: float
    cost: float
    """By how much its cost really grows."""


@dataclass(frozen=True, slots=True)
class Coefficients:
    """What a grid search found."""

    tried: tuple[Tried, ...]
    """Best first; of equal ones the cheaper first."""
    noise: float
    left_out: int
    """Points whose real cost was too far off."""
    stopped: str
    """Why it went no further."""

    @property
    def best(self) -> Tried:
        """The best network's multipliers: alpha, beta and gamma."""
        return self.tried[0]

    @property
    def margin(self) -> float:
        """By how much a network must fall behind the best to be told from it; see `noise_margin`."""
        return noise_margin(self.noise, len(self.tried) - 1)

    @property
    def alike(self) -> tuple[Tried, ...]:
        """Those that are not told from the best by the noise, the best included."""
        return tuple(t for t in self.tried if self.best.score - t.score <= self.margin)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "version": 1,
            "tried": [
                {
                    "alpha": t.multipliers.depth, "beta": t.multipliers.width, "gamma": t.multipliers.resolution,
                    "points": [list(p) for p in t.points], "level": t.level, "score": t.score, "cost": t.cost,
                }
                for t in self.tried
            ],
            "noise": self.noise, "margin": self.margin, "left_out": self.left_out, "stopped": self.stopped,
        }  # fmt: skip


def noise_margin(noise: float, compared: int) -> float:
    """The least difference of two scores that noise alone does not explain.

    The difference of two scores has `sqrt(2)` times the standard deviation of one; with Bonferroni's correction none of
    the differences exceeds the margin by chance with probability `1 - CHANCE`. The scores count as normal, and the
    noise as known: from a few trainings it is itself known roughly only.

    Args:
        noise: Standard deviation of a score.
        compared: Differences that are looked at; 1 gives `1.96 * sqrt(2) * noise`.
    """
    return NormalDist().inv_cdf(1 - CHANCE / (2 * max(1, compared))) * math.sqrt(2) * noise


def find_coefficients(
    network: Network,
    score: Score[Network],
    cost: Cost[Network],
    *,
    input_shape: tuple[int, ...],
    grid: Grid | None = None,
    noise: float = 0.0,
    report: Callable[[Tried, int], None] = lambda _tried, _left: None,
    **scaling: Any,
) -> Coefficients:
    """Search for alpha, beta and gamma at phi = 1.

    Points that round to one network are scored once. A further level begins only while the last one gained more than
    noise explains (`noise_margin` of the networks it added). Cost: the networks of the first level, and at most
    `keep * (2 * refine + 1)^3` of each further one.

    Args:
        network: The small network, closed.
        score: Of a scaled network; larger is better. An estimate after training, say.
        cost: Of a scaled network, for example its MACs; also called on the network itself.
        input_shape: `(channels, height, width)`.
        grid: Where to look; None for `Grid()`.
        noise: Standard deviation of `score` over repeated trainings, in its unit.
        report: Called with each network scored and the number of those left in its level.
        **scaling: Further arguments of `scale`, such as `divisor=1` for narrow networks.

    Raises:
        InvalidInputError: the network cannot be scaled so, or the noise is negative.
        InfeasibleError: no point rounds to a network of about the right cost.
    """
    where = grid or Grid()
    if not noise >= 0:
        raise InvalidInputError(f"`noise` must be a number of at least 0, got {noise!r}.")
    work = _GridSearch(network, score, cost, input_shape, where, report, scaling)
    work.run_level(where.points(), 1)
    if not work.tried:
        raise InfeasibleError(
            f"None of the {work.left_out} points of the grid scales this network's cost by {where.cost:g} to within a "
            f"factor of {where.realised}: widths are rounded to multiples of {scaling.get('divisor', 8)} and depths to "
            "whole blocks. Give a smaller `divisor`, a larger `realised`, or a larger network."
        )
    stopped = "all levels were looked at"
    for level in range(2, where.levels + 1):
        before = work.ordered()[0].score
        centres = [t.multipliers for t in work.ordered()[: where.keep]]
        added = work.run_level([m for c in centres for m in where.around(c, level)], level)
        if not added:
            stopped = f"level {level} has no network that was not tried"
            break
        gain = work.ordered()[0].score - before
        margin = noise_margin(noise, added)
        if gain <= margin and level < where.levels:
            stopped = f"level {level} gained {gain:.4g}, no more than the noise of {noise:.4g} explains ({margin:.4g})"
            break
    return Coefficients(tuple(work.ordered()), noise, work.left_out, stopped)


class _GridSearch(Generic[Network]):
    """Networks scored so far, by what they are."""

    def __init__(
        self,
        network: Network,
        score: Score[Network],
        cost: Cost[Network],
        shape: tuple[int, ...],
        grid: Grid,
        report: Callable[[Tried, int], None],
        scaling: dict[str, Any],
    ) -> None:
        self.network, self.score, self.cost, self.shape = network, score, cost, shape
        self.grid, self.report, self.scaling = grid, report, scaling
        self.base = cost(Scaled(network, shape))
        self.tried: dict[object, Tried] = {}
        self.seen: set[Multipliers] = set()
        self.left_out = 0

    def run_level(self, points: Iterable[Multipliers], level: int) -> int:
        """Score what is new of these points; returns the number of networks scored."""
        fresh: dict[object, tuple[Scaled[Network], float, list[Multipliers]]] = {}
        for point in points:
            if point in self.seen:
                continue
            self.seen.add(point)
            self._place(point, fresh)
        for left, (key, (scaled, growth, members)) in zip(range(len(fresh) - 1, -1, -1), fresh.items(), strict=True):
            found = Tried(members[0], tuple(members), level, float(self.score(scaled)), growth)
            self.tried[key] = found
            self.report(found, left)
        return len(fresh)

    def _place(self, point: Multipliers, fresh: dict[object, tuple[Scaled[Network], float, list[Multipliers]]]) -> None:
        scaled = scale(self.network, *point, input_shape=self.shape, **self.scaling)
        key = identity(scaled)
        if key in self.tried:
            old = self.tried[key]
            self.tried[key] = old._replace(points=(*old.points, point))
        elif key in fresh:
            fresh[key][2].append(point)
        else:
            growth = self.cost(scaled) / self.base
            limit = self.grid.realised
            if limit is not None and not 1 / limit <= growth / self.grid.cost <= limit:
                self.left_out += 1
            else:
                fresh[key] = (scaled, growth, [point])

    def ordered(self) -> list[Tried]:
        return sorted(self.tried.values(), key=lambda t: (-t.score, t.cost))


def identity(scaled: Scaled[Any]) -> tuple[object, ...]:
    """Equal for scaled networks that rounding made the same."""
    network = scaled.network
    block: Block = network.block if isinstance(network, Architecture) else network
    return (block, scaled.input_shape)


class ScaledBy(NamedTuple, Generic[Network]):
    """A network at one cost, scaled one way."""

    kind: str
    """One of `KINDS`."""
    factor: float
    """By how much the cost should grow."""
    multipliers: Multipliers
    scaled: Scaled[Network]


def multipliers_of(kind: str, factor: float, coefficients: Multipliers) -> Multipliers:
    """By how much to scale depth, width and resolution so that the cost grows by a factor.

    Args:
        kind: "depth", "width" or "resolution" alone, or all three, "compound".
        factor: Above 0.
        coefficients: Alpha, beta, gamma, for "compound": phi is the factor's logarithm to the base of their product.

    Raises:
        InvalidInputError: no such kind, a factor that is not positive, or coefficients that make nothing larger.
    """
    if not (isinstance(factor, (int, float)) and 0 < factor < math.inf):
        raise InvalidInputError(f"`factor` must be a positive number, got {factor!r}.")
    if kind == "depth":
        return Multipliers(float(factor), 1.0, 1.0)
    if kind == "width":
        return Multipliers(1.0, math.sqrt(factor), 1.0)
    if kind == "resolution":
        return Multipliers(1.0, 1.0, math.sqrt(factor))
    if kind != "compound":
        raise InvalidInputError(f"`kind` must be one of {', '.join(KINDS)}, got {kind!r}.")
    alpha, beta, gamma = coefficients
    if not coefficients.cost > 1:
        raise InvalidInputError(
            f"Compound scaling needs `alpha * beta^2 * gamma^2` above 1, got {coefficients.cost:g} from alpha "
            f"{alpha:g}, beta {beta:g} and gamma {gamma:g}: these make nothing larger."
        )
    phi = math.log(factor) / math.log(coefficients.cost)
    return compound(phi, alpha=alpha, beta=beta, gamma=gamma, cost=coefficients.cost)


def scaled_family(
    network: Network,
    factors: Sequence[float],
    coefficients: Multipliers,
    *,
    input_shape: tuple[int, ...],
    kinds: Sequence[str] = KINDS,
    **scaling: Any,
) -> list[ScaledBy[Network]]:
    """A network scaled to several costs, in each way: what the paper's figures 3 and 4 compare.

    Args:
        network: Closed.
        factors: By how much the cost should grow.
        coefficients: Alpha, beta, gamma.
        input_shape: `(channels, height, width)`.
        kinds: Of `KINDS`.
        **scaling: Further arguments of `scale`.

    Returns:
        For each kind the factors in order.

    Raises:
        InvalidInputError: an unknown kind, a factor that is not positive, or a network that cannot be scaled so.
    """
    found = []
    for kind in kinds:
        for factor in factors:
            by = multipliers_of(kind, factor, coefficients)
            found.append(ScaledBy(kind, float(factor), by, scale(network, *by, input_shape=input_shape, **scaling)))
    return found
