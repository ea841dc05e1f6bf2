"""Every trial in order of its worth."""

from __future__ import annotations

from typing import Any

from pace_tune.results.cost import Cost
from pace_tune.results.leaderboard import late_gap, leaderboard_rows
from pace_tune.results.report.parts import Section, Table
from pace_tune.results.sweep_data import Sweep

SHOWN = 25
NOTE = (
    "Only trials that ran every epoch have a place. The gap is training minus validation metric, without noise. "
    "A trial that was stopped early stands with the epoch that it was judged by."
)


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
    note = NOTE + (" †: of an earlier epoch, the last that measured it; point at it." if any(late_gap(row) for row in rows) else "")
    filled = {key: heading for key, heading in columns.items() if any(row.get(key) not in (None, "") for row in rows)}
    table = Table(
        name=f"{sweep.name}-leaderboard",
        title=f"Trials of {sweep.name}",
        columns=filled,
        rows=rows,
        shown=SHOWN,
        left=("lane", "state", "objective", "reason"),
        note=note,
    )
    return Section(anchor="leaderboard", title="Leaderboard", lead="Point at a trial to see it in every picture.", parts=(table,))


def _row(row: dict[str, Any], sweep: Sweep, cost: Cost) -> dict[str, Any]:
    style = "best" if row["rank"] == 1 else "" if row["state"] == "finished" else "dim" if row["state"] == "pruned" else "broken"
    shown = {**row, **row["settings"], "epochs": f"{row['epoch']}/{row['epochs']}", "lane_s": cost.lane_s.get(row["lane"])}
    # Running and waiting ones are not broken.
    style = "" if row["state"] in ("running", "waiting") else style
    notes = {"gap": f"of epoch {row['gap_epoch']}"} if late_gap(row) else {}
    return {**shown, "_notes": notes, "_class": style, "_trial": f"{sweep.name}--{row['lane']}"}
