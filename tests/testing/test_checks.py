"""The suites for spaces and estimators pass what is sound and name what is broken."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from nasturtium.space import Architecture
from nasturtium.testing import check_estimator, check_space, toy_space
from nasturtium.testing.problems import toy_outcome


@pytest.mark.parametrize("conditional", [False, True])
def test_toy_spaces_are_sound(conditional: bool) -> None:
    check_space(toy_space(3, 3, conditional=conditional))
    check_space(toy_space(1, 1))


@dataclass(frozen=True)
class Fixed:
    """The toy's outcome plus an offset."""

    offset: float = 0.0
    deterministic: bool = True

    @property
    def fingerprint(self) -> str:
        return f"fixed {self.offset}"

    def estimate(self, architecture: Architecture, fidelity: object, job: object) -> Mapping[str, float]:
        return {"accuracy": toy_outcome(architecture)["accuracy"] + self.offset, "train_seconds": random.random()}

    def expected_seconds(self, task: object, macs: float) -> float:
        return 0.0


class Noisy(Fixed):
    def estimate(self, architecture: Architecture, fidelity: object, job: object) -> Mapping[str, float]:
        return {"accuracy": random.random()}


def test_estimators() -> None:
    architecture = toy_space(2, 3).sample(random.Random(0))
    check_estimator(Fixed(), None, architecture)
    check_estimator(Noisy(deterministic=False), None, architecture)
    for broken, message in ((Fixed(offset=1.0), "is a fraction"), (Noisy(), "differs, though")):
        with pytest.raises(AssertionError, match=message):
            check_estimator(broken, None, architecture)
    with pytest.raises(AssertionError, match="lacks 'loss'"):
        check_estimator(Fixed(), None, architecture, metric="loss")


def test_no_torch() -> None:
    """Strategies, and what measures them against their laws, run without torch."""
    code: Any = "import sys, nasturtium.testing, nasturtium.strategies; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
