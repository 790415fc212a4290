"""TinyNAS, first stage: which space to search, by the costs of what fits the device. Nothing is trained.

Of each space some networks are drawn; those that fit SRAM and flash are kept, and the space whose kept networks do
most multiply-accumulates (MACs) is picked: within one family, more computation under the same memory means more
capacity. A space of which hardly anything fits is passed over, since a few lucky networks say little.

Reference:
    Lin et al. (2020), "MCUNet: Tiny Deep Learning on IoT Devices", arXiv 2007.10319, section 3.1.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Generic, Literal, TypeVar

from nasturtium.design.footprint import Footprint
from nasturtium.errors import InfeasibleError, InvalidInputError, UnknownNameError
from nasturtium.space import Architecture, Space

Key = TypeVar("Key")

SAMPLES = 1000
"""Networks drawn of each space; the paper's number."""
LEAST = 0.02
"""Share of a space that must fit for it to be picked: 20 of 1,000, whose mean is known to some per cent."""
LEVEL = 0.8
"""The probability at which the distribution of MACs is read (paper, figure 4)."""
CRITERIA = ("mean", "quantile")

Sampler = Literal["uniform", "hierarchical"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the device has for a network.

    Args:
        sram: Bytes, or None for no limit.
        flash: Bytes, or None for no limit.
        sram_reserve: Bytes of SRAM that the model of memory does not count. TinyEngine's counts activations, and the
            engine's buffers take 42 to 56 KiB more for MCUNet's networks. TensorFlow Lite Micro's counts the whole
            arena with reference kernels: scratch of optimised kernels, the stack and the firmware's data remain.
        flash_reserve: Bytes of flash that it does not count: code, under TinyEngine's model also quantisation
            parameters and the file's structure.

    Raises:
        InvalidInputError: a number is negative, or nothing is left of a limit.
    """

    sram: int | None = None
    flash: int | None = None
    sram_reserve: int = 0
    flash_reserve: int = 0

    def __post_init__(self) -> None:
        for name, limit, reserve in (
            ("sram", self.sram, self.sram_reserve), ("flash", self.flash, self.flash_reserve),
        ):  # fmt: skip
            if reserve < 0 or (limit is not None and limit <= reserve):
                raise InvalidInputError(
                    f"`{name}` must be more than `{name}_reserve`, which is at least 0, both in bytes; got {limit!r} "
                    f"and {reserve!r}."
                )

    def fits(self, footprint: Footprint) -> bool:
        """Whether a network keeps to both limits."""
        return (self.sram is None or footprint.sram <= self.sram - self.sram_reserve) and (
            self.flash is None or footprint.flash <= self.flash - self.flash_reserve
        )


@dataclass(frozen=True, slots=True)
class Candidate(Generic[Key]):
    """A space, and what of its sample fits."""

    key: Key
    """Which space; for TinyNAS (width multiplier, resolution)."""
    macs: tuple[int, ...] = field(repr=False)
    """Of the networks that fit, ascending."""
    samples: int
    """Networks drawn."""

    @property
    def acceptance(self) -> float:
        """Share that fits."""
        return len(self.macs) / self.samples

    @property
    def mean(self) -> float:
        """Mean MACs of what fits; NaN where nothing does."""
        return math.fsum(self.macs) / len(self.macs) if self.macs else math.nan

    def quantile(self, level: float = LEVEL) -> float:
        """The MACs that a share `level` of what fits keeps to; NaN where nothing fits.

        Args:
            level: In [0, 1]. The least value whose distribution function, `below`, reaches it.
        """
        if not 0 <= level <= 1:
            raise InvalidInputError(f"`level` must lie in [0, 1], got {level!r}.")
        place = max(0, math.ceil(level * len(self.macs) - 1e-9) - 1)
        return float(self.macs[place]) if self.macs else math.nan

    def below(self, macs: float) -> float:
        """The distribution function: share of what fits that does at most so many MACs; NaN where nothing fits."""
        return bisect_right(self.macs, macs) / len(self.macs) if self.macs else math.nan


@dataclass(frozen=True, slots=True)
class Scan(Generic[Key]):
    """All spaces under one pair of limits."""

    limits: Limits
    candidates: tuple[Candidate[Key], ...]

    def ranked(self, by: str = "mean", *, level: float = LEVEL, least: float = LEAST) -> tuple[Candidate[Key], ...]:
        """The spaces of which enough fits, best first.

        Args:
            by: "mean" of the MACs, or their "quantile" at `level`.
            level: See `Candidate.quantile`.
            least: Share of a space that must fit, in [0, 1]; something must fit in any case.

        Raises:
            UnknownNameError: no such criterion.
        """
        if by not in CRITERIA:
            raise UnknownNameError("criterion", by, CRITERIA)
        if not 0 <= least <= 1:
            raise InvalidInputError(f"`least` must be a share in [0, 1], got {least!r}.")
        enough = [c for c in self.candidates if c.macs and c.acceptance >= least]
        return tuple(sorted(enough, key=lambda c: -(c.mean if by == "mean" else c.quantile(level))))

    def best(self, by: str = "mean", *, level: float = LEVEL, least: float = LEAST) -> Candidate[Key]:
        """The space to search; see `ranked`.

        Raises:
            InfeasibleError: of no space enough fits; names the one of which most does.
        """
        found = self.ranked(by, level=level, least=least)
        if found:
            return found[0]
        most = max(self.candidates, key=lambda c: c.acceptance)
        raise InfeasibleError(
            f"Of none of the {len(self.candidates)} spaces does a share of {least:g} fit {self.limits}; most does of "
            f"{most.key!r}, {most.acceptance:.2%} of {most.samples} networks. Give the device more memory, or scan "
            "smaller spaces (lower widths, lower resolutions)."
        )


def sample_footprints(
    spaces: Mapping[Key, Space],
    footprints: Callable[[Key], Callable[[Architecture], Footprint]],
    *,
    samples: int = SAMPLES,
    seed: int = 0,
    sampler: Sampler = "hierarchical",
    report: Callable[[int, int], None] = lambda _done, _of: None,
) -> dict[Key, list[Footprint]]:
    """Draw networks of each space and cost them.

    Every space is drawn from with the same seed: spaces of one structure, as the 108 of TinyNAS, are compared on the
    same decisions. Time: for the 108, about 40 s of one core under TinyEngine's model, and 10 minutes under TensorFlow
    Lite Micro's.

    Args:
        spaces: By any key.
        footprints: Makes, for a space's key, what costs its networks: such as `Footprints` of its resolution.
        samples: Networks drawn of each, at least 1.
        seed: Of the draws.
        sampler: "hierarchical" (depths and then each block's choices uniform, as in Once-for-All), or "uniform" over
            architectures, which are nearly all deep.
        report: Called with the spaces done and their number.

    Raises:
        InvalidInputError: there is no space, or `samples` is below 1.
    """
    if not spaces or isinstance(samples, bool) or samples < 1:
        raise InvalidInputError(f"Expected spaces and at least 1 sample of each, got {len(spaces)} and {samples!r}.")
    found: dict[Key, list[Footprint]] = {}
    for key, space in spaces.items():
        rng, cost = Random(seed), footprints(key)
        found[key] = [cost(space.sample(rng, sampler)) for _ in range(samples)]
        report(len(found), len(spaces))
    return found


def scan(sampled: Mapping[Key, Sequence[Footprint]], limits: Limits) -> Scan[Key]:
    """Which networks of each space fit; the same sample serves any limits.

    Args:
        sampled: What `sample_footprints` returns.
        limits: Of the device.
    """
    return Scan(
        limits,
        tuple(
            Candidate(key, tuple(sorted(f.macs for f in drawn if limits.fits(f))), len(drawn))
            for key, drawn in sampled.items()
        ),
    )


def rows(candidates: Iterable[Candidate[Any]], level: float = LEVEL) -> list[dict[str, float]]:
    """Candidates of TinyNAS as plain rows: width, resolution, mean and quantile of the MACs, share that fits."""
    return [
        {
            "width": c.key[0], "resolution": c.key[1], "mean_macs": c.mean, "quantile_macs": c.quantile(level),
            "acceptance": c.acceptance, "samples": c.samples,
        }
        for c in candidates
    ]  # fmt: skip
