"""What a report is made of: sections of pictures and tables, drawn for the page and kept as files of their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Row: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One picture.

    Args:
        name: Of its files, unique in the report.
        title: What it shows.
        reading: How to read it, a sentence or two.
        draw: Draws it. Called once, inside the report's style.
    """

    name: str
    title: str
    reading: str
    draw: Callable[[], Figure]


@dataclass(frozen=True, kw_only=True)
class Kept:
    """A picture that is there already, as a PNG file; it goes onto the page as it is.

    Args:
        name: Of its file, unique in the report.
        title: What it shows.
        reading: How to read it.
        file: Where it lies.
    """

    name: str
    title: str
    reading: str
    file: Path


@dataclass(frozen=True, kw_only=True)
class Table:
    """One table.

    Args:
        name: Of its files, unique in the report.
        title: What it holds.
        columns: Key of a row -> heading, in order.
        rows: Plain values by key. Keys that start with ``_`` are for the page: ``_class`` styles a row, ``_trial`` links it
            to the trial's marks in the pictures, and ``_notes`` holds remarks on cells by column.
        note: Shown under it.
        shown: Rows on the page; all of them are in the files.
        left: Columns of text.
    """

    name: str
    title: str
    columns: Mapping[str, str]
    rows: Sequence[Row]
    note: str = ""
    shown: int | None = None
    left: Sequence[str] = ()


Part: TypeAlias = Picture | Kept | Table


@dataclass(frozen=True, kw_only=True)
class Section:
    """One section.

    Args:
        anchor: Of the page, unique in a study.
        title: Its heading.
        lead: What it says, in words.
        parts: Pictures and tables in order.
        missing: Why it is empty and how to fill it; such a section is one line at the end of the page.
    """

    anchor: str
    title: str
    lead: str = ""
    parts: Sequence[Part] = field(default_factory=tuple)
    missing: str = ""
