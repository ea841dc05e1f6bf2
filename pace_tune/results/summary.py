"""What a finished sweep leaves beside its trials: leaderboard, picture, and the winner as a run file."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from pace_tune.files import write_text
from pace_tune.results.best import BestRun, best_of, write_run_yaml
from pace_tune.results.leaderboard import leaderboard_rows, leaderboard_table
from pace_tune.results.picture import draw_sweep
from pace_tune.results.shown import inline_png, to_html
from pace_tune.results.sweep_data import Sweep, read_sweep

SHOWN = 10
"""Trials that a notebook shows."""


@dataclass(frozen=True)
class Summary:
    """A sweep's results and where they lie; `best` and `run_file` are None where no trial ran every epoch.

    The last expression of a notebook's cell shows leaderboard and picture.
    """

    sweep: Sweep
    leaderboard_file: Path
    picture_file: Path | None
    best: BestRun | None
    run_file: Path | None

    def _repr_html_(self) -> str:
        picture = inline_png(self.picture_file.read_bytes(), title=self.sweep.name) if self.picture_file else ""
        return to_html(leaderboard_table(self.sweep, limit=SHOWN)) + picture


def write_summary(folder: Path) -> Summary:
    """Write `leaderboard.json`, `picture.png` and `best.yaml` into the folder of a sweep, and return what they hold.

    Raises:
        DataError: The folder holds no sweep.
    """
    sweep = read_sweep(folder)
    rows = write_text(folder / "leaderboard.json", json.dumps(leaderboard_rows(sweep), indent=1) + "\n")
    reported = any(trial.reports for trial in sweep.trials)
    picture = draw_sweep(sweep, folder / "picture.png") if reported else None
    best = best_of(sweep) if sweep.ranked else None
    return Summary(sweep, rows, picture, best, write_run_yaml(best, folder / "best.yaml") if best else None)
