"""The confirmation that a sweep's folder keeps, for reports."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pace_tune.files import write_text
from pace_tune.results.confirm import Confirmation

CONFIRMATION = "confirm.json"
CONFIRMED_RUNS = "confirm"
"""The folder of the retrained runs, each in one of its own."""


def write_confirmation(sweep_folder: Path, confirmation: Confirmation) -> Path:
    """Write a confirmation into a sweep's folder, over the one before, and return the file."""
    return write_text(sweep_folder / CONFIRMATION, json.dumps(confirmation.as_mapping(), indent=1) + "\n")


def read_confirmation(sweep_folder: Path) -> Mapping[str, Any] | None:
    """Return what `confirm` found for a sweep, None where it has not run or the file cannot be read."""
    try:
        found = json.loads((sweep_folder / CONFIRMATION).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def confirmed_lanes(sweep_folder: Path) -> list[Path]:
    """Return the folders of the runs that a sweep's confirmation rests on; those of earlier ones lie beside them."""
    scores = (read_confirmation(sweep_folder) or {}).get("scores", ())
    return [sweep_folder / CONFIRMED_RUNS / score["lane"] for score in scores if score.get("lane")]


def outdated(confirmation: Mapping[str, Any], *, sweep: str, winner: str) -> str:
    """Return what to say of a confirmation whose winner is not the sweep's any more; nothing where it is, or nobody knows.

    Example:
        >>> outdated({"trial": "t0005"}, sweep="photos", winner="t0014")
        'confirmed was t0005, and the winner is t0014 now: `pace-tune confirm photos` again'
    """
    trial = confirmation.get("trial") or winner
    return "" if trial == winner else f"confirmed was {trial}, and the winner is {winner} now: `pace-tune confirm {sweep}` again"


def own_settings_text(own_settings: Mapping[str, str]) -> str:
    """Return which recipes are a trial's own, and not the winner's with another objective.

    Example:
        >>> own_settings_text({"pace": "t0003"})
        'pace is trial t0003 with all its own settings; the other recipes are the winner with another objective.'
    """
    trials = ", ".join(f"{recipe} is trial {trial} with all its own settings" for recipe, trial in own_settings.items())
    return f"{trials}; the other recipes are the winner with another objective." if trials else ""


def confirmation_text(confirmation: Confirmation) -> str:
    """Return a confirmation as one line: the winner's mean and its verdicts."""
    winner = next(iter(confirmation.means))
    verdicts = [f"{one.verdict} {'against' if one.verdict == 'cannot tell' else 'than'} {one.other}" for one in confirmation.comparisons]
    return "; ".join([f"{winner} {confirmation.metric} {confirmation.means[winner]}", *verdicts])
