"""DARTS: architecture and weights by gradient descent on a mixture of all operations, and what came of it.

Reference:
    Liu, Simonyan, Yang (2019), "DARTS: Differentiable Architecture Search", arXiv 1806.09055.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, Literal, Self, get_args

from nasturtium.errors import IncompatibleError, InvalidInputError, ShapeError
from nasturtium.graph import trace
from nasturtium.model import Supernet, supernet
from nasturtium.space import Space
from nasturtium.space.describe import predicate_digest
from nasturtium.supernets.collapse import CollapseWatch
from nasturtium.supernets.darts_search import DARTSSearch
from nasturtium.supernets.expected import Additive, OperationCost
from nasturtium.supernets.mixture_gate import RULES, Rule
from nasturtium.supernets.relaxation import Relaxation, relax
from nasturtium.supernets.rewriting import first_closed
from nasturtium.supernets.searcher import Run, SearchResult
from nasturtium.supernets.storage import require_known
from nasturtium.supernets.stored_cost import cost_from_json, cost_to_json, stored_name
from nasturtium.tasks import Task


@dataclass(frozen=True, kw_only=True)
class DARTS:
    """Search by gradient descent on a mixture; the defaults are those of the authors' code.

    In each step first the architecture, on a batch of its half of the train images, then the weights on one of theirs.
    The loss is that of the lecture, `CE + l1 |w|^2 + l2 E[cost]`: `weight_decay` is 2 l1, `cost_weight` is l2. Cost of
    a step: two forward and backward passes of the whole mixture with the first order, about six with the second.

    Args:
        epochs: Passes over the weights' half.
        order: 1 takes the weights as constant, 2 looks one step ahead; see `bilevel`.
        gate: "softmax"; "sigmoid" (FairDARTS); "gumbel" (GDAS, first order only).
        batch_size: Images in a batch of either half.
        share: Of the train images that the architecture learns on.
        learning_rate: Of the weights (SGD), at first; it falls by a cosine, once an epoch.
        last_learning_rate: What it falls to.
        momentum: Of SGD.
        weight_decay: Of SGD, on all weights.
        clip: Largest norm of the weights' gradient.
        architecture_learning_rate: Of the logits (Adam).
        architecture_betas: Of Adam.
        architecture_decay: Of Adam, added to the gradient.
        frozen: Epochs at first in which only weights learn.
        parts: K of PC-DARTS; 1 computes on all channels.
        edges: Whether the inputs of a node have normalised weights of their own (PC-DARTS).
        shortcuts: Whether every edge has a shortcut whose weight falls from 1 to 0 in the course (DARTS-).
        zero_one: Weight of the loss that drives sigmoid gates to 0 or 1.
        temperature: Of "gumbel": at first and at last; linear in between.
        cost: What is penalised: "macs", "params", "activations", or a function of an operation and its inputs' shapes
            (a latency in seconds); of the derived architecture, so the choice of edges counts. None for nothing.
        cost_weight: l2, loss per unit of cost.
        watch: What to watch for, a `CollapseWatch` or a mapping of its settings; None for nothing.
        precision: "float32", or "bfloat16" by autocast (the step of the architecture too).
        recompute: Whether all passes keep little memory for their gradients and compute the rest again, which takes
            about a quarter more time. Of the second order, the pass one step ahead does so in any case: it alone
            needs the gradients of weights and architecture at once. No effect under bfloat16. The results are the
            same, so a search that ran out of memory goes on with it.

    Notes:
        Differs from the paper: the genotype keeps exactly as many edges as the space says with "sigmoid" too, where
        FairDARTS has a threshold of 0.85 and up to 2 a node. Norms have weights if the space says so: let it have none
        (`affine=False`), or the scale of an operation hides behind them. The authors' random crops and mirrored images
        are the task's own augmentation here.

    Reference:
        Liu, Simonyan, Yang (2019), arXiv 1806.09055, algorithm 1 and section 3.1, and the authors' code
        (`train_search.py`); for the variants see `pc`, `fair`, `gdas` and `minus`.
    """

    incidental: ClassVar[tuple[str, ...]] = ("recompute",)
    """Settings that change no result: a search goes on when they differ."""

    epochs: int = 50
    order: Literal[1, 2] = 1
    gate: Rule = "softmax"
    batch_size: int = 64
    share: float = 0.5
    learning_rate: float = 0.025
    last_learning_rate: float = 0.001
    momentum: float = 0.9
    weight_decay: float = 3e-4
    clip: float = 5.0
    architecture_learning_rate: float = 3e-4
    architecture_betas: tuple[float, float] = (0.5, 0.999)
    architecture_decay: float = 1e-3
    frozen: int = 0
    parts: int = 1
    edges: bool = False
    shortcuts: bool = False
    zero_one: float = 0.0
    temperature: tuple[float, float] = (10.0, 0.1)
    cost: Additive | OperationCost | None = None
    cost_weight: float = 0.0
    watch: CollapseWatch | None = None
    precision: Literal["float32", "bfloat16"] = "float32"
    recompute: bool = False

    def __post_init__(self) -> None:
        self._check_values()
        for name, low in (("epochs", 1), ("batch_size", 1), ("frozen", 0), ("parts", 1)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < low:
                raise InvalidInputError(f"`{name}` must be an integer of {low} or more, got {value!r}.")
        for name in ("learning_rate", "clip", "architecture_learning_rate"):
            if not getattr(self, name) > 0:
                raise InvalidInputError(f"`{name}` must be above 0, got {getattr(self, name)!r}.")
        for name, known in (("order", (1, 2)), ("gate", RULES), ("precision", ("float32", "bfloat16"))):
            if getattr(self, name) not in known:
                raise InvalidInputError(f"`{name}` must be one of {known}, got {getattr(self, name)!r}.")
        if self.gate == "gumbel" and (self.order == 2 or (self.watch is not None and self.watch.every)):
            raise InvalidInputError(
                "The second order, and the eigenvalue of `watch`, need one function of the logits, but "
                "`gate='gumbel'` draws anew: take order=1, and watch=None or one with every=0."
            )
        if self.zero_one and self.gate != "sigmoid":
            raise InvalidInputError("`zero_one` drives sigmoid gates to 0 or 1: it needs `gate='sigmoid'`.")
        if self.cost_weight and self.cost is None:
            raise InvalidInputError("`cost_weight` needs a `cost`, for example 'macs'.")

    def _check_values(self) -> None:
        """Raise for what is of no use whatever the rest, and make lists tuples and a mapping a `CollapseWatch`."""
        watch: object = self.watch
        if isinstance(watch, Mapping):
            require_known(watch, [f.name for f in fields(CollapseWatch)], "`watch`")
            watch = CollapseWatch(**watch)
            object.__setattr__(self, "watch", watch)
        if watch is not None and not isinstance(watch, CollapseWatch):
            raise InvalidInputError(f"`watch` must be a `CollapseWatch`, its settings, or None, got {watch!r}.")
        for name, low in (("architecture_betas", "of 0 or more"), ("temperature", "above 0")):
            pair = getattr(self, name)
            good = isinstance(pair, (list, tuple)) and len(pair) == 2 and all(map(_is_number, pair))
            if not good or not all(v > 0 or (v == 0 and low != "above 0") for v in pair):
                raise InvalidInputError(f"`{name}` must be two numbers {low}, got {pair!r}.")
            object.__setattr__(self, name, tuple(pair))
        if not _is_number(self.share) or not 0 < self.share < 1:
            raise InvalidInputError(f"`share` must be a number in (0, 1), got {self.share!r}.")
        if not _is_number(self.momentum) or not 0 <= self.momentum < 1:
            raise InvalidInputError(f"`momentum` must be a number in [0, 1), got {self.momentum!r}.")

    @classmethod
    def pc(cls, **changes: Any) -> Self:
        """PC-DARTS with its authors' settings for CIFAR-10.

        Reference:
            Xu et al. (2020), "PC-DARTS", arXiv 1907.05737, section 4.2.
        """
        given = {
            "parts": 4, "edges": True, "frozen": 15, "batch_size": 256, "learning_rate": 0.1,
            "last_learning_rate": 0.0, "architecture_learning_rate": 6e-4,
        }  # fmt: skip
        return cls(**{**given, **changes})

    @classmethod
    def fair(cls, **changes: Any) -> Self:
        """FairDARTS: sigmoid gates and the zero-one loss of weight 10.

        Reference:
            Chu et al. (2020), "Fair DARTS", arXiv 1911.12126, section 4; see the class for what differs.
        """
        return cls(**{"gate": "sigmoid", "zero_one": 10.0, **changes})

    @classmethod
    def gdas(cls, **changes: Any) -> Self:
        """GDAS: one operation drawn an edge, temperature 10 to 0.1, 250 epochs.

        Reference:
            Dong, Yang (2019), arXiv 1910.04465, section 4.1. Differs from the paper: both cells are searched.
        """
        return cls(**{"gate": "gumbel", "epochs": 250, **changes})

    @classmethod
    def minus(cls, **changes: Any) -> Self:
        """DARTS-: a shortcut on every edge that fades out.

        Reference:
            Chu et al. (2021), "DARTS-", arXiv 2009.01027, section 3.2.
        """
        return cls(**{"shortcuts": True, **changes})

    def check(self, space: Space, task: Task) -> None:
        """Raise where the space is no mixture, or has nothing that this variant needs.

        Raises:
            IncompatibleError: says why, and what to change.
        """
        self.prepare(space, task, seed=0)

    def prepare(self, space: Space, task: Task, *, seed: int) -> tuple[Relaxation, Supernet]:
        """The relaxed space of a search, and its supernet.

        Raises:
            IncompatibleError: as `check`.
        """
        relaxation = relax(space, edges=self.edges, parts=self.parts, shortcuts=self.shortcuts)
        if self.edges and not relaxation.groups:
            raise IncompatibleError(
                "`edges` normalises over the inputs that a `subset` chooses among, but this space has no subset: leave "
                "`edges` out."
            )
        try:
            trace(first_closed(relaxation.space.block), task.input_shape, classes=task.classes)
            net = supernet(relaxation.space, task.input_shape, seed=seed, classes=task.classes)
        except ShapeError as error:
            raise IncompatibleError(f"The mixture of this space cannot be made for {task.name!r}: {error}") from error
        relaxation.require_mixed(net.mixed, net.graph)
        return relaxation, net

    def search(self, space: Space, run: Run) -> SearchResult:
        """Search; see `Searcher.search`."""
        return DARTSSearch(self, space, run).complete()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON: "name", and the settings; the `cost` of a latency table whole, a function by its name alone."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        values["watch"] = None if self.watch is None else _watched(self.watch)
        if stored_name(self.cost) is not None:
            values["cost"] = cost_to_json(self.cost)
        elif callable(self.cost):
            values["cost"] = _name_of(self.cost)
        values["architecture_betas"], values["temperature"] = list(self.architecture_betas), list(self.temperature)
        if not self.recompute:
            del values["recompute"]  # settings that came later are left out at their defaults: older studies go on
        return {"name": "darts", **values}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Inverse of `to_dict`; keys that are missing take their defaults.

        Raises:
            InvalidInputError: an unknown key, a value out of range, or a cost that was a function, which is not stored.
        """
        values = dict(data)
        if values.pop("name", "darts") != "darts":
            raise InvalidInputError(f"Settings of DARTS have the name 'darts', got {data['name']!r}.")
        require_known(values, [f.name for f in fields(cls)], "DARTS")
        if isinstance(values.get("cost"), Mapping):
            values["cost"] = cost_from_json(values["cost"])
        elif values.get("cost") not in (None, *get_args(Additive)):
            raise InvalidInputError(
                f"The cost {values['cost']!r} is a function, which is not stored: make `DARTS` anew with the function."
            )
        return cls(**values)

    def facts(self, space: Space) -> dict[str, Any]:
        """What makes a search of a space what it is, as plain JSON: settings, space, and the code of the cost."""
        settings = {name: value for name, value in self.to_dict().items() if name not in self.incidental}
        return settings | {"space": space.fingerprint, "cost_code": _digest_of_cost(self.cost)}


def _watched(watch: CollapseWatch) -> dict[str, Any]:
    """As plain JSON; what came later is left out at its default."""
    values = asdict(watch)
    if watch.weightless == CollapseWatch().weightless:
        del values["weightless"]
    return values


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _name_of(function: OperationCost) -> str:
    named: Any = function if hasattr(function, "__qualname__") else type(function)
    return f"{named.__module__}:{named.__qualname__}"


def _digest_of_cost(cost: object) -> str | None:
    """Of a function's code, defaults and what it closes over; of another callable's `repr` and attributes."""
    if not callable(cost) or stored_name(cost) is not None:  # the settings have all of the latter
        return None
    if hasattr(cost, "__code__"):
        return predicate_digest(cost)
    said = f"{cost!r} {sorted(getattr(cost, '__dict__', {}).items())!r}"
    return hashlib.sha256(re.sub(r" at 0x[0-9a-fA-F]+", "", said).encode()).hexdigest()
