"""What a user sees while a sweep runs: a live table in a terminal, plain lines in a pipe, or JSON lines."""

from __future__ import annotations

import json
import math
import shutil
import sys
import time
from collections.abc import Callable
from typing import Any, Literal, Protocol, TypeAlias

from pace_tune.cluster.lanes import Report
from pace_tune.search.book import Book
from pace_tune.search.entry import Entry
from pace_tune.search.live_table import Footprint, TableDisplay, equal
from pace_tune.wording import at_words

Style: TypeAlias = Literal["table", "lines", "json", "quiet"]


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


def progress_of(style: Style) -> Callable[[str], None]:
    """Return what takes a line on what is being waited for: stderr, so that stdout holds results only; nothing where all is quiet."""
    return (lambda _: None) if style == "quiet" else _put_aside


def display(style: Style, book: Book, *, footprint: Footprint | None = None) -> Display:
    """Return the display of a style; what the sweep holds decides its cost."""
    if style == "table":
        return TableDisplay(book, footprint=footprint)
    return LineDisplay(book, write=_WRITERS[style])


class LineDisplay:
    """One line for each thing that happens.

    Args:
        book: The sweep's trials.
        write: Takes what happened: plain values with the key ``event``.
    """

    def __init__(self, book: Book, *, write: Callable[[dict[str, Any]], None]) -> None:
        self._book, self._started_at = book, time.monotonic()
        self._take = write

    def _write(self, event: dict[str, Any]) -> None:
        self._take({**event, "elapsed_s": round(time.monotonic() - self._started_at, 3)})

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
        counts, trials = self._book.tally.counts, self._book.study.search.trials
        overall: dict[str, Any] = {"best": best and best.lane, "best_value": best and best.value}
        overall |= {"best_equals": self._book.tally.equals, "counts": counts, "trials": trials}
        self._write({"event": "end", "trial": entry.lane, **end, **overall})


def _put(line: str) -> None:
    # In one piece: `print` writes the end of a line by itself, and Ray's threads write in between.
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _put_aside(line: str) -> None:
    # A terminal would break its words; a log keeps the line.
    text = at_words(line, width=shutil.get_terminal_size().columns) if sys.stderr.isatty() else line
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def _write_json(event: dict[str, Any]) -> None:
    _put(json.dumps(_finite(event)))


def _finite(value: Any) -> Any:
    """JSON knows no NaN."""
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _write_plain(event: dict[str, Any]) -> None:
    line = _PLAIN[event["event"]](event)
    if line:
        _put(line)


def _end_line(event: dict[str, Any]) -> str:
    ended = sum(count for outcome, count in event["counts"].items() if outcome != "open")
    of = f"/{event['trials']}" if event["trials"] else ""
    value = "" if event["value"] is None else f" {event['value']:.4f} at epoch {event['epoch']}"
    best = "" if event["best"] is None else f"; best {event['best']} {event['best_value']:.4f}{equal(event['best_equals'])}"
    reason = f" ({event['reason']})" if event["reason"] else ""
    return f"[{ended}{of}] {event['trial']} {event['outcome']}{value}{reason}{best}"


_PLAIN: dict[str, Callable[[dict[str, Any]], str]] = {
    "note": lambda event: str(event["text"]),
    "start": lambda _: "",
    "report": lambda _: "",
    "end": _end_line,
}
_WRITERS: dict[str, Callable[[dict[str, Any]], None]] = {"lines": _write_plain, "json": _write_json, "quiet": lambda _: None}
