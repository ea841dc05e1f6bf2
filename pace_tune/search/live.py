"""What a user sees while a sweep runs: a live table in a terminal, plain lines in a pipe, or JSON lines."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable
from typing import Any, Literal, Protocol, TypeAlias

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from pace_tune.cluster.lanes import Report
from pace_tune.search.book import Book, Entry, outcomes

Style: TypeAlias = Literal["table", "lines", "json", "quiet"]
REFRESHES_PER_S = 4
ROWS = 12
"""Running trials that the table shows."""


class Display(Protocol):
    """Shows a sweep."""

    def start(self) -> None:
        """Begin."""

    def stop(self) -> None:
        """End."""

    def say(self, line: str) -> None:
        """Show one line."""

    def started(self, entry: Entry) -> None:
        """Show a trial's start."""

    def reported(self, entry: Entry, report: Report) -> None:
        """Show a report."""

    def ended(self, entry: Entry) -> None:
        """Show a trial's end."""


def style_of(*, quiet: bool, json_lines: bool) -> Style:
    """Return how to show a sweep here."""
    if json_lines:
        return "json"
    if quiet:
        return "quiet"
    return "table" if sys.stdout.isatty() else "lines"


def display(style: Style, book: Book) -> Display:
    """Return the display of a style."""
    if style == "table":
        return TableDisplay(book)
    return LineDisplay(book, write=_WRITERS[style])


class LineDisplay:
    """One line for each thing that happens.

    Args:
        book: The sweep's trials.
        write: Takes what happened: plain values with the key ``event``.
    """

    def __init__(self, book: Book, *, write: Callable[[dict[str, Any]], None]) -> None:
        self._book, self._write = book, write

    def start(self) -> None:
        """Nothing to prepare."""

    def stop(self) -> None:
        """Nothing to tidy up."""

    def say(self, line: str) -> None:
        """Show one line."""
        self._write({"event": "note", "text": line})

    def started(self, entry: Entry) -> None:
        """Show a trial's start."""
        self._write({"event": "start", "trial": entry.lane, "point": dict(entry.point)})

    def reported(self, entry: Entry, report: Report) -> None:
        """Show a report."""
        value = report["metrics"].get(self._book.study.metric)
        epochs = {"epoch": report["epoch"], "epochs": report["epochs"]}
        self._write({"event": "report", "trial": entry.lane, **epochs, "value": value, "metrics": dict(report["metrics"])})

    def ended(self, entry: Entry) -> None:
        """Show a trial's end."""
        best = self._book.best()
        end = {"outcome": entry.outcome, "value": entry.value, "epoch": entry.last_epoch, "reason": entry.reason}
        counts, trials = outcomes(self._book.entries), self._book.study.search.trials
        overall = {"best": best and best.lane, "best_value": best and best.value, "counts": counts, "trials": trials}
        self._write({"event": "end", "trial": entry.lane, **end, **overall})


def _write_json(event: dict[str, Any]) -> None:
    print(json.dumps(_finite(event)), flush=True)  # noqa: T201  (a command's output)


def _finite(value: Any) -> Any:
    """JSON knows no NaN."""
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _write_plain(event: dict[str, Any]) -> None:
    line = _PLAIN[event["event"]](event)
    if line:
        print(line, flush=True)  # noqa: T201  (a command's output)


def _end_line(event: dict[str, Any]) -> str:
    ended = sum(count for outcome, count in event["counts"].items() if outcome != "open")
    of = f"/{event['trials']}" if event["trials"] else ""
    value = "" if event["value"] is None else f" {event['value']:.4f} at epoch {event['epoch']}"
    best = "" if event["best"] is None else f"; best {event['best']} {event['best_value']:.4f}"
    reason = f" ({event['reason']})" if event["reason"] else ""
    return f"[{ended}{of}] {event['trial']} {event['outcome']}{value}{reason}{best}"


_PLAIN: dict[str, Callable[[dict[str, Any]], str]] = {
    "note": lambda event: str(event["text"]),
    "start": lambda _: "",
    "report": lambda _: "",
    "end": _end_line,
}
_WRITERS: dict[str, Callable[[dict[str, Any]], None]] = {"lines": _write_plain, "json": _write_json, "quiet": lambda _: None}


class TableDisplay:
    """A table that is drawn again four times a second.

    Args:
        book: The sweep's trials.
        console: Where to draw; None is the terminal.
    """

    def __init__(self, book: Book, *, console: Console | None = None) -> None:
        self._book, self._started_at = book, time.monotonic()
        self._reports: dict[str, Report] = {}
        self._epochs_before = _epochs_done(book)
        self._console = console or Console()
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
        """Show it no more."""
        self._reports.pop(entry.lane, None)

    def picture(self) -> Group:
        """Return what to draw."""
        return Group(Text(self._headline(), no_wrap=True), self._table())

    def _headline(self) -> str:
        counts, trials = outcomes(dict(self._book.entries)), self._book.study.search.trials
        failed = sum(counts.get(outcome, 0) for outcome in ("failed", "diverged", "out_of_memory"))
        done = counts.get("finished", 0) + counts.get("pruned", 0) + failed
        best = self._book.best()
        parts = [
            f"{self._book.study.name}: {done}/{trials or '?'} trials",
            f"{counts.get('finished', 0)} finished, {counts.get('pruned', 0)} pruned, {failed} failed, {counts.get('open', 0)} running",
            f"best {best.lane} {best.value:.4f}" if best and best.value is not None else "no result yet",
            f"{_clock(time.monotonic() - self._started_at)} so far{self._left()}",
        ]
        return "  ·  ".join(parts)

    def _left(self) -> str:
        """Guess the time that is left from the epochs that are: those of open trials, and the mean of the closed for the rest."""
        entries, trials = list(self._book.entries.values()), self._book.study.search.trials
        closed = [entry.last_epoch for entry in entries if entry.outcome]
        done = _epochs_done(self._book)
        if trials is None or not closed or done <= self._epochs_before:
            return ""
        mean = sum(closed) / len(closed)
        left = sum(max(mean - entry.last_epoch, 1.0) for entry in entries if not entry.outcome) + mean * max(0, trials - len(entries))
        per_epoch_s = (time.monotonic() - self._started_at) / (done - self._epochs_before)
        return f", about {_clock(left * per_epoch_s)} left"

    def _table(self) -> Table:
        table = Table(box=None, pad_edge=False)
        metric = self._book.study.metric
        for column in ("trial", "epoch", metric, "train/loss", "searched"):
            table.add_column(column, no_wrap=True, overflow="ellipsis")
        for lane, report in sorted(self._reports.items())[:ROWS]:
            metrics, entry = report["metrics"], self._book.entries[int(lane[1:])]
            searched = " ".join(f"{path.rpartition('.')[2]}={_short(value)}" for path, value in entry.point.items())
            row = (lane, f"{report['epoch']}/{report['epochs']}", _short(metrics.get(metric)), _short(metrics.get("train/loss")), searched)
            table.add_row(*row)
        return table


def _epochs_done(book: Book) -> int:
    return sum(entry.last_epoch for entry in list(book.entries.values()))


def _short(value: Any) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
