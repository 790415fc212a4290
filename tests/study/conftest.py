"""A search in this process, or as a process of its own that can be killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import study_fakes as fakes

import nasturtium as nas
from nasturtium.study import Study

HERE = Path(__file__).parent


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Study]:
    """`nas.search` with fakes; keyword arguments override."""

    def search(name: str = "study.db", *, fake=None, climber=None, space=None, **options) -> Study:
        arguments = {
            "maximize": "accuracy", "minimize": "macs", "trials": 8, "study": tmp_path / name,
            "strategy": fakes.Climber(**climber or {}), "estimator": fakes.Fake(**fake or {}),
        } | options  # fmt: skip
        return nas.search(space or fakes.space(), arguments.pop("task", "digits"), **arguments)

    return search


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """The same search as its own process."""
    begun: list[subprocess.Popen[str]] = []

    def search(name: str = "study.db", **options) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, str(HERE / "run_search.py"), str(tmp_path / name), json.dumps(options)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"},
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # ignored where tests run in background
        )  # fmt: skip
        begun.append(process)
        return process

    yield search
    for process in begun:
        if process.poll() is None:
            process.kill()
        process.communicate()
