"""Waiting for what comes back: a full disk, a store or a database that restarts. Only what no waiting mends is an error."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from pace_tune.errors import PaceTuneError

VARIABLE = "PACE_TUNE_PATIENCE_S"
PATIENCE_S = 600.0
"""What does not come back for so long ends the sweep; the same command goes on."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 2.0
log = logging.getLogger(__name__)
Value = TypeVar("Value")


class OutageError(PaceTuneError):
    """Something outside did not come back in time."""


class Waits:
    """What the threads of this process wait for at this moment; a heartbeat passes it on."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._reasons: dict[int, str] = {}

    def note(self, reason: str) -> None:
        """Note what the calling thread waits for; empty when it waits no more."""
        with self._lock:
            self._reasons.pop(threading.get_ident(), None)
            if reason:
                self._reasons[threading.get_ident()] = reason

    def now(self) -> str:
        """Return what is waited for, empty where nothing is."""
        with self._lock:
            return next(iter(self._reasons.values()), "")


WAITS = Waits()


def patiently(do: Callable[[], Value], *, what: str, passing: Callable[[Exception], bool]) -> Value:
    """Do something again and again until it succeeds.

    Args:
        do: Something that may be done twice.
        what: What it needs, for the message.
        passing: Whether an error may pass; any other is raised at once.

    Raises:
        OutageError: It did not succeed within `PACE_TUNE_PATIENCE_S`, 600 s where that is not set.

    Example:
        >>> answers = iter([OSError("No space left on device"), 7])
        >>> def ask():
        ...     answer = next(answers)
        ...     if isinstance(answer, OSError):
        ...         raise answer
        ...     return answer
        >>> patiently(ask, what="the disk", passing=lambda error: isinstance(error, OSError))
        7
    """
    began, pause_s = time.monotonic(), FIRST_PAUSE_S
    limit_s = float(os.environ.get(VARIABLE, PATIENCE_S))
    try:
        while True:
            try:
                return do()
            except Exception as error:
                waited_s = time.monotonic() - began
                if not passing(error):
                    raise
                reason = f"{what} ({first_line(error)})"
                if waited_s > limit_s:
                    raise OutageError(f"waited {waited_s:.0f} s for {reason}; {VARIABLE} sets how long") from error
                WAITS.note(reason)
                if pause_s == FIRST_PAUSE_S:
                    log.warning("waiting for %s", reason)
            time.sleep(pause_s)
            pause_s = min(LONGEST_PAUSE_S, 2 * pause_s)
    finally:
        WAITS.note("")


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message."""
    text = str(error).strip().splitlines()
    return (text[0] if text else type(error).__name__)[:160]
