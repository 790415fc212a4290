"""Training shared weights, recalibration, saving, on a few real digits."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
import torch

import nasturtium as nas
from nasturtium.errors import InvalidInputError, StoreError
from nasturtium.supernets import calibration_batches, extreme, load, measure, recalibrate, save, train_single_path
from nasturtium.tasks import Task
from nasturtium.training import Recipe, fit


@pytest.fixture(scope="module")
def task() -> Task:
    return nas.tasks.load("digits")


@pytest.fixture(scope="module")
def space() -> nas.Space:
    return nas.Space(
        nas.Sequential(
            nas.Conv(nas.one_of(8, 16), stride=2),
            nas.repeat(nas.MBConv(16, kernel=nas.one_of(3, 5), expand=nas.one_of(1, 2)), nas.one_of(1, 2)),
            nas.Classifier(),
        )
    )


@pytest.fixture(scope="module")
def trained(space: nas.Space, task: Task) -> nas.Supernet:
    shared = nas.supernet(space, task.input_shape, seed=0, **task.context)
    result = train_single_path(shared, space, task, Recipe(), epochs=8, seed=0)
    assert result.paths == 8 * (len(task.split("train")) // 64)
    assert result.history[-1]["loss"] < 0.9 * result.history[0]["loss"]
    return shared


def test_inherited_weights_are_far_better_than_chance(trained: nas.Supernet, space: nas.Space, task: Task) -> None:
    accuracies = [measure(trained, space.sample(Random(seed)), task).accuracy for seed in range(3)]
    assert min(accuracies) > 0.25  # chance is 0.1


def test_training_is_a_function_of_the_seed(space: nas.Space, task: Task) -> None:
    def weights(seed: int) -> torch.Tensor:
        shared = nas.supernet(space, task.input_shape, seed=0, **task.context)
        always = [extreme(space, "smallest", task.input_shape, Random(0), **task.context)]
        train_single_path(shared, space, task, epochs=1, seed=seed, always=always, paths=1)
        return torch.cat([p.detach().flatten() for p in shared.parameters()])

    first = weights(1)
    assert torch.equal(first, weights(1))
    assert not torch.equal(first, weights(2))


def test_one_fixed_path_is_training_alone(space: nas.Space, task: Task) -> None:
    """The same losses, step by step: shared weights change nothing where nobody shares."""
    shared = nas.supernet(space, task.input_shape, seed=0, **task.context)
    architecture = space.sample(Random(1))
    alone = fit(shared.extract(architecture), task, epochs=2, seed=0)
    ours = train_single_path(shared, space, task, epochs=2, seed=0, paths=0, always=[architecture])
    losses = [[epoch["loss"] for epoch in result.history] for result in (alone, ours)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_weights_of_paths_not_taken_stay(space: nas.Space, task: Task) -> None:
    shared = nas.supernet(space, task.input_shape, seed=0, **task.context)
    smallest = extreme(space, "smallest", task.input_shape, Random(0), **task.context)
    before = {name: p.detach().clone() for name, p in shared.named_parameters()}
    train_single_path(shared, space, task, epochs=1, seed=0, paths=0, always=[smallest])
    used = {where.name for where in shared.shared_weights(smallest).values()}
    for name, parameter in shared.named_parameters():
        assert torch.equal(parameter, before[name]) == (name not in used)


def test_recalibration_takes_the_statistics_of_the_given_images() -> None:
    network = nas.build(nas.trace(nas.Conv(4, act="identity"), (2, 5, 5)), seed=0)
    generator = torch.Generator().manual_seed(0)
    batches = [torch.randn(6, 2, 5, 5, generator=generator), torch.randn(2, 2, 5, 5, generator=generator) + 1]
    recalibrate(network, batches)
    convolved = [network.conv.conv(x) for x in batches]
    mean = (6 * convolved[0].mean((0, 2, 3)) + 2 * convolved[1].mean((0, 2, 3))) / 8
    variance = (6 * convolved[0].var((0, 2, 3), correction=0) + 2 * convolved[1].var((0, 2, 3), correction=0)) / 8
    torch.testing.assert_close(network.conv.norm.running_mean, mean)
    torch.testing.assert_close(network.conv.norm.running_var, variance)
    assert not network.training
    with pytest.raises(InvalidInputError, match="at least one batch"):
        recalibrate(network, [])


def test_calibration_images_depend_on_the_seed_only(task: Task) -> None:
    first, second = calibration_batches(task, images=50, batch=20), calibration_batches(task, images=50, batch=20)
    assert [len(x) for x in first] == [20, 20, 10]
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_extremes_bound_every_architecture(space: nas.Space) -> None:
    low, high = (extreme(space, w, (1, 8, 8), Random(0), classes=10) for w in ("smallest", "largest"))  # type: ignore[arg-type]
    macs = [nas.cost(a, (1, 8, 8), classes=10).macs for a in space.enumerate()]
    assert nas.cost(low, (1, 8, 8), classes=10).macs == min(macs)
    assert nas.cost(high, (1, 8, 8), classes=10).macs == max(macs)


def test_saving_and_loading(trained: nas.Supernet, space: nas.Space, task: Task, tmp_path: Path) -> None:
    save(trained, tmp_path / "shared.safetensors")
    assert [p.name for p in tmp_path.iterdir()] == ["shared.safetensors"]
    other = nas.supernet(space, task.input_shape, seed=1, **task.context)
    load(other, tmp_path / "shared.safetensors")
    assert all(torch.equal(a, b) for a, b in zip(other.parameters(), trained.parameters(), strict=True))
    with pytest.raises(StoreError, match="shapes"):
        load(nas.supernet(space, task.input_shape, seed=1, classes=3), tmp_path / "shared.safetensors")
    with pytest.raises(StoreError, match="another space"):
        load(nas.supernet(nas.Conv(4), task.input_shape), tmp_path / "shared.safetensors")
    with pytest.raises(StoreError, match="cannot be read"):
        load(other, tmp_path / "absent.safetensors")


def test_bad_arguments_are_refused(space: nas.Space, task: Task) -> None:
    shared = nas.supernet(space, task.input_shape, seed=0, **task.context)
    with pytest.raises(InvalidInputError, match="epochs"):
        train_single_path(shared, space, task, epochs=0, seed=0)
    with pytest.raises(InvalidInputError, match="path"):
        train_single_path(shared, space, task, epochs=1, seed=0, paths=0)
    with pytest.raises(InvalidInputError, match="ema"):
        train_single_path(shared, space, task, Recipe(ema=0.9), epochs=1, seed=0)
