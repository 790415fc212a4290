"""The reinforcement-learning controller of neural architecture search."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from nasturtium.errors import InvalidInputError
from nasturtium.space import Architecture
from nasturtium.strategies.candidates import Candidates
from nasturtium.strategies.learned.controller_policy import Adam, Batch, Policy, Scores
from nasturtium.strategies.learned.controller_rewards import Judge
from nasturtium.strategies.learned.controller_tokens import Emission, Sentence, Tokens
from nasturtium.strategies.nested import UNMEASURED
from nasturtium.trial import Trial
from nasturtium.trial.reward import reward_from_json, reward_to_json
from nasturtium.trial.types import Exhausted, Problem, Proposal

WIDEN = 40
"""Draws in vain after which the next are drawn at twice, three times … the temperature."""
AT_ONCE = 64
"""Most sequences that are drawn at a time, after 1, 4 and 16."""
REFUSED = 200
"""Sequences in a row that the space's own conditions may refuse, before one is drawn from the space."""

Algorithm = Literal["reinforce", "ppo"]

BATCH: dict[Algorithm, int] = {"reinforce": 1, "ppo": 10}
"""Told trials of an update by default."""


@dataclass(slots=True)
class Controller:
    """Let an LSTM emit a network decision by decision, and make what was rewarded more likely.

    Args:
        algorithm: "reinforce" (a step for each batch) or "ppo" (several, within a clip).
        hidden: Units of an LSTM layer, and length of the embeddings; 64 is ENAS'.
        layers: LSTM layers; 1 is ENAS' and NASNet's (NAS 2017 has 2 of 35 units).
        learning_rate: Of Adam. 0.0035 is ENAS'; the 6e-4 of NAS 2017 and 3.5e-4 of NASNet are for 12,800 and 20,000
            networks and hardly move within some hundred.
        batch: Told trials of an update. None is 1 for REINFORCE, as in the REINFORCE of NAS-Bench-201 (Dong and Yang
            2020), whose budgets are of some hundred trials, and 10 for PPO, ENAS' number.
        baseline_decay: d of the moving average b <- d b + (1 - d) R, which begins at the first reward; 0.95 is that of
            NASNet.
        entropy: Weight of the entropy bonus, per token in nats; 1e-4 is ENAS'.
        temperature: Divides the logits; 1 leaves them.
        tanh_constant: c of `c * tanh(logit / temperature)`; None leaves the logits unbounded. ENAS' is 1.10, which
            keeps the policy wide for its 45,000 cheap samples; a budget of some hundred must narrow. One constant for
            all decisions: ENAS divides it by 2.5 for operations.
        clip: PPO's e: what moves a token's probability ratio beyond [1 - e, 1 + e] is no longer rewarded.
        epochs: PPO's passes over a batch; 5 is NNI's default for architecture search.
        reward: A `nasturtium.trial.reward` (or its dictionary), a callable of a trial's metrics, or
            "module:function". None: see Notes.

    Notes:
        The default reward of one objective is its value, or less its value over the size of the first, if it is to be
        small. That of several is the share of the trials told so far that do not dominate the trial, violations of
        constraints first (Fonseca and Fleming 1993; Deb et al. 2002): in [0, 1] whatever the units, with no weights to
        choose; MnasNet's product is there for those who have a trade-off in mind. A measured constraint that is missed
        by a share v turns a positive reward R into R / (1 + v), MnasNet's hard constraint, in any but this last case.
        A failed trial, or a reward that is not finite, counts as the lowest reward so far; one that a race around the
        controller has not measured yet counts as nothing.

        Differs from the paper: no network is proposed twice and none that breaks a cheap constraint; such draws are
        thrown away and the log-probability of the accepted one is used as it is, which biases the gradient by that of
        the accepted share's logarithm. After every 40 draws in vain the temperature of the draws rises by its own
        amount; when 500 are in vain, any network of the space is taken. With several trials under way, REINFORCE
        scores a trial by the weights at its update; PPO's ratio is against those of its proposal, per token.
        PPO has no value network: its advantages are R - b over their root mean square in the batch. Layers are not
        grown in number, and no attention selects skip connections: any decision is one token, those of more than 256
        values several. Of ENAS, only the controller is here, not the shared weights. In a space that is a table, what
        is emitted stands for the row nearest to it, whose tokens are learnt from.
        Weights are float32: a seed repeats its search exactly where torch repeats its sums (one machine, one version);
        elsewhere rounding may turn a draw. An update costs O(batch x tokens x hidden^2).

    Reference:
        Zoph, Le (2017), "Neural architecture search with reinforcement learning", arXiv 1611.01578, section 3.2;
        Zoph, Vasudevan, Shlens, Le (2018), "Learning transferable architectures for scalable image recognition",
        arXiv 1707.07012, appendix A.2; Pham et al. (2018), "Efficient neural architecture search via parameter
        sharing", arXiv 1802.03268; Schulman et al. (2017), "Proximal policy optimization algorithms",
        arXiv 1707.06347, equation 7.
    """

    algorithm: Algorithm = "reinforce"
    hidden: int = 64
    layers: int = 1
    learning_rate: float = 0.0035
    batch: int | None = None
    baseline_decay: float = 0.95
    entropy: float = 1e-4
    temperature: float = 1.0
    tanh_constant: float | None = None
    clip: float = 0.2
    epochs: int = 5
    reward: Callable[[Mapping[str, float]], float] | Mapping[str, Any] | str | None = None
    _problem: Problem = field(init=False, repr=False, compare=False)
    _candidates: Candidates = field(init=False, repr=False, compare=False)
    _tokens: Tokens = field(init=False, repr=False, compare=False)
    _policy: Policy = field(init=False, repr=False, compare=False)
    _optimizer: Adam = field(init=False, repr=False, compare=False)
    _judge: Judge = field(init=False, repr=False, compare=False)
    _baseline: float | None = field(init=False, repr=False, compare=False, default=None)
    _pending: dict[int, _Episode] = field(init=False, repr=False, compare=False, default_factory=dict)
    _told: list[_Episode] = field(init=False, repr=False, compare=False, default_factory=list)

    def __post_init__(self) -> None:
        if self.algorithm not in BATCH:
            raise InvalidInputError(f"`algorithm` must be 'reinforce' or 'ppo', got {self.algorithm!r}.")
        for name in ("hidden", "layers", "batch", "epochs"):
            value = getattr(self, name)
            if name == "batch" and value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise InvalidInputError(f"`{name}` must be an integer of 1 or more, got {value!r}.")
        for name in ("learning_rate", "temperature", "clip", "tanh_constant"):
            value = getattr(self, name)
            if not (_is_number(value) and value > 0) and not (name == "tanh_constant" and value is None):
                raise InvalidInputError(f"`{name}` must be a positive number, got {value!r}.")
        if not _is_number(self.entropy) or self.entropy < 0:
            raise InvalidInputError(f"`entropy` must be a number of 0 or more, got {self.entropy!r}.")
        if not _is_number(self.baseline_decay) or not 0 <= self.baseline_decay < 1:
            raise InvalidInputError(f"`baseline_decay` must be in [0, 1), got {self.baseline_decay!r}.")
        if self.reward is not None and not callable(self.reward):
            self.reward = reward_from_json(self.reward)

    def to_dict(self) -> dict[str, Any]:
        """Settings as plain JSON.

        Raises:
            InvalidInputError: the reward is a callable that no import finds.
        """
        names = (
            "algorithm", "hidden", "layers", "learning_rate", "batch", "baseline_decay", "entropy", "temperature",
            "tanh_constant", "clip", "epochs",
        )  # fmt: skip
        reward = reward_to_json(self.reward) if callable(self.reward) else None
        return {**{name: getattr(self, name) for name in names}, "reward": reward}

    @classmethod
    def from_dict(cls, data: dict[str, Any], *, trust: bool = False) -> Controller:
        """Inverse of `to_dict`.

        Args:
            data: What it gave.
            trust: Whether the reward's module may be imported, where it is neither imported yet nor nasturtium's.
        """
        reward = data.get("reward")
        return cls(**{**data, "reward": reward if reward is None else reward_from_json(reward, trust=trust)})

    def setup(self, problem: Problem) -> None:
        """Take the problem; forget all else."""
        self._problem = problem
        self._candidates = Candidates(problem)
        self._tokens = Tokens(problem.space)
        self._policy = Policy(
            self._tokens,
            hidden=self.hidden,
            layers=self.layers,
            seed=Random(f"{problem.seed}/controller").getrandbits(63),
            temperature=self.temperature,
            tanh_constant=self.tanh_constant,
        )
        self._optimizer = Adam(self._policy.parameters, self.learning_rate)
        self._judge = Judge(problem, self.reward if callable(self.reward) else None)
        self._baseline = None
        self._pending, self._told = {}, []

    def ask(self, number: int) -> Proposal | Exhausted:
        """Propose a network that the controller emits.

        Raises:
            InfeasibleError: nothing meets the constraints.
        """
        rng = Random(f"{self._problem.seed}/{number}")
        emitted: list[Emission] = []
        size = 1
        last: Architecture | None = None

        def source(generator: Random, attempt: int) -> Architecture:
            nonlocal emitted, size, last
            for _ in range(REFUSED):
                if not emitted:
                    emitted = self._policy.draw(generator, size, 1 + attempt // WIDEN)[::-1]
                    size = min(AT_ONCE, 4 * size)
                last = self._tokens.read(emitted.pop().indices)
                if last is not None:
                    return last
            return self._problem.space.sample(generator)

        drawn = self._candidates.draw(rng, source)
        if isinstance(drawn, Exhausted):
            return drawn
        origin = "controller" if drawn is last else "random"  # the space, or the candidates' other ways, gave it
        proposal = Proposal(number=number, architecture=drawn, origin=origin)
        self.recall(proposal)
        return proposal

    def recall(self, proposal: Proposal) -> None:
        """Remember what was proposed."""
        self._candidates.note(proposal)
        self._pending[proposal.number] = _Episode(proposal.architecture)

    def tell(self, trial: Trial) -> None:
        """Take a trial's reward; learn when a batch is full."""
        if trial.state == "failed" and trial.error == UNMEASURED:
            return  # a race around this strategy has no result yet: nothing to reward, and its tokens are kept
        episode = self._pending.pop(trial.number, None) or _Episode(trial.architecture)
        reward = self._judge(trial)
        if reward is None:
            return
        baseline = reward if self._baseline is None else self._baseline
        episode.advantage = reward - baseline
        self._baseline = self.baseline_decay * baseline + (1 - self.baseline_decay) * reward
        self._told.append(episode)
        if len(self._told) >= (self.batch or BATCH[self.algorithm]):
            self._learn()
            self._told = []

    def _learn(self) -> None:
        """Update the weights by the batch."""
        advantages = torch.tensor([e.advantage for e in self._told], dtype=self._policy.dtype)
        batch = Batch.of(self._tokens, [e.sentence(self._tokens) for e in self._told])
        if self.algorithm == "reinforce":
            with torch.enable_grad():
                self._optimizer.climb(reinforce(self._policy.score(batch), advantages, self.entropy))
            return
        self._remember()
        old = pad_sequence([e.old for e in self._told if e.old is not None], batch_first=True)
        size = advantages.square().mean().sqrt()
        scaled = advantages / size if size > 0 else advantages
        for _ in range(self.epochs):
            with torch.enable_grad():
                self._optimizer.climb(ppo(self._policy.score(batch), old, scaled, self.clip, self.entropy))

    def _remember(self) -> None:
        """Note the probabilities by the weights of their proposal, before those change."""
        fresh = [e for e in (*self._told, *self._pending.values()) if e.old is None]
        if fresh:
            sentences = [e.sentence(self._tokens) for e in fresh]
            with torch.no_grad():
                rows = self._policy.score(sentences).log_probabilities
            for episode, sentence, row in zip(fresh, sentences, rows, strict=True):
                episode.old = row[: len(sentence.slots)].clone()


@dataclass(slots=True)
class _Episode:
    """A proposal until it is learnt from."""

    architecture: Architecture
    advantage: float = 0.0
    old: Tensor | None = None
    """Log-probability of each token by the weights of the proposal."""
    _sentence: Sentence | None = None

    def sentence(self, tokens: Tokens) -> Sentence:
        """Its tokens."""
        if self._sentence is None:
            self._sentence = tokens.write(self.architecture)
        return self._sentence


def reinforce(scores: Scores, advantages: Tensor, entropy: float = 0.0) -> Tensor:
    """What REINFORCE climbs: `(1/m) sum_k [A_k sum_t log p(a_kt) + entropy sum_t H_kt]`.

    Its gradient's expectation over sequences of the policy is that of the expected reward, for any baseline that does
    not depend on the sequence.

    Args:
        scores: Of m sequences.
        advantages: `(sequence,)`, reward less baseline.
        entropy: Weight of the entropy of each token's distribution, in nats.

    Reference:
        Williams (1992), "Simple statistical gradient-following algorithms", Machine Learning 8, theorem 1.
    """
    gain = advantages * scores.log_probabilities.sum(1)
    return (gain + entropy * scores.entropies.sum(1)).mean()


def ppo(scores: Scores, old: Tensor, advantages: Tensor, clip: float, entropy: float = 0.0) -> Tensor:
    """What PPO climbs: `(1/m) sum_k [sum_t min(r A, clip(r, 1 - e, 1 + e) A) + entropy sum_t H_kt]`, r = p / p_old.

    Args:
        scores: Of m sequences, by the weights that are learnt.
        old: `(sequence, step)`, log-probabilities by the weights that they were drawn with; 0 beyond the end.
        advantages: `(sequence,)`.
        clip: e.
        entropy: Weight of the entropy of each token's distribution, in nats.

    Reference:
        Schulman et al. (2017), "Proximal policy optimization algorithms", arXiv 1707.06347, equation 7.
    """
    ratio = (scores.log_probabilities - old).exp()  # 1 beyond a sequence's end: a constant, without gradient
    gain = torch.minimum(ratio * advantages[:, None], ratio.clamp(1 - clip, 1 + clip) * advantages[:, None])
    return (gain.sum(1) + entropy * scores.entropies.sum(1)).mean()


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
