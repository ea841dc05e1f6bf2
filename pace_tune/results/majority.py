"""What saying the commonest class every time would score: the floor under a confirmed score."""

from __future__ import annotations

from pathlib import Path

from pace_tune.results.calibration import find_predictions
from pace_tune.results.confirm_file import read_confirmation


def majority_score(sweep_folder: Path) -> float | None:
    """Return the accuracy of always saying the test split's commonest class, from the predictions that a confirmation kept.

    Matthews' correlation is 0 then, whatever the classes. None where another score decides, or no predictions are kept.
    """
    import numpy as np

    confirmed = read_confirmation(sweep_folder) or {}
    if confirmed.get("metric") == "test/matthews":
        return 0.0
    files = [file for per_recipe in find_predictions(sweep_folder).values() for file in per_recipe]
    if confirmed.get("metric") != "test/accuracy" or not files:
        return None
    with np.load(files[0], allow_pickle=False) as kept:
        targets_N = kept["targets"]
    return float(np.bincount(targets_N).max() / len(targets_N))


def majority_text(share: float) -> str:
    """Return the floor as a sentence.

    Example:
        >>> majority_text(0.1)
        'Saying the commonest class every time: 0.1000.'
    """
    return f"Saying the commonest class every time: {share:.4f}."
