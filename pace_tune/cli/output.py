"""What commands print: tables for people, JSON for programs. Rich leaves colours out where it is piped."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click
from rich.cells import cell_len
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from pace_tune.results.shown import fitting
from pace_tune.wording import at_words

PIPED_WIDTH, LONGEST_LINE = 200, 100_000
"""Columns of a file or a pipe, where no terminal says how many there are; and of a table there, where paths must stay whole."""

PROSE = frozenset({"summary", "mistake", "message", "says", "differs", "refused", "input", "domain"})
"""Columns of words, which may go over several lines; no other is broken, but a path that is wider than the terminal."""
PATHS, LEAST_PROSE, BETWEEN = frozenset({"study", "path"}), 24, 2


def console(*, stderr: bool = False) -> Console:
    """Return a console on stdout or stderr."""
    found = Console(stderr=stderr, highlight=False, soft_wrap=False)
    return found if found.is_terminal else Console(stderr=stderr, highlight=False, width=PIPED_WIDTH)


def begin(what: str) -> None:
    """Say what begins and may take a while, on stderr: in a log too, where silence looks like a fault."""
    console(stderr=True).print(message(f"{what} ..."), style="dim", markup=False, soft_wrap=True)


def message(text: str) -> str:
    """Return what is said on stderr: on a terminal in lines that break no word, in a log as it is."""
    out = console(stderr=True)
    return at_words(text, width=out.width) if out.is_terminal else text


def print_json(value: Any) -> None:
    """Print facts for a program; what is no plain value is printed as its text."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def print_table(rows: Iterable[Mapping[str, Any]], *, columns: Sequence[str], title: str | None = None, spare: Sequence[str] = ()) -> None:
    """Print rows as a table; a column nobody fills stays out. In a file or a pipe a row is one line, however long.

    Args:
        rows: What is shown.
        columns: In order.
        title: Above it.
        spare: What a narrow terminal does without, the first one first.
    """
    rows, out = list(rows), console()
    filled = [column for column in columns if any(row.get(column) not in (None, "") for row in rows)]
    widths = {column: _width(column, rows) for column in filled}
    # What follows the last column needs no room.
    kept = fitting(widths, spare=spare, room=out.width + BETWEEN) if out.is_terminal else filled
    whole = sum(widths[column] for column in kept) <= out.width + BETWEEN
    table = Table(title=title, title_justify="left", box=None, header_style="bold", pad_edge=False, padding=(0, BETWEEN, 0, 0))
    for column in kept:
        table.add_column(column, overflow="fold", no_wrap=column not in PROSE and (whole or column not in PATHS))
    for row in rows:
        # Text, not markup: a value may hold square brackets.
        table.add_row(*(Text(show(row.get(column))) for column in kept))
    if not out.is_terminal:
        out.width = max(out.width, Measurement.get(out, out.options.update(width=LONGEST_LINE), table).maximum)
    out.print(table)
    if len(kept) < len(filled):
        out.print(left_out(column for column in filled if column not in kept), soft_wrap=True)


def left_out(columns: Iterable[str]) -> str:
    """Return the line on the columns that found no room."""
    return f"no room for: {', '.join(columns)}"


def _width(column: str, rows: Iterable[Mapping[str, Any]]) -> int:
    widest = max((cell_len(show(row.get(column))) for row in rows), default=0)
    return max(cell_len(column), min(widest, LEAST_PROSE) if column in PROSE else widest) + BETWEEN


def show(value: Any) -> str:
    """Return a value as people write it: numbers short, nothing as nothing."""
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
