"""ProxylessNAS: binary gates over whole paths, so that the search has the memory of one network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, Literal

from nasturtium.errors import IncompatibleError, InvalidInputError
from nasturtium.model import Supernet
from nasturtium.space import Space
from nasturtium.space.open_graph import OpenGraph
from nasturtium.supernets.branching import Branching, branch
from nasturtium.supernets.expected import Additive, ExpectedCost, OperationCost
from nasturtium.supernets.path_step import check_recipe, lowered, require_open
from nasturtium.supernets.proxyless_cost import MultipliedLog, Penalty, Table, operation_cost, penalty_from
from nasturtium.supernets.proxyless_search import ProxylessSearch
from nasturtium.supernets.searcher import Run, SearchResult
from nasturtium.supernets.stored_cost import cost_facts, cost_from_json, cost_to_json
from nasturtium.tasks import Task
from nasturtium.training import Recipe

SEARCH = Recipe(learning_rate=0.025, momentum=0.9, weight_decay=4e-5, batch_size=256, warmup=0.0, label_smoothing=0.1)
"""Of the weights in the authors' search on ImageNet."""
COUNTED = ("macs", "params", "activations")
SECONDS = 1e-3
"""Unit of costs in seconds, where a loss needs one."""


@dataclass(frozen=True, kw_only=True)
class ProxylessNAS:
    """Search by binary gates: each decision's branch is drawn by a softmax of logits, one path is in memory.

    1. Warm-up: the weights of drawn paths are trained for `warmup` epochs, while the logits stay as they are.
    2. Search: they are trained for `epochs` more; from the second of these on, after every `every`-th step, the logits
       take a step on a batch of held-out train images, by gradients or by REINFORCE.

    The most probable branch of each decision makes the derived network; a branch that is an identity or zero leaves
    its block out.

    Args:
        epochs: Of the search, passes over the images that the weights see.
        warmup: Epochs of the warm-up.
        recipe: How the weights are trained; its `warmup` and `ema` must be off. Its learning rate is that at the
            beginning of the search, from where it falls to 0 by half a cosine.
        warmup_learning_rate: At the beginning of the warm-up, from where it falls to 0 likewise.
        share: Of the train images that are held out for the logits; 50,000 of ImageNet's 1,281,167 in the paper.
        every: Steps of the weights for one of the logits.
        variant: "gradient" or "reinforce".
        paths: Of the gradient: "all" branches ("full_v2" of the code), or "two" drawn ones (the paper's).
        learning_rate: Of the logits' Adam (betas 0 and 0.999).
        cost: What is paid for: "macs", "params", "activations", or seconds by a function of an operation and its
            inputs' shapes, or by a table of these; None for the accuracy alone. A study stores a function by its import
            path, so it must stand at the top level of a module there.
        reference: The cost that is aimed at, in its own unit; needed with `cost`. 80 ms in the paper.
        penalty: `MultipliedLog` or `AddedLinear`, of the gradient variant.
        samples: Paths drawn for a step of REINFORCE.
        exponent: w of the reward `accuracy * (reference / cost) ** w`.
        baseline: Of REINFORCE. "code" updates it by `b += decay * (mean - b)`, which is nearly the last batch's mean;
            "average" by `b += (1 - decay) * (mean - b)`, the moving average that the name of the setting promises.
        baseline_decay: 0.99 in the code.
        prune: Branches whose probability is below this at the end of an epoch are drawn no more, in [0, 1); 0 prunes
            nothing, as the authors' search, which prunes when it ends.

    Notes:
        Where a block leaves numbers open (a kernel, an expansion), each combination is a branch with weights of its
        own, as in the paper; see `supernets.branching`. The names of weights in `Run.initial` and `SearchResult.state`
        are those of the supernet of `branch(space).space`.

        Differs from the paper: the expected cost is exact also where decisions depend on each other
        (`supernets.expected`). Differs from the code: a block whose drawn branch is zero is updated too; norms and
        biases do not decay; steps of REINFORCE come every `every` steps (in the code 300 in an epoch), take the
        statistics of the batch and leave the running ones; probabilities of decisions that a drawn path does not reach
        stay out of it.

        Cost of a step of the weights: that of the drawn network. Of the logits: with gradients one forward and backward
        pass of it and one forward pass of each other branch ("all"), or of one ("two"); with REINFORCE `samples`
        forward passes. Memory is that of one network, whatever the number of branches.

    Reference:
        Cai, Zhu, Han (2019), "ProxylessNAS: Direct Neural Architecture Search on Target Task and Hardware",
        arXiv 1812.00332, sections 3.2 and 3.3, appendices; the authors' code (mit-han-lab/proxylessnas, `search/`).
    """

    epochs: int = 120
    warmup: int = 40
    recipe: Recipe = SEARCH
    warmup_learning_rate: float = 0.05
    share: float = 0.04
    every: int = 5
    variant: Literal["gradient", "reinforce"] = "gradient"
    paths: Literal["all", "two"] = "all"
    learning_rate: float = 1e-3
    cost: Additive | OperationCost | Table | None = None
    reference: float | None = None
    penalty: Penalty = field(default_factory=MultipliedLog)
    samples: int = 10
    exponent: float = 0.1
    baseline: Literal["code", "average"] = "code"
    baseline_decay: float = 0.99
    prune: float = 0.0

    def __post_init__(self) -> None:
        for name, least in (("epochs", 1), ("warmup", 0), ("every", 1), ("samples", 1)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise InvalidInputError(f"`{name}` must be an integer of {least} or more, got {value!r}.")
        for name, known in (
            ("variant", ("gradient", "reinforce")), ("paths", ("all", "two")), ("baseline", ("code", "average")),
        ):  # fmt: skip
            if getattr(self, name) not in known:
                raise InvalidInputError(f"`{name}` must be one of {known}, got {getattr(self, name)!r}.")
        if not 0.0 < self.share < 1.0:
            raise InvalidInputError(f"`share` of the train images must be in (0, 1), got {self.share!r}.")
        for name in ("prune", "baseline_decay"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise InvalidInputError(f"`{name}` must be in [0, 1), got {getattr(self, name)!r}.")
        for name in ("learning_rate", "warmup_learning_rate"):
            if not getattr(self, name) > 0.0:
                raise InvalidInputError(f"`{name}` must be above 0, got {getattr(self, name)!r}.")
        if self.recipe.warmup:
            raise InvalidInputError(
                f"ProxylessNAS has a warm-up of its own: give a recipe with warmup=0.0, got {self.recipe.warmup!r}."
            )
        check_recipe(self.recipe)
        self._check_cost()

    def _check_cost(self) -> None:
        if self.cost is None:
            if self.reference is not None:
                raise InvalidInputError(
                    f"`reference` is a cost to aim at, but no `cost` is given, got {self.reference!r}."
                )
            return
        if isinstance(self.cost, str) and self.cost not in COUNTED:
            raise InvalidInputError(f"`cost` must be one of {COUNTED}, a function, a table or None, got {self.cost!r}.")
        if self.reference is None or not self.reference > 0.0 or not isfinite(self.reference):
            raise InvalidInputError(
                f"With a `cost`, `reference` must be the cost to aim at, above 0, got {self.reference!r}."
            )
        if self.variant == "gradient":
            self.penalty.check(self.reference, self.unit)

    @property
    def unit(self) -> float:
        """Unit of the cost in `MultipliedLog`, where that has none of its own."""
        return 1.0 if isinstance(self.cost, str) else SECONDS

    def check(self, space: Space, task: Task) -> None:
        """Raise before anything trains where ProxylessNAS does not go with the space or the task.

        Raises:
            IncompatibleError: nothing is open, the space has conditions, one number is decided for several blocks, it
                has no supernet, or a decision cannot be mixed.
            InvalidInputError: the cost is not known for an operation.
        """
        self.expected(self.prepare(space, task, seed=0)[1].graph)

    def prepare(self, space: Space, task: Task, *, seed: int) -> tuple[Branching, Supernet]:
        """The space of branches, and its supernet, whose every decision can be mixed.

        Args:
            space: Any.
            task: The task.
            seed: Of the initial weights.

        Raises:
            IncompatibleError: as `check`.
        """
        require_open(space, "ProxylessNAS")
        branching = branch(space)
        supernet = Supernet(lowered(branching.space, task, "ProxylessNAS"), seed=seed)
        mixed = supernet.mixed
        wrong = [d.name for d in branching.space.decisions if d.count > 1 and d.name not in mixed]
        if wrong:
            shown = ", ".join(map(repr, wrong[:3])) + (f" and {len(wrong) - 3} more" if len(wrong) > 3 else "")
            raise IncompatibleError(
                f"ProxylessNAS draws one of several branches that return tensors of one shape, but {shown} of this "
                "space changes a shape, a number of a block that holds other choices, or what stands in a "
                "concatenation: fix it, or use a method that trains single paths (SPOS, ENAS, Once-for-All)."
            )
        return branching, supernet

    def expected(self, graph: OpenGraph) -> ExpectedCost | None:
        """The expected cost; None where none counts."""
        return None if self.cost is None else ExpectedCost(graph, operation_cost(self.cost))

    def search(self, space: Space, run: Run) -> SearchResult:
        """Search; see `Searcher`.

        Each record of the history has "loss" and "train_accuracy" of the paths that were trained, "learning_rate",
        "entropy" of the gates (mean over decisions, nats), "pruned" (branches so far), "expected_cost" where one
        counts, and of the logits' steps the means "architecture_loss", or "reward" and "accuracy".
        """
        return ProxylessSearch(self, space, run).complete()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON: "name" of the method, and its settings; a cost as `stored_cost.cost_to_json` has it.

        Raises:
            InvalidInputError: the cost is a function that a study could not import again (a lambda, for example).
        """
        return {**self.facts(), "cost": cost_to_json(self.cost)}

    def facts(self) -> dict[str, object]:
        """What a checkpoint compares: settings as `to_dict`, but also with a cost that cannot be stored in a study."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {
            "name": "proxyless", **values, "recipe": self.recipe.to_dict(), "penalty": self.penalty.to_dict(),
            "cost": cost_facts(self.cost),
        }  # fmt: skip

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], *, trust: bool = False) -> ProxylessNAS:
        """Inverse of `to_dict`.

        Args:
            data: What it gave.
            trust: Whether a module that is not nasturtium's and not imported yet may be imported for the cost.

        Raises:
            InvalidInputError: the cost cannot be imported, or its module is not trusted.
        """
        values = {key: value for key, value in data.items() if key != "name"}
        if "recipe" in values:
            values["recipe"] = Recipe.from_dict(values["recipe"])
        if "penalty" in values:
            values["penalty"] = penalty_from(values["penalty"])
        if "cost" in values:
            values["cost"] = cost_from_json(values["cost"], trust=trust)
        return cls(**values)
