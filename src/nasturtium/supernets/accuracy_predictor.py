"""Accuracy from decisions alone, by a small network trained on sub-networks of one supernet.

Reference:
    Cai et al. (2020), "Once-for-All", arXiv 1908.09791, section 3.4, and the authors' code (`accuracy_predictor.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from nasturtium.errors import InvalidInputError
from nasturtium.supernets.genes import Genes, Matrix
from nasturtium.training.randomness import derived_seed

HIDDEN = (400, 400, 400)
"""Widths of the hidden layers, as in the authors' code."""
Features = Callable[[Matrix], NDArray[np.float32]]


class OneHot:
    """Every decision one-hot; zeros where it is inactive.

    A decision whose value is seen from which others are active (the depth of a stage whose blocks have choices) is left
    out: so the features of the MobileNetV3 space are those of the paper, kernel and expansion of each block, with zeros
    for blocks that are skipped, and the resolution where it is open.

    Args:
        genes: Of the space.
    """

    def __init__(self, genes: Genes) -> None:
        self.genes = genes
        self.positions = [i for i, name in enumerate(genes.names) if not _is_seen(genes, name)]
        self.width = int(genes.counts[self.positions].sum())

    def __call__(self, matrix: Matrix) -> NDArray[np.float32]:
        """`(architectures, width)`, 0 or 1."""
        active = self.genes.active(matrix)
        found = np.zeros((len(matrix), self.width), dtype=np.float32)
        start = 0
        for position in self.positions:
            rows = np.flatnonzero(active[:, position])
            found[rows, start + matrix[rows, position]] = 1.0
            start += int(self.genes.counts[position])
        return found


def _is_seen(genes: Genes, name: str) -> bool:
    """Whether each value of a decision activates other decisions than the others do."""
    controlled: list[set[str]] = [set() for _ in range(genes.space.decision(name).count)]
    for other in genes.names:
        for way in genes.space.activation(other):
            if way.decision.name == name:
                for index in way.indices:
                    controlled[index].add(other)
    return len(controlled) > 1 and len(set(map(frozenset, controlled))) == len(controlled)


class AccuracyPredictor:
    """Fully connected layers with ReLU between them.

    Args:
        features: Of the rows of a space.
        layers: Weight `(out, in)` and bias `(out,)` of each; the last has one output.
        base: Added to the output.
        scale: The output is multiplied by this first.
    """

    def __init__(
        self,
        features: Features,
        layers: Sequence[tuple[NDArray[np.float32], NDArray[np.float32]]],
        *,
        base: float = 0.0,
        scale: float = 1.0,
    ) -> None:
        self.features = features
        self.layers = [(np.ascontiguousarray(weight.T), bias) for weight, bias in layers]
        self.base, self.scale = base, scale

    def __call__(self, matrix: Matrix) -> NDArray[np.float64]:
        """Predicted accuracies of rows, `(architectures,)`."""
        x = self.features(matrix)
        for number, (weight, bias) in enumerate(self.layers):
            x = x @ weight + bias
            if number + 1 < len(self.layers):
                np.maximum(x, 0.0, out=x)
        return self.base + self.scale * x[:, 0].astype(np.float64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """A trained predictor, and what it is worth."""

    predictor: AccuracyPredictor
    rmse: float
    """Root mean square error on pairs that it was not trained on, as a fraction of accuracy."""
    predicted: tuple[float, ...]
    """For the pairs held out."""
    measured: tuple[float, ...]
    """Accuracies of the pairs held out; `measure_trust` says how well the two rank alike."""
    trained: int
    """Pairs that it was trained on."""


def fit_predictor(
    genes: Genes,
    matrix: Matrix,
    accuracies: Sequence[float] | NDArray[np.float64],
    *,
    seed: int,
    share: float = 0.8,
    batch: int = 256,
    steps: int | None = None,
    learning_rate: float = 1e-3,
    weight_decay: float = 1e-4,
) -> Fitted:
    """Train a predictor on measured architectures, part of which are held out to judge it.

    Args:
        genes: Of the space.
        matrix: The architectures, `(n, decisions)`.
        accuracies: `(n,)`, fractions.
        seed: Of the split, the initial weights and the batches.
        share: Of the pairs that it is trained on, in (0, 1); 0.8 in the authors' code.
        batch: Pairs a step, at most; 256 in the authors' code.
        steps: Of Adam, with half a cosine of learning rates; None for 20 a pair, at most 1,500.
        learning_rate: At the start.
        weight_decay: Decoupled (AdamW).

    Raises:
        InvalidInputError: fewer than 5 pairs, or an argument is out of range.

    Notes:
        Differs from the paper, which does not say how the predictor is trained: squared error of standardised
        accuracies, AdamW. The mean of the train accuracies is the base that the authors' newer code adds to the output.
        Some 4 s of one core.
    """
    targets = np.asarray(accuracies, dtype=np.float64)
    if len(matrix) != len(targets) or len(targets) < 5 or not np.isfinite(targets).all():
        raise InvalidInputError(
            f"A predictor needs 5 pairs or more of architectures and finite accuracies, got {len(matrix)} "
            f"architectures and {len(targets)} accuracies."
        )
    if not 0.0 < share < 1.0:
        raise InvalidInputError(f"`share` of the pairs to train on must be in (0, 1), got {share!r}.")
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(targets))
    count = min(max(1, round(share * len(targets))), len(targets) - 1)
    train, test = order[:count], order[count:]
    steps = min(1500, 20 * count) if steps is None else steps
    features = OneHot(genes)
    base, scale = float(targets[train].mean()), float(targets[train].std()) or 1.0
    x = torch.from_numpy(features(matrix[train]))
    y = torch.from_numpy(((targets[train] - base) / scale).astype(np.float32))
    network = _network(features.width, seed)
    optimizer = torch.optim.AdamW(network.parameters(), lr=learning_rate, weight_decay=weight_decay)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        rows = torch.from_numpy(rng.choice(count, min(batch, count), replace=False))
        loss = functional.mse_loss(network(x[rows])[:, 0], y[rows])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        decay.step()
    linear = [layer for layer in network if isinstance(layer, nn.Linear)]
    layers = [(m.weight.detach().numpy().copy(), m.bias.detach().numpy().copy()) for m in linear]
    predictor = AccuracyPredictor(features, layers, base=base, scale=scale)
    predicted = predictor(matrix[test])
    error = float(np.sqrt(np.square(predicted - targets[test]).mean()))
    return Fitted(
        predictor=predictor, rmse=error, predicted=tuple(predicted.tolist()), measured=tuple(targets[test].tolist()),
        trained=len(train),
    )  # fmt: skip


def _network(inputs: int, seed: int) -> nn.Sequential:
    """Untrained, on the CPU, with PyTorch's initial weights; all global generators stay as they were."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derived_seed(seed))  # `torch.manual_seed` would reseed accelerators too
        widths = (inputs, *HIDDEN)
        hidden = [part for a, b in pairwise(widths) for part in (nn.Linear(a, b), nn.ReLU())]
        return nn.Sequential(*hidden, nn.Linear(widths[-1], 1))
