"""Gates: how a supernet mixes what a decision selects among.

Where decisions select among tensors of one shape (a candidate operation on an edge, a prefix of a stage), a gate gives
each branch a weight and the supernet adds up the branches. Without a gate it takes the one path that was set.

All are made with the numbers of options by decision, as `Supernet.mixed` gives them, and have `probabilities(decision)`
for the expected cost. Those that draw have a `seed`, draw anew in every forward pass of the supernet, and save the
state of their generator with `state_dict`. In evaluation mode (`Supernet.eval` passes it on) nothing is drawn but by
`Uniform`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from nasturtium.errors import InvalidInputError
from nasturtium.model.gate import Die, Gate, Hard, Logits, Shares, check_counts, check_positive, one_hot

__all__ = ["Gate", "Gumbel", "Hard", "Shares", "Sigmoid", "Softmax", "Sum", "Uniform"]


class Sum(nn.Module):
    """Every branch with weight 1; in training whole branches are dropped at random (path dropout).

    A branch of a decision with k options is dropped with probability `ramp * rate^(1/k)`: at the end of the ramp all
    branches would be dropped with probability `rate`, whatever k. One is kept always: where all are dropped, a random
    one comes back. What is kept is not scaled.

    Args:
        counts: Number of options by decision.
        rate: r, in [0, 1).
        seed: Of the dropping; needed where `rate` is above 0.

    Attributes:
        ramp: How much of the dropping takes place, in [0, 1]: a training raises it linearly from 0 to 1.

    Raises:
        InvalidInputError: an argument is out of its range.

    Reference:
        Bender et al. (2018), "Understanding and simplifying one-shot architecture search", ICML, sections 3.1 and 3.2.
        Differs from the paper: k is there the number of paths that come into an operation, and all may be dropped;
        blocks that share their decisions (the cells of a stack) drop the same branches.
    """

    def __init__(self, counts: Mapping[str, int], *, rate: float = 0.0, seed: int | None = None) -> None:
        super().__init__()
        self.counts = check_counts(counts)
        if not 0 <= rate < 1 or (rate > 0 and seed is None):
            raise InvalidInputError(f"`rate` must be in [0, 1), with a `seed` if above 0, got {rate!r} and {seed!r}.")
        self.rate = rate
        self.ramp = 1.0
        self.die = Die(0 if seed is None else seed)

    def drop_probability(self, decision: str) -> float:
        """Probability with which each branch of a decision is dropped in training."""
        return self.ramp * float(self.rate ** (1 / self.counts[decision])) if self.rate else 0.0

    def weights(self, decision: str, count: int) -> Sequence[float]:
        """Ones; zeros for what is dropped."""
        chance = self.drop_probability(decision) if self.training else 0.0
        if not chance:
            return [1.0] * count
        kept = [0.0 if self.die.uniform() < chance else 1.0 for _ in range(count)]
        if not any(kept):
            kept[self.die.choose([1.0] * count)] = 1.0
        return kept

    def probabilities(self, decision: str) -> Tensor:
        """Equal ones, `(count,)`: a sum prefers no branch."""
        return _equal(self.counts[decision])


class Uniform(nn.Module):
    """One branch of each decision, each with the same probability: a single path.

    Args:
        counts: Number of options by decision.
        seed: Of the drawing.
        fair: Whether each decision runs through all its options, in random order, before one comes again.

    Attributes:
        drawn: The index last drawn of each decision.

    Reference:
        Guo et al. (2020), "Single Path One-Shot Neural Architecture Search with Uniform Sampling", arXiv 1904.00420,
        section 3.2; Chu, Zhang, Xu (2021), "FairNAS", arXiv 1907.01845, section 3 (`fair`). Differs from FairNAS:
        gradients of the m paths that make a round are added up by whoever trains, not here.
    """

    def __init__(self, counts: Mapping[str, int], *, seed: int, fair: bool = False) -> None:
        super().__init__()
        self.counts = check_counts(counts)
        self.fair = fair
        self.die = Die(seed)
        self.drawn: dict[str, int] = {}
        self._waiting: dict[str, list[int]] = {name: [] for name in counts}

    def weights(self, decision: str, count: int) -> Hard:
        """A random branch."""
        if self.fair:
            waiting = self._waiting[decision]
            if not waiting:
                waiting.extend(self.die.order(count))
            index = waiting.pop()
        else:
            index = self.die.choose([1.0] * count)
        self.drawn[decision] = index
        return Hard(index)

    def probabilities(self, decision: str) -> Tensor:
        """Equal ones, `(count,)`."""
        return _equal(self.counts[decision])

    def get_extra_state(self) -> dict[str, list[int]]:
        """The options that each decision has yet to run through."""
        return {name: list(waiting) for name, waiting in self._waiting.items()}

    def set_extra_state(self, state: Mapping[str, list[int]]) -> None:
        """Restore them."""
        self._waiting = {name: list(waiting) for name, waiting in state.items()}


class Softmax(nn.Module):
    """Softmax of trainable logits, one for each option of each decision.

    Args:
        counts: Number of options by decision.
        temperature: The logits are divided by this; above 0. An attribute that a training may change.
        seed: Draws the initial logits from a normal distribution with standard deviation 1e-3; None makes them 0.

    Attributes:
        logits: `Logits`, by decision.

    Raises:
        InvalidInputError: an argument is out of its range.

    Reference:
        Liu, Simonyan, Yang (2019), "DARTS", arXiv 1806.09055, equation 2.
    """

    def __init__(self, counts: Mapping[str, int], *, temperature: float = 1.0, seed: int | None = None) -> None:
        super().__init__()
        self.temperature = check_positive("temperature", temperature)
        self.logits = Logits(counts, seed=seed)

    def logits_of(self, decision: str) -> Tensor:
        """The trainable logits of a decision, `(count,)`."""
        return self.logits[decision]

    def weights(self, decision: str, count: int) -> Tensor:
        """The probabilities."""
        del count
        return self.probabilities(decision)

    def probabilities(self, decision: str) -> Tensor:
        """`softmax(logits / temperature)`, `(count,)`."""
        return torch.softmax(self.logits[decision] / self.temperature, 0)


class Sigmoid(nn.Module):
    """A sigmoid of a trainable logit for each option: options of a decision do not compete.

    Args:
        counts: Number of options by decision.
        seed: As of `Softmax`.

    Attributes:
        logits: `Logits`, by decision.

    Reference:
        Chu, Zhou, Zhang, Li (2020), "Fair DARTS", arXiv 1911.12126, equation 4.
    """

    def __init__(self, counts: Mapping[str, int], *, seed: int | None = None) -> None:
        super().__init__()
        self.logits = Logits(counts, seed=seed)

    def logits_of(self, decision: str) -> Tensor:
        """The trainable logits of a decision, `(count,)`."""
        return self.logits[decision]

    def weights(self, decision: str, count: int) -> Tensor:
        """The probabilities."""
        del count
        return self.probabilities(decision)

    def probabilities(self, decision: str) -> Tensor:
        """`sigmoid(logits)`, `(count,)`, each in (0, 1) by itself; they do not add up to 1."""
        return torch.sigmoid(self.logits[decision])

    def zero_one_loss(self, weight: float = 10.0, *, form: Literal["squared", "absolute"] = "squared") -> Tensor:
        """The term that draws the sigmoids to 0 or 1: `-weight * mean((sigmoid - 0.5)^2)`, over all options.

        Args:
            weight: w_0-1; 10 in the paper.
            form: "squared", or "absolute" for `-weight * mean(|sigmoid - 0.5|)`.

        Reference:
            The paper's equations 5 and 6.
        """
        if form not in ("squared", "absolute"):
            raise InvalidInputError(f"`form` must be 'squared' or 'absolute', got {form!r}.")
        distance = torch.cat([torch.sigmoid(logits) for logits in self.logits]) - 0.5
        return -weight * (distance.square() if form == "squared" else distance.abs()).mean()


class Gumbel(nn.Module):
    """Gumbel-softmax: softmax of logits with random noise, as it is or rounded to one branch.

    Args:
        counts: Number of options by decision.
        temperature: tau, above 0; a training lowers it (10 to 0.1 in GDAS). An attribute.
        hard: Whether only the likeliest branch is computed, with weight 1; gradients are those of the soft weights
            (straight-through). The other branches are computed in the backward pass, one at a time, where gradients of
            the logits are wanted.
        seed: Of the noise, and of the initial logits as of `Softmax`.

    Attributes:
        logits: `Logits`, by decision.
        drawn: The index of the likeliest branch of each decision at the last drawing.

    Raises:
        InvalidInputError: an argument is out of its range.

    Reference:
        Jang, Gu, Poole (2017), "Categorical Reparameterization with Gumbel-Softmax", arXiv 1611.01144, section 2;
        Dong, Yang (2019), "Searching for A Robust Neural Architecture in Four GPU Hours" (GDAS), arXiv 1910.04465,
        section 3.2 (`hard`). Differs from the code of GDAS: the gradient of a weight that was rounded to 0 is the inner
        product with its branch's output, there with a constant; the noise is added to the logits, which is the same as
        to their log-softmax. In evaluation mode there is no noise.
    """

    def __init__(self, counts: Mapping[str, int], *, temperature: float = 1.0, hard: bool = False, seed: int) -> None:
        super().__init__()
        self.temperature = check_positive("temperature", temperature)
        self.hard = hard
        self.logits = Logits(counts, seed=seed)
        self.die = Die(seed)
        self.drawn: dict[str, int] = {}

    def logits_of(self, decision: str) -> Tensor:
        """The trainable logits of a decision, `(count,)`."""
        return self.logits[decision]

    def weights(self, decision: str, count: int) -> Tensor | Hard:
        """A draw of the relaxed weights, `(count,)`, or the branch that they make the likeliest."""
        noisy = self.logits[decision]
        if self.training:
            noisy = noisy + self.die.gumbel(count).to(noisy)
        relaxed = torch.softmax(noisy / self.temperature, 0)
        if not self.hard:
            return relaxed
        index = self.drawn[decision] = int(noisy.detach().argmax())
        return Hard(index, one_hot(relaxed, index), tuple(range(count)))

    def probabilities(self, decision: str) -> Tensor:
        """`softmax(logits)`, `(count,)`: how often each branch is the likeliest, at any temperature."""
        return torch.softmax(self.logits[decision], 0)


def _equal(count: int) -> Tensor:
    return torch.full((count,), 1 / count)
