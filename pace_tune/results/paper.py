"""The published tables as data, and our confirmed scores in columns of their own beside them.

A row is a data set, a column a method. Only `confirm` fills our columns: no validation score stands beside a test score.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from pace_tune.errors import DataError
from pace_tune.study.yaml_text import read_mapping

FOLDER = Path(__file__).parent / "paper_tables"
ORDER = ("vtab", "fgvc", "fewshot", "domain", "glue", "gsm8k", "ablation")
MEAN = "mean"


@dataclass(frozen=True, kw_only=True)
class PaperTable:
    """One published table.

    Args:
        name: Of its file.
        title: What it is on.
        caption: What its numbers are.
        source: Where it was printed.
        backbone: Name of the backbone: with another one ours cannot be compared.
        rows: Key -> label, group, and the task of ours that it is.
        columns: Method -> (row key -> printed value).
        misprints: What is known to be wrong, as the file lists it.
        mean_over: ``groups``, ``rows`` or nothing: what the row ``mean`` is the mean of.
    """

    name: str
    title: str
    caption: str
    source: str
    backbone: str
    rows: Mapping[str, Mapping[str, Any]]
    columns: Mapping[str, Mapping[str, float | None]]
    misprints: tuple[Mapping[str, Any], ...]
    mean_over: str | None

    @property
    def decimals(self) -> int:
        """How many decimals are printed."""
        cells = [value for column in self.columns.values() for value in column.values() if value is not None]
        return 1 if all(round(value, 1) == value for value in cells) else 2

    def remark(self, column: str, row: str) -> str | None:
        """Return what is known to be wrong with a cell."""
        for one in self.misprints:
            # One without a row is about the whole column, whose mean stands by itself.
            if one["column"] == column and one.get("row", row if row != MEAN else "") == row:
                return f"should be {one['should']}: {one['why']}" if "should" in one else str(one["why"])
        return None

    def mean_of(self, cells: Mapping[str, float | None]) -> float | None:
        """Return the table's own mean of a column; None where a row is missing."""
        if self.mean_over is None or any(cells.get(key) is None for key in self.rows if key != MEAN):
            return None
        groups: dict[str, list[float]] = {}
        for key, row in self.rows.items():
            if key != MEAN:
                groups.setdefault(row.get("group", "") if self.mean_over == "groups" else "", []).append(float(cells[key] or 0.0))
        return fmean(fmean(values) for values in groups.values())


@dataclass(frozen=True, kw_only=True)
class Ours:
    """A confirmed score of ours.

    Args:
        recipe: Name of its objective.
        task: The task.
        settings: Every setting of the sweep by dotted path, as far as the study fixes it.
        value: Mean over seeds.
        half_width: Half of the 95 % interval, None where one seed leaves it open.
        part: Which of several test sets, as the scores name it; empty for the task's own metric.
    """

    recipe: str
    task: str
    settings: Mapping[str, Any]
    value: float
    half_width: float | None
    part: str = ""


def paper_tables() -> list[PaperTable]:
    """Return every published table, in the order of the paper."""
    return [read_table(FOLDER / f"{name}.yaml") for name in ORDER]


def read_table(path: Path) -> PaperTable:
    """Return the table in a file.

    Raises:
        DataError: A column has not a cell for each row.
    """
    tree = read_mapping(path)
    rows, mean = dict(tree["rows"]), tree.get("mean")
    columns = {name: _cells(column, rows, path=path, name=name) for name, column in tree["columns"].items()}
    if mean is not None:
        rows[MEAN] = {"label": mean["label"]}
    return PaperTable(
        name=path.stem,
        rows=rows,
        columns=columns,
        misprints=tuple(tree.get("misprints", ())),
        mean_over=mean["over"] if mean else None,
        **{key: tree[key] for key in ("title", "caption", "source", "backbone")},
    )


def place_ours(table: PaperTable, scores: Iterable[Ours]) -> dict[str, dict[str, Ours]]:
    """Return recipe -> row -> score of ours for the rows that we have; the first of several scores of one row stays."""
    found: dict[str, dict[str, Ours]] = {}
    for score in scores:
        for key, row in table.rows.items():
            if _is(row, score):
                found.setdefault(score.recipe, {}).setdefault(key, score)
    return found


def _is(row: Mapping[str, Any], score: Ours) -> bool:
    wanted = row.get("settings", {})
    fixed = all(score.settings.get(path) == value for path, value in wanted.items())
    return row.get("task") == score.task and row.get("score", "") == score.part and fixed


def _cells(column: Mapping[str, Any], rows: Mapping[str, Any], *, path: Path, name: str) -> dict[str, float | None]:
    cells = column["cells"]
    if len(cells) != len(rows):
        raise DataError(f"{path}: {name} has {len(cells)} cells for {len(rows)} rows.")
    return dict(zip(rows, cells, strict=True)) | ({MEAN: column["mean"]} if "mean" in column else {})
