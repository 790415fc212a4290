"""Every strategy, stopped on the way and resumed, goes on as if nothing had happened; also on real training."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import study_fakes as fakes

import nasturtium as nas
from nasturtium.strategies import load
from nasturtium.study import Study


class Stop(Exception):
    pass


def stopper(count: int):
    seen = []

    def listen(event) -> None:
        seen.append(event)
        if len(seen) == count:
            raise Stop

    return listen


@pytest.mark.parametrize("name", ("evolution", "grid", "local", "random"))
def test_stopped_anywhere_and_resumed_by_name(run, tmp_path, name) -> None:
    options = {"strategy": load(name), "trials": 24, "fake": {"epochs": 1, "faults": {"5": "raise"}}}
    whole = fakes.summary(run("whole.db", **options))
    assert len(whole) == 24
    for count in (3, 14, 21):
        with pytest.raises(Stop):
            run("stopped.db", listeners=[stopper(count)], **(options | {"strategy": load(name)}))
    resumed = nas.resume(tmp_path / "stopped.db")
    assert fakes.summary(resumed) == whole
    keys = [row[2] for row in whole]
    assert len(set(keys)) == len(keys)


REAL = """
import sys
sys.path.insert(0, {here!r})
import study_fakes as fakes, nasturtium as nas
nas.search(fakes.space(), "digits", maximize="accuracy", minimize="macs", constraints=["params <= 2k"], trials=12,
           estimator=nas.estimators.Trained(epochs=6), study=sys.argv[1], workers=int(sys.argv[2]), baseline="random",
           strategy=nas.strategies.RegularizedEvolution(population=4, sample=2))
"""


@pytest.mark.slow
def test_real_training_killed_many_times_gives_the_same_study(tmp_path) -> None:
    script = REAL.format(here=str(Path(__file__).parent))

    def start(name: str, workers: int) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", script, str(tmp_path / name), str(workers)]
        return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)

    whole = start("whole.db", 1)
    assert whole.wait(300) == 0, whole.stderr.read()
    rng, kills = random.Random(3), 0
    while True:
        process = start("killed.db", 1 + kills % 2)
        try:
            process.wait(rng.uniform(1.5, 3.5) if kills < 8 else 300)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
            continue
        assert process.returncode == 0, process.stderr.read()
        break
    studies = [Study.open(tmp_path / name) for name in ("whole.db", "killed.db")]
    print(f"{kills} kills of real training; {json.dumps(studies[1].facts['runs'])}")
    assert kills >= 3
    assert fakes.summary(studies[0]) == fakes.summary(studies[1])
    for ours, theirs in zip(studies[0].members(), studies[1].members(), strict=True):
        if ours.weights.is_file():
            assert ours.weights.read_bytes() == theirs.weights.read_bytes()
