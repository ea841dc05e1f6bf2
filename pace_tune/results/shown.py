"""What a terminal and a notebook both show: Rich text, and the same as HTML."""

from __future__ import annotations

import base64
import io
from collections.abc import Hashable, Iterable, Mapping
from typing import TypeVar

from rich.console import Console, Group, RenderableType

WIDTH = 160
Column = TypeVar("Column", bound=Hashable)
_CODE = '<pre style="line-height:normal;white-space:pre;overflow-x:auto">{code}</pre>'


class Shown(Group):
    """Rich text that a notebook shows inline.

    Example:
        >>> "better" in Shown("better than plain")._repr_html_()
        True
    """

    def _repr_html_(self) -> str:
        return to_html(*self.renderables)


def to_html(*renderables: RenderableType, width: int = WIDTH) -> str:
    """Return Rich text as HTML with its styles inside."""
    console = Console(file=io.StringIO(), record=True, width=width, force_jupyter=False)
    for renderable in renderables:
        console.print(renderable)
    return console.export_html(inline_styles=True, code_format=_CODE)


def fitting(widths: Mapping[Column, int], *, spare: Iterable[Column], room: int) -> list[Column]:
    """Return the columns that stay where there is too little room: of those to spare, the first ones go first.

    Args:
        widths: Column -> letters that it takes, with what is between columns.
        spare: What may go.
        room: Letters there are.

    Example:
        >>> fitting({"trial": 8, "state": 10, "loss": 8, "rank": 6}, spare=["rank", "loss"], room=27)
        ['trial', 'state', 'loss']
    """
    kept = dict(widths)
    for column in spare:
        if sum(kept.values()) <= room:
            break
        kept.pop(column, None)
    return list(kept)


def inline_png(data: bytes, *, title: str) -> str:
    """Return a picture as an element that needs no file."""
    return f'<img alt="{title}" style="max-width:100%" src="data:image/png;base64,{base64.b64encode(data).decode()}">'
