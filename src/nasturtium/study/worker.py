"""A worker process: reads work as JSON lines from its input, writes what comes of it to its output.

Started as `python -c "from nasturtium.study.worker import main; main()"` by `pool`; imports PyTorch once, then lives
for many trials. It ends when its input does, that is also when the search is killed.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

MARK = "NASTURTIUM_WORKER"
"""Environment variable that holds the search's process number in a worker."""


def main() -> None:
    """Serve until the input ends."""
    _die_with_parent(int(os.environ[MARK]))
    output = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)  # what a trial prints goes to the log, not into the conversation
    lines: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_read, args=(lines,), daemon=True).start()
    lock = threading.Lock()

    def say(message: Mapping[str, Any]) -> None:
        with lock:
            output.write(json.dumps(message) + "\n")
            output.flush()

    serve = _prepare(json.loads(lines.get()), say)
    if serve is None:
        return
    say({"type": "ready"})
    while True:
        serve(json.loads(lines.get()))


def _die_with_parent(parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the search's to handle
    if sys.platform == "linux":
        import ctypes  # noqa: PLC0415

        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)


def _read(lines: queue.Queue[str]) -> None:
    stream: IO[str] = os.fdopen(os.dup(0), encoding="utf-8")
    for line in stream:
        lines.put(line)
    os._exit(0)  # the search is gone


def _prepare(
    setup: dict[str, Any], say: Callable[[Mapping[str, Any]], None]
) -> Callable[[dict[str, Any]], None] | None:
    """Open the task and make the estimator; says what went wrong if that fails."""
    try:
        sys.path[:] = setup["path"]
        if setup["main"]:
            from multiprocessing import spawn  # noqa: PLC0415

            spawn._fixup_main_from_path(setup["main"])  # type: ignore[attr-defined]
            _adopt_script()
        from nasturtium import tasks  # noqa: PLC0415
        from nasturtium.study.codec import restore  # noqa: PLC0415

        estimator = restore(setup["estimator"], "estimator", trust=True)
        task = tasks.open(tasks.TaskReference.from_dict(setup["task"]))
        besides = None
        if setup["besides"] is not None:
            from nasturtium.study.device_costs import measurer  # noqa: PLC0415

            besides = measurer(setup["besides"])
        _limit_threads(setup["threads"])
    except Exception as error:  # noqa: BLE001  (whatever it is, the search must hear of it)
        import traceback  # noqa: PLC0415

        say({"type": "unusable", "error": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc()})
        return None
    return lambda message: _run(message, estimator, task, setup, say, besides)


def _adopt_script() -> None:
    """Blocks of the user's script are stored as those of `__main__`; here the script has another name."""
    from nasturtium.space import Block  # noqa: PLC0415

    known = Block._known
    known.update({name.replace("__mp_main__:", "__main__:", 1): found for name, found in known.items()})


def _limit_threads(threads: int) -> None:
    import torch  # noqa: PLC0415

    torch.set_num_threads(threads)


def _run(
    message: dict[str, Any],
    estimator: Any,
    task: Any,
    setup: Mapping[str, Any],
    say: Callable[[Mapping[str, Any]], None],
    besides: Any,
) -> None:
    from nasturtium.space import Architecture  # noqa: PLC0415
    from nasturtium.study.work import Work, classify, measure  # noqa: PLC0415
    from nasturtium.trial.types import Fidelity  # noqa: PLC0415

    say({"type": "started"})
    started = time.perf_counter()
    try:
        work = Work(
            role=message["role"],
            number=message["number"],
            architecture=Architecture.from_dict(message["architecture"], trust=True),
            fidelity=Fidelity(**message["fidelity"]),
            seed=message["seed"],
            directory=Path(message["directory"]),
            parents=tuple(
                [(Architecture.from_dict(parent, trust=True), Path(place)) for parent, place in message["parents"]]
            ),
        )
        metrics = measure(
            estimator, work, task, threads=setup["threads"], device=setup["device"],
            report=lambda values: say({"type": "report", "values": dict(values)}), besides=besides,
        )  # fmt: skip
    except (Exception, SystemExit) as error:  # noqa: BLE001  a trial's failure is a failed trial
        kind, text = classify(error)
        say({"type": "failed", "kind": kind, "error": text, "seconds": time.perf_counter() - started})
    else:
        say({"type": "done", "metrics": metrics, "seconds": time.perf_counter() - started})
