"""A bar for what takes longer than two seconds; nothing for what does not."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")

QUIET_S = 2.0
LINE_EVERY_S = 10.0
"""Where stderr is no terminal, a line now and then instead of a bar."""


def waiting(items: Iterable[T], *, total: int, label: str) -> Iterator[T]:
    """Yield the items, and show on stderr how far they are once two seconds have passed."""
    started = time.monotonic()
    source = iter(items)
    for done, item in enumerate(source, start=1):
        yield item
        if time.monotonic() - started > QUIET_S:
            yield from _shown(source, done=done, total=total, label=label)


def _shown(items: Iterator[T], *, done: int, total: int, label: str) -> Iterator[T]:
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    shown_at = 0.0
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bars:
        bar = bars.add_task(label, total=total, completed=done)
        for item in items:
            yield item
            done += 1
            bars.update(bar, completed=done)
            if not console.is_terminal and time.monotonic() - shown_at > LINE_EVERY_S:
                shown_at = time.monotonic()
                console.print(f"{label}: {done} of {total}", markup=False, highlight=False)
