"""An ensemble of small networks whose disagreement is the uncertainty; all members are trained in one batch.

Written on numpy: for networks of this size a framework's call costs more than its arithmetic, and neither global
generators nor thread settings are touched.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nasturtium.errors import InvalidInputError

Loss = Literal["mae", "mape", "rank"]
Single = NDArray[np.float32]

BETAS = (0.9, 0.99)
"""Decay rates of Adam, from the paper's code."""
EPSILON = 1e-7
"""Adam's, the default of the framework that the paper's code uses."""
MARGIN = 0.1
"""Of the ranking loss, in standard deviations of the targets."""


@dataclass(slots=True)
class Ensemble:
    """Fully connected networks that differ in their initial weights and in the order of their batches.

    Args:
        members: Number of networks; 5, as all defaults here, is the paper's.
        layers: Hidden layers.
        width: Of a hidden layer.
        epochs: Passes over the data.
        batch: Rows of a batch.
        rate: Adam's learning rate.
        updates: Most updates of one fit, so that its time is bounded: from some 60 rows on there are fewer epochs (100
            at 128 rows).
        loss: "mae" (mean absolute error), "mape" (absolute error as a share of the distance to `bound`, so that the
            best networks weigh most), or "rank" (hinge on the order of each pair in a batch; the scores are then given
            the mean and the spread of the targets).
        bound: For "mape": a target value that no network reaches (the paper's: an error of 4.5 %). None is one
            standard deviation beyond the largest target, for targets that are to be maximised. With several outputs it
            is of the first, and the others take theirs.
        seed: Of weights and batches.

    Notes:
        Differs from the paper: targets are standardised, so that one learning rate suits any metric; the number of
        updates is bounded; several targets are learnt at once, each by members of its own. Glorot's uniform initial
        weights, as in the framework of the paper's code. One fit takes some 0.2 s of one core.

    Reference:
        White, Neiswanger, Savani (2021), "BANANAS: Bayesian optimization with neural architectures for neural
        architecture search", arXiv 1910.11858, section 4 and appendix; ranking: Xu et al. (2021), "ReNAS: relativistic
        evaluation of neural architecture search", arXiv 1910.01523, equation 5.
    """

    members: int = 5
    layers: int = 10
    width: int = 20
    epochs: int = 200
    batch: int = 32
    rate: float = 0.01
    updates: int = 400
    loss: Loss = "mae"
    bound: float | None = None
    seed: int = 0
    _weights: list[Single] = field(init=False, repr=False, compare=False)
    _scale: tuple[NDArray[np.float64], NDArray[np.float64]] = field(init=False, repr=False, compare=False)
    _outputs: int | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name in ("members", "layers", "width", "epochs", "batch", "updates"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise InvalidInputError(f"`{name}` must be an integer of 1 or more, got {value!r}.")
        if self.loss not in ("mae", "mape", "rank"):
            raise InvalidInputError(f"`loss` must be 'mae', 'mape' or 'rank', got {self.loss!r}.")
        if not self.rate > 0:
            raise InvalidInputError(f"`rate` must be above 0, got {self.rate!r}.")

    def fit(self, rows: ArrayLike, targets: ArrayLike) -> Self:
        """Train on rows and targets, from new weights.

        Args:
            rows: `(n, features)`, one-hot or standardised.
            targets: `(n,)`, or `(n, outputs)`: each output has members of its own.
        """
        x, y = np.asarray(rows, dtype=np.float32), np.asarray(targets, dtype=np.float64)
        if x.ndim != 2 or y.ndim not in (1, 2) or len(x) != len(y) or not len(x):
            raise InvalidInputError(f"Rows and targets must be (n, features) and (n,), got {x.shape} and {y.shape}.")
        if not (np.isfinite(x).all() and np.isfinite(y).all()):
            raise InvalidInputError("Rows and targets must be finite: leave failed trials out.")
        self._outputs = y.shape[1] if y.ndim == 2 else None
        y = y.reshape(len(y), -1)
        centre, scale = y.mean(axis=0), y.std(axis=0)
        scale = np.where(scale > 0, scale, 1.0)
        self._scale = (centre, scale)
        y = (y - centre) / scale
        weigh = np.ones_like(y)
        if self.loss == "mape":
            bound = y.max(axis=0) + 1.0
            if self.bound is not None:
                bound[0] = (self.bound - centre[0]) / scale[0]
            if bound[0] <= y[:, 0].max():
                raise InvalidInputError(f"`bound` must be above every target, got {self.bound}; None picks one.")
            weigh = 1.0 / (bound - y)
        _Training(self, x, _per_member(y, self.members), _per_member(weigh, self.members)).run()
        if self.loss == "rank":
            self._scale_scores(x)
        return self

    def predict_members(self, rows: ArrayLike) -> NDArray[np.float64]:
        """What each member says: `(members, n)`, or `(members, n, outputs)` after several targets."""
        predicted = self._raw(np.asarray(rows, dtype=np.float32))
        centre, scale = self._scale
        grouped = predicted.reshape(self.members, len(centre), -1).transpose(0, 2, 1) * scale + centre
        return grouped if self._outputs is not None else grouped[:, :, 0]

    def _raw(self, x: Single) -> Single:
        """What each network says, standardised: `(members * outputs, n)`."""
        hidden = np.concatenate([x, np.ones((len(x), 1), dtype=np.float32)], axis=1)
        for weights in self._weights[:-1]:
            out = np.ones((len(weights), len(x), weights.shape[2] + 1), dtype=np.float32)
            np.maximum(np.matmul(hidden, weights), 0, out=out[:, :, :-1])
            hidden = out
        said: Single = np.matmul(hidden, self._weights[-1])[:, :, 0]
        return said

    def _scale_scores(self, x: Single) -> None:
        """Let each network's scores of its rows have mean 0 and deviation 1, as the standardised targets have."""
        said = self._raw(x)
        spread = said.std(axis=1)
        spread = np.where(spread > 0, spread, np.float32(1))
        last = self._weights[-1]
        last /= spread[:, None, None]
        last[:, -1, 0] -= said.mean(axis=1) / spread

    def predict(self, rows: ArrayLike) -> NDArray[np.float64]:
        """Mean over the members: `(n,)`, or `(n, outputs)`."""
        return self.mean_and_std(rows)[0]

    def mean_and_std(self, rows: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean over the members and their standard deviation (of the population, as in the paper's code)."""
        said = self.predict_members(rows)
        return said.mean(axis=0), said.std(axis=0)


def _per_member(values: NDArray[np.float64], members: int) -> Single:
    """`(n, outputs)` as `(members * outputs, n)`."""
    return np.tile(values.T, (members, 1)).astype(np.float32)


class _Training:
    """One fit. A layer's bias is the last row of its weights, fed by a column of ones."""

    def __init__(self, model: Ensemble, x: Single, y: Single, weigh: Single) -> None:
        self.model, self.y, self.weigh = model, y, weigh
        self.x = np.concatenate([x, np.ones((len(x), 1), dtype=np.float32)], axis=1)
        self.rng = np.random.default_rng(model.seed)
        sizes = [x.shape[1], *[model.width] * model.layers, 1]
        shapes = [(len(y), before + 1, after) for before, after in pairwise(sizes)]
        self.flat = np.zeros(sum(map(math.prod, shapes)), dtype=np.float32)
        self.slope = np.zeros_like(self.flat)
        self.weights, self.slopes = _views(self.flat, shapes), _views(self.slope, shapes)
        for weights in self.weights:
            reach = math.sqrt(6 / (weights.shape[1] - 1 + weights.shape[2]))
            weights[:, :-1] = self.rng.uniform(-reach, reach, weights[:, :-1].shape)
        rows = min(model.batch, len(x))
        self.hidden = [np.ones((len(y), rows, size + 1), dtype=np.float32) for size in sizes[1:-1]]
        self.moments = (np.zeros_like(self.flat), np.zeros_like(self.flat), np.zeros_like(self.flat))
        model._weights = self.weights

    def run(self) -> None:
        """Train for the epochs that are asked for, or until the updates are used up."""
        count, done = self.y.shape[1], 0
        each = np.arange(len(self.y))[:, None]
        for _ in range(self.model.epochs):
            order = self.rng.permuted(np.tile(np.arange(count), (len(self.y), 1)), axis=1)
            for start in range(0, count, self.model.batch):
                if done >= self.model.updates:
                    return
                chosen = order[:, start : start + self.model.batch]
                done += 1
                self._step(self.x[chosen], self.y[each, chosen], self.weigh[each, chosen], done)

    def _step(self, x: Single, y: Single, weigh: Single, number: int) -> None:
        rows = x.shape[1]
        inputs = [x]
        for weights, kept in zip(self.weights, self.hidden, strict=False):
            out = kept[:, :rows]
            np.matmul(inputs[-1], weights, out=out[:, :, :-1])
            np.maximum(out, 0, out=out)  # the ones stay ones
            inputs.append(out)
        said = np.matmul(inputs[-1], self.weights[-1])
        back = self._loss_slope(said[:, :, 0], y, weigh)[:, :, None]
        for layer in range(len(self.weights) - 1, -1, -1):
            np.matmul(inputs[layer].swapaxes(1, 2), back, out=self.slopes[layer])
            if layer:
                back = np.matmul(back, self.weights[layer][:, :-1].swapaxes(1, 2))
                back *= inputs[layer][:, :, :-1] > 0
        self._adam(number)

    def _loss_slope(self, said: Single, y: Single, weigh: Single) -> Single:
        """Derivative of each member's mean loss."""
        if self.model.loss != "rank":
            slope: Single = np.sign(said - y) * weigh / np.float32(y.shape[1])
            return slope
        better = y[:, :, None] > y[:, None, :]
        violated = better & (said[:, :, None] - said[:, None, :] < MARGIN)
        pairs = np.maximum(better.sum(axis=(1, 2)), 1)[:, None]
        pulled: Single = ((violated.sum(axis=1) - violated.sum(axis=2)) / pairs).astype(np.float32)
        return pulled

    def _adam(self, number: int) -> None:
        first, second, spare = self.moments
        slow, fast = BETAS
        first *= slow
        np.multiply(self.slope, 1 - slow, out=spare)
        first += spare
        second *= fast
        np.multiply(self.slope, self.slope, out=spare)
        spare *= 1 - fast
        second += spare
        np.sqrt(second, out=spare)
        spare /= math.sqrt(1 - fast**number)
        spare += EPSILON
        np.divide(first, spare, out=spare)
        spare *= self.model.rate / (1 - slow**number)
        self.flat -= spare


def _views(flat: Single, shapes: list[tuple[int, int, int]]) -> list[Single]:
    views, start = [], 0
    for shape in shapes:
        views.append(flat[start : start + math.prod(shape)].reshape(shape))
        start += math.prod(shape)
    return views
