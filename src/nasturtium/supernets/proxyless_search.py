"""One search by ProxylessNAS in progress."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from nasturtium.model.binary import Binary
from nasturtium.space import Architecture, Space
from nasturtium.supernets.alternation import Batch, Moment, alternate, cosine
from nasturtium.supernets.calibration import calibration_batches
from nasturtium.supernets.path_step import PathStep, batch_statistics
from nasturtium.supernets.proxyless_cost import reinforce_loss, reward
from nasturtium.supernets.proxyless_gate import PrunedBinary
from nasturtium.supernets.searcher import Found, Run, SearchResult
from nasturtium.supernets.single_path import measure
from nasturtium.supernets.storage import start_from
from nasturtium.supernets.updates import layout_of
from nasturtium.training import resolve_device
from nasturtium.training.randomness import derived_seed

if TYPE_CHECKING:
    from nasturtium.supernets.proxyless import ProxylessNAS

BETAS = (0.0, 0.999)
"""Of the logits' Adam in the authors' script."""
UNDECIDED = 0.5
"""A mean probability of the derived branches below which a note says that the search has not decided."""


class ProxylessSearch:
    """A search; its supernet, gate, optimisers and baseline are what a checkpoint holds.

    Args:
        method: The settings.
        space: That is searched.
        run: The circumstances.
    """

    def __init__(self, method: ProxylessNAS, space: Space, run: Run) -> None:
        self.method, self.run = method, run
        self.device = resolve_device(run.device)
        self.branching, self.supernet = method.prepare(space, run.task, seed=derived_seed(run.seed, 2))
        start_from(self.supernet, run.initial)
        self.supernet.to(self.device)
        counts = {name: n for name, n in self.supernet.mixed.items() if n > 1}
        binary = Binary(counts, paths=method.paths, seed=derived_seed(run.seed, 1)).to(self.device)
        self.gate = PrunedBinary(binary)
        self.gate.requires_grad_(False)
        self.supernet.mix(self.gate, list(counts))
        self.batch = method.recipe.batch_for(len(run.task.split("train")))
        self.parted = run.parted(self.device, self.gate)
        self.train = PathStep(self.supernet, method.recipe, self.batch, run.task, self.device, self.parted)
        self.logits = list(binary.logits)
        self.optimizer = torch.optim.Adam(self.logits, lr=method.learning_rate, betas=BETAS)
        self.expected = method.expected(self.supernet.graph)
        self.baseline = Baseline(method.baseline, method.baseline_decay)

    def complete(self) -> SearchResult:
        """Train, then derive."""
        method, run = self.method, self.run
        facts: dict[str, object] = {"method": method.facts(), "space": self.branching.original.fingerprint}
        if self.expected is not None:
            facts["cost"] = float(self.expected(self.probabilities()))
        alternated = alternate(
            self.step,
            {
                "supernet": self.supernet, "gate": self.gate, "weights": self.train.optimizer,
                "logits": self.optimizer, "baseline": self.baseline,
            },
            run.task,
            epochs=method.warmup + method.epochs,
            batch=self.batch,
            seed=run.seed,
            facts=facts,
            device=self.device,
            directory=run.directory,
            share=method.share,
            augmentation=method.recipe.augmentation(run.task.augmentation),
            layout=layout_of(self.supernet.graph, method.recipe.memory_format, self.device),
            after_epoch=self.end_epoch,
            report=run.report,
            parted=self.parted,
        )  # fmt: skip
        begin = time.perf_counter()
        found, notes = self.derive()
        seconds = alternated.seconds + time.perf_counter() - begin
        return SearchResult(
            found=(found,), history=alternated.history, seconds=seconds, steps=alternated.steps, notes=notes,
            state={k: v.detach().clone() for k, v in self.supernet.state_dict().items()},
        )  # fmt: skip

    # Training

    def rate(self, epoch: float) -> float:
        """Learning rate of the weights after so many epochs, those of the warm-up included."""
        method = self.method
        if epoch < method.warmup:
            return cosine(epoch / method.warmup, method.warmup_learning_rate)
        return cosine((epoch - method.warmup) / method.epochs, method.recipe.peak_learning_rate(self.batch))

    def step(self, batch: Batch, held_out: Iterator[Batch], moment: Moment) -> Mapping[str, Tensor | float]:
        """A step of the weights on a drawn path; after every so many, one of the logits."""
        rate = self.rate(moment.epoch + moment.step / moment.steps)
        loss, accuracy = self.train(*batch, rate, moment.seed)
        record: dict[str, Tensor | float] = {"loss": loss, "train_accuracy": accuracy, "learning_rate": rate}
        frozen = moment.epoch < self.method.warmup + 1
        if not frozen and (moment.step + 1) % self.method.every == 0:
            if self.method.variant == "gradient":
                record |= self.learn_by_gradient(next(held_out), moment.seed)
            else:
                record |= self.learn_by_reward(next(held_out))
        return record

    def learn_by_gradient(self, batch: Batch, seed: int) -> Mapping[str, Tensor | float]:
        """A step of the logits against the gradient of the loss and the expected cost."""
        with self.gate.learning(on=True):
            loss, gradients = self.parted.team.gradients(self._losses(batch, seed), self.logits)
        for logits, gradient in zip(self.logits, gradients, strict=True):
            logits.grad = gradient
        self.optimizer.step()
        self.gate.binary.rescale()
        return {"architecture_loss": loss}

    def _losses(self, batch: Batch, seed: int) -> Iterator[Tensor]:
        """Of this process's parts of a batch, with what is paid for the expected cost, each times its share."""
        method = self.method
        for x, y, share in self.parted.own(batch, seed, 2):
            _, loss = self.train.loss(x, y)
            if self.expected is not None:
                assert method.reference is not None
                cost = self.expected({name: self.gate.last_probabilities(name) for name in self.gate.counts})
                loss = method.penalty(loss, cost.to(loss), method.reference, method.unit)  # linear in the first
            yield share * loss

    def learn_by_reward(self, batch: Batch) -> Mapping[str, Tensor | float]:
        """A step of the logits by REINFORCE; the processes share out the paths, each of which sees the whole batch."""
        counts = self.gate.counts
        rewards, paths = [], []
        with batch_statistics(self.supernet):
            self.gate.train()
            self.supernet.mix(None)
            drawn = [
                self.architecture({name: self.gate.weights(name, count).index for name, count in counts.items()})
                for _ in range(self.method.samples)
            ]

            def accuracy(path: Architecture) -> float:
                self.supernet.set(path)
                return self.train.accuracy(*batch)

            accuracies = self.parted.team.shared_out(partial(accuracy, path) for path in drawn)
            for path, right in zip(drawn, accuracies, strict=True):
                cost = None if self.expected is None else float(self.expected(self.one_hot(path.decisions)))
                rewards.append(reward(right, cost, self.method.reference, self.method.exponent))
                paths.append({name: index for name, index in path.decisions.items() if name in counts})
        self.supernet.mix(self.gate, list(counts))
        self.baseline.update(sum(rewards) / len(rewards))
        with self.gate.learning(on=True):
            loss = reinforce_loss(torch.stack([self.log_probability(p) for p in paths]), rewards, self.baseline.value)
            gradients = torch.autograd.grad(loss, self.logits, allow_unused=True)
        for logits, gradient in zip(self.logits, gradients, strict=True):
            logits.grad = gradient
        self.optimizer.step()
        return {
            "reward": sum(rewards) / len(rewards), "accuracy": sum(accuracies) / len(accuracies),
            "baseline": self.baseline.value,
        }  # fmt: skip

    def end_epoch(self, held_out: Iterator[Batch], moment: Moment) -> Mapping[str, float]:
        """Prune, and say where the gates stand."""
        del held_out
        if self.method.prune and moment.epoch >= self.method.warmup + 1:
            self.gate.prune(self.method.prune)
        record = {
            "entropy": self.gate.entropy(),
            "pruned": float(sum(count - len(self.gate.alive(name)) for name, count in self.gate.counts.items())),
        }
        if self.expected is not None:
            record["expected_cost"] = float(self.expected(self.probabilities()))
        return record

    # Probabilities

    @torch.no_grad()
    def probabilities(self) -> dict[str, Tensor]:
        """Of each decision's branches."""
        return {name: self.gate.probabilities(name) for name in self.gate.counts}

    def one_hot(self, decided: Mapping[str, int]) -> dict[str, Tensor]:
        """Probabilities that say one path; of decisions that it does not reach, the first branch."""
        found = {}
        for name, count in self.gate.counts.items():
            found[name] = torch.zeros(count, device=self.device)
            found[name][decided.get(name, 0)] = 1.0
        return found

    def log_probability(self, path: Mapping[str, int]) -> Tensor:
        """Logarithm of the probability of a path: summed over the decisions that it reaches."""
        logits = self.gate.binary.logits
        terms = [torch.log_softmax(logits[name], 0)[index] for name, index in path.items()]
        return torch.stack(terms).sum() if terms else logits[next(iter(self.gate.counts))].sum() * 0.0

    def architecture(self, decided: Mapping[str, int]) -> Architecture:
        """The architecture of the space of branches with these branches."""
        everything = {d.name: 0 for d in self.branching.space.decisions} | dict(decided)
        found = self.branching.space.settle(everything)
        assert found is not None, "a space with conditions was branched"
        return found

    # Deriving

    def derive(self) -> tuple[Found, tuple[str, ...]]:
        """The network of the most probable branches, with what speaks for it, and notes."""
        path = self.architecture(self.gate.likeliest())
        self.supernet.mix(None)
        seed = derived_seed(self.run.seed, 3)
        batches = calibration_batches(self.run.task, seed=seed, device=self.device)
        evaluation = measure(self.supernet, path, self.run.task, batches=batches)
        chances = self.probabilities()
        chosen = [float(chances[name][index]) for name, index in path.decisions.items() if name in chances]
        evidence = {
            "shared_accuracy": evaluation.accuracy, "shared_loss": evaluation.loss,
            "probability": math.prod(chosen), "entropy": self.gate.entropy(),
        }  # fmt: skip
        if self.expected is not None:
            name = self.method.cost if isinstance(self.method.cost, str) else "cost"
            evidence[f"expected_{name}"] = float(self.expected(chances))
            evidence[name] = float(self.expected(self.one_hot(path.decisions)))
        notes = []
        mean = sum(chosen) / len(chosen) if chosen else 1.0
        if mean < UNDECIDED:
            notes.append(
                f"The search has not decided: the derived network's branches have a mean probability of {mean:.2f}. "
                "More epochs, or a higher learning rate of the logits, would tell them apart."
            )
        return Found(architecture=self.branching.decode(path), evidence=evidence), tuple(notes)


class Baseline:
    """What is subtracted from REINFORCE's rewards; begins at the first mean.

    Args:
        rule: "code" or "average"; see `ProxylessNAS`.
        decay: d.
    """

    def __init__(self, rule: str, decay: float) -> None:
        self.step = decay if rule == "code" else 1.0 - decay
        self.known = False
        self.value = 0.0

    def update(self, mean: float) -> None:
        """Take the mean reward of a batch."""
        self.value = self.value + self.step * (mean - self.value) if self.known else mean
        self.known = True

    def state_dict(self) -> dict[str, Any]:
        """Its value."""
        return {"value": self.value, "known": self.known}

    def load_state_dict(self, state: Mapping[str, Any], /) -> None:
        """Inverse of `state_dict`."""
        self.value, self.known = float(state["value"]), bool(state["known"])
