"""The sweep in a terminal: best so far, running lanes with their curves, what was stopped or broke and why, pace and cost."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from pace_tune.cluster.lanes import Report
from pace_tune.search.book import Book
from pace_tune.search.entry import Entry, lane_number

REFRESHES_PER_S = 4
ROWS = 12
"""Running trials that the table shows."""
ENDED_ROWS = 4
"""The last trials that were stopped or broke."""
SPARK_WIDTH = 14
BLOCKS, LETTERS = "▁▂▃▄▅▆▇█", "_.-:=+*#"
"""Heights of a curve, and those of a terminal that knows no Unicode."""
BROKEN = ("failed", "diverged", "out_of_memory")
BAR_WIDTH = 24
LEAST_COST = 0.01
SPEED = "speed/samples_per_s"


@dataclass(frozen=True)
class Footprint:
    """What a sweep holds while it runs: workers, and the GPUs of each."""

    workers: int = 1
    gpus_per_worker: float = 0.0

    def cost(self, elapsed_s: float) -> str:
        """Return the cost of the time so far; nothing where it rounds to nothing."""
        hours = elapsed_s / 3600 * self.workers
        what, spent = ("GPU-hours", hours * self.gpus_per_worker) if self.gpus_per_worker else ("worker-hours", hours)
        return f"{spent:.2f} {what}" if spent >= LEAST_COST else ""


class TableDisplay:
    """A table that is drawn again four times a second.

    Args:
        book: The sweep's trials.
        console: Where to draw; None is the terminal.
        footprint: What the sweep holds.
    """

    def __init__(self, book: Book, *, console: Console | None = None, footprint: Footprint | None = None) -> None:
        self._book, self._footprint, self._started_at = book, footprint or Footprint(), time.monotonic()
        self._reports: dict[str, Report] = {}
        self._ended: deque[Entry] = deque(maxlen=ENDED_ROWS)
        self._epochs_before = book.tally.epochs
        self._console = console or Console()
        self._blocks = BLOCKS if self._console.encoding.startswith("utf") else LETTERS
        self._live = Live(console=self._console, refresh_per_second=REFRESHES_PER_S, get_renderable=self.picture)

    def start(self) -> None:
        """Begin to draw."""
        self._live.start()

    def stop(self) -> None:
        """Draw for the last time."""
        self._live.stop()

    def say(self, line: str) -> None:
        """Show one line above the table."""
        self._console.print(line, highlight=False, markup=False)

    def started(self, entry: Entry) -> None:
        """Wait for its first report."""

    def reported(self, entry: Entry, report: Report) -> None:
        """Show it from now on."""
        self._reports[entry.lane] = report

    def ended(self, entry: Entry) -> None:
        """Show it no more, unless it was stopped or broke: then for a while below."""
        self._reports.pop(entry.lane, None)
        if entry.outcome != "finished":
            self._ended.append(entry)

    def picture(self) -> Group:
        """Return what to draw."""
        lines: list[RenderableType] = [self._progress(), self._best(), self._pace(), self._running()]
        return Group(*lines, *(_ended_line(entry) for entry in list(self._ended)))

    def _progress(self) -> Table:
        counts, trials = self._book.tally.counts, self._book.study.search.trials
        failed = sum(counts.get(outcome, 0) for outcome in BROKEN)
        done = counts.get("finished", 0) + counts.get("pruned", 0) + failed
        parts = [f"{counts.get('finished', 0)} finished", f"{counts.get('pruned', 0)} pruned", f"{failed} failed"]
        text = Text(f"{self._book.study.name}: {done}/{trials or '?'} trials", style="bold")
        ended = Text(f"{', '.join(parts)}, {counts.get('open', 0)} running", no_wrap=True, overflow="ellipsis")
        # The numbers first: the bar takes what room is left.
        width = min(BAR_WIDTH, self._console.width - text.cell_len - ended.cell_len - 4)
        row = Table.grid(padding=(0, 2))
        row.add_row(text, *([ProgressBar(total=trials or None, completed=done, width=width)] if width > 0 else []), ended)
        return row

    def _best(self) -> Text:
        best = self._book.best()
        if best is None or best.value is None:
            return Text("no result yet", style="dim")
        objective = best.run.get("objective", {}).get("name", "") if best.run else ""
        line = "  ".join(filter(None, [f"best {best.lane} {best.value:.4f}{equal(self._book.tally.equals)}", objective, _searched(best)]))
        return Text(line, style="green", no_wrap=True, overflow="ellipsis")

    def _pace(self) -> Text:
        elapsed_s = time.monotonic() - self._started_at
        parts = [f"{_clock(elapsed_s)} so far{self._left()}", *self._throughput(elapsed_s), self._footprint.cost(elapsed_s)]
        return Text("  ·  ".join(filter(None, parts)), style="dim", no_wrap=True, overflow="ellipsis")

    def _throughput(self, elapsed_s: float) -> Iterable[str]:
        done = self._book.tally.epochs - self._epochs_before
        if done > 0:
            yield f"{60 * done / max(elapsed_s, 1.0):.3g} epochs/min"
        speeds = [speed for report in list(self._reports.values()) if (speed := report["metrics"].get(SPEED))]
        if speeds:
            yield f"{sum(speeds):,.0f} samples/s"

    def _left(self) -> str:
        """Guess the time that is left from the epochs that are: those of open trials, and the mean of the closed for the rest."""
        tally, trials = self._book.tally, self._book.study.search.trials
        running, ended, done = list(tally.open.values()), tally.ended, tally.epochs - self._epochs_before
        if trials is None or not ended or done <= 0:
            return ""
        mean = tally.closed_epochs / ended
        left = sum(max(mean - entry.last_epoch, 1.0) for entry in running) + mean * max(0, trials - ended - len(running))
        per_epoch_s = (time.monotonic() - self._started_at) / done
        return f", about {_clock(left * per_epoch_s)} left"

    def _running(self) -> Table:
        # Only what was searched gives way on a narrow terminal: which trial it is and how far it is stay whole.
        table = Table(box=None, pad_edge=False, header_style="bold", expand=True)
        metric = self._book.study.metric
        for column in ("trial", "epoch", metric, "", "train/loss", "searched"):
            table.add_column(column, no_wrap=True, overflow="ellipsis", ratio=1 if column == "searched" else None)
        running = sorted(self._reports.items())
        entries = {lane: self._book.entries[lane_number(lane)] for lane, _ in running}
        low, high = self._book.tally.ends
        for lane, report in running[:ROWS]:
            metrics, entry = report["metrics"], entries[lane]
            curve = sparkline([entry.curve[epoch] for epoch in sorted(entry.curve)], low=low, high=high, blocks=self._blocks)
            values = (_short(metrics.get(metric)), Text(curve, style="cyan"), _short(metrics.get("train/loss")))
            table.add_row(lane, f"{report['epoch']}/{report['epochs']}", *values, " ".join([*_names(entry), _searched(entry)]))
        if len(running) > ROWS:
            table.add_row(Text(f"and {len(running) - ROWS} more", style="dim"))
        return table


def sparkline(values: Sequence[float], *, low: float, high: float, width: int = SPARK_WIDTH, blocks: str = BLOCKS) -> str:
    """Return a curve as a line of letters, its last `width` values between two ends that all curves share.

    Example:
        >>> sparkline([0.0, 0.5, 1.0], low=0.0, high=1.0)
        '▁▅█'
    """
    span = high - low
    heights = (int((value - low) / span * len(blocks)) if span > 0 else 0 for value in values[-width:])
    return "".join(blocks[min(max(height, 0), len(blocks) - 1)] for height in heights)


def equal(others: int) -> str:
    """Return what to say beside a best value that others have too: which of them is shipped is decided at the end, by `val/loss`.

    Example:
        >>> equal(0), equal(2)
        ('', ' and 2 equal')
    """
    return f" and {others} equal" if others else ""


def _ended_line(entry: Entry) -> Text:
    value = "" if entry.value is None else f" at {entry.value:.4g}"
    reason = f": {entry.reason}" if entry.reason else ""
    style = "red" if entry.outcome in BROKEN else "dim"
    outcome = (entry.outcome or "").replace("_", " ")
    return Text(f"{entry.lane} {outcome} in epoch {entry.last_epoch}{value}{reason}", style=style, no_wrap=True, overflow="ellipsis")


def _names(entry: Entry) -> list[str]:
    """Return the names that were chosen for a trial, such as its objective."""
    return [str(value) for path, value in entry.point.items() if path.endswith(".name")]


def _searched(entry: Entry) -> str:
    return " ".join(f"{path.rpartition('.')[2]}={_short(value)}" for path, value in entry.point.items() if not path.endswith(".name"))


def _short(value: Any) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
