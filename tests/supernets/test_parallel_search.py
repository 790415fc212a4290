"""Searches by two processes find what one does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import distributed, multiprocessing

import nasturtium as nas
from nasturtium.errors import InvalidInputError, TrialError
from nasturtium.model.binary import Binary
from nasturtium.supernets import DARTS, ENAS, Alone, OnceForAll, OneShot, ProxylessNAS, Run, Searcher
from nasturtium.supernets.enas_controller import Teaching
from nasturtium.supernets.parallel import Parted, Team, _like
from nasturtium.supernets.searcher import SearchResult
from nasturtium.supernets.specialize import EvolutionSettings
from nasturtium.tasks import Task
from nasturtium.training import Recipe
from nasturtium.zoo import nasbench201
from tests.supernets import mixtures

CPU = torch.device("cpu")
RECIPE = Recipe(learning_rate=0.05, batch_size=25, warmup=0.0, clip=1.0, memory_format="contiguous")
ALONE = Alone(epochs=1, recipe=RECIPE)
DARTS_SETTINGS: dict[str, Any] = {"epochs": 2, "batch_size": 11}
PROXYLESS: dict[str, Any] = {
    "epochs": 2, "warmup": 1, "recipe": RECIPE, "share": 0.3, "every": 1, "learning_rate": 0.05, "cost": "macs",
    "reference": 1e5,
}  # fmt: skip
METHODS: dict[str, Searcher] = {
    "darts": DARTS(**DARTS_SETTINGS, cost="macs", cost_weight=1e-6),
    "darts, second order": DARTS(**DARTS_SETTINGS, order=2),
    "darts, bfloat16": DARTS(**DARTS_SETTINGS, precision="bfloat16"),
    "gdas": DARTS.gdas(**DARTS_SETTINGS),
    "proxyless": ProxylessNAS(**PROXYLESS),
    "proxyless, two paths": ProxylessNAS(**PROXYLESS, paths="two"),
    "proxyless, reinforce": ProxylessNAS(**PROXYLESS, variant="reinforce", samples=3),
    "enas": ENAS(
        epochs=2, recipe=RECIPE, restart=None, share=0.3, steps=3, samples=3, teaching=Teaching(hidden=8),
        candidates=3, sample=2, alone=ALONE,
    ),
    "once for all": OnceForAll(
        epochs=6, recipe=RECIPE, measured=5, calibration=50, sample=2, alone=ALONE,
        evolution=EvolutionSettings(population=8, generations=2),
    ),
    "one shot, averaged": OneShot(epochs=2, recipe=replace(RECIPE, ema=0.9), samples=2, calibration=50, sample=0),
    "one shot": OneShot(epochs=2, recipe=RECIPE, dropout=0.3, samples=4, calibration=50, sample=2, alone=ALONE),
}  # fmt: skip


def pieces(name: str) -> tuple[nas.Space, Task]:
    """Space and task of a method; batches do not divide evenly into two."""
    if name.startswith(("darts", "gdas")):
        return mixtures.space(), mixtures.task(66)
    digits = nas.tasks.load("digits")
    small = {"train": digits.split("train").take(np.arange(100)), "validation": digits.split("validation")}
    task = replace(digits, splits={**digits.splits, **small}, loader=None)
    if name.startswith("one shot"):
        return nasbench201.space(width=4, cells=1), task
    if name == "once for all":
        block = nas.MBConv(8, kernel=nas.one_of(3, 5), expand=nas.one_of(1, 2))
    else:
        block = nas.one_of(nas.Conv(8), nas.MBConv(8, kernel=5, expand=2), nas.Identity())
    stage = nas.repeat(block, nas.one_of(1, 2) if name == "once for all" else 2)
    return nas.Space(nas.Sequential(nas.Conv(8, stride=2), stage, nas.Classifier(dropout=0.2))), task


def search(name: str, *, seed: int = 1, **circumstances: Any) -> SearchResult:
    space, task = pieces(name)
    return METHODS[name].search(space, Run(task=task, seed=seed, **circumstances))


class KilledError(Exception):
    pass


def work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    for name in METHODS:
        keep(search(name, parts=2, parallel=True), Path(folder, f"{name} {rank}"))

    def kill(record: Any) -> None:
        if record["epoch"] == 1:
            raise KilledError

    for name in ("darts", "enas"):
        place = Path(folder, f"{name} checkpoint")
        with pytest.raises(KilledError):
            search(name, parallel=True, directory=place, report=kill)
        keep(search(name, parallel=True, directory=place), Path(folder, f"{name} again {rank}"))
    for name in ("darts", "one shot"):
        with pytest.raises(InvalidInputError, match="process 1 differs from process 0"):
            search(name, parallel=True, seed=rank)
    assert Team.of_group().of_first(lambda: rank) == 0
    with pytest.raises(ZeroDivisionError if rank == 0 else TrialError, match="zero"):
        Team.of_group().of_first(lambda: 1 // 0)
    distributed.destroy_process_group()


def keep(result: SearchResult, place: Path) -> None:
    history = [{k: v for k, v in record.items() if k != "seconds"} for record in result.history]
    found = [f.architecture.key for f in result.found]
    notes = [note for note in result.notes if " s besides" not in note]
    trust = None if result.trust is None else result.trust.to_dict()
    torch.save({"state": dict(result.state), "history": history, "found": found, "notes": notes, "trust": trust}, place)


def statistic(name: str) -> bool:
    return "running" in name or "num_batches" in name


@pytest.mark.slow
def test_two_processes_are_one_process(tmp_path: Path) -> None:
    """Weights, losses and what is found are those of one process with the same parts, within float32 rounding.

    Running statistics are averaged over the processes, which one process does not do: they, and what is measured with
    them, are equal between the two only.
    """
    multiprocessing.spawn(work, (str(tmp_path),), nprocs=2)
    for name in METHODS:
        keep(search(name, parts=2), tmp_path / "one")
        one, first, second = (
            torch.load(tmp_path / file, weights_only=True) for file in ("one", f"{name} 0", f"{name} 1")
        )
        assert first["found"] == second["found"] == one["found"], name
        assert first["history"] == second["history"], name
        assert first["notes"] == second["notes"], name
        assert first["trust"] == second["trust"], name
        rough = {"rtol": 2e-2, "atol": 2e-2} if "bfloat16" in name else {"rtol": 1e-3, "atol": 1e-4}
        for key, tensor in one["state"].items():
            assert torch.equal(first["state"][key], second["state"][key]), (name, key)
            if not statistic(key):
                torch.testing.assert_close(first["state"][key], tensor, **rough, msg=lambda m: f"{name}: {m}")
        for record, expected in zip(first["history"], one["history"], strict=True):
            assert record == pytest.approx(expected, rel=20 * rough["rtol"], abs=rough["atol"]), name
    for name in ("darts", "enas"):
        for rank in (0, 1):
            whole, again = (torch.load(tmp_path / f"{name} {kind}{rank}", weights_only=True) for kind in ("", "again "))
            assert again["history"] == whole["history"]
            assert again["found"] == whole["found"]
            assert all(torch.equal(again["state"][key], tensor) for key, tensor in whole["state"].items())


@pytest.mark.parametrize("name", ["darts", "darts, second order", "proxyless", "enas"])
def test_parts_are_parts_of_the_same_batches(name: str) -> None:
    """Two parts are another training than one, from the same start on the same images: losses are alike, not equal."""
    one, two = search(name), search(name, parts=2)
    first, other = one.history[0]["loss"], two.history[0]["loss"]
    assert first != other
    assert other == pytest.approx(first, rel=0.3)
    again = search(name, parts=2)
    assert all(torch.equal(again.state[key], tensor) for key, tensor in two.state.items())


def test_gradients_of_parts_add_up() -> None:
    w, unused = torch.tensor([1.0, 2.0], requires_grad=True), torch.tensor(1.0, requires_grad=True)
    x, y = torch.arange(10.0).view(5, 2), torch.zeros(5)
    parted = Parted(Team(), 2, CPU)
    shares = [share for _, _, share in parted.own((x, y), 0)]
    assert shares == [0.6, 0.4]
    losses = (share * (part @ w).mean() for part, _, share in parted.own((x, y), 0))
    value, (gradient, none) = Team().gradients(losses, [w, unused])
    assert value.item() == pytest.approx((x @ w).mean().item())
    torch.testing.assert_close(gradient, x.mean(0))
    assert none is None
    with pytest.raises(InvalidInputError, match="no loss"):
        Team().gradients(iter(()), [w])


def test_gradients_lie_in_memory_as_their_weights_do() -> None:
    """Fused optimisers pair the two element by element as they lie there."""
    weight = torch.randn(4, 3, 2, 2).to(memory_format=torch.channels_last)
    values = torch.arange(48.0)
    found = _like(weight, values)
    assert found.stride() == weight.stride()
    assert torch.equal(found, values.view(4, 3, 2, 2))


def test_gates_draw_once_for_all_parts() -> None:
    gate = Binary({"a": 5}, seed=0)
    gate.requires_grad_(False)
    batch = (torch.zeros(6, 1), torch.zeros(6))
    drawn = []
    for _ in range(20):
        step = [gate.weights("a", 5).index for _ in Parted(Team(), 3, CPU, gate).own(batch, 7)]
        assert len(step) == 3
        assert len(set(step)) == 1
        drawn.append(step[0])
    alone = Binary({"a": 5}, seed=0)
    alone.requires_grad_(False)
    assert [alone.weights("a", 5).index for _ in range(20)] == drawn


def test_bad_parts_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="multiple of the 2 processes, got 3"):
        Parted.of(Team(0, 2), 3, CPU)
    with pytest.raises(InvalidInputError, match="integer of 1 or more, or None, got 0"):
        Parted.of(Team(), 0, CPU)
    with pytest.raises(InvalidInputError, match="2 images or more, got 8 parts of a batch of 11"):
        search("darts", parts=8)
    with pytest.raises(InvalidInputError, match="init_process_group"):
        search("proxyless", parallel=True)
    space, task = pieces("one shot")
    with pytest.raises(InvalidInputError, match="give one of the two"):
        OneShot(epochs=1, parts=2, sample=0).search(space, Run(task=task, seed=0, parts=3))
