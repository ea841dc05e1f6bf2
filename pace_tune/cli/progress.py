"""How far runs are: a moving line each in a terminal, a line now and then in a log."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.table import Column

from pace_tune.cli.output import console
from pace_tune.wording import time_left

LOG_LINES, LOG_LINES_OF_SEVERAL = 10, 2
"""About so many lines a run writes to a log, and each of several runs."""
SPEED_OVER_S = 600.0
"""The time left is guessed from what was done in so long."""
AT_ONCE_S = 0.02
SILENCE_S = 30.0
"""A log that says nothing for longer looks like a fault: the next epoch of any run gets a line."""


class EpochProgress:
    """Shows the reports of runs on stderr, and guesses the time that is left.

    Args:
        epochs: Of all runs together.
        quiet: Show nothing.
    """

    def __init__(self, *, epochs: int, quiet: bool = False) -> None:
        self._console = console(stderr=True)
        self._quiet = quiet
        columns = (
            TextColumn("{task.fields[label]}epoch", table_column=Column(no_wrap=True)),
            MofNCompleteColumn(),
            BarColumn(bar_width=16),
            # What has no room is cut off here: the count stays.
            TextColumn("{task.description}", table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis")),
        )
        hidden = quiet or not self._console.is_terminal
        self._bars = Progress(*columns, console=self._console, transient=True, disable=hidden, expand=True)
        self._all = self._bars.add_task("", total=epochs, label="all runs ", visible=False)
        self._tasks: dict[str, TaskID] = {}
        self._speed = _Speed(epochs)
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
        epoch, epochs, ended, line = report["epoch"], report["epochs"], report["state"] != "running", headline(report["metrics"])
        now_s = time.monotonic()
        self._speed.take(label, epoch, of=epochs, ended=ended, now_s=now_s)
        left = self._speed.left()
        if label not in self._tasks:
            self._tasks[label] = self._bars.add_task("", total=epochs, label=f"{label} " if label else "")
        self._bars.update(self._tasks[label], completed=epoch, description=line if label else f"{left}  {line}".lstrip())
        self._bars.update(self._all, completed=self._speed.done, total=self._speed.total, description=left, visible=bool(label))
        lines = LOG_LINES_OF_SEVERAL if label else LOG_LINES
        due = epoch % math.ceil(epochs / lines) == 0 or ended
        due = due or now_s - self._said_at_s > SILENCE_S
        if due and not self._quiet and not self._console.is_terminal:
            self._console.print(f"{label + ' ' if label else ''}epoch {epoch}/{epochs}  {line}  {left}".rstrip(), markup=False)
            self._said_at_s = now_s


class _Speed:
    """How many epochs runs do in a while, and so how long the others take.

    Args:
        total: Epochs of all runs together; one that ends early takes the rest of its own away.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self._before = 0
        """Epochs that were done when we came."""
        self._at: dict[str, int] = {}
        self._samples: deque[tuple[float, int]] = deque()

    @property
    def done(self) -> int:
        """Epochs that were done."""
        return sum(self._at.values())

    def take(self, run: str, epoch: int, *, of: int, ended: bool, now_s: float) -> None:
        """Take up where a run stands."""
        if run not in self._at and epoch > 1:
            self._before += epoch
        self._at[run] = epoch
        self.total -= of - epoch if ended else 0
        # Runs that train together report together.
        if self._samples and now_s - self._samples[-1][0] < AT_ONCE_S:
            now_s, _ = self._samples.pop()
        self._samples.append((now_s, self.done - self._before))
        while len(self._samples) > 2 and now_s - self._samples[0][0] > SPEED_OVER_S:
            self._samples.popleft()

    def left(self) -> str:
        """Return the time that is left in words; nothing where there is none, or it cannot be guessed yet."""
        (first_s, first), (last_s, last) = self._samples[0], self._samples[-1]
        if last == first or self.done >= self.total:
            return ""
        return time_left((last_s - first_s) / (last - first) * (self.total - self.done))


def headline(metrics: Mapping[str, float]) -> str:
    """Return the few metrics that say how a run goes."""
    names = [key for key in metrics if key == "train/loss" or key.startswith("val/")]
    return "  ".join(f"{key} {metrics[key]:.4f}" for key in sorted(names))
