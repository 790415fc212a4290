"""What tells one supernet, and one training, from another: files and checkpoints of another are refused."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import nasturtium as nas
from nasturtium.blocks.darts_cell import Pool, SepConv, Skip
from nasturtium.errors import InvalidInputError, StoreError
from nasturtium.supernets import OneShot, Run, load, save, train_single_path
from nasturtium.supernets.storage import digest_of, fingerprint_of
from nasturtium.training import Recipe
from tests.supernets.mixtures import network, space, task


def stage(activation: str) -> nas.Space:
    """Two spaces of one name for each decision and weight, which differ in what no weight shows."""
    return nas.Space(
        nas.Sequential(nas.Conv(nas.one_of(4, 8, name="width"), act=activation), nas.Conv(4), nas.Classifier())
    )


class StopError(Exception):
    pass


def stop(record: object) -> None:
    raise StopError


def test_a_file_of_other_operations_is_refused(tmp_path: Path) -> None:
    first, same, other = (nas.supernet(stage(a), (1, 8, 8), seed=0, classes=3) for a in ("relu", "relu", "silu"))
    assert {n: t.shape for n, t in first.state_dict().items()} == {n: t.shape for n, t in other.state_dict().items()}
    assert fingerprint_of(first) == fingerprint_of(same) != fingerprint_of(other)
    save(first, tmp_path / "weights")
    load(same, tmp_path / "weights")
    with pytest.raises(StoreError, match="its operations differ"):
        load(other, tmp_path / "weights")
    load(nas.supernet(stage("relu"), (1, 12, 12), seed=0, classes=3), tmp_path / "weights")  # larger images fit


def test_what_a_branch_reads_counts() -> None:
    pools = [nas.one_of(Skip(affine=False), Pool(p, norm=True), SepConv(3, affine=False), name="a") for p in
             ("avg", "max")]  # fmt: skip
    made = [nas.supernet(network(pool), (1, 8, 8), seed=0, classes=3) for pool in pools]
    assert fingerprint_of(made[0]) != fingerprint_of(made[1])


def test_the_fingerprint_is_the_same_in_another_process() -> None:
    program = (
        "import nasturtium as nas\nfrom nasturtium.supernets.storage import fingerprint_of\n"
        "from tests.supernets.mixtures import space\n"
        "print(fingerprint_of(nas.supernet(space(), (1, 8, 8), seed=5, classes=3)))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment)
    assert found.stdout.strip() == fingerprint_of(nas.supernet(space(), (1, 8, 8), seed=0, classes=3))


def test_the_digest_sees_what_a_sum_does_not() -> None:
    assert digest_of({"a": torch.tensor([1.0, 2.0])}) != digest_of({"a": torch.tensor([2.0, 1.0])})
    assert digest_of({"a": torch.tensor([1.0, 2.0])}) == digest_of({"a": torch.tensor([1.0, 2.0])})


def test_a_checkpoint_from_other_start_weights_is_refused(tmp_path: Path) -> None:
    data, method = task(), OneShot(epochs=2, samples=1, keep=1, calibration=12, recipe=Recipe(batch_size=12), sample=0)
    searched = network(nas.one_of(Skip(affine=False), Pool("avg", norm=True), name="a"))
    shared = nas.supernet(searched, data.input_shape, seed=0, **data.context)
    name, weight = next((n, t) for n, t in shared.state_dict().items() if t.ndim == 4)
    run = Run(task=data, seed=0, directory=tmp_path, report=stop, initial={name: weight})
    with pytest.raises(StopError):
        method.search(searched, run)
    turned = {name: weight.flip(0)}  # of the same sum
    with pytest.raises(InvalidInputError, match="another network, recipe"):
        method.search(searched, replace(run, initial=turned))
    assert len(method.search(searched, replace(run, report=None)).history) == 2


@pytest.mark.parametrize("change", ["operations", "conditions"])
def test_a_checkpoint_of_another_space_is_refused(tmp_path: Path, change: str) -> None:
    data, searched = task(), stage("relu")
    other = stage("silu") if change == "operations" else searched.where(wide, ["width"])
    for given, error in ((searched, StopError), (other, InvalidInputError)):
        shared = nas.supernet(given, data.input_shape, seed=0, **data.context)
        with pytest.raises(error):
            train_single_path(
                shared, given, data, Recipe(batch_size=12), epochs=2, seed=0, directory=tmp_path, on_epoch=stop
            )


def test_one_shot_refuses_a_checkpoint_of_other_operations(tmp_path: Path) -> None:
    data, method = task(), OneShot(epochs=2, samples=1, keep=1, calibration=12, recipe=Recipe(batch_size=12), sample=0)
    for act, error in (("relu", StopError), ("silu", InvalidInputError)):
        pool = nas.one_of(Skip(affine=False), Pool("avg", norm=True), name="a")
        searched = nas.Space(nas.Sequential(nas.Conv(4, act=act), pool, nas.Classifier()))
        with pytest.raises(error):
            method.search(searched, Run(task=data, seed=0, directory=tmp_path, report=stop))


def wide(width: int) -> bool:
    return width > 0
