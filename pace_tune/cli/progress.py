"""How far runs are: a moving line each in a terminal, a line now and then in a log."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from pace_tune.cli.output import console

LOG_LINES, LOG_LINES_OF_SEVERAL = 10, 2
"""About so many lines a run writes to a log, and each of several runs."""
SILENCE_S = 30.0
"""A log that says nothing for longer looks like a fault: the next epoch of any run gets a line."""


class EpochProgress:
    """Shows the reports of runs on stderr.

    Args:
        quiet: Show nothing.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self._console = console(stderr=True)
        self._quiet = quiet
        columns = (
            TextColumn("{task.fields[label]}epoch"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.description}"),
        )
        self._bars = Progress(*columns, console=self._console, transient=True, disable=quiet or not self._console.is_terminal)
        self._tasks: dict[str, TaskID] = {}
        self._said_at_s = time.monotonic()

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bars.stop()

    def show(self, report: Mapping[str, Any], *, label: str = "") -> None:
        """Show one report.

        Args:
            report: Of a worker.
            label: What to call the run where several are shown.
        """
        epoch, epochs, line = report["epoch"], report["epochs"], headline(report["metrics"])
        if label not in self._tasks:
            self._tasks[label] = self._bars.add_task("", total=epochs, label=f"{label} " if label else "")
        self._bars.update(self._tasks[label], completed=epoch, description=line)
        lines = LOG_LINES_OF_SEVERAL if label else LOG_LINES
        due = epoch % math.ceil(epochs / lines) == 0 or report["state"] != "running"
        due = due or time.monotonic() - self._said_at_s > SILENCE_S
        if due and not self._quiet and not self._console.is_terminal:
            self._console.print(f"{label + ' ' if label else ''}epoch {epoch}/{epochs}  {line}", markup=False)
            self._said_at_s = time.monotonic()


def headline(metrics: Mapping[str, float]) -> str:
    """Return the few metrics that say how a run goes."""
    names = [key for key in metrics if key == "train/loss" or key.startswith("val/")]
    return "  ".join(f"{key} {metrics[key]:.4f}" for key in sorted(names))
