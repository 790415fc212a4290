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
from nasturtium.errors import StoreError
from nasturtium.strategies import STRATEGIES
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


LIGHT = {
    "auto": "auto(switch=8)",
    "bananas": "bananas(members=2, epochs=20, initial=6)",
    "bayesian": "bayesian(candidates=10, parents=2)",
    "controller": "controller(hidden=8, batch=4)",
    "hyperband": "hyperband(strategy=evolution(population=5, sample=2), enough=4)",
    "predictor": "predictor(regressor=ridge, initial=6, candidates=200)",
}
"""Settings, as text, of those that are slow by default."""


@pytest.mark.parametrize("name", STRATEGIES)
def test_stopped_anywhere_and_resumed_by_name(run, tmp_path, name) -> None:
    trials, stops = (14, (16,)) if name in LIGHT else (24, (3, 14, 21))
    options = {"strategy": LIGHT.get(name, name), "trials": trials, "fake": {"epochs": 1, "faults": {"5": "raise"}}}
    whole = fakes.summary(run("whole.db", **options))
    assert len(whole) == trials
    for count in stops:
        with pytest.raises(Stop):
            run("stopped.db", listeners=[stopper(count)], **options)
    resumed = nas.resume(tmp_path / "stopped.db")
    assert fakes.summary(resumed) == whole
    keys = [(trial.architecture.key, trial.fidelity) for trial in resumed.trials]
    assert len(set(keys)) == len(keys)


def test_the_default_is_auto(run) -> None:
    study = run("default.db", strategy=None, trials=2)
    assert study.settings["compared"]["strategy"] == {
        "type": "nasturtium.strategies.learned.auto:Auto", "arguments": {"switch": nas.strategies.Auto().switch},
    }  # fmt: skip


def test_a_reward_of_ones_own_is_imported_when_trusted(run, tmp_path, monkeypatch) -> None:
    (tmp_path / "my_reward.py").write_text("def squared(metrics):\n    return metrics['accuracy'] ** 2\n")
    monkeypatch.syspath_prepend(tmp_path)
    run(strategy="controller(hidden=8, batch=4, reward='my_reward:squared')", trials=3)
    monkeypatch.delitem(sys.modules, "my_reward")
    with pytest.raises(StoreError, match="my_reward"):
        nas.resume(tmp_path / "study.db", trials=4)
    assert len(nas.resume(tmp_path / "study.db", trials=4, trust=True).trials) == 4


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
