"""Every trial in order of its worth."""

from __future__ import annotations

from typing import Any

from pace_tune.results.cost import Cost
from pace_tune.results.leaderboard import leaderboard_rows
from pace_tune.results.report.parts import Section, Table
from pace_tune.results.sweep_data import Sweep

SHOWN = 25


def leaderboard(sweep: Sweep, cost: Cost) -> Section:
    """Return the leaderboard of a sweep."""
    head = {"rank": "#", "lane": "trial", "state": "state", "objective": "objective", "value": sweep.metric, "val_loss": "val/loss"}
    settings = {path: axis.label for path, axis in sweep.axes.items() if path != "objective.name"}
    columns = {
        **head,
        "gap": "gap",
        "epochs": "epochs",
        **settings,
        **({"lane_s": "lane-seconds"} if cost.lane_s else {}),
        "reason": "reason",
    }
    rows = [_row(row, sweep, cost) for row in leaderboard_rows(sweep)]
    filled = {key: heading for key, heading in columns.items() if any(row.get(key) not in (None, "") for row in rows)}
    table = Table(
        name=f"{sweep.name}-leaderboard",
        title=f"Trials of {sweep.name}",
        columns=filled,
        rows=rows,
        shown=SHOWN,
        left=("lane", "state", "objective", "reason"),
        note="Only trials that ran every epoch have a place. The gap is training minus validation metric, without noise.",
    )
    return Section(anchor="leaderboard", title="Leaderboard", lead="Point at a trial to see it in every picture.", parts=(table,))


def _row(row: dict[str, Any], sweep: Sweep, cost: Cost) -> dict[str, Any]:
    style = "best" if row["rank"] == 1 else "" if row["state"] == "finished" else "dim" if row["state"] == "pruned" else "broken"
    shown = {**row, **row["settings"], "epochs": f"{row['epoch']}/{row['epochs']}", "lane_s": cost.lane_s.get(row["lane"])}
    # Running and waiting ones are not broken.
    style = "" if row["state"] in ("running", "waiting") else style
    return {**shown, "_class": style, "_trial": f"{sweep.name}--{row['lane']}"}
