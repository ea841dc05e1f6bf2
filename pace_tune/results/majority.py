"""What a score is to be read against: always saying the commonest class, and how few examples there are."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from pace_tune.errors import PaceTuneError
from pace_tune.results.best import BestRun
from pace_tune.results.calibration import find_predictions
from pace_tune.results.confirm_file import read_confirmation
from pace_tune.results.neighbours import NORMAL_95
from pace_tune.study.run_config import RunConfig

ROUNDING = 1e-6
"""Accuracies are means in single precision."""


@dataclass(frozen=True)
class Floor:
    """What saying a split's commonest class every time would score.

    Args:
        score: In the metric that decides.
        examples: How many the split holds, where the score is a share of them.
    """

    score: float
    examples: int | None = None


def score_floor(sweep_folder: Path) -> Floor | None:
    """Return the floor under a confirmed score, from the predictions that the confirmation kept.

    Matthews' correlation is 0 then, whatever the classes. None where another score decides, or no predictions are kept.
    """
    import numpy as np

    confirmed = read_confirmation(sweep_folder) or {}
    if confirmed.get("metric") == "test/matthews":
        return Floor(0.0)
    files = [file for per_recipe in find_predictions(sweep_folder).values() for file in per_recipe]
    if confirmed.get("metric") != "test/accuracy" or not files:
        return None
    with np.load(files[0], allow_pickle=False) as kept:
        targets_N = kept["targets"]
    return Floor(float(np.bincount(targets_N).max() / len(targets_N)), len(targets_N))


def floor_text(floor: Floor) -> str:
    """Return the floor as sentences; how far examples drawn anew move an accuracy is what they do at 0.5, the most.

    Example:
        >>> print(floor_text(Floor(0.1, 100)))
        Saying the commonest class every time: 0.1000, of 100 examples. Intervals are over seeds; 100 others may move a mean up to ± 0.098.
        >>> print(floor_text(Floor(0.0)))
        Saying the commonest class every time: 0.0000.
    """
    said = f"Saying the commonest class every time: {floor.score:.4f}"
    if floor.examples is None:
        return f"{said}."
    many, moved = f"{floor.examples:,}", NORMAL_95 * math.sqrt(0.25 / floor.examples)
    return f"{said}, of {many} examples. Intervals are over seeds; {many} others may move a mean up to ± {moved:.3f}."


def winner_floor(best: BestRun) -> Floor | None:
    """Return the floor under a winner's score on the split that it was selected on, which is read for it; no other is.

    None where another score decides, or the data is not on this machine.
    """
    if best.metric == "val/matthews":
        return Floor(0.0)
    run = RunConfig.model_validate(best.config)
    if best.metric != f"{run.data.selection}/accuracy":
        return None
    from pace_tune.worker import class_counts

    try:
        counts = class_counts(run.task, run.data.root, splits=[run.data.selection]).get(run.data.selection)
    except (PaceTuneError, OSError):
        return None
    return Floor(max(counts.values()) / sum(counts.values()), sum(counts.values())) if counts else None


def winner_floor_text(best: BestRun) -> str:
    """Return what always saying the commonest class scores where a winner was selected, and whether the winner is any better.

    Empty where that is not known. Reads the labels of val, so it takes as long as that does.
    """
    floor = winner_floor(best)
    if floor is None:
        return ""
    of = f" on {floor.examples:,} examples of val" if floor.examples else " on val"
    said = f"Saying the commonest class every time: {floor.score:.4f}{of}."
    return said if best.value > floor.score + ROUNDING else f"{said} The winner is no better, it may have learned nothing."
