"""The published tables beside our confirmed scores."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any

from pace_tune.results.confirm_file import read_confirmation
from pace_tune.results.paper import MEAN, Ours, PaperTable, paper_tables, place_ours
from pace_tune.results.report.parts import Section, Table
from pace_tune.results.sweep_data import Sweep


def published(sweeps: Sequence[Sweep]) -> list[Section]:
    """Return a section for each published table."""
    ours = list(our_scores(sweeps))
    return [_section(table, place_ours(table, ours)) for table in paper_tables()]


def our_scores(sweeps: Sequence[Sweep]) -> Iterator[Ours]:
    """Yield every confirmed score; of several sweeps of a task that of the best validation score first, never of the best test score."""
    for sweep in sorted(sweeps, key=_selected):
        found = read_confirmation(sweep.folder)
        for recipe, mean in (found or {}).get("means", {}).items():
            if mean["mean"] is not None:
                yield Ours(recipe=recipe, task=sweep.task, settings=sweep.fixed, value=mean["mean"], half_width=mean["half_width"])
                yield from _parts(sweep, found or {}, recipe)


def _parts(sweep: Sweep, found: Mapping[str, Any], recipe: str) -> Iterator[Ours]:
    """Yield the scores on each of several test sets, where the confirmation holds them."""
    every = [score["scores"] for score in found["scores"] if score["recipe"] == recipe and score.get("scores")]
    for part in dict.fromkeys(key for scores in every for key in scores if "/" in key):
        values = [float(scores[part]) for scores in every if part in scores]
        yield Ours(recipe=recipe, task=sweep.task, settings=sweep.fixed, value=fmean(values), half_width=None, part=part)


def _selected(sweep: Sweep) -> float:
    value = sweep.ranked[0].value if sweep.ranked else None
    return math.inf if value is None else -value if sweep.higher_is_better else value


def _section(table: PaperTable, ours: Mapping[str, Mapping[str, Ours]]) -> Section:
    printed = {name: name for name in table.columns}
    columns = {"row": "", **printed, **{f"ours {recipe}": f"ours: {recipe}" for recipe in ours}, **({} if ours else {"ours": "ours"})}
    notes = [table.caption, f"Source: {table.source}.", "† known misprint or remark: point at it."]
    return Section(
        anchor=table.name,
        title=table.title,
        parts=(
            Table(
                name=f"published-{table.name}",
                title=table.title,
                columns=columns,
                rows=[_row(table, key, ours) for key in table.rows],
                note=" ".join(notes),
                left=("row",),
            ),
        ),
    )


def _row(table: PaperTable, key: str, ours: Mapping[str, Mapping[str, Ours]]) -> dict[str, Any]:
    printed = {name: _printed(cells.get(key), table.decimals) for name, cells in table.columns.items()}
    notes = {name: remark for name in table.columns if (remark := table.remark(name, key))}
    row: dict[str, Any] = {"row": table.rows[key]["label"], **printed, "_class": "mean" if key == MEAN else ""}
    for recipe, found in ours.items():
        row[f"ours {recipe}"] = _ours(table, key, found)
        if key in found and found[key].settings.get("backbone.name") != table.backbone:
            notes[f"ours {recipe}"] = f"with {found[key].settings.get('backbone.name')}, not {table.backbone}: not comparable"
    return {**row, "_notes": notes}


def _printed(value: float | None, decimals: int) -> str | None:
    return None if value is None else f"{value:.{decimals}f}"


def _ours(table: PaperTable, key: str, found: Mapping[str, Ours]) -> str | None:
    if key == MEAN:
        mean = table.mean_of({row: 100 * score.value for row, score in found.items()})
        return _printed(mean, table.decimals)
    if key not in found:
        return None
    score = found[key]
    half = f" ± {_printed(100 * score.half_width, table.decimals)}" if score.half_width is not None else ""
    return f"{_printed(100 * score.value, table.decimals)}{half}"
