"""One supernet, many devices: the best predicted architecture under the limits of each, in seconds.

Reference:
    Cai et al. (2020), "Once-for-All", arXiv 1908.09791, section 3.4, and the authors' code (`evolution_finder.py`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from nasturtium.errors import InfeasibleError, InvalidInputError
from nasturtium.space import Architecture
from nasturtium.supernets.genes import Cost, Genes, Matrix

Predict = Callable[[Matrix], NDArray[np.float64]]
"""Predicted accuracies `(architectures,)` of the rows of a matrix."""
TRIES = 1000
"""Rounds of new children, where limits refuse them, until the limits count as too tight."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """What a device allows.

    Args:
        name: Of the cost, for example "macs" or "latency".
        cost: Of the rows of a matrix, in base units.
        most: Largest cost that is allowed, in the same unit.
    """

    name: str
    cost: Cost
    most: float


@dataclass(frozen=True, slots=True, kw_only=True)
class EvolutionSettings:
    """How candidates are bred; the defaults are the authors'.

    Args:
        population: Children of each generation.
        generations: After the first.
        parents: Share of the population that has children and lives on.
        mutants: Share of the children that are mutants; the others are crosses, each decision from either parent.
        mutation: Probability that a mutant draws the decisions of one block anew, all together.
        own: Probabilities of single decisions, by name; a decision named here is a group of its own.
    """

    population: int = 100
    generations: int = 500
    parents: float = 0.25
    mutants: float = 0.5
    mutation: float = 0.1
    own: Mapping[str, float] = field(default_factory=lambda: {"resolution": 0.5})

    def __post_init__(self) -> None:
        if self.population < 2 or self.generations < 0:
            raise InvalidInputError(
                f"`population` must be at least 2 and `generations` at least 0, got {self.population!r} and "
                f"{self.generations!r}."
            )
        shares = {"parents": self.parents, "mutants": self.mutants, "mutation": self.mutation, **self.own}
        for name, share in shares.items():
            if not 0.0 <= share <= 1.0:
                raise InvalidInputError(f"`{name}` must be a share in [0, 1], got {share!r}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Specialized:
    """What a search found for one device."""

    architecture: Architecture
    row: Matrix = field(repr=False)
    """Its row, `(decisions,)`."""
    predicted: float
    """Accuracy, as a fraction."""
    costs: Mapping[str, float]
    """By the limits' names, in base units."""
    history: tuple[float, ...] = field(repr=False)
    """Best predicted accuracy after each generation, the first included."""
    predictions: int
    """Candidates that the predictor judged."""
    seconds: float


def specialize(
    genes: Genes,
    predict: Predict,
    limits: Sequence[Limit] = (),
    *,
    settings: EvolutionSettings | None = None,
    seed: int = 0,
) -> Specialized:
    """The best predicted architecture within limits, by evolution.

    Parents are the best of the last parents and their children, so nothing good is lost. A child that breaks a limit is
    made anew, from the same parents. Costs some 2 ms a generation of 100, so a device takes a second.

    Args:
        genes: Of the space.
        predict: Accuracy of the rows of a matrix.
        limits: Costs that are bounded; none for the best at any cost.
        settings: How candidates are bred.
        seed: Determines everything random.

    Returns:
        The best, with what it costs.

    Raises:
        InfeasibleError: hardly any architecture is within the limits.

    Reference:
        Cai et al. (2020), arXiv 1908.09791, section 3.4; `EvolutionFinder.run_evolution_search` of the authors' code,
        which keeps the parents (its comment says that it ages). Nothing known differs but the generator of randomness,
        and that decisions of any space are grouped by the block that they stand in.
    """
    settings = settings or EvolutionSettings()
    begin = time.perf_counter()
    breeder = _Breeder(genes, tuple(limits), settings, np.random.default_rng(seed))
    size = settings.population
    count = max(1, round(settings.parents * size))
    mutants = round(settings.mutants * size)
    population = breeder.first(size)
    scores = predict(population)
    history = [float(scores.max())]
    for _ in range(settings.generations):
        best = np.argsort(-scores, kind="stable")[:count]
        parents, kept = population[best], scores[best]
        children = np.concatenate([breeder.mutants(parents, mutants), breeder.crosses(parents, size - mutants)])
        population = np.concatenate([parents, children])
        scores = np.concatenate([kept, predict(children)])
        history.append(float(scores.max()))
    row = population[int(np.argmax(scores))]
    return _specialized(genes, limits, row, history, size * (1 + settings.generations), begin)


def best_of_random(
    genes: Genes, predict: Predict, limits: Sequence[Limit] = (), *, count: int, seed: int = 0
) -> Specialized:
    """The best predicted of random architectures within limits: what a search is to beat.

    Args:
        genes: Of the space.
        predict: Accuracy of the rows of a matrix.
        limits: Costs that are bounded.
        count: Architectures within the limits that are judged.
        seed: Determines everything random.

    Raises:
        InfeasibleError: hardly any architecture is within the limits.
    """
    begin = time.perf_counter()
    breeder = _Breeder(genes, tuple(limits), EvolutionSettings(), np.random.default_rng(seed))
    rows = breeder.first(count)
    scores = predict(rows)
    return _specialized(genes, limits, rows[int(np.argmax(scores))], [float(scores.max())], count, begin)


def _specialized(
    genes: Genes, limits: Sequence[Limit], row: Matrix, history: list[float], predictions: int, begin: float
) -> Specialized:
    return Specialized(
        architecture=genes.architecture(row),
        row=row,
        predicted=history[-1],
        costs={limit.name: float(limit.cost(row[None])[0]) for limit in limits},
        history=tuple(history),
        predictions=predictions,
        seconds=time.perf_counter() - begin,
    )


class _Breeder:
    """Makes rows within limits."""

    def __init__(
        self, genes: Genes, limits: tuple[Limit, ...], settings: EvolutionSettings, rng: np.random.Generator
    ) -> None:
        self.genes, self.limits, self.rng = genes, limits, rng
        names = [name if name in settings.own else name.rpartition(".")[0] or name for name in genes.names]
        groups = list(dict.fromkeys(names))
        self.group = np.array([groups.index(name) for name in names])
        """Number of the group of each decision: those that are drawn anew together."""
        self.rates = np.array([settings.own.get(name, settings.mutation) for name in groups])

    def first(self, count: int) -> Matrix:
        """Random rows."""
        return self._within(count, lambda places: self.genes.random(self.rng, len(places)))

    def mutants(self, parents: Matrix, count: int) -> Matrix:
        """Rows in which some groups are drawn anew."""
        chosen = self.rng.integers(0, len(parents), count)

        def make(places: Matrix) -> Matrix:
            hit = self.rng.random((len(places), len(self.rates))) < self.rates
            fresh = self.genes.random(self.rng, len(places))
            return np.where(hit[:, self.group], fresh, parents[chosen[places]])

        return self._within(count, make)

    def crosses(self, parents: Matrix, count: int) -> Matrix:
        """Rows each of whose entries is that of one of two parents."""
        first, second = self.rng.integers(0, len(parents), (2, count))

        def make(places: Matrix) -> Matrix:
            coin = self.rng.random((len(places), parents.shape[1])) < 0.5
            return np.where(coin, parents[first[places]], parents[second[places]])

        return self._within(count, make)

    def _within(self, count: int, make: Callable[[Matrix], Matrix]) -> Matrix:
        """Rows within the limits: those that are not are made anew, each at its place."""
        found = np.empty((count, len(self.genes.counts)), dtype=np.int64)
        places = np.arange(count)
        nearest: dict[str, float] = {}
        for _ in range(TRIES):
            if not len(places):
                return found
            made = make(places)
            fits = np.ones(len(made), dtype=np.bool_)
            for limit in self.limits:
                costs = limit.cost(made)
                fits &= costs <= limit.most
                nearest[limit.name] = min(nearest.get(limit.name, float("inf")), float(costs.min()))
            found[places[fits]] = made[fits]
            places = places[~fits]
        bounds = ", ".join(
            f"{limit.name} <= {limit.most:g} (least seen: {nearest[limit.name]:g})" for limit in self.limits
        )
        raise InfeasibleError(
            f"Of {TRIES} rounds of random architectures too few are within {bounds}: raise the limit, or take a space "
            "with smaller networks."
        )
