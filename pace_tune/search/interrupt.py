"""Ctrl-C and SIGTERM: once to stop cleanly, twice to stop at once; at once too where nothing is under way yet."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Self

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruptible:
    """While entered, every signal raises KeyboardInterrupt, until there is work to finish: then the first is noted only.

    Outside of the main thread, where Python takes no signals, it does nothing.
    """

    def __init__(self) -> None:
        self.asked = False
        self._say: Callable[[str], None] | None = None
        self._before: dict[signal.Signals, Any] = {}
        self._hook = sys.unraisablehook

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._handle) for number in SIGNALS}
            self._hook, sys.unraisablehook = sys.unraisablehook, self._lost
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self._before:
            sys.unraisablehook = self._hook

    def hold(self, say: Callable[[str], None]) -> None:
        """From now on note the first signal instead of raising, and say so."""
        self.check()
        self._say = say

    def check(self) -> None:
        """Raise what was raised before where Python lets nothing through, as while a process is forked or an object deleted."""
        if self.asked and self._say is None:
            raise KeyboardInterrupt

    def _lost(self, lost: sys.UnraisableHookArgs) -> None:
        # It is raised again by `check`: nobody has to read of it.
        if lost.exc_type is not KeyboardInterrupt:
            self._hook(lost)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        again, self.asked = self.asked, True
        if again or self._say is None:
            raise KeyboardInterrupt
        self._say("stopping: the epoch in flight is finished and kept (once more: stop at once)")
