"""What commands print: tables for people, JSON for programs. Rich leaves colours out where it is piped."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

PIPED_WIDTH, LONGEST_LINE = 200, 100_000
"""Columns of a file or a pipe, where no terminal says how many there are; and of a table there, where paths must stay whole."""


def console(*, stderr: bool = False) -> Console:
    """Return a console on stdout or stderr."""
    found = Console(stderr=stderr, highlight=False, soft_wrap=False)
    return found if found.is_terminal else Console(stderr=stderr, highlight=False, width=PIPED_WIDTH)


def begin(what: str) -> None:
    """Say what begins and may take a while, on stderr: in a log too, where silence looks like a fault."""
    console(stderr=True).print(f"{what} ...", style="dim", markup=False, soft_wrap=True)


def print_json(value: Any) -> None:
    """Print facts for a program; what is no plain value is printed as its text."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def print_table(rows: Iterable[Mapping[str, Any]], *, columns: Sequence[str], title: str | None = None) -> None:
    """Print rows as a table; a column nobody fills stays out. In a file or a pipe a row is one line, however long."""
    rows = list(rows)
    columns = [column for column in columns if any(row.get(column) not in (None, "") for row in rows)]
    table = Table(title=title, title_justify="left", box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        # Text, not markup: a value may hold square brackets.
        table.add_row(*(Text(show(row.get(column))) for column in columns))
    out = console()
    if not out.is_terminal:
        out.width = max(out.width, Measurement.get(out, out.options.update(width=LONGEST_LINE), table).maximum)
    out.print(table)


def show(value: Any) -> str:
    """Return a value as people write it: numbers short, nothing as nothing."""
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
