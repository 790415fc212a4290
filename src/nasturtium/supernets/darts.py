"""DARTS: architecture and weights by gradient descent on a mixture of all operations, and what came of it.

Reference:
    Liu, Simonyan, Yang (2019), "DARTS: Differentiable Architecture Search", arXiv 1806.09055.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from nasturtium.errors import IncompatibleError, InvalidInputError, ShapeError
from nasturtium.graph import trace
from nasturtium.model import Supernet, supernet
from nasturtium.model.mix import Gumbel, Sigmoid
from nasturtium.space import Architecture, Choice, Space
from nasturtium.space.lowering import lower
from nasturtium.supernets.alternation import Batch, Moment, Stateful, alternate, cosine, set_rate
from nasturtium.supernets.bilevel import first_order, second_order
from nasturtium.supernets.collapse import CollapseWatch, Curvature, dominant_eigenvalue, identities, identity_options
from nasturtium.supernets.expected import Additive, ExpectedCost, OperationCost
from nasturtium.supernets.mixture_gate import RULES, MixtureGate, Rule
from nasturtium.supernets.relaxation import Relaxation, relax
from nasturtium.supernets.rewriting import first_closed
from nasturtium.supernets.searcher import Found, Run, SearchResult
from nasturtium.supernets.storage import start_from
from nasturtium.tasks import Task
from nasturtium.training import checkpoint, evaluate, resolve_device
from nasturtium.training.evaluation import autocast, check_logits, outputs_of
from nasturtium.training.randomness import derived_seed

AUXILIARY_WEIGHT = 0.4
"""Weight of the loss of each training-only output, as DARTS evaluates with."""


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
        watch: What to watch for; None for nothing.
        precision: "float32", or "bfloat16" by autocast (the step of the architecture too).

    Notes:
        Differs from the paper: the genotype keeps exactly as many edges as the space says with "sigmoid" too, where
        FairDARTS has a threshold of 0.85 and up to 2 a node. Norms have weights if the space says so: let it have none
        (`affine=False`), or the scale of an operation hides behind them. The authors' random crops and mirrored images
        are the task's own augmentation here.

    Reference:
        Liu, Simonyan, Yang (2019), arXiv 1806.09055, algorithm 1 and section 3.1, and the authors' code
        (`train_search.py`); for the variants see `pc`, `fair`, `gdas` and `minus`.
    """

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

    def __post_init__(self) -> None:
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
        return _Search(self, space, run).complete()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON: "name", and the settings; a cost that is a function is given by its name."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        values["watch"] = None if self.watch is None else asdict(self.watch)
        if callable(self.cost):
            values["cost"] = getattr(self.cost, "__qualname__", type(self.cost).__qualname__)
        values["architecture_betas"], values["temperature"] = list(self.architecture_betas), list(self.temperature)
        return {"name": "darts", **values}


class _Search:
    """One search in progress."""

    def __init__(self, method: DARTS, space: Space, run: Run) -> None:
        self.method, self.space, self.run = method, space, run
        self.device = resolve_device(run.device)
        self.relaxation, self.net = method.prepare(space, run.task, seed=derived_seed(run.seed, 1))
        start_from(self.net, run.initial)
        mixed = self.net.mixed
        seed = derived_seed(run.seed, 2)
        self.gate = MixtureGate(self.relaxation, mixed, rule=method.gate, edges=method.edges, seed=seed)
        self.net.to(self.device)
        self.gate.to(self.device)
        self.net.mix(self.gate)
        self.weights: list[nn.Parameter] = [p for n, p in self.net.named_parameters() if not n.startswith("gate.")]
        self.logits: list[nn.Parameter] = list(self.gate.parameters())
        self.sgd = torch.optim.SGD(
            self.weights, lr=method.learning_rate, momentum=method.momentum, weight_decay=method.weight_decay
        )
        self.adam = torch.optim.Adam(
            self.logits, lr=method.architecture_learning_rate, betas=method.architecture_betas,
            weight_decay=method.architecture_decay,
        )  # fmt: skip
        self.curvature = Curvature(method.watch or CollapseWatch(every=0))
        self.cost: ExpectedCost | None = None
        if method.cost is not None:
            graph = lower(space, run.task.input_shape, classes=run.task.classes)
            self.cost = ExpectedCost(graph, method.cost)
        original = {name: own for own, name in self.relaxation.names.items()}
        options = identity_options(self.net.graph)
        self.identities = {original[name]: found for name, found in options.items() if name in original}

    def complete(self) -> SearchResult:
        method, run = self.method, self.run
        parts: dict[str, Stateful] = {
            "supernet": self.net, "gate": self.gate, "weights": self.sgd, "architecture": self.adam,
            "curvature": self.curvature,
        }  # fmt: skip
        done = alternate(
            self.step, parts, run.task, epochs=method.epochs, batch=method.batch_size, seed=run.seed,
            facts=method.to_dict(), device=self.device, directory=run.directory, share=method.share,
            layout=torch.channels_last, after_epoch=self.after_epoch, stop=self.stop, report=run.report,
        )  # fmt: skip
        self.net.eval()
        accuracy = evaluate(self.net, run.task, "validation", device=self.device).accuracy
        result = SearchResult(
            found=self.found(accuracy, stopped=done.stopped), history=done.history, seconds=done.seconds,
            steps=done.steps, notes=self.notes(stopped=done.stopped),
            state={n: t.detach().cpu() for n, t in self.net.state_dict().items() if not n.startswith("gate.")},
        )  # fmt: skip
        if run.directory is not None:
            checkpoint.remove(run.directory)
        return result

    # Training

    def step(self, batch: Batch, second: Iterator[Batch], moment: Moment) -> Mapping[str, Tensor | float]:
        method = self.method
        rate = cosine(moment.epoch / moment.epochs, method.learning_rate, method.last_learning_rate)
        set_rate(self.sgd, rate)
        first, last = method.temperature
        if isinstance(self.gate.operations, Gumbel):
            self.gate.operations.temperature = first + (last - first) * moment.progress
        self.gate.coefficient = 1.0 - moment.progress if method.shortcuts else 0.0
        record: dict[str, Tensor | float] = {"learning_rate": rate}
        if moment.epoch >= method.frozen:
            record["architecture_loss"] = self._architecture_step(batch, next(second), rate)
        self.gate.requires_grad_(False)  # else what gates draw would ask for their gradients
        loss = self.cross_entropy(*batch)
        gradients = torch.autograd.grad(loss, self.weights, allow_unused=True)
        self.gate.requires_grad_(True)
        for weight, gradient in zip(self.weights, gradients, strict=True):
            weight.grad = gradient
        nn.utils.clip_grad_norm_(self.weights, method.clip)
        self.sgd.step()
        return {**record, "loss": loss}

    def _architecture_step(self, batch: Batch, second: Batch, rate: float) -> Tensor:
        def valid() -> Tensor:
            return self.cross_entropy(*second) + self.penalty()

        if self.method.order == 1:
            loss, gradients = first_order(valid, self.logits)
        else:
            buffers = [self.sgd.state[w].get("momentum_buffer") if w in self.sgd.state else None for w in self.weights]
            loss, gradients = second_order(
                lambda: self.cross_entropy(*batch), valid, self.weights, self.logits, rate=rate,
                momentum=self.method.momentum, buffers=buffers, weight_decay=self.method.weight_decay,
            )  # fmt: skip
        for logits, gradient in zip(self.logits, gradients, strict=True):
            logits.grad = gradient
        self.adam.step()
        return loss

    def cross_entropy(self, x: Tensor, y: Tensor) -> Tensor:
        with autocast(self.method.precision, self.device):
            logits, auxiliary = outputs_of(self.net(x))
            check_logits(logits, self.run.task)
            loss = functional.cross_entropy(logits, y)
            for extra in auxiliary:
                loss = loss + AUXILIARY_WEIGHT * functional.cross_entropy(extra, y)
        return loss

    def penalty(self) -> Tensor:
        """What is added to the validation loss, a function of the logits alone."""
        total = torch.zeros((), device=self.device)
        if isinstance(self.gate.operations, Sigmoid) and self.method.zero_one:
            total = total + self.gate.operations.zero_one_loss(self.method.zero_one)
        if self.cost is not None and self.method.cost_weight:
            total = total + self.method.cost_weight * self.expected_cost(self.cost)
        return total

    def expected_cost(self, cost: ExpectedCost) -> Tensor:
        return cost(self.relaxation.distribution(self.gate.probabilities()))

    # Looking

    def after_epoch(self, second: Iterator[Batch], moment: Moment) -> dict[str, float]:
        architecture = self.architecture()
        record = {"entropy": self.gate.entropy()}
        if self.cost is not None:
            with torch.no_grad():
                record["expected_cost"] = float(self.expected_cost(self.cost))
        for part, (count, _) in identities(architecture, self.identities).items():
            record[f"identities_{part}"] = float(count)
        epoch = moment.epoch + 1
        if self.curvature.is_due(epoch):
            watch = self.curvature.watch
            batches = list(itertools.islice(second, watch.batches))
            self.net.mix(self.gate, optimize=False)  # the optimised program has first derivatives only
            value = dominant_eigenvalue(
                lambda: torch.stack([self.cross_entropy(*b) for b in batches]).mean(), self.logits,
                iterations=watch.iterations, seed=moment.seed,
            )  # fmt: skip
            self.net.mix(self.gate)
            self.curvature.add(epoch, value, architecture)
            record["eigenvalue"] = value
        return record

    def stop(self, _history: object) -> bool:
        return self.curvature.watch.stop and self.curvature.collapse() is not None

    @torch.no_grad()
    def architecture(self) -> Architecture:
        return self.relaxation.decode({n: p.cpu() for n, p in self.gate.probabilities().items()})

    @torch.no_grad()
    def found(self, accuracy: float, *, stopped: bool) -> tuple[Found, ...]:
        evidence = {"mixture_accuracy": accuracy, "entropy": self.gate.entropy()}
        if self.cost is not None:
            evidence["expected_cost"] = float(self.expected_cost(self.cost))
        last = Found(architecture=self.architecture(), evidence=evidence)
        collapse = self.curvature.collapse() if stopped else None
        if collapse is None:
            return (last,)
        decisions: dict[str | Choice, object] = dict(collapse.decisions.items())
        earlier = self.space.architecture(decisions, indices=True)
        return Found(architecture=earlier, evidence={"epoch": float(collapse.epoch)}), last

    def notes(self, *, stopped: bool) -> tuple[str, ...]:
        """Sentences on collapse."""
        notes = []
        collapse = self.curvature.collapse()
        if collapse is not None:
            done = f"stopped, with the architecture of epoch {collapse.epoch}" if stopped else "went on"
            notes.append(
                f"The dominant eigenvalue of the validation loss rose {collapse.ratio:.2f} times: DARTS begins to "
                f"collapse. The search {done}."
            )
        for part, (count, of) in identities(self.architecture(), self.identities).items():
            if of and count >= self.curvature.watch.identities * of:
                notes.append(
                    f"{count} of {of} operations of the part {part!r} are identities: a sign of collapse. Compare with "
                    "an earlier epoch, fewer epochs, or `DARTS.pc`, `DARTS.fair` or `DARTS.minus`."
                )
        return tuple(notes)
