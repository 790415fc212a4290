"""Randomness from a seed, which leaves all other generators alone."""

from __future__ import annotations

import pytest
import torch

from nasturtium.training.randomness import local_randomness, seed_generators


def test_the_global_state_is_as_before_and_the_draws_are_the_seeds() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    with local_randomness(3, torch.device("cpu")):
        drawn = torch.rand(4)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(3)
    assert torch.equal(torch.rand(4), drawn)


def test_on_the_cpu_no_accelerator_is_seeded(monkeypatch: pytest.MonkeyPatch) -> None:
    seeded: list[int] = []
    for name in ("manual_seed", "manual_seed_all"):
        monkeypatch.setattr(torch.cuda, name, seeded.append)
    with local_randomness(3, torch.device("cpu")):
        seed_generators(4, torch.device("cpu"))
    assert seeded == []
