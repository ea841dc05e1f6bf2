"""The trials of a sweep in order, as plain rows, as text, and as a table for the terminal."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pace_tune.results.shown import fitting
from pace_tune.results.sweep_data import Sweep, Trial

_OBJECTIVE, _LOSS, _GAP, _EPOCHS = 3, 5, 6, 7
"""Places of the columns that a narrow terminal does without; what was searched follows them."""
_FRAME = 3
"""Letters of a column's line and the blanks in it."""
_NAMED = 6
"""Trials that the footnote names."""
_PLACE = {"finished": 0, "running": 1, "waiting": 2, "pruned": 3}
"""Trials that ran every epoch first; what broke last."""
_COLOURS = {"finished": "", "running": "cyan", "waiting": "dim", "pruned": "dim"}


def leaderboard_rows(sweep: Sweep) -> list[dict[str, Any]]:
    """Return one row of plain values per trial, best first.

    Each holds rank (only trials that ran every epoch have one), lane, state, reason, objective, epoch, epochs, value,
    val_loss, gap (training minus validation metric), gap_epoch and settings (what the search chose). Values are of the row's
    epoch or None, but the gap is the last one measured, which is what gap_epoch says.
    """
    ranks = {trial.number: rank for rank, trial in enumerate(sweep.ranked, start=1)}
    others = [trial for trial in sweep.trials if trial.number not in ranks]
    others.sort(key=lambda trial: (_PLACE.get(trial.state, 4), -trial.epoch, _worse(trial, sweep), trial.number))
    return [_row(trial, sweep, ranks.get(trial.number)) for trial in (*sweep.ranked, *others)]


def leaderboard_table(sweep: Sweep, *, limit: int | None = None, width: int | None = None) -> Table:
    """Return the leaderboard for the terminal, its first `limit` rows; what `width` letters have no room for is named below it."""
    rows = leaderboard_rows(sweep)
    shown = rows[:limit]
    searched = [column for column in _columns(shown) if column != "objective.name"]
    headings = ("#", "trial", "state", "objective", sweep.metric, "val/loss", "gap", "epochs", *map(_short, searched))
    lines = [_cells(row, searched) for row in shown]
    kept = _fitting(headings, lines, width=width)
    # Text, not markup, everywhere: a reason or a choice may hold square brackets.
    title = Text(f"{sweep.name}: {len(rows)} trials by {sweep.metric}")
    caption = [*_caption(rows, shown, metric=sweep.metric.rpartition("/")[2] if _GAP in kept else None)]
    caption += [*_only_defaults(sweep), *_all_equal(sweep)]
    if missing := [heading for place, heading in enumerate(headings) if place not in kept]:
        caption.append(f"no room for: {', '.join(missing)}")
    table = Table(title=title, caption=Text("\n".join(caption)) if caption else None, title_justify="left", caption_justify="left")
    for place in kept:
        table.add_column(headings[place], justify="left" if headings[place] in ("trial", "state", "objective") else "right", no_wrap=True)
    for row, line in zip(shown, lines, strict=True):
        style = "bold green" if row["rank"] == 1 else _COLOURS.get(row["state"], "red")
        table.add_row(*(Text(line[place]) for place in kept), style=style)
    return table


def _cells(row: Mapping[str, Any], searched: Sequence[str]) -> list[str]:
    cells = [row["rank"], row["lane"], row["state"], row["objective"], row["value"], row["val_loss"], row["gap"]]
    chosen = [row["settings"].get(column) for column in searched]
    return [_cell(cell) for cell in (*cells, f"{row['epoch']}/{row['epochs']}", *chosen)]


def _fitting(headings: Sequence[str], lines: Sequence[Sequence[str]], *, width: int | None) -> list[int]:
    """Return the places of the columns that have room: the last setting goes first, rank, trial, state and value stay."""
    widths = {place: max(map(cell_len, (heading, *(line[place] for line in lines)))) + _FRAME for place, heading in enumerate(headings)}
    spare = [*reversed(range(_EPOCHS + 1, len(headings))), _GAP, _LOSS, _EPOCHS, _OBJECTIVE]
    return list(widths) if width is None else fitting(widths, spare=spare, room=width - 1)


def leaderboard_text(sweep: Sweep, *, limit: int | None = None, width: int = 160) -> str:
    """Return the leaderboard as plain text, for logs and files."""
    console = Console(file=io.StringIO(), width=width, color_system=None)
    with console.capture() as captured:
        console.print(leaderboard_table(sweep, limit=limit, width=width))
    return captured.get()


def _row(trial: Trial, sweep: Sweep, rank: int | None) -> dict[str, Any]:
    last = trial.reports[-1] if trial.reports else {"metrics": {}}
    gap_epoch, gap = last_measured(trial, f"gap/{sweep.metric.rpartition('/')[2]}")
    return {
        "rank": rank,
        "lane": trial.lane,
        "state": trial.state,
        "reason": trial.reason,
        "objective": trial.objective,
        "epoch": trial.epoch,
        "epochs": last.get("epochs", trial.settings.get("optim.epochs")),
        "value": _finite(trial.value),
        "val_loss": _finite(last["metrics"].get("val/loss")),
        "gap": _finite(gap),
        "gap_epoch": gap_epoch,
        "settings": dict(trial.chosen),
    }


def last_measured(trial: Trial, metric: str) -> tuple[int | None, float | None]:
    """Return the last epoch that measured a metric, and what it measured."""
    found = ((int(report["epoch"]), float(report["metrics"][metric])) for report in reversed(trial.reports) if metric in report["metrics"])
    return next(found, (None, None))


def late_gap(row: Mapping[str, Any]) -> bool:
    """Whether a row's gap is of an earlier epoch than its other values."""
    return row["gap"] is not None and row["gap_epoch"] < row["epoch"]


def _worse(trial: Trial, sweep: Sweep) -> float:
    value = _finite(trial.value)
    return math.inf if value is None else -value if sweep.higher_is_better else value


def _columns(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(path for row in rows for path in row["settings"]))


def _short(path: str) -> str:
    """Return the last part of a dotted path; a name keeps its section, or it would be any name."""
    section, _, field = path.rpartition(".")
    return section if field == "name" and section else field


def _caption(rows: Sequence[Mapping[str, Any]], shown: Sequence[Mapping[str, Any]], *, metric: str | None) -> list[str]:
    broken = [row for row in rows if row["reason"] and row["state"] not in ("finished", "pruned", "running")]
    lines = [f"{len(rows) - len(shown)} more trials"] if len(shown) < len(rows) else []
    if metric and any(row["gap"] is not None for row in shown):
        late = [f"{row['lane']} ({row['gap_epoch']})" for row in shown if late_gap(row)]
        named = f"{', '.join(late[:_NAMED])}{', ...' if len(late) > _NAMED else ''}"
        lines.append(f"gap: training minus validation {metric}" + (f"; of an earlier epoch: {named}" if late else ""))
    return [*lines, *(f"{row['lane']} {row['state']}: {row['reason']}" for row in broken[:3])]


def _only_defaults(sweep: Sweep) -> Iterator[str]:
    """Say where no searched trial can win: the best recipe is then what nobody searched."""
    first = [trial.objective for trial in sweep.trials[:2]]
    # The second trial is a reference where it is the defaults with another objective (`Study.references`).
    references = 2 if first[1:] == ["plain"] != first[:1] else 1
    searched = sweep.trials[references:]
    stopped = searched and all(trial.state == "pruned" for trial in searched)
    if sweep.search.get("baseline", True) and stopped and sweep.ranked:
        advice = "with more trials, or more `search.early_stopping.grace_epochs`, searched ones can win"
        yield f"only the defaults ran every epoch; {advice}"


def _all_equal(sweep: Sweep) -> Iterator[str]:
    """Say where the winner is no better than any other: mostly all of them always say the same class."""
    values = [trial.value for trial in sweep.ranked]
    if len(values) > 1 and len(set(values)) == 1:
        why = "training may be too short (`optim.epochs`, `optim.lr`), or val too small"
        yield f"all {len(values)} trials that ran every epoch score {_cell(values[0])}: no recipe can be told from another; {why}"


def _finite(value: float | None) -> float | None:
    """Return a number that JSON can hold."""
    return value if value is not None and math.isfinite(value) else None


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
