"""Two processes train what one does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import distributed, multiprocessing

import nasturtium as nas
from nasturtium.supernets import OneShot, Run, train_single_path
from nasturtium.training import Recipe
from nasturtium.zoo import nasbench201


def network() -> nas.Space:
    return nas.Space(
        nas.Sequential(
            nas.Conv(nas.one_of(4, 8), stride=2),
            nas.repeat(nas.MBConv(8, kernel=nas.one_of(3, 5), expand=2), nas.one_of(1, 2)),
            nas.Classifier(dropout=0.2),
        )
    )


def trained(method: str, *, parallel: bool) -> dict[str, torch.Tensor]:
    """Weights and statistics after two epochs of three steps, each batch in two parts."""
    digits = nas.tasks.load("digits")
    splits = dict(digits.splits) | {"train": digits.split("train").take(np.arange(192))}
    task = replace(digits, splits=splits, loader=None)
    recipe = Recipe(batch_size=64, clip=1.0)
    space = network() if method == "fair" else nasbench201.space(width=4, cells=1)
    shared = nas.supernet(space, task.input_shape, seed=0, **task.context)
    if method == "fair":
        train_single_path(shared, space, task, recipe, epochs=2, seed=1, sampler="fair", parts=2, parallel=parallel)
    else:
        one_shot = OneShot(epochs=2, recipe=recipe, parts=2, dropout=0.5)
        one_shot.train(shared, Run(task=task, seed=1, parallel=parallel))
    return {name: tensor.clone() for name, tensor in shared.state_dict().items()}


def work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    for method in ("fair", "one shot"):
        torch.save(trained(method, parallel=True), f"{folder}/{method} {rank}.pt")
    distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_are_one_process(tmp_path: Path) -> None:
    """The weights are those of one process with the same parts, within the rounding of float32 sums.

    Each part has its own batch statistics, dropout and path dropout in both. Running statistics are averaged over the
    processes, which one process does not do: they are equal between the two only.
    """
    multiprocessing.spawn(work, (str(tmp_path),), nprocs=2)
    for method in ("fair", "one shot"):
        alone = trained(method, parallel=False)
        first, second = (torch.load(tmp_path / f"{method} {rank}.pt", weights_only=True) for rank in (0, 1))
        for name, tensor in alone.items():
            assert torch.equal(first[name], second[name]), name
            if "running" not in name and "num_batches" not in name:
                torch.testing.assert_close(first[name], tensor, rtol=1e-4, atol=1e-5)
