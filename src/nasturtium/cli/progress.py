"""The live display of a search: in a terminal a panel that renews itself, elsewhere one line a trial."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from nasturtium.cli.output import shown
from nasturtium.study import events
from nasturtium.study.checking import ROLE as CHECK
from nasturtium.study.method import ROLE as METHOD
from nasturtium.study.verification import ROLE as VERIFY
from nasturtium.trial import (
    Constraint,
    Objective,
    Trial,
    format_seconds,
    pareto_trials,
    violation,
)

TITLES = {
    "check": "check of the scores",
    "method": "shared weights",
    "search": "search",
    "baseline:random": "random search",
    "reference": "hand-designed",
    "verify": "finalists on the device",
}
FRONT_ROWS = 8


class Progress:
    """A listener that shows a search while it runs; use it as a context manager.

    Args:
        objectives: Of the search; the first is "the best".
        constraints: Of the search.
        live: Whether to renew a panel (a terminal) or to write lines.
        quiet: Show nothing but failures.
    """

    def __init__(
        self, objectives: Sequence[Objective], constraints: Sequence[Constraint], *, live: bool, quiet: bool = False
    ) -> None:
        self.objectives = tuple(objectives)
        self.constraints = tuple(constraints)
        self.quiet = quiet
        self.console = Console(stderr=True, highlight=False)
        self.live = Live(console=self.console, refresh_per_second=4, transient=True) if live and not quiet else None
        self.role = "search"
        self.budget = 0
        self.trials: list[Trial] = []
        self.running: dict[int, str] = {}
        self.failures: Counter[str] = Counter()
        self.started = time.monotonic()
        self.already = 0

    def __enter__(self) -> Self:
        if self.live:
            self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.live:
            self.live.stop()

    def __call__(self, event: events.Event) -> None:
        """Take note of an event."""
        match event:
            case events.RunStarted():
                self._begin(event)
            case events.TrialStarted():
                self.running[event.proposal.number] = ""
            case events.EpochReported() if event.role == METHOD:
                self._learnt(event)
            case events.EpochReported() if event.role == VERIFY:
                self._verified(event)
            case events.EpochReported() if event.role == CHECK:
                self.running = {event.number: f"network {event.step} of {self.budget}"}
            case events.EpochReported():
                values = [shown(k, v) for k, v in event.report.items() if k == self.objectives[0].metric]
                self.running[event.number] = f"epoch {event.step} {' '.join(values)}"
            case events.TrialFinished():
                self._finish(event.trial)
            case events.WorkerLost():
                self._say(f"worker of trial {event.number} was lost ({event.reason}); attempt {event.attempt} follows")
            case events.RunFinished() if event.reason:
                self._say(f"{TITLES.get(event.role, event.role)}: {event.reason}")
            case _:
                pass
        if self.live:
            self.live.update(self._panel())

    def _begin(self, event: events.RunStarted) -> None:
        self.role, self.budget, self.already = event.role, event.trials, event.finished
        self.trials, self.running, self.started = [], {}, time.monotonic()
        self.failures = Counter()
        if not self.live and not self.quiet:
            done = f", {event.finished} of them done before" if event.finished else ""
            unit = {METHOD: "epochs", CHECK: "networks", VERIFY: "networks"}.get(event.role, "trials")
            self._say(f"{TITLES.get(event.role, event.role)}: {event.trials or 'some'} {unit}{done}")

    def _learnt(self, event: events.EpochReported) -> None:
        """An epoch of shared weights."""
        values = "  ".join(f"{name} {value:.4g}" for name, value in event.report.items() if name != "epoch")
        self.running = {event.number: f"epoch {event.step}  {values}"}
        if not self.live and not self.quiet:
            self._say(f"epoch {event.step} of {self.budget}: {values}")

    def _verified(self, event: events.EpochReported) -> None:
        """A finalist measured on its device."""
        measured = {name: value for name, value in event.report.items() if name not in ("low", "high")}
        said = ", ".join(f"{name} {shown(name, value)}" for name, value in measured.items()) or "no int8 file"
        if "low" in event.report:
            name = next(iter(measured))
            said += f" ({shown(name, event.report['low'])} to {shown(name, event.report['high'])})"
        self.running = {event.number: said}
        if not self.live and not self.quiet:
            self._say(f"[{event.step}/{self.budget}] trial {event.number}: {said}")

    def _finish(self, trial: Trial) -> None:
        self.running.pop(trial.number, None)
        self.trials.append(trial)
        if trial.state == "failed":
            self.failures[trial.error_kind or "crashed"] += 1
            lines = (trial.error or "no message").strip().splitlines()
            self._say(f"trial {trial.number} failed ({trial.error_kind}): {lines[-1] if lines else ''}")
        elif not self.live and not self.quiet:
            values = "  ".join(f"{o.metric} {shown(o.metric, trial.metrics.get(o.metric))}" for o in self.objectives)
            broken = "" if violation(trial.metrics, self.constraints) == 0 else "  (breaks a constraint)"
            broken += "" if trial.fidelity.is_full else f"  (at {trial.fidelity.text})"
            self._say(
                f"[{self._done}/{self.budget}] trial {trial.number}: {values}{broken}  {self._best()}  {self._left()}"
            )

    @property
    def _done(self) -> int:
        return self.already + len(self.trials)

    def _best(self) -> str:
        first = self.objectives[0]
        values = [
            t.metrics[first.metric]
            for t in self.trials
            if t.state == "completed" and first.metric in t.metrics and violation(t.metrics, self.constraints) == 0
            if t.fidelity.is_full
        ]
        if not values:
            return "no feasible network yet"
        return f"best {shown(first.metric, max(values) if first.direction == 'maximize' else min(values))}"

    def _left(self) -> str:
        if not self.trials:
            return ""
        each = (time.monotonic() - self.started) / len(self.trials)
        return f"about {format_seconds(round(each * max(0, self.budget - self._done)))} left"

    def _say(self, text: str) -> None:
        self.console.print(Text(text), soft_wrap=True)

    def _panel(self) -> RenderableType:
        head = Table.grid(padding=(0, 2))
        head.add_row(
            Text(TITLES.get(self.role, self.role), style="bold"),
            ProgressBar(total=max(1, self.budget), completed=self._done, width=32),
            Text(f"{self._done}/{self.budget}"),
            Text(self._best(), style="bold green"),
            Text(f"{sum(self.failures.values())} failed", style="red" if self.failures else "dim"),
            Text(self._left(), style="dim"),
        )
        parts: list[RenderableType] = [head]
        full = [trial for trial in self.trials if trial.fidelity.is_full]
        front = pareto_trials(full, self.objectives, self.constraints)
        if front:
            parts.append(self._front_table(front))
        if self.running:
            now = "   ".join(f"{number}: {text or 'starting'}" for number, text in sorted(self.running.items()))
            parts.append(Text(f"running  {now}", style="dim", overflow="ellipsis", no_wrap=True))
        return Group(*parts)

    def _front_table(self, front: Sequence[Trial]) -> Table:
        first = self.objectives[0]
        order = sorted(front, key=lambda t: t.metrics[first.metric], reverse=first.direction == "maximize")
        table = Table(box=None, padding=(0, 2), title=None, header_style="dim")
        table.add_column("front", style="dim")
        for objective in self.objectives:
            table.add_column(objective.metric, justify="right")
        for trial in order[:FRONT_ROWS]:
            table.add_row(
                f"trial {trial.number}", *[shown(o.metric, trial.metrics.get(o.metric)) for o in self.objectives]
            )
        if len(order) > FRONT_ROWS:
            table.add_row(f"and {len(order) - FRONT_ROWS} more", *[""] * len(self.objectives))
        return table
