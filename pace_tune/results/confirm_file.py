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


def confirmation_text(confirmation: Confirmation) -> str:
    """Return a confirmation as one line: the winner's mean and its verdicts."""
    winner = next(iter(confirmation.means))
    verdicts = [f"{one.verdict} {'against' if one.verdict == 'cannot tell' else 'than'} {one.other}" for one in confirmation.comparisons]
    return "; ".join([f"{winner} {confirmation.metric} {confirmation.means[winner]}", *verdicts])
