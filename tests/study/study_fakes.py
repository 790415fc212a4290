"""Real classes with made-up metrics: a small space, an estimator that can misbehave, a strategy that remembers all."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

import nasturtium as nas
from nasturtium.errors import TrialError
from nasturtium.tasks import Task, load
from nasturtium.trial import Exhausted, Problem, Proposal, Trial, Wait


class Net(nas.Block):
    """Two convolutions and a linear layer."""

    first: int = 4
    second: int = 4
    kernel: int = 3
    deep: bool = False

    def forward(self, x):
        x = nas.ops.conv(x, self.first, kernel=self.kernel, name="first")
        x = nas.ops.conv(x, self.second, kernel=3, stride=2, name="second")
        if self.deep:
            x = nas.ops.conv(x, self.second, kernel=3, name="third")
        return nas.ops.linear(
            nas.ops.flatten(nas.ops.global_pool(x, name="pool"), name="flat"), x.context.classes, name="fc"
        )


def space(largest: int = 12) -> nas.Space:
    return nas.Space(
        Net(
            first=nas.int_range(2, largest, name="first"),
            second=nas.int_range(2, largest, name="second"),
            kernel=nas.one_of(1, 3, 5, name="kernel"),
            deep=nas.one_of(False, True, name="deep"),
        )
    )


def task() -> Task:
    return load("digits")


def score(key: str, seed: int) -> float:
    """A made-up accuracy in [0.5, 1) that depends on the network and a little on the seed."""
    value = int.from_bytes(hashlib.sha256(key.encode()).digest()[:6], "big") / 2**48
    noise = int.from_bytes(hashlib.sha256(f"{key}{seed}".encode()).digest()[:6], "big") / 2**48
    return 0.5 + 0.45 * value + 0.04 * noise


@dataclass(frozen=True)
class Fake:
    """Epoch by epoch, with a checkpoint; `faults` maps a trial's number (or "all") to what goes wrong in it."""

    epochs: int = 3
    pause: float = 0.0
    faults: dict = field(default_factory=dict)
    images: int = 300

    def expected_seconds(self, task: object, macs: float, params: float = 0.0) -> float:
        return self.epochs * max(self.pause, 0.001)

    def estimate(self, architecture, fidelity, job):
        number = job.directory.name
        fault = self.faults.get(number, self.faults.get("all"))
        if fault is not None:
            misbehave(fault, job.directory)
        checkpoint = job.directory / "checkpoint.json"
        state = json.loads(checkpoint.read_text()) if checkpoint.is_file() else {"epoch": 0, "sum": 0.0}
        value = score(architecture.key, job.seed)
        while state["epoch"] < self.epochs:
            time.sleep(self.pause)
            state = {"epoch": state["epoch"] + 1, "sum": state["sum"] + value / self.epochs}
            partial = checkpoint.with_suffix(".part")
            partial.write_text(json.dumps(state))
            partial.replace(checkpoint)
            job.report({"epoch": state["epoch"], "loss": 1 / state["epoch"]})
        right = np.random.default_rng(job.seed).random(self.images) < value
        np.save(job.directory / "correct.npy", right)
        return {"accuracy": float("nan") if fault == "nan" else state["sum"], "loss": 1 - value}


def misbehave(fault: str, directory: Path) -> None:
    attempts = directory / "attempts"
    attempts.write_text(attempts.read_text() + "x" if attempts.is_file() else "x")
    match fault:
        case "raise":
            raise ValueError("the layer does not like this")
        case "diverge":
            raise TrialError("the loss exploded", kind="diverged")
        case "memory error":
            raise MemoryError
        case "hog":
            hoard = []
            while True:
                hoard.append(bytearray(b"x") * (16 << 20))
                time.sleep(0.005)
        case "hang":
            time.sleep(1000)
        case "die":
            os.kill(os.getpid(), signal.SIGKILL)
        case "die once" if attempts.read_text() == "x":
            os.kill(os.getpid(), signal.SIGKILL)
        case "segfault":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "exit":
            print("last words", file=sys.stderr, flush=True)
            os._exit(7)
        case "disk":
            raise OSError(28, "No space left on device")


@dataclass
class Climber:
    """Mutates the best of what it was told; answers `Wait` now and then; its path betrays any change of order."""

    wait_every: int = 0
    limit: int | None = None

    def setup(self, problem: Problem) -> None:
        self.problem = problem
        self.told: list[Trial] = []
        self.proposed = 0
        self.digest = ""

    def ask(self, number: int):
        import random

        if self.limit is not None and number >= self.limit:
            return Exhausted("the climber is tired")
        if self.wait_every and number % self.wait_every == 0 and len(self.told) < number - 1 and number > 2:
            return Wait()
        rng = random.Random(f"{self.problem.seed}/{number}/{self.digest}")
        done = [t for t in self.told if t.state == "completed"]
        if not done:
            return Proposal(number=number, architecture=self.problem.space.sample(rng), origin="random")
        best = max(done, key=lambda t: t.metrics["accuracy"])
        child = self.problem.space.mutate(best.architecture, rng)
        return Proposal(number=number, architecture=child, parents=(best.number,), origin="mutation")

    def recall(self, proposal: Proposal) -> None:
        self.proposed += 1

    def tell(self, trial: Trial) -> None:
        self.told.append(trial)
        self.digest = hashlib.sha256(f"{self.digest}{trial.number}{trial.metrics}".encode()).hexdigest()


def summary(study) -> list:
    """What must not depend on stops or workers."""
    return [
        (role, m.number, m.architecture.key, m.trial.parents, m.trial.origin, m.trial.state, m.trial.error_kind,
         tuple(sorted((k, v) for k, v in m.metrics.items() if k != "train_seconds")))
        for role in ("search", "baseline:random", "reference")
        for m in study.members(role)
    ]  # fmt: skip
