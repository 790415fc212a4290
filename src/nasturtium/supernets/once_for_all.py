"""Once-for-All: one supernet is trained, and a network is specialised from it for each budget, without more training.

Level: any space whose decisions are kernels, depths and widths (and others). The parts can be used alone:
`train_shrinking`, `sort_channels`, `fit_predictor`, `specialize`; `OnceForAll` is the whole as a searcher.

Reference:
    Cai et al. (2020), "Once-for-All: Train One Network and Specialize it for Efficient Deployment", arXiv 1908.09791.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from nasturtium.errors import IncompatibleError, InfeasibleError, InvalidInputError, TraceError
from nasturtium.model import Supernet, supernet
from nasturtium.model.build import Network
from nasturtium.space import Architecture, Space
from nasturtium.space.open_graph import OpenGraph
from nasturtium.supernets.accuracy_predictor import Fitted, fit_predictor
from nasturtium.supernets.calibration import calibration_batches, recalibrate
from nasturtium.supernets.genes import Cost, CostTables, Genes, Matrix, cost_tables
from nasturtium.supernets.path_step import lowered
from nasturtium.supernets.phases import Phase, kinds_of, shrinking_phases
from nasturtium.supernets.ranking import Alone, check_ranking, check_sample, without_defaults
from nasturtium.supernets.sampling import distinct
from nasturtium.supernets.searcher import Found, Run, SearchResult
from nasturtium.supernets.shrinking import ShrinkingResult, train_shrinking
from nasturtium.supernets.single_path import measure
from nasturtium.supernets.specialize import EvolutionSettings, Limit, best_of_random, specialize
from nasturtium.supernets.trust import measure_trust
from nasturtium.tasks import Task
from nasturtium.training import Recipe
from nasturtium.training.randomness import derived_seed

LEAST_PAIRS = 5
"""Architectures that the predictor needs."""
LISTED = 100_000
"""Rows of which each is costed to find the least cost."""


@dataclass(frozen=True, kw_only=True)
class OnceForAll:
    """Train a supernet by progressive shrinking, then specialise a network for each budget.

    After training, random sub-networks are measured on validation with recalibrated norms; a predictor learns their
    accuracy from their decisions, and evolution finds the best predicted within each budget.

    Args:
        epochs: Of the whole training, shared out among the phases as in the authors' code.
        budgets: Largest cost of each network that is wanted, in the unit of `metric`; none for one network without a
            budget.
        metric: "macs", "params" or "activations".
        recipe: How the shared weights are trained.
        distill: Weight of the largest network's loss as teacher.
        sandwich: Whether each step also trains the largest and the smallest network.
        kernel_transform: Whether small kernels are made of large ones by matrices.
        measured: Random sub-networks that are measured, of which the predictor learns from 80%.
        calibration: Images for recalibrating norms.
        evolution: How candidates are bred.
        sample: Networks, drawn uniformly, that are trained alone, so that the ranking's trust is known; 0 for none.
        alone: How they are trained.

    Reference:
        Cai et al. (2020), arXiv 1908.09791, sections 3.3 and 3.4. Differs from the paper: the architectures found keep
        the order of `budgets`, and are not fine-tuned here.
    """

    epochs: int = 60
    budgets: tuple[float, ...] = ()
    metric: str = "macs"
    recipe: Recipe = field(default_factory=Recipe)
    distill: float = 1.0
    sandwich: bool = False
    kernel_transform: bool = True
    measured: int = 200
    calibration: int = 2000
    evolution: EvolutionSettings = field(default_factory=EvolutionSettings)
    sample: int = 10
    alone: Alone = field(default_factory=Alone)

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.measured < LEAST_PAIRS:
            raise InvalidInputError(
                f"`epochs` must be at least 1 and `measured` at least 5, got {self.epochs!r} and {self.measured!r}."
            )
        check_sample(self.sample)
        if self.metric not in ("macs", "params", "activations"):
            raise InvalidInputError(f"`metric` must be 'macs', 'params' or 'activations', got {self.metric!r}.")
        if not all(budget > 0 for budget in self.budgets):
            raise InvalidInputError(f"`budgets` must be positive, got {self.budgets!r}.")

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        values |= {
            "budgets": list(self.budgets),
            "recipe": self.recipe.to_dict(),
            "evolution": {**asdict(self.evolution), "own": dict(self.evolution.own)},
            "alone": self.alone.to_dict(),
        }
        return {"type": "once_for_all", **without_defaults(values)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> OnceForAll:
        """Inverse of `to_dict`.

        Raises:
            InvalidInputError: an unknown setting, or one out of range.
        """
        values = {key: value for key, value in data.items() if key != "type"}
        unknown = sorted(set(values) - set(cls.__dataclass_fields__))
        if unknown:
            raise InvalidInputError(
                f"Once-for-All has no setting {unknown[0]!r}. Known: {', '.join(cls.__dataclass_fields__)}."
            )
        if "recipe" in values:
            values["recipe"] = Recipe.from_dict(values["recipe"])
        if "evolution" in values:
            values["evolution"] = EvolutionSettings(**values["evolution"])
        if "alone" in values:
            values["alone"] = Alone.from_dict(values["alone"])
        if "budgets" in values:
            values["budgets"] = tuple(values["budgets"])
        return cls(**values)

    def check(self, space: Space, task: Task) -> None:
        """See `Searcher`: decisions that are numbers, no conditions, a supernet, and budgets that can be kept.

        Raises:
            IncompatibleError: nothing to shrink, a list of architectures, conditions, fewer than 5 architectures, no
                image classification, or no supernet on the task's images.
            InfeasibleError: no architecture, or hardly any, is within one of the budgets; names the least cost.
        """
        if len(task.input_shape) != 3:
            raise IncompatibleError(f"Once-for-All trains on images, but {task.name!r} has {task.input_shape}.")
        genes = Genes(space)
        if space.size < LEAST_PAIRS:
            raise IncompatibleError(
                f"The predictor of Once-for-All learns from {LEAST_PAIRS} architectures at least, but this space has "
                f"{space.size}: leave more open, or train each of them."
            )
        graph = lowered(space, task, "Once-for-All")
        try:
            self.phases(space, graph)
            tables = cost_tables(graph, self.metric)  # type: ignore[arg-type]
        except TraceError as error:
            raise IncompatibleError(
                f"Once-for-All trains every architecture of a space, but one of this space does not go with images "
                f"{task.input_shape}: {error}"
            ) from error
        self._check_budgets(genes, tables)

    def _check_budgets(self, genes: Genes, tables: CostTables) -> None:
        if not self.budgets:
            return
        least = least_cost(genes, tables)
        for budget in self.budgets:
            if budget < least:
                raise InfeasibleError(
                    f"The budget of {budget:,.10g} {self.metric} is below the least cost in this space, "
                    f"{least:,.10g}: raise it, or take a space with smaller networks."
                )
            limits = [Limit(name=self.metric, cost=tables, most=budget)]
            best_of_random(genes, lambda rows: np.zeros(len(rows)), limits, count=self.evolution.population)

    def phases(self, space: Space, graph: OpenGraph) -> tuple[Phase, ...]:
        """The plan of training.

        Args:
            space: The space.
            graph: Its open graph, from which the kinds of its decisions are seen; a supernet has it as `graph`.
        """
        return shrinking_phases(
            space, epochs=self.epochs, distill=self.distill, sandwich=self.sandwich, kinds=kinds_of(graph)
        )

    def make(self, space: Space, task: Task, *, seed: int) -> Supernet:
        """The untrained supernet."""
        context: dict[str, Any] = task.context
        return supernet(space, task.input_shape, seed=seed, kernel_transform=self.kernel_transform, **context)

    def train(self, shared: Supernet, space: Space, run: Run) -> ShrinkingResult:
        """Train a supernet in place, as `search` does first."""
        return train_shrinking(
            shared, space, run.task, self.phases(space, shared.graph), self.recipe, seed=run.seed, device=run.device,
            directory=run.directory, initial=run.initial, parts=run.parts, parallel=run.parallel, on_epoch=run.report,
        )  # fmt: skip

    def search(self, space: Space, run: Run) -> SearchResult:
        """See `Searcher`.

        For each budget one architecture, in the order of `budgets`, with "predicted_accuracy", "shared_accuracy" and
        "shared_loss" (validation, recalibrated), its cost and its "budget".

        Raises:
            InfeasibleError: hardly any architecture is within a budget.
        """
        self.check(space, run.task)
        shared = self.make(space, run.task, seed=run.seed)
        training = self.train(shared, space, run)
        begin = time.perf_counter()
        genes = Genes(space)
        device = next(shared.parameters()).device
        batches = calibration_batches(run.task, images=self.calibration, seed=run.seed, device=device)
        matrix, accuracies = measured_pairs(
            shared, genes, run.task, count=self.measured, batches=batches, seed=run.seed
        )
        fitted = fit_predictor(genes, matrix, accuracies, seed=run.seed)
        tables = cost_tables(shared.graph, self.metric)  # type: ignore[arg-type]
        found = []
        for number, budget in enumerate(self.budgets or (float("inf"),)):
            limits = [Limit(name=self.metric, cost=tables, most=budget)]
            best = specialize(
                genes, fitted.predictor, limits, settings=self.evolution, seed=derived_seed(run.seed, 5, number)
            )
            result = measure(shared, best.architecture, run.task, batches=batches)
            evidence = {
                "predicted_accuracy": best.predicted, "shared_accuracy": result.accuracy, "shared_loss": result.loss,
                self.metric: best.costs[self.metric],
            } | ({"budget": budget} if self.budgets else {})  # fmt: skip
            found.append(Found(architecture=best.architecture, evidence=evidence))
        seconds = training.seconds + time.perf_counter() - begin
        checked = check_ranking(
            shared, space, run, sample=self.sample, alone=self.alone, batches=batches, facts=self.to_dict(),
            epoch=self.epochs,
        )  # fmt: skip
        return SearchResult(
            found=checked.marked(found), history=training.history, seconds=seconds, steps=training.steps,
            notes=(_worth(fitted, run.seed), checked.note), trust=checked.trust, state=shared.state_dict(),
        )  # fmt: skip


def least_cost(genes: Genes, cost: Cost) -> float:
    """The least cost of a space, in the cost's unit.

    Exact where there are at most 100,000 rows, and where each decision changes the cost in one direction whatever the
    others are, as widths, kernels and depths do; else that of a row that no change of one decision makes cheaper.

    Args:
        genes: Of the space.
        cost: Of the rows of a matrix.
    """
    if np.prod(genes.counts, dtype=np.float64) <= LISTED:
        every = np.indices(tuple(genes.counts)).reshape(len(genes.counts), -1).T
        return float(cost(every).min())
    random = genes.random(np.random.default_rng(0), 1000)
    row = random[int(np.argmin(cost(random)))]
    least = float(cost(row[None])[0])
    while True:
        changes = np.repeat(row[None], genes.counts.sum(), axis=0)
        places = np.repeat(np.arange(len(genes.counts)), genes.counts)
        changes[np.arange(len(changes)), places] = np.concatenate([np.arange(count) for count in genes.counts])
        costs = cost(changes)
        if not costs.min() < least:
            return least
        row, least = changes[int(np.argmin(costs))], float(costs.min())


def measured_pairs(
    shared: Supernet,
    genes: Genes,
    task: Task,
    *,
    count: int,
    batches: Sequence[Tensor] | None = None,
    seed: int = 0,
    report: Callable[[int], None] | None = None,
) -> tuple[Matrix, NDArray[np.float64]]:
    """Random architectures with their accuracy on validation, for a predictor to learn from.

    Args:
        shared: Trained.
        genes: Of its space.
        task: The task.
        count: Architectures, each active decision uniform; equal ones are drawn anew where the space has more.
        batches: To recalibrate norms with, as `calibration_batches` makes them.
        seed: Determines the architectures.
        report: Called with the number of those measured, after each.

    Returns:
        Their matrix `(count, decisions)` and accuracies `(count,)`.
    """
    if batches is None:
        batches = calibration_batches(task, seed=seed, device=next(shared.parameters()).device)
    drawn = distinct(genes.space, count, Random(derived_seed(seed, 4)), how="hierarchical")
    accuracies = []
    for number, architecture in enumerate(drawn):
        accuracies.append(measure(shared, architecture, task, batches=batches).accuracy)
        if report is not None:
            report(number + 1)
    return genes.matrix(drawn), np.array(accuracies)


def specialized_network(shared: Supernet, architecture: Architecture, batches: Sequence[Tensor]) -> Network:
    """The ordinary network of an architecture with the supernet's weights, recalibrated, in evaluation mode.

    Args:
        shared: Trained; left as it is.
        architecture: Of its space.
        batches: Images, as `calibration_batches` makes them.
    """
    network = shared.extract(architecture)
    recalibrate(network, batches)
    return network


def _worth(fitted: Fitted, seed: int) -> str:
    """What the predictor is worth, for people."""
    found = measure_trust(
        fitted.predicted, fitted.measured, seed=seed, names=("predicted accuracies", "those of shared weights")
    )
    return (
        f"The predictor learnt from {fitted.trained} sub-networks; on {len(fitted.measured)} others its error is "
        f"{100 * fitted.rmse:.2f} points of accuracy (RMSE). {found.sentence}"
    )
