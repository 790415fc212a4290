"""The controller's network: an LSTM with a softmax for each token.

Sequences are drawn with numpy, step by step and without autograd's overhead, from the weights' own memory; they are
scored for learning with torch, all steps at once. A test holds the two together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nasturtium.strategies.learned.controller_tokens import Emission, Sentence, Tokens

Floats = npt.NDArray[np.floating[Any]]

INIT = 0.08
"""Weights begin uniform in [-0.08, 0.08] (Zoph and Le 2017, section 4.1)."""


@dataclass(frozen=True, slots=True)
class Scores:
    """What a policy says of sequences.

    Attributes:
        log_probabilities: `(sequence, step)`, of each token given those before it; 0 beyond a sequence's end.
        entropies: `(sequence, step)`, of the distribution that it was drawn from, in nats; 0 beyond the end.
    """

    log_probabilities: Tensor
    entropies: Tensor


class Policy:
    """An LSTM whose input is the embedding of the last token, and which has a head for each kind of token.

    Args:
        tokens: Of the space.
        hidden: Units of a layer, and length of an embedding.
        layers: LSTM layers.
        seed: Of the initial weights.
        temperature: Divides the logits.
        tanh_constant: c of `c * tanh(logit / temperature)`; None leaves the logits unbounded.
        dtype: Of the weights. In float32 `torch.lstm` is one fused call, a fifth of the time that float64 takes for 10
            sequences of 20 tokens and 64 units.
    """

    def __init__(
        self,
        tokens: Tokens,
        *,
        hidden: int,
        layers: int,
        seed: int,
        temperature: float,
        tanh_constant: float | None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.tokens, self.hidden, self.layers, self.dtype = tokens, hidden, layers, dtype
        self.temperature, self.tanh_constant = temperature, tanh_constant
        generator = torch.Generator().manual_seed(seed)

        def made(*shape: int) -> Tensor:
            empty = torch.empty(shape, dtype=dtype, device="cpu")
            return empty.uniform_(-INIT, INIT, generator=generator).requires_grad_()

        self.embedding = made(tokens.rows + 1, hidden)  # the last row begins a sequence
        self.heads = made(tokens.rows, hidden)
        self.biases = made(tokens.rows)
        gates = 4 * hidden  # in torch's order: input, forget, cell, output
        self.cells = [
            made(*shape) for _ in range(layers) for shape in ((gates, hidden), (gates, hidden), (gates,), (gates,))
        ]
        self._arrays: list[Floats] = [p.detach().numpy() for p in self.parameters]

    @property
    def parameters(self) -> list[Tensor]:
        """All weights."""
        return [self.embedding, self.heads, self.biases, *self.cells]

    # Drawing, with numpy

    def draw(self, rng: Random, count: int, temperature: float = 1.0) -> list[Emission]:
        """Draw sequences.

        Args:
            rng: Generator.
            count: How many.
            temperature: Further divides the logits: above 1 it draws more widely than the policy.
        """
        uniform = np.random.default_rng(rng.getrandbits(128)).random
        embedding = self._arrays[0]
        emissions = [Emission(self.tokens) for _ in range(count)]
        zeros = np.zeros((count, self.hidden), dtype=embedding.dtype)
        state = [(zeros, zeros)] * self.layers
        inputs = np.full(count, self.tokens.rows)
        while True:
            groups: dict[int, list[int]] = {}
            for row, emission in enumerate(emissions):
                if emission.slot is not None:
                    groups.setdefault(emission.slot, []).append(row)
            if not groups:
                return emissions
            output = self._step(embedding[inputs], state)
            chances = uniform(count)
            for slot, rows in groups.items():
                ranges = [emissions[row].allowed() for row in rows]
                values = self._pick(output[rows], slot, ranges, chances[rows], temperature)
                inputs[rows] = self.tokens.starts[slot] + values
                for row, value in zip(rows, values.tolist(), strict=True):
                    emissions[row].take(value)

    def _step(self, x: Floats, state: list[tuple[Floats, Floats]]) -> Floats:
        """One step of the LSTM, `(sequence, hidden)` to the same; `state` is changed in place."""
        for layer in range(self.layers):
            w_input, w_hidden, b_input, b_hidden = self._arrays[3 + 4 * layer : 7 + 4 * layer]
            h, c = state[layer]
            gates = x @ w_input.T + h @ w_hidden.T + (b_input + b_hidden)
            opened, size = _sigmoid(gates), self.hidden
            c = opened[:, size : 2 * size] * c + opened[:, :size] * np.tanh(gates[:, 2 * size : 3 * size])
            x = opened[:, 3 * size :] * np.tanh(c)
            state[layer] = (x, c)
        return x

    def _pick(
        self, output: Floats, slot: int, ranges: Sequence[tuple[int, int]], chances: Floats, temperature: float
    ) -> npt.NDArray[np.int64]:
        """Draw a value of a slot for each row, by inverting the distribution's cumulative sum."""
        start, width = self.tokens.starts[slot], self.tokens.widths[slot]
        rows = slice(start, start + width)
        logits = (output @ self._arrays[1][rows].T + self._arrays[2][rows]) / self.temperature
        if self.tanh_constant is not None:
            logits = self.tanh_constant * np.tanh(logits)
        logits = logits / temperature
        bounds = np.array(ranges)
        if any(each != (0, width) for each in ranges):
            numbers = np.arange(width)
            logits[(numbers < bounds[:, :1]) | (numbers >= bounds[:, 1:])] = -np.inf
        total = np.cumsum(np.exp(logits - logits.max(axis=1, keepdims=True)), axis=1)
        values = (total <= chances[:, None] * total[:, -1:]).sum(axis=1)
        found: npt.NDArray[np.int64] = np.minimum(values, bounds[:, 1] - 1)  # a chance of almost 1 may round up to 1
        return found

    # Scoring, with torch

    def score(self, sentences: Sequence[Sentence] | Batch) -> Scores:
        """Log-probability and entropy of every token of sequences, differentiable in the weights."""
        batch = sentences if isinstance(sentences, Batch) else Batch.of(self.tokens, sentences)
        count, steps = batch.inputs.shape
        state = torch.zeros(self.layers, count, self.hidden, dtype=self.dtype)
        embedded = self.embedding[batch.inputs]  # (sequence, step, hidden)
        output = torch.lstm(embedded, (state, state), self.cells, True, self.layers, 0.0, False, False, True)[0]
        scores = [torch.zeros(count, steps, dtype=self.dtype) for _ in range(2)]
        for group in batch.groups:
            logits = self._logits(output[group.where], group, count)
            logs = torch.log_softmax(logits.masked_fill(~group.allowed, -torch.inf), dim=1)
            picked = logs.gather(1, group.values[:, None])[:, 0]
            entropy = -(logs.exp() * logs.masked_fill(~group.allowed, 0.0)).sum(1)
            scores = [each.index_put(group.where, part) for each, part in zip(scores, (picked, entropy), strict=True)]
        return Scores(*scores)

    def _logits(self, spoken: Tensor, group: Group, count: int) -> Tensor:
        """Logits `(token, value)` of the tokens of one width.

        A sequence has each slot at most once: so all heads are one batched product over (slot, sequence), whatever
        the order in which the sequences meet the slots.
        """
        block = slice(group.first, group.first + group.slots * group.width)
        heads = self.heads[block].view(group.slots, group.width, self.hidden)
        biases = self.biases[block].view(group.slots, 1, group.width)
        table = torch.zeros(group.slots * count, self.hidden, dtype=self.dtype)
        table = table.index_copy(0, group.places, spoken).view(group.slots, count, self.hidden)
        product = torch.baddbmm(biases, table, heads.transpose(1, 2)).view(group.slots * count, group.width)
        logits = product[group.places] / self.temperature
        return logits if self.tanh_constant is None else self.tanh_constant * torch.tanh(logits)


class Adam:
    """Adam, uphill; with torch's own, the first step imports its compiler, which takes seconds.

    Args:
        parameters: Changed in place.
        rate: Learning rate.

    Reference:
        Kingma, Ba (2015), "Adam: a method for stochastic optimization", arXiv 1412.6980, algorithm 1, with its
        defaults: 0.9, 0.999 and 1e-8.
    """

    def __init__(self, parameters: Sequence[Tensor], rate: float) -> None:
        self.parameters, self.rate, self.steps = parameters, rate, 0
        self.means = [torch.zeros_like(p, requires_grad=False) for p in parameters]
        self.squares = [torch.zeros_like(p, requires_grad=False) for p in parameters]

    def climb(self, objective: Tensor) -> None:
        """Take a step that makes an objective larger."""
        gradients = torch.autograd.grad(objective, self.parameters)
        self.steps += 1
        rate, root = self.rate / (1 - 0.9**self.steps), math.sqrt(1 - 0.999**self.steps)
        with torch.no_grad():
            for p, gradient, mean, square in zip(self.parameters, gradients, self.means, self.squares, strict=True):
                mean.lerp_(gradient, 1 - 0.9)
                square.mul_(0.999).addcmul_(gradient, gradient, value=1 - 0.999)
                p.addcdiv_(mean, (square.sqrt() / root).add_(1e-8), value=rate)


@dataclass(frozen=True, slots=True)
class Group:
    """The tokens of one width in a batch; heads of one width stand side by side.

    Attributes:
        width: Values of each.
        first: First row of their heads.
        slots: Heads in all.
        where: Sequence and step of each token.
        places: Place of each token in a table of (slot, sequence).
        values: What was said.
        allowed: `(token, value)`, what might have been.
    """

    width: int
    first: int
    slots: int
    where: tuple[Tensor, Tensor]
    places: Tensor
    values: Tensor
    allowed: Tensor


@dataclass(frozen=True, slots=True)
class Batch:
    """Sequences as tensors, made once for several passes.

    Attributes:
        inputs: `(sequence, step)`, rows of the embedding.
        groups: The tokens by their width.
    """

    inputs: Tensor
    groups: tuple[Group, ...]

    @classmethod
    def of(cls, tokens: Tokens, sentences: Sequence[Sentence]) -> Batch:
        """The batch of some sequences."""
        count, steps = len(sentences), max(len(s.slots) for s in sentences)
        # One line for each token: sequence, step, slot, value, low, high.
        lines = [
            (k, t, *token)
            for k, s in enumerate(sentences)
            for t, token in enumerate(zip(s.slots, s.values, s.low, s.high, strict=True))
        ]
        row, step, slot, value, low, high = np.array(lines, dtype=np.int64).reshape(-1, 6).T
        starts, widths = np.array(tokens.starts), np.array(tokens.widths)
        inputs = np.full((count, steps + 1), tokens.rows)
        inputs[row, step + 1] = starts[slot] + value
        groups = []
        for width in np.unique(widths[slot]).tolist():
            members = np.flatnonzero(widths[slot] == width)
            alike = np.flatnonzero(widths == width)
            first = int(starts[alike].min())
            numbers = np.arange(width)
            allowed = (numbers >= low[members, None]) & (numbers < high[members, None])
            places = (starts[slot[members]] - first) // width * count + row[members]
            where = (torch.from_numpy(row[members]), torch.from_numpy(step[members]))
            parts = [torch.from_numpy(part) for part in (places, value[members], allowed)]
            groups.append(Group(width, first, len(alike), where, *parts))
        return cls(torch.from_numpy(inputs[:, :-1].copy()), tuple(groups))


def _sigmoid(x: Floats) -> Floats:
    result: Floats = 0.5 * (1.0 + np.tanh(0.5 * x))  # without overflow
    return result
