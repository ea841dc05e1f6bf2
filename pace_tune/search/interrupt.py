"""Ctrl-C and SIGTERM: once to stop cleanly, twice to stop at once; at once too where nothing is under way yet."""

from __future__ import annotations

import signal
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

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._handle) for number in SIGNALS}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def hold(self, say: Callable[[str], None]) -> None:
        """From now on note the first signal instead of raising, and say so."""
        self._say = say

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.asked or self._say is None:
            raise KeyboardInterrupt
        self.asked = True
        self._say("stopping: the epoch in flight is finished and kept (once more: stop at once)")
