"""Randomness that depends on the seed and the epoch alone, and leaves PyTorch's global state as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def derived_seed(*parts: int) -> int:
    """A seed of 63 bits that differs for every combination of parts."""
    return int(np.random.SeedSequence([p & 0xFFFFFFFFFFFFFFFF for p in parts]).generate_state(1, np.uint64)[0] >> 1)


@contextmanager
def local_randomness(seed: int, device: torch.device) -> Iterator[None]:
    """Seed PyTorch's global generators, which dropout layers draw from, and put them back afterwards."""
    devices = [device] if device.type == "cuda" else []
    deterministic = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True)
    with torch.random.fork_rng(devices=devices), deterministic:
        torch.manual_seed(seed)
        yield
