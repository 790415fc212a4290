"""ENAS' controller against hand-computed steps."""

from __future__ import annotations

import math
from random import Random

import pytest
import torch

import nasturtium as nas
from nasturtium.errors import IncompatibleError, InvalidInputError
from nasturtium.supernets.enas_controller import SharedController, Skips, Teaching, skip_penalty
from nasturtium.zoo import enas_macro


def toy(options: int = 2) -> nas.Space:
    return nas.Space(nas.Sequential(nas.Conv(nas.one_of(*range(4, 4 + options), name="width")), nas.Classifier()))


def controller(space: nas.Space, **teaching: object) -> SharedController:
    return SharedController(space, Teaching(hidden=4, **teaching), seed=0)  # type: ignore[arg-type]


def both(space: nas.Space) -> list[nas.Architecture]:
    return [space.architecture({"width": i}, indices=True) for i in range(2)]


def test_gradient_of_two_options_is_the_one_by_hand() -> None:
    """d/d bias_i of (1/m) sum_k A_k log p(a_k) is (1/m) sum_k A_k (1[i = a_k] - p_i) without a tanh constant."""
    space = toy()
    made = controller(space, tanh_constant=None, entropy=0.0, baseline_decay=0.9)
    first, second = both(space)
    p = torch.tensor(made.log_probabilities([first, second])).exp()
    made.learn([first, second, second], [0.8, 0.2, 0.6])
    b1 = 0.1 * 0.8
    b2 = b1 + 0.1 * (0.2 - b1)
    b3 = b2 + 0.1 * (0.6 - b2)
    advantages = [0.8 - b1, 0.2 - b2, 0.6 - b3]
    assert made.baseline == pytest.approx(b3)
    eye = torch.eye(2)
    by_hand = sum(a * (eye[i] - p) for a, i in zip(advantages, (0, 1, 1), strict=True)) / 3
    assert isinstance(by_hand, torch.Tensor)
    assert made.policy.biases.grad is not None
    torch.testing.assert_close(made.policy.biases.grad, by_hand, rtol=1e-5, atol=1e-7)


def test_entropy_enters_through_the_reward_and_has_no_gradient() -> None:
    space = toy()
    with_entropy = controller(space, entropy=0.5, baseline_decay=0.0)
    record = with_entropy.learn(both(space), [0.5, 0.5])
    p = math.exp(controller(space).log_probabilities(both(space)[:1])[0])
    entropy = -p * math.log(p) - (1 - p) * math.log(1 - p)
    assert record["reward"] == pytest.approx(0.5 + 0.5 * entropy, rel=1e-5)
    # A decay of 0 makes the baseline the reward itself, so nothing is learnt: the entropy is no objective.
    assert with_entropy.policy.biases.grad is not None
    assert float(with_entropy.policy.biases.grad.abs().max()) < 1e-7


def test_first_step_of_adam_is_that_of_the_code() -> None:
    """Without momentum the first step is rate * g / (|g| + epsilon), uphill."""
    space = toy()
    made = controller(space, learning_rate=0.01)
    before = made.policy.biases.detach().clone()
    made.learn(both(space)[:1], [1.0])
    gradient = made.policy.biases.grad
    assert gradient is not None
    step = 0.01 * gradient / (gradient.abs() + 1e-3)
    torch.testing.assert_close(made.policy.biases.detach() - before, step, rtol=1e-4, atol=1e-7)


def test_it_learns_which_of_four_options_is_good() -> None:
    space = toy(4)
    made = controller(space, learning_rate=0.02, tanh_constant=2.5)
    rng = Random(1)
    for _ in range(60):
        drawn = made.draw(rng, 10)
        made.learn(drawn, [0.9 if a.decisions["width"] == 2 else 0.3 for a in drawn])
    good = space.architecture({"width": 2}, indices=True)
    assert math.exp(made.log_probabilities([good])[0]) > 0.8


def test_skip_penalty_is_the_divergence_by_hand() -> None:
    space = enas_macro.space(width=4, layers=3)
    made = controller(space, skips=Skips(pattern="*_skip_*", target=0.4))
    drawn = made.draw(Random(0), 5)
    sentences = [made.tokens.write(a) for a in drawn]
    scores = made.policy.score(sentences)
    penalty, rate = skip_penalty(scores, sentences, made.slots, 0.4)
    names = ["layer_1_skip_0", "layer_2_skip_0", "layer_2_skip_1"]
    total, connected = 0.0, 0
    for row, (architecture, sentence) in enumerate(zip(drawn, sentences, strict=True)):
        for name in names:
            step = sentence.slots.index(made.tokens.first_slot[made.tokens.names.index(name)])
            p = math.exp(scores.log_probabilities[row, step].item())
            chosen = architecture.decisions[name]
            p = p if chosen else 1 - p
            total += p * math.log(p / 0.4) + (1 - p) * math.log((1 - p) / 0.6)
            connected += chosen
    assert penalty.item() == pytest.approx(total / (2 * 5), rel=1e-4)  # two layers have skips
    assert rate == connected / 15


def test_skip_rate_is_pulled_to_its_target() -> None:
    space = enas_macro.space(width=4, layers=3)
    made = controller(space, skips=Skips(pattern="*_skip_*", target=0.2), learning_rate=0.05, tanh_constant=None)
    rng = Random(0)
    for _ in range(60):
        drawn = made.draw(rng, 5)
        made.learn(drawn, [0.5] * 5)  # nothing to choose by accuracy
    probabilities = [
        math.exp(made.log_probabilities([a])[0])
        for a in [space.architecture({d.name: i for d in space.decisions}, indices=True) for i in (0, 1)]
    ]
    assert probabilities[0] > probabilities[1]
    skips = [v for a in made.draw(rng, 200) for k, v in a.decisions.items() if "skip" in k]
    assert 0.1 < sum(skips) / len(skips) < 0.3


def test_state_puts_everything_back() -> None:
    space = toy()
    one, other = controller(space), controller(space)
    one.learn(both(space), [0.9, 0.1])
    state = one.state_dict()
    other.learn(both(space), [0.1, 0.9])
    other.load_state_dict(state)
    for made in (one, other):
        made.learn(both(space), [0.3, 0.6])
    assert one.baseline == other.baseline
    for p, q in zip(one.policy.parameters, other.policy.parameters, strict=True):
        assert torch.equal(p, q)
    assert one.draw(Random(3), 6) == other.draw(Random(3), 6)


def test_bad_settings_say_what_to_change() -> None:
    space = enas_macro.space(width=4, layers=3)
    with pytest.raises(IncompatibleError, match="No decision's name fits"):
        controller(space, skips=Skips(pattern="nothing*"))
    with pytest.raises(IncompatibleError, match="two options"):
        controller(space, skips=Skips(pattern="*_op"))
    with pytest.raises(InvalidInputError, match="target"):
        Skips(pattern="*", target=1.0)
    for bad in ({"learning_rate": 0.0}, {"hidden": 0}, {"entropy": -1.0}, {"baseline_decay": 1.0}):
        with pytest.raises(InvalidInputError, match=next(iter(bad))):
            Teaching(**bad)  # type: ignore[arg-type]
