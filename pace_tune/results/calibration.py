"""Whether confidence is worth what it says: reliability bins and the expected calibration error of kept predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pace_tune.files import PREDICTIONS
from pace_tune.results.confirm_file import CONFIRMED_RUNS, read_confirmation

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

BINS = 15


@dataclass(frozen=True)
class Reliability:
    """Confidence against accuracy.

    Args:
        bins: (mean confidence, share that was right, how many) of each bin that is not empty.
        ece: Expected calibration error: the mean of their differences, weighted by how many.
        count: How many examples.
    """

    bins: tuple[tuple[float, float, int], ...]
    ece: float
    count: int


def find_predictions(sweep_folder: Path) -> Mapping[str, Sequence[Path]]:
    """Return the predictions on the test split that a sweep's confirmation kept: recipe -> a file per seed."""
    confirmed = read_confirmation(sweep_folder) or {}
    found: dict[str, list[Path]] = {}
    for score in confirmed.get("scores", ()):
        file = sweep_folder / CONFIRMED_RUNS / str(score.get("lane")) / PREDICTIONS
        if file.is_file():
            found.setdefault(score["recipe"], []).append(file)
    return found


def read_reliability(path: Path) -> Reliability:
    """Return the reliability of the predictions in a file."""
    import numpy as np

    with np.load(path, allow_pickle=False) as kept:
        return reliability(kept["probabilities"], kept["targets"])


def pooled(parts: Sequence[Reliability]) -> Reliability:
    """Return the reliability of all examples of several runs together, bin by bin."""
    bins: dict[int, list[tuple[float, float, int]]] = {}
    for part in parts:
        for said, true, count in part.bins:
            bins.setdefault(min(int(said * BINS), BINS - 1), []).append((said, true, count))
    found = tuple(_merged(bins[index]) for index in sorted(bins))
    total = sum(count for _, _, count in found)
    return Reliability(found, sum(count * abs(said - true) for said, true, count in found) / total, total)


def reliability(probabilities_NC: NDArray[np.floating[Any]], targets_N: NDArray[np.integer[Any]], *, bins: int = BINS) -> Reliability:
    """Return reliability over equally wide bins of the confidence in the most likely class (Guo et al. 2017)."""
    import numpy as np

    confidence = probabilities_NC.max(axis=1)
    right = probabilities_NC.argmax(axis=1) == targets_N
    index = np.minimum((confidence * bins).astype(int), bins - 1)
    found = [(float(confidence[index == b].mean()), float(right[index == b].mean()), int((index == b).sum())) for b in np.unique(index)]
    ece = sum(count * abs(said - true) for said, true, count in found) / len(targets_N)
    return Reliability(tuple(found), ece, len(targets_N))


def _merged(bins: Sequence[tuple[float, float, int]]) -> tuple[float, float, int]:
    """Return one bin for several: the means, weighted by how many."""
    total = sum(count for _, _, count in bins)
    return sum(said * count for said, _, count in bins) / total, sum(true * count for _, true, count in bins) / total, total
