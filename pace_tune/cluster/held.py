"""Settings of a whole process that are another way for as long as anybody needs them so, in whatever order they come and go."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from ray._private import auto_init_hook


class Held:
    """A setting that the first who needs it changes, and the last one puts back.

    Args:
        owner: Whose attribute it is.
        name: Of the attribute.
        value: What it is to be.
        write: Sets it; by default the attribute itself.

    Example:
        >>> class Owner: level = 1
        >>> held = Held(Owner, "level", 9)
        >>> with held.on():
        ...     with held.on(): pass
        ...     Owner.level
        9
        >>> Owner.level
        1
    """

    def __init__(self, owner: Any, name: str, value: Any, *, write: Callable[[Any], None] | None = None) -> None:
        self._owner, self._name, self._value = owner, name, value
        self._write = write or (lambda new: setattr(owner, name, new))
        self._lock, self._inside, self._before = threading.Lock(), 0, None

    @contextmanager
    def on(self) -> Iterator[None]:
        """Have it so for a while."""
        with self._lock:
            if not self._inside:
                self._before = getattr(self._owner, self._name)
                self._write(self._value)
            self._inside += 1
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1
                if not self._inside:
                    self._write(self._before)


@cache
def silence(name: str) -> Held:
    """Return the silence of a logger: what concerns the user is said by the sweep."""
    log = logging.getLogger(name)
    return Held(log, "level", logging.CRITICAL, write=log.setLevel)


no_other_ray = Held(auto_init_hook, "enable_auto_connect", value=False)
"""Ray's functions fail where there is no Ray (any more), instead of starting another one."""
