"""Training shared weights, resume, recalibration, saving, on a few real digits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch

import nasturtium as nas
from nasturtium.errors import InvalidInputError, StoreError, UnknownNameError
from nasturtium.supernets import (
    calibration_batches,
    extreme,
    insert,
    load,
    measure,
    recalibrate,
    save,
    train_single_path,
)
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
    with pytest.raises(UnknownNameError, match="fair"):
        train_single_path(shared, space, task, epochs=1, seed=0, sampler="fairest")
    with pytest.raises(InvalidInputError, match="parts"):
        train_single_path(shared, space, task, epochs=1, seed=0, parts=33)
    with pytest.raises(InvalidInputError, match="process group"):
        train_single_path(shared, space, task, epochs=1, seed=0, parallel=True)
    with pytest.raises(InvalidInputError, match=r"weights\.layers\.0\.conv\.conv\.weight"):
        train_single_path(
            shared, space, task, epochs=1, seed=0, initial={"weights.layers.0.conv.conv.wait": torch.ones(1)}
        )


class Killed(Exception):
    """Stands for a kill."""


def few(task: Task, images: int) -> Task:
    """The task with its first train images only."""
    rows = np.arange(images)
    return replace(task, splits=dict(task.splits) | {"train": task.split("train").take(rows)}, loader=None)


@pytest.mark.parametrize("recipe", [Recipe(), Recipe(optimizer="adamw", ema=0.9, clip=1.0)], ids=["sgd", "adamw"])
def test_a_killed_training_goes_on_to_the_same_weights(
    space: nas.Space, task: Task, tmp_path: Path, recipe: Recipe
) -> None:
    small = few(task, 256)

    def run(folder: Path, kill: int) -> tuple[nas.Supernet, int]:
        def report(record: Mapping[str, float]) -> None:
            if record["epoch"] == kill:
                raise Killed

        shared = nas.supernet(space, task.input_shape, seed=0, **task.context)
        result = train_single_path(
            shared, space, small, recipe, epochs=3, seed=4, sampler="fair", directory=folder, on_epoch=report
        )
        return shared, result.resumed

    whole, _ = run(tmp_path / "whole", 0)
    for kill in (1, 2):
        folder = tmp_path / str(kill)
        with pytest.raises(Killed):
            run(folder, kill)
        parts, resumed = run(folder, 0)
        assert resumed == kill
        assert all(
            torch.equal(a, b) for a, b in zip(parts.state_dict().values(), whole.state_dict().values(), strict=True)
        )
    with pytest.raises(InvalidInputError, match="another network"):
        train_single_path(whole, space, small, recipe, epochs=3, seed=5, directory=tmp_path / "whole")


def test_precision_and_layout(space: nas.Space, task: Task) -> None:
    """Bfloat16 and channels-last give nearly the same losses; the weights stay float32."""
    small = few(task, 256)

    def losses(**settings: Any) -> list[float]:
        shared = nas.supernet(space, task.input_shape, seed=0, **task.context)
        result = train_single_path(shared, space, small, Recipe(**settings), epochs=2, seed=0)
        assert {p.dtype for p in shared.parameters()} == {torch.float32}
        return [record["loss"] for record in result.history]

    plain = losses(precision="float32", memory_format="contiguous")
    assert losses(memory_format="channels_last") == pytest.approx(plain, rel=1e-3)
    rough = losses(precision="bfloat16")
    assert rough != plain
    assert rough == pytest.approx(plain, rel=0.05)


def test_an_average_of_weights_is_that_of_its_definition(space: nas.Space, task: Task) -> None:
    """One step: from the start w0 and the first update w1, a decay of (1 + 1) / (10 + 1) gives 2/11 w0 + 9/11 w1."""
    small, path = few(task, 64), space.sample(Random(0))

    def weights(ema: float | None) -> dict[str, torch.Tensor]:
        shared = nas.supernet(space, task.input_shape, seed=0, **task.context)
        if ema != 0.0:
            recipe = Recipe(ema=ema, batch_size=64)
            train_single_path(shared, space, small, recipe, epochs=1, seed=0, paths=0, always=[path])
        return {name: p.detach() for name, p in shared.named_parameters()}

    before, after, mean = weights(0.0), weights(None), weights(0.999)
    for name, found in mean.items():
        torch.testing.assert_close(found, 2 / 11 * before[name] + 9 / 11 * after[name])


def test_starting_from_given_weights(space: nas.Space, task: Task) -> None:
    """What no step trains is what was given; what a closed network learned can be put in, and comes out again."""
    smallest = extreme(space, "smallest", task.input_shape, Random(0), **task.context)
    shared = nas.supernet(space, task.input_shape, seed=0, **task.context)
    other = nas.supernet(space, task.input_shape, seed=1, **task.context)
    used = {where.name for where in shared.shared_weights(smallest).values()}
    initial = {name: tensor for name, tensor in other.state_dict().items() if "repeat" not in name}
    train_single_path(shared, space, few(task, 64), epochs=1, seed=0, paths=0, always=[smallest], initial=initial)
    for name, tensor in shared.state_dict().items():
        if name not in used:
            assert torch.equal(tensor, initial[name])
    for seed in range(3):
        architecture = space.sample(Random(seed))
        network = nas.build(nas.trace(architecture, task.input_shape, **task.context), seed=seed)
        insert(other, architecture, network.state_dict())
        found = other.extract(architecture).state_dict()
        assert all(torch.equal(found[name], tensor) for name, tensor in network.state_dict().items())
    with pytest.raises(InvalidInputError, match="no weight 'conv'"):
        insert(other, architecture, {"conv": torch.ones(1)})


def test_fair_steps_sum_their_gradients(task: Task) -> None:
    """One step of SGD without momentum moves weights by the sum of the single paths' gradients."""
    space = nas.Space(nas.Sequential(nas.Conv(nas.one_of(2, 4, 6), stride=2), nas.Classifier()))
    small = few(task, 64)
    recipe = Recipe(learning_rate=0.1, momentum=0.0, weight_decay=0.0, warmup=0.0, augment="none", batch_size=64)

    def moved(**settings: Any) -> torch.Tensor:
        shared = nas.supernet(space, task.input_shape, seed=0, **task.context)
        before = torch.cat([p.detach().flatten() for p in shared.parameters()])
        train_single_path(shared, space, small, recipe, epochs=1, seed=0, **settings)
        return torch.cat([p.detach().flatten() for p in shared.parameters()]) - before

    singles = sum(moved(paths=0, always=[a]) for a in space.enumerate())
    torch.testing.assert_close(moved(sampler="fair"), singles, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(moved(paths=0, always=list(space.enumerate())), singles / 3, rtol=1e-4, atol=1e-6)


def test_the_channels_of_spos() -> None:
    """Channel search: hidden widths are slices of one supernet, whose widest path is the whole of it."""
    space = nas.zoo.space("spos_channels")
    shared = nas.supernet(space, (3, 32, 32), seed=0, classes=10).eval()
    widest = space.architecture({d.name: d.count - 1 for d in space.decisions}, indices=True)
    narrow = space.architecture({d.name: 0 for d in space.decisions}, indices=True)
    assert sum(p.numel() for p in shared.parameters()) == nas.trace(widest, (3, 32, 32), classes=10).params
    name = "layers.1.blocks.1.main.expand.conv.weight"
    few_, all_ = (shared.parameters_of(a)[name] for a in (narrow, widest))
    assert few_.shape[0] == int(32 * 0.2)
    assert all_.shape[0] == 64
    assert torch.equal(few_, all_[: len(few_)])
    assert few_.data_ptr() == all_.data_ptr()
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    for seed in range(2):
        path = space.sample(Random(seed))
        assert torch.equal(shared.set(path)(x), shared.extract(path)(x))
