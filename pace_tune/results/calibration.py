"""Whether confidence is worth what it says: reliability bins and the expected calibration error of kept predictions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PREDICTIONS = "predictions.npz"
"""In a lane's folder: `probabilities`, (examples, classes), and `targets`, (examples,)."""
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


def find_predictions(sweep_folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield (name, file) of every run of a sweep that kept predictions: confirmed ones first, then trials."""
    for part in ("confirm", "lanes"):
        for path in sorted((sweep_folder / part).glob(f"*/{PREDICTIONS}")):
            yield path.parent.name, path


def read_reliability(path: Path) -> Reliability:
    """Return the reliability of the predictions in a file."""
    import numpy as np

    with np.load(path, allow_pickle=False) as kept:
        return reliability(kept["probabilities"], kept["targets"])


def reliability(probabilities_NC: NDArray[np.floating[Any]], targets_N: NDArray[np.integer[Any]], *, bins: int = BINS) -> Reliability:
    """Return reliability over equally wide bins of the confidence in the most likely class (Guo et al. 2017)."""
    import numpy as np

    confidence = probabilities_NC.max(axis=1)
    right = probabilities_NC.argmax(axis=1) == targets_N
    index = np.minimum((confidence * bins).astype(int), bins - 1)
    found = [(float(confidence[index == b].mean()), float(right[index == b].mean()), int((index == b).sum())) for b in np.unique(index)]
    ece = sum(count * abs(said - true) for said, true, count in found) / len(targets_N)
    return Reliability(tuple(found), ece, len(targets_N))
