"""Linear probing: only the head trains."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from pace_tune.methods.layout import Layout
from pace_tune.methods.method import Method, Placement
from pace_tune.registry import methods


@methods.register("linear")
class Linear(Method):
    """Train the classification head on frozen features."""

    paper: ClassVar[str] = "linear probing"

    def placements(self, layout: Layout) -> Iterable[Placement]:
        """Return nothing: the head's site is always there."""
        return ()
