"""Linear probing: only the head trains."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from pace_tune.errors import UnsupportedError
from pace_tune.methods.layout import Layout
from pace_tune.methods.method import Changes, Method, Placement
from pace_tune.registry import methods


@methods.register("linear")
class Linear(Method):
    """Train the classification head on frozen features."""

    paper: ClassVar[str] = "linear probing"
    changes: ClassVar[Changes] = "head"

    def placements(self, layout: Layout) -> Iterable[Placement]:
        """Return nothing: the head's site is always there.

        Raises:
            UnsupportedError: There is no head.
        """
        if layout.head is None:
            raise UnsupportedError(f"method {self.name!r} trains the head, and this model of family {layout.family!r} has none.")
        return ()
