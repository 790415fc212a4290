"""The suites for spaces and estimators pass what is sound and name what is broken."""

from __future__ import annotations

import math
import random
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from nasturtium.space import Architecture
from nasturtium.tasks import Split, Task
from nasturtium.testing import ContractError, check_estimator, check_space, toy_space
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
    check_estimator(Fixed(), architecture, None)
    check_estimator(Noisy(deterministic=False), architecture, None)
    for broken, message in ((Fixed(offset=1.0), "is a fraction"), (Noisy(), "differs, though")):
        with pytest.raises(AssertionError, match=message):
            check_estimator(broken, architecture, None)
    with pytest.raises(AssertionError, match="lacks 'loss'"):
        check_estimator(Fixed(), architecture, None, metric="loss")


class Tasklike(Task):
    pass


@dataclass(frozen=True)
class Peeking(Fixed):
    """Looks at the test split; `hidden` swallows the guard's error, which must not help."""

    hidden: bool = False

    def estimate(self, architecture: Architecture, fidelity: object, job: Any) -> Mapping[str, float]:
        try:
            job.task.split("test")
        except AssertionError:
            if not self.hidden:
                raise
        return super().estimate(architecture, fidelity, job)


def test_an_estimator_must_not_touch_the_test_split() -> None:
    architecture = toy_space(2, 3).sample(random.Random(0))
    images, labels = np.zeros((4, 1, 2, 2), np.uint8), np.arange(4) % 2
    split = Split(images=images, labels=labels)
    task = Tasklike(
        name="tiny", splits={"train": split, "validation": split, "test": split}, class_names=("a", "b"), source="made"
    )
    assert check_estimator(Fixed(), architecture, task)["accuracy"] > 0
    for hidden in (False, True):
        with pytest.raises(ContractError, match="test split") as raised:
            check_estimator(Peeking(hidden=hidden), architecture, task)
        assert raised.value.law == "test_untouched"


def test_metrics_must_be_finite() -> None:
    architecture = toy_space(2, 3).sample(random.Random(0))
    for offset in (math.nan, math.inf):
        with pytest.raises(ContractError, match="not finite"):
            check_estimator(Fixed(offset=offset, deterministic=False), architecture, None)  # type: ignore[arg-type]


def test_no_torch() -> None:
    """Strategies, and what measures them against their laws, run without torch."""
    code: Any = "import sys, nasturtium.testing, nasturtium.strategies; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
