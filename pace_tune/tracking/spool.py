"""What is to be tracked, on disk first: a tracking server that is slow or gone loses nothing and stops nobody."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from pace_tune.files import append_bytes, write_text
from pace_tune.patience import patiently

Event: TypeAlias = dict[str, Any]
EVENTS_FILE = "events.jsonl"
CURSOR_FILE = "cursor.json"


@dataclass
class LaneNote:
    """What was spooled of a lane."""

    last_step: int = 0
    best: float | None = None
    ended: bool = False


ENDED = LaneNote(ended=True)
"""All that is kept of a lane that ended."""


@dataclass
class Cursor:
    """How far the spool was written to the store, and the runs that are open there."""

    offset: int = 0
    """Bytes of the events file that the store has."""
    runs: dict[str, str] = field(default_factory=dict)
    """Lane -> run."""
    parent: str = ""


class Spool:
    """A file of events, one JSON line each, and how far it was read.

    An event is on disk when `append` returns; it may be written to the store twice, when the process dies in between, and the
    store then finds the very same points. Times are therefore part of the event.

    Args:
        folder: Where it lies; made where it is missing.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._events, self._cursor = folder / EVENTS_FILE, folder / CURSOR_FILE
        self.lanes: dict[str, LaneNote] = {}
        """Those that did not end."""
        self.ended: set[str] = set()
        self._cut_torn_line()
        self._events.touch()
        with self._events.open("rb") as file:
            for line in file:
                self._note(json.loads(line))

    def append(self, event: Mapping[str, Any]) -> None:
        """Write an event down."""
        line = json.dumps(event, separators=(",", ":")).encode() + b"\n"
        patiently(lambda: append_bytes(self._events, line), what="the disk of the spool", passing=lambda error: isinstance(error, OSError))
        self._note(event)

    def note(self, lane: str) -> LaneNote:
        """Return what was spooled of a lane."""
        return ENDED if lane in self.ended else self.lanes.setdefault(lane, LaneNote())

    def read(self, offset: int, *, limit_bytes: int | None = None) -> tuple[list[Event], int]:
        """Return the whole events after an offset, and the offset behind them."""
        with self._events.open("rb") as file:
            file.seek(offset)
            data = file.read(limit_bytes)
            # A line longer than the limit is read whole.
            if limit_bytes is not None and data and b"\n" not in data:
                data += file.readline()
        whole = data[: data.rfind(b"\n") + 1]
        return [json.loads(line) for line in whole.splitlines()], offset + len(whole)

    def size(self) -> int:
        """Return the bytes written."""
        return self._events.stat().st_size

    def load_cursor(self) -> Cursor:
        """Return how far the store has come."""
        try:
            return Cursor(**json.loads(self._cursor.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return Cursor()

    def save_cursor(self, cursor: Cursor) -> None:
        """Keep how far the store has come."""
        write_text(self._cursor, json.dumps(cursor.__dict__))

    def _note(self, event: Mapping[str, Any]) -> None:
        if "lane" not in event:
            return
        note = self.note(event["lane"])
        if event["kind"] == "metrics" and not note.ended:
            note.last_step = max(note.last_step, event["step"])
            note.best = event.get("best", note.best)
        elif event["kind"] == "end":
            self.ended.add(event["lane"])
            self.lanes.pop(event["lane"], None)

    def _cut_torn_line(self) -> None:
        """Drop half a line that a killed process left: the one who reports it will report it again."""
        if not self._events.exists():
            return
        data = self._events.read_bytes()
        whole = data.rfind(b"\n") + 1
        if whole != len(data):
            with self._events.open("rb+") as file:
                file.truncate(whole)
