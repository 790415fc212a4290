"""Batches, augmentation, recipe."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nasturtium import tasks
from nasturtium.errors import DataError, InvalidInputError
from nasturtium.tasks import Augmentation
from nasturtium.training import Recipe
from nasturtium.training.feed import Feed, cut_out, shifted, subset
from nasturtium.training.optimization import make_optimizer, schedule
from nasturtium.training.randomness import derived_seed

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def digits():
    return tasks.load("digits")


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 4), st.integers(0, 4), st.sampled_from(["black", "reflect"]))
def test_a_shift_is_a_crop_of_the_padded_image(dy, dx, padding):
    x = torch.arange(1.0, 2 * 3 * 5 * 6 + 1).view(2, 3, 5, 6)
    got = shifted(x, torch.tensor([[dy, dx], [2, 2]]), 2, padding)
    mode = {"mode": "constant"} if padding == "black" else {"mode": "reflect"}
    padded = np.pad(x.numpy(), ((0, 0), (0, 0), (2, 2), (2, 2)), **mode)
    assert np.array_equal(got[0].numpy(), padded[0, :, dy : dy + 5, dx : dx + 6])
    assert torch.equal(got[1], x[1])


def test_cutout_is_a_square():
    x = torch.ones(1, 2, 8, 8)
    out = cut_out(x, torch.tensor([[4, 0]]), 4)
    assert out[0, 0].eq(0).sum() == 4 * 2
    assert out[0, 0, 2:6, 0:2].eq(0).all()


def test_an_epoch_shows_each_image_once_whatever_the_chunk(digits):
    feed = Feed(digits.split("train"), digits, device=CPU, augmentation=Augmentation(shift=1, flip=True, cutout=2))
    epochs = []
    for chunk in (1, 200, 10**6):
        feed.chunk = chunk
        batches = list(feed.shuffled(50, torch.Generator().manual_seed(0), torch.contiguous_format))
        assert [len(x) for x, _ in batches] == [50] * (1079 // 50)
        epochs.append(torch.cat([x for x, _ in batches]))
    assert torch.equal(epochs[0], epochs[1])
    assert torch.equal(epochs[0], epochs[2])
    plain = Feed(digits.split("train"), digits, device=CPU)
    rows = torch.cat([x for x, _ in plain.shuffled(83, torch.Generator().manual_seed(1), torch.contiguous_format)])
    assert len(rows) == 1079
    assert torch.allclose(rows.mean(), torch.zeros(()), atol=1e-5)
    assert torch.allclose(rows.std(), torch.ones(()), atol=1e-3)


@given(st.floats(0.01, 0.99), st.floats(0.01, 0.99))
@settings(max_examples=20, deadline=None)
def test_shares_are_nested_and_stratified(a, b):
    labels = np.arange(500) % 5
    small, large = (set(subset(labels, s).tolist()) for s in sorted((a, b)))
    assert small <= large
    counts = np.bincount(labels[sorted(large)], minlength=5)
    assert counts.max() == counts.min()
    assert subset(labels, 1.0) is None


@given(st.integers(1, 500), st.floats(0, 0.9))
def test_the_schedule_rises_then_falls(steps, warmup):
    rates = [schedule(i, steps, warmup) for i in range(steps)]
    assert all(0 < r <= 1 for r in rates)
    top = rates.index(max(rates))
    assert all(a <= b for a, b in itertools.pairwise(rates[: top + 1]))
    assert all(a >= b for a, b in itertools.pairwise(rates[top:]))


def test_norms_and_biases_do_not_decay():
    model = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.BatchNorm2d(4))
    decaying, free = make_optimizer(model, Recipe(), 64).param_groups
    assert [tuple(p.shape) for p in decaying["params"]] == [(4, 1, 3, 3)]
    assert free["weight_decay"] == 0.0
    assert len(free["params"]) == 3


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_the_fused_optimizer_equals_the_plain_one(layout, name):
    torch.manual_seed(0)
    models = [torch.nn.Conv2d(3, 8, 3).to(memory_format=layout) for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    recipe = Recipe(optimizer=name)
    fused = make_optimizer(models[0], recipe, 64)
    groups = [{**g, "params": list(models[1].parameters())[i : i + 1]} for i, g in enumerate(fused.param_groups)]
    plain = type(fused)([{k: v for k, v in g.items() if k not in ("fused", "foreach")} for g in groups], foreach=False)
    for step in range(5):
        x = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(step))
        for model, optimizer in zip(models, (fused, plain), strict=True):
            optimizer.zero_grad()
            model(x.to(memory_format=layout)).square().mean().backward()
            optimizer.step()
    assert torch.allclose(models[0].weight, models[1].weight, atol=1e-6)


def test_seeds_differ():
    assert len({derived_seed(a, b, c) for a in range(10) for b in range(10) for c in range(2)}) == 200
    assert derived_seed(-1, 0) >= 0


def test_recipe_json_and_errors():
    recipe = Recipe(optimizer="adamw", augment=Augmentation(shift=2, flip=True), ema=0.99, clip=1.0)
    assert Recipe.from_dict(recipe.to_dict()) == recipe
    with pytest.raises(InvalidInputError, match="Did you mean 'momentum'"):
        Recipe.from_dict({"momentun": 0.9})
    for wrong in (
        {"optimizer": "adam"}, {"learning_rate": 0.0}, {"learning_rate": "fast"}, {"momentum": 1.0}, {"ema": -0.1},
        {"batch_size": 1}, {"precision": "half"}, {"augment": "flip"}, {"memory_format": "nhwc"}, {"warmup": 1.0},
    ):  # fmt: skip
        with pytest.raises(InvalidInputError, match=next(iter(wrong))):
            Recipe(**wrong)
    with pytest.raises(DataError, match="pixels"):
        Augmentation(shift=-1)
