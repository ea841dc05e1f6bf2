"""What an accuracy on the test split is to be read against: always saying the commonest class, and how few examples there are."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from pace_tune.results.calibration import find_predictions
from pace_tune.results.confirm_file import read_confirmation
from pace_tune.results.neighbours import NORMAL_95


@dataclass(frozen=True)
class Floor:
    """The test split that accuracies are shares of.

    Args:
        share: Of its commonest class.
        examples: How many it holds.
    """

    share: float
    examples: int


def score_floor(sweep_folder: Path) -> Floor | None:
    """Return the test split's commonest class and size, from the predictions that a confirmation kept.

    None where another score than accuracy decides, or no predictions are kept.
    """
    import numpy as np

    confirmed = read_confirmation(sweep_folder) or {}
    files = [file for per_recipe in find_predictions(sweep_folder).values() for file in per_recipe]
    if confirmed.get("metric") != "test/accuracy" or not files:
        return None
    with np.load(files[0], allow_pickle=False) as kept:
        targets_N = kept["targets"]
    return Floor(float(np.bincount(targets_N).max() / len(targets_N)), len(targets_N))


def floor_text(floor: Floor) -> str:
    """Return the floor as two sentences; how far examples drawn anew move an accuracy is what they do at 0.5, the most.

    Example:
        >>> print(floor_text(Floor(0.1, 100)))
        Saying the commonest class every time: 0.1000, of 100 examples. Intervals are over seeds; 100 others may move a mean up to ± 0.098.
    """
    moved = NORMAL_95 * math.sqrt(0.25 / floor.examples)
    others = f"{floor.examples:,} others may move a mean up to ± {moved:.3f}"
    return f"Saying the commonest class every time: {floor.share:.4f}, of {floor.examples:,} examples. Intervals are over seeds; {others}."
