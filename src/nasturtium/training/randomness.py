"""Randomness that depends on the seed and the epoch alone, and leaves PyTorch's global state as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def derived_seed(*parts: int) -> int:
    """A seed of 63 bits that differs for every combination of parts."""
    return int(np.random.SeedSequence([p & 0xFFFFFFFFFFFFFFFF for p in parts]).generate_state(1, np.uint64)[0] >> 1)


def seed_generators(seed: int, device: torch.device) -> None:
    """Seed the global generators from which layers on a device draw, and no others.

    `torch.manual_seed` would reseed every accelerator, whichever is used.
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)


@contextmanager
def local_randomness(seed: int, device: torch.device) -> Iterator[None]:
    """Seed PyTorch's global generators, which dropout layers draw from, and put them back afterwards.

    Args:
        seed: Determines all that is drawn inside.
        device: Where; other accelerators keep their state.
    """
    devices = [device] if device.type == "cuda" else []
    deterministic = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True)
    with torch.random.fork_rng(devices=devices), deterministic:
        seed_generators(seed, device)
        yield
