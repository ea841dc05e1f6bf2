"""What a scored model said of each example, kept in the lane's folder: reliability diagrams are drawn from it."""

from __future__ import annotations

import io

import numpy as np
from torch import Tensor

MOST_VALUES = 20_000_000
"""Of probabilities that are kept, 80 MB. ImageNet's five test sets would be a gigabyte a run."""


class Predictions:
    """Probabilities and targets of one lane, gathered over its test sets."""

    def __init__(self) -> None:
        self._parts: list[tuple[Tensor, Tensor]] = []

    def see(self, logits_KNC: Tensor, targets_N: Tensor) -> None:
        """Take what the first lane said of a set of examples."""
        self._parts.append((logits_KNC[0].softmax(dim=-1).float().cpu(), targets_N.cpu()))

    def as_npz(self) -> bytes | None:
        """Return all of it as a compressed file; None where there is nothing or too much."""
        if not self._parts or sum(said.numel() for said, _ in self._parts) > MOST_VALUES:
            return None
        said, targets = zip(*self._parts, strict=True)
        file = io.BytesIO()
        np.savez_compressed(file, probabilities=np.concatenate(said), targets=np.concatenate(targets))
        return file.getvalue()
