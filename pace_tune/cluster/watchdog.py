"""Ends a training worker that hangs: one that neither computes nor reads, and waits for nothing that it knows of."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pace_tune.patience import WAITS

VARIABLE = "PACE_TUNE_HANG_S"
HANG_S = 300.0
"""So long without a sign of work; a slow epoch works all the time. 0 never ends a worker."""
CHECKS = 20
BUSY_SHARE = 0.05
"""Of one core: Ray's own threads take less."""
BUSY_BYTES = 2**20
"""Read or written between two checks."""


class Watchdog:
    """Looks from a thread at what this process does while it is `busy`.

    Args:
        end: Takes the reason, and ends the process.
    """

    def __init__(self, end: Callable[[str], None]) -> None:
        self._end, self._limit_s = end, float(os.environ.get(VARIABLE, HANG_S))
        self._doing, self._since = "", 0.0
        self._over = threading.Event()

    @contextmanager
    def busy(self, doing: str) -> Iterator[None]:
        """Watch while something is done."""
        self._doing, self._since = doing, time.monotonic()
        try:
            yield
        finally:
            self._doing = ""

    def start(self) -> None:
        """Start watching."""
        if self._limit_s:
            threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def stop(self) -> None:
        """Stop watching."""
        self._over.set()

    def _watch(self) -> None:
        every_s, quiet_since, before = self._limit_s / CHECKS, time.monotonic(), _work()
        while not self._over.wait(every_s):
            now = _work()
            computes = now[0] - before[0] > BUSY_SHARE * every_s
            if computes or now[1] - before[1] > BUSY_BYTES or not self._doing or WAITS.now():
                quiet_since = time.monotonic()
            # From one thing to the next is progress, however little each one takes.
            elif time.monotonic() - max(quiet_since, self._since) > self._limit_s:
                self._end(f"nothing was computed or read for {self._limit_s:g} s while {self._doing}")
                return  # said once: the process ends
            before = now


def _work() -> tuple[float, int]:
    """Return the seconds computed and the bytes read or written by this process."""
    try:
        lines = Path("/proc/self/io").read_text(encoding="ascii").splitlines()
        moved = sum(int(line.split()[1]) for line in lines[:2])
    except (OSError, ValueError, IndexError):
        moved = 0
    return time.process_time(), moved
