"""One search by DARTS in progress."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from nasturtium.model.mix import Gumbel, Sigmoid
from nasturtium.space import Architecture, Choice, Space
from nasturtium.space.lowering import lower
from nasturtium.supernets.alternation import Batch, Moment, Stateful, alternate, cosine, set_rate
from nasturtium.supernets.bilevel import first_order, second_order
from nasturtium.supernets.collapse import (
    CollapseWatch,
    Curvature,
    dominant_eigenvalue,
    identities,
    identity_options,
    weightless_options,
)
from nasturtium.supernets.expected import ExpectedCost
from nasturtium.supernets.mixture_gate import MixtureGate
from nasturtium.supernets.path_step import batch_statistics
from nasturtium.supernets.searcher import Found, Run, SearchResult
from nasturtium.supernets.storage import start_from
from nasturtium.supernets.updates import classification_loss
from nasturtium.training import evaluate, resolve_device
from nasturtium.training.evaluation import autocast
from nasturtium.training.randomness import derived_seed

if TYPE_CHECKING:
    from nasturtium.supernets.darts import DARTS

AUXILIARY_WEIGHT = 0.4
"""Weight of the loss of each training-only output, as DARTS evaluates with."""


class DARTSSearch:
    """A search; its supernet, gate, optimisers and measurements are what a checkpoint holds.

    Args:
        method: The settings.
        space: That is searched.
        run: Task, seed, device, folder.
    """

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
        self.net.mix(self.gate, recompute=method.recompute)
        self.parted = run.parted(self.device, self.gate)
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
        options = {"identities": identity_options(self.net.graph), "weightless": weightless_options(self.net.graph)}
        self.signs = {
            kind: {original[name]: chosen for name, chosen in found.items() if name in original}
            for kind, found in options.items()
        }

    def complete(self) -> SearchResult:
        method, run = self.method, self.run
        parts: dict[str, Stateful] = {
            "supernet": self.net, "gate": self.gate, "weights": self.sgd, "architecture": self.adam,
            "curvature": self.curvature,
        }  # fmt: skip
        done = alternate(
            self.step, parts, run.task, epochs=method.epochs, batch=method.batch_size, seed=run.seed,
            facts=method.facts(self.space), device=self.device, directory=run.directory, share=method.share,
            layout=torch.channels_last, after_epoch=self.after_epoch, stop=self.stop, report=run.report,
            parted=self.parted,
        )  # fmt: skip
        self.move_to(len(done.history) / method.epochs)  # no step did where all epochs came from the checkpoint
        self.net.eval()
        accuracy = evaluate(self.net, run.task, "validation", device=self.device).accuracy
        return SearchResult(
            found=self.found(accuracy, stopped=done.stopped), history=done.history, seconds=done.seconds,
            steps=done.steps, notes=self.notes(stopped=done.stopped),
            state={n: t.detach().cpu() for n, t in self.net.state_dict().items() if not n.startswith("gate.")},
        )  # fmt: skip

    # Training

    def move_to(self, progress: float) -> None:
        """Set what changes in the course of the search, when a share of it, in [0, 1], is done."""
        first, last = self.method.temperature
        if isinstance(self.gate.operations, Gumbel):
            self.gate.operations.temperature = first + (last - first) * progress
        self.gate.coefficient = 1.0 - progress if self.method.shortcuts else 0.0

    def step(self, batch: Batch, second: Iterator[Batch], moment: Moment) -> Mapping[str, Tensor | float]:
        method = self.method
        rate = cosine(moment.epoch / moment.epochs, method.learning_rate, method.last_learning_rate)
        set_rate(self.sgd, rate)
        self.move_to(moment.progress)
        record: dict[str, Tensor | float] = {"learning_rate": rate}
        if moment.epoch >= method.frozen:
            record["architecture_loss"] = self._architecture_step(batch, next(second), rate, moment.seed)
        self.gate.requires_grad_(False)  # else what gates draw would ask for their gradients
        loss, gradients = self.parted.team.gradients(self._losses(batch, moment.seed, 1), self.weights)
        self.gate.requires_grad_(True)
        for weight, gradient in zip(self.weights, gradients, strict=True):
            weight.grad = gradient
        nn.utils.clip_grad_norm_(self.weights, method.clip)
        self.sgd.step()
        return {**record, "loss": loss}

    def _losses(self, batch: Batch, *seed: int) -> Iterator[Tensor]:
        """Of this process's parts of a batch, each times its share."""
        for x, y, share in self.parted.own(batch, *seed):
            yield share * self.cross_entropy(x, y)

    def _architecture_step(self, batch: Batch, second: Batch, rate: float, seed: int) -> Tensor:
        def valid() -> Iterator[Tensor]:
            for x, y, share in self.parted.own(second, seed, 2):
                with self.net.recomputing(active=self.method.order == 2):
                    loss = share * (self.cross_entropy(x, y) + self.penalty())
                yield loss

        team = self.parted.team
        if self.method.order == 1:
            loss, gradients = first_order(valid, self.logits, team=team)
        else:
            buffers = [self.sgd.state[w].get("momentum_buffer") if w in self.sgd.state else None for w in self.weights]
            loss, gradients = second_order(
                lambda: self._losses(batch, seed, 1), valid, self.weights, self.logits, rate=rate,
                momentum=self.method.momentum, buffers=buffers, weight_decay=self.method.weight_decay, team=team,
            )  # fmt: skip
        for logits, gradient in zip(self.logits, gradients, strict=True):
            logits.grad = gradient
        self.adam.step()
        return loss

    def cross_entropy(self, x: Tensor, y: Tensor) -> Tensor:
        with autocast(self.method.precision, self.device):
            return classification_loss(self.net(x), y, self.run.task, smoothing=0.0, auxiliary_weight=AUXILIARY_WEIGHT)[
                1
            ]

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
        self.move_to(moment.progress)
        architecture = self.architecture()
        record = {"entropy": self.gate.entropy()}
        if self.cost is not None:
            with torch.no_grad():
                record["expected_cost"] = float(self.expected_cost(self.cost))
        for kind, options in self.signs.items():
            for part, (count, _) in identities(architecture, options).items():
                record[f"{kind}_{part}"] = float(count)
        epoch = moment.epoch + 1
        if self.curvature.is_due(epoch):
            watch = self.curvature.watch
            batches = list(itertools.islice(second, watch.batches))
            self.net.mix(self.gate, optimize=False)  # the optimised program has first derivatives only
            with batch_statistics(self.net):  # the search goes on as it does without a watch
                value = dominant_eigenvalue(
                    lambda: torch.stack([self.cross_entropy(*b) for b in batches]).mean(), self.logits,
                    iterations=watch.iterations, seed=moment.seed,
                )  # fmt: skip
            self.net.mix(self.gate, recompute=self.method.recompute)
            value = self.parted.team.of_first(lambda: value)  # all stop, or none
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
                f"The dominant eigenvalue of the validation loss rose {collapse.ratio:.2f} times from "
                f"about epoch {collapse.epoch} to epoch {collapse.seen}: DARTS begins to collapse. The search {done}."
            )
        watch, architecture = self.curvature.watch, self.architecture()
        for kind, share, words in (
            ("identities", watch.identities, "are identities"), ("weightless", watch.weightless, "have no weights"),
        ):  # fmt: skip
            for part, (count, of) in identities(architecture, self.signs[kind]).items():
                if of and count >= share * of:
                    notes.append(
                        f"{count} of {of} operations of the part {part!r} {words}: a sign of collapse. Compare with an "
                        "earlier epoch, fewer epochs, or `DARTS.pc`, `DARTS.fair` or `DARTS.minus`."
                    )
        return tuple(notes)
