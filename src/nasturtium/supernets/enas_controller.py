"""ENAS' controller: a policy that emits architectures and learns from how they do with shared weights."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from random import Random
from typing import Any

import torch
from torch import Tensor

from nasturtium.errors import IncompatibleError, InvalidInputError
from nasturtium.space import Architecture, Space
from nasturtium.strategies.learned.controller_policy import Policy, Scores
from nasturtium.strategies.learned.controller_tokens import Sentence, Tokens

REFUSED = 200
"""Sequences in a row that the space's own conditions may refuse, before one is drawn from the space."""
BETAS = (0.0, 0.999)
EPSILON = 1e-3
"""Of Adam in the authors' code (`src/utils.py`): no momentum, and a large epsilon."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Skips:
    """Which decisions are skip connections, and how many of them are wanted.

    Args:
        pattern: Of the decisions' names, as of file names: "layer_*_skip_*". Such a decision has two options, of which
            the second is the connection. Those whose names differ in the last number only are one layer's.
        target: Wanted share of connections, in (0, 1).
        weight: Of the penalty, 0 or more.
    """

    pattern: str
    target: float = 0.4
    weight: float = 0.8

    def __post_init__(self) -> None:
        if not 0.0 < self.target < 1.0:
            raise InvalidInputError(f"`target` of the skips must be in (0, 1), got {self.target!r}.")
        if not self.weight >= 0.0:
            raise InvalidInputError(f"`weight` of the skips must be 0 or more, got {self.weight!r}.")

    def slots(self, tokens: Tokens) -> dict[int, str]:
        """The token of each skip decision, and the layer that it is of.

        Raises:
            IncompatibleError: no decision's name fits the pattern, or one has other than two options.
        """
        found: dict[int, str] = {}
        for name, first in zip(tokens.names, tokens.first_slot, strict=True):
            if not fnmatch.fnmatchcase(name, self.pattern):
                continue
            if tokens.widths[first] != 2:
                raise IncompatibleError(
                    f"A skip is a decision of two options, the second of which connects; {name!r} fits the pattern "
                    f"{self.pattern!r} and has {tokens.widths[first]}. Narrow `pattern`."
                )
            found[first] = re.sub(r"\d+$", "", name)
        if not found:
            raise IncompatibleError(
                f"No decision's name fits the pattern of skips, {self.pattern!r}. The space's decisions are "
                f"{', '.join(tokens.names[:6])} …: change the pattern, or leave `skips` out."
            )
        return found


def skip_penalty(
    scores: Scores, sentences: Sequence[Sentence], slots: dict[int, str], target: float
) -> tuple[Tensor, float]:
    """How far the policy's skip probabilities are from the wanted one, and the share of skips that were drawn.

    The mean, over layers and sequences, of the sum over a layer's skips of `KL(p || target)`, in nats.

    Args:
        scores: Of the sentences.
        sentences: Sequences of tokens.
        slots: Of `Skips.slots`.
        target: Wanted probability.

    Returns:
        The penalty, differentiable in the policy's weights; and the share, NaN where no skip was drawn.
    """
    place: list[tuple[int, int]] = []
    connected: list[bool] = []
    layers: set[tuple[int, str]] = set()
    for row, sentence in enumerate(sentences):
        for step, (slot, value) in enumerate(zip(sentence.slots, sentence.values, strict=True)):
            if slot in slots:
                place.append((row, step))
                connected.append(value == 1)
                layers.add((row, slots[slot]))
    if not place:
        return scores.log_probabilities.new_zeros(()), float("nan")
    rows, steps = torch.tensor(place).T
    chosen = scores.log_probabilities[rows, steps].exp()
    p = torch.where(torch.tensor(connected), chosen, 1.0 - chosen).clamp(1e-6, 1.0 - 1e-6)
    divergence = p * (p / target).log() + (1.0 - p) * ((1.0 - p) / (1.0 - target)).log()
    return divergence.sum() / len(layers), sum(connected) / len(connected)


@dataclass(frozen=True, slots=True, kw_only=True)
class Teaching:
    """How the controller learns; the defaults are those of the authors' micro search.

    Args:
        learning_rate: Of Adam (betas 0 and 0.999, epsilon 1e-3, as in the code).
        hidden: Units of an LSTM layer, and length of the embeddings.
        layers: LSTM layers.
        temperature: Divides the logits; the scripts leave them.
        tanh_constant: c of `c * tanh(logit / temperature)`; None leaves the logits unbounded.
        entropy: Weight of a sequence's entropy (nats, summed over its tokens), which is added to its reward.
        baseline_decay: d of the moving average `b <- d b + (1 - d) R`, which begins at 0.
        skips: Skip connections whose number is held; None for none.
    """

    learning_rate: float = 0.0035
    hidden: int = 64
    layers: int = 1
    temperature: float = 1.0
    tanh_constant: float | None = 1.10
    entropy: float = 1e-4
    baseline_decay: float = 0.99
    skips: Skips | None = None

    def __post_init__(self) -> None:
        for name in ("learning_rate", "temperature"):
            if not getattr(self, name) > 0.0:
                raise InvalidInputError(f"`{name}` must be above 0, got {getattr(self, name)!r}.")
        for name in ("hidden", "layers"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise InvalidInputError(f"`{name}` must be an integer of 1 or more, got {value!r}.")
        if self.tanh_constant is not None and not self.tanh_constant > 0.0:
            raise InvalidInputError(f"`tanh_constant` must be above 0, or None, got {self.tanh_constant!r}.")
        if not self.entropy >= 0.0:
            raise InvalidInputError(f"`entropy` must be 0 or more, got {self.entropy!r}.")
        if not 0.0 <= self.baseline_decay < 1.0:
            raise InvalidInputError(f"`baseline_decay` must be in [0, 1), got {self.baseline_decay!r}.")


class SharedController:
    """A policy over a space's architectures, its baseline and its optimiser.

    Args:
        space: Whose decisions it emits.
        teaching: How it learns.
        seed: Of its initial weights.

    Raises:
        IncompatibleError: the skips are not the space's.
    """

    def __init__(self, space: Space, teaching: Teaching, seed: int) -> None:
        self.space, self.teaching = space, teaching
        self.tokens = Tokens(space)
        self.policy = Policy(
            self.tokens, hidden=teaching.hidden, layers=teaching.layers, seed=seed, temperature=teaching.temperature,
            tanh_constant=teaching.tanh_constant,
        )  # fmt: skip
        self.optimizer = torch.optim.Adam(
            self.policy.parameters, lr=teaching.learning_rate, betas=BETAS, eps=EPSILON, maximize=True
        )
        self.slots = {} if teaching.skips is None else teaching.skips.slots(self.tokens)
        self.baseline = 0.0

    def draw(self, rng: Random, count: int) -> list[Architecture]:
        """Draw architectures.

        Args:
            rng: Generator.
            count: How many.
        """
        found: list[Architecture] = []
        refused = 0
        while len(found) < count:
            drawn = [self.tokens.read(e.indices) for e in self.policy.draw(rng, count - len(found))]
            allowed = [a for a in drawn if a is not None]
            refused = 0 if allowed else refused + len(drawn)
            if refused >= REFUSED:
                allowed = [self.space.sample(rng)]
            found += allowed
        return found

    def learn(self, architectures: Sequence[Architecture], accuracies: Sequence[float]) -> dict[str, float]:
        """Take one step by REINFORCE: ascend `(1/m) sum_k (R_k - b) log p(a_k)`, less the penalty of skips.

        `R_k` is the accuracy and the weighted entropy; `b` is updated by each reward in turn before it is subtracted,
        as in the authors' code.

        Args:
            architectures: Drawn by this policy as it is, m.
            accuracies: Of each, in [0, 1].

        Returns:
            "reward", "accuracy", "entropy" (means), "baseline" (after the step), and with skips "skip_rate".
        """
        sentences = [self.tokens.write(a) for a in architectures]
        with torch.enable_grad():
            scores = self.policy.score(sentences)
            entropies = scores.entropies.detach().sum(1).tolist()
            rewards = [a + self.teaching.entropy * e for a, e in zip(accuracies, entropies, strict=True)]
            advantages = self._advantages(rewards)
            objective = (scores.log_probabilities.sum(1) * torch.tensor(advantages)).mean()
            record = {
                "reward": sum(rewards) / len(rewards), "accuracy": sum(accuracies) / len(accuracies),
                "entropy": sum(entropies) / len(entropies), "baseline": self.baseline,
            }  # fmt: skip
            if self.teaching.skips is not None:
                penalty, record["skip_rate"] = skip_penalty(scores, sentences, self.slots, self.teaching.skips.target)
                objective = objective - self.teaching.skips.weight * penalty
            self.optimizer.zero_grad(set_to_none=True)
            objective.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return record

    def _advantages(self, rewards: Sequence[float]) -> list[float]:
        decay = self.teaching.baseline_decay
        found = []
        for reward in rewards:
            self.baseline -= (1.0 - decay) * (self.baseline - reward)
            found.append(reward - self.baseline)
        return found

    def log_probabilities(self, architectures: Sequence[Architecture]) -> list[float]:
        """Logarithm of the probability with which the policy emits each."""
        with torch.no_grad():
            scores = self.policy.score([self.tokens.write(a) for a in architectures])
        found: list[float] = scores.log_probabilities.sum(1).tolist()
        return found

    def state_dict(self) -> dict[str, Any]:
        """All that changes, for a checkpoint."""
        return {
            "policy": [p.detach().clone() for p in self.policy.parameters],
            "optimizer": deepcopy(self.optimizer.state_dict()),
            "baseline": self.baseline,
        }

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any], /) -> None:
        """Put back what `state_dict` gave."""
        for parameter, value in zip(self.policy.parameters, state["policy"], strict=True):
            parameter.copy_(value)  # in place: the policy draws from the same memory
        self.optimizer.load_state_dict(state["optimizer"])
        self.baseline = float(state["baseline"])
