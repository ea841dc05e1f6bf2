"""A table as HTML for the page, as CSV for programs, as LaTeX for papers."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable
from html import escape
from typing import Any

from pace_tune.results.intervals import Interval
from pace_tune.results.rank_correlation import Correlation
from pace_tune.results.report.parts import Row, Table

_LATEX = {"&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}"}
_LATEX |= {"\\": r"\textbackslash{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "σ": r"$\sigma$", "λ": r"$\lambda$", "ρ": r"$\rho$"}
_LATEX |= {"×": r"$\times$", "→": r"$\to$", "−": "-", "†": r"\dag{}", "‡": r"\ddag{}", "§": r"\S{}", "≤": r"$\le$", "≥": r"$\ge$"}


def to_html(table: Table) -> str:
    """Return an HTML table; rows beyond `shown` are in the files only, all of them where that is 0."""
    if table.shown == 0:
        return ""
    head = "".join(f'<th class="{_align(table, key)}">{escape(heading)}</th>' for key, heading in table.columns.items())
    rows = table.rows[: table.shown]
    body = "\n".join(_html_row(table, row) for row in rows)
    left_out = f"{len(table.rows) - len(rows)} more rows are in {table.name}.csv." if len(rows) < len(table.rows) else ""
    notes = " ".join(filter(None, [table.note, left_out]))
    caption = f'<p class="note">{escape(notes)}</p>' if notes else ""
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table></div>{caption}'


def to_csv(table: Table) -> str:
    """Return a table as CSV with every row, numbers unrounded, remarks in a column of their own where there are any."""
    text = io.StringIO()
    noted = any(row.get("_notes") for row in table.rows)
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*table.columns, *(["remarks"] if noted else [])])
    for row in table.rows:
        remarks = "; ".join(f"{key}: {note}" for key, note in row.get("_notes", {}).items())
        writer.writerow([*(_full(row.get(key)) for key in table.columns), *([remarks] if noted else [])])
    return text.getvalue()


def to_latex(table: Table) -> str:
    """Return a table for the package booktabs, with every row."""
    align = "".join("l" if _align(table, key) == "left" else "r" for key in table.columns)
    lines = [rf"\begin{{tabular}}{{{align}}}", r"\toprule", _latex_row(table.columns.values()), r"\midrule"]
    lines += [_latex_row(_cell(row, key) for key in table.columns) for row in table.rows]
    return "\n".join([f"% {table.title}", *lines, r"\bottomrule", r"\end{tabular}", ""])


def show(value: Any) -> str:
    """Return a value as people write it: numbers short, nothing as nothing."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _html_row(table: Table, row: Row) -> str:
    link = f' data-trial="{escape(row["_trial"])}"' if "_trial" in row else ""
    cells = "".join(_html_cell(table, row, key) for key in table.columns)
    return f'<tr class="{escape(row.get("_class", ""))}"{link}>{cells}</tr>'


def _html_cell(table: Table, row: Row, key: str) -> str:
    note = row.get("_notes", {}).get(key)
    text = escape(show(row.get(key)))
    if note:
        text = f'{text}<sup class="remark" title="{escape(note)}">†</sup>'
    return f'<td class="{_align(table, key)}" data-column="{escape(key)}">{text}</td>'


def _align(table: Table, key: str) -> str:
    return "left" if key in table.left else "right"


def _cell(row: Row, key: str) -> str:
    return show(row.get(key)) + ("†" if row.get("_notes", {}).get(key) else "")


def _latex_row(cells: Any) -> str:
    escaped: Callable[[str], str] = lambda text: "".join(_LATEX.get(letter, letter) for letter in text)  # noqa: E731  (used once)
    return " & ".join(escaped(str(cell)) for cell in cells) + r" \\"


def _full(value: Any) -> Any:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return str(value) if isinstance(value, Interval | Correlation) else value
