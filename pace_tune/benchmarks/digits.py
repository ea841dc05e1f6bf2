"""Few-shot handwritten digits out of scikit-learn: a real task that needs no download."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
from pydantic import Field, model_validator

from pace_tune.benchmarks.task import Examples, Index, Parts, Split, Task, split_per_class
from pace_tune.errors import require
from pace_tune.registry import tasks

if TYPE_CHECKING:
    from pace_tune.models.backbone import InputSpec

TEST_PER_CLASS = 100
TEST_SEED = 20_240
LEFT_PER_CLASS = 74
"""Images outside the test set of the rarest digit, 8 (174 in all)."""


@tasks.register("digits")
class Digits(Task):
    """Handwritten digits, 10 classes, few-shot: scikit-learn's 1,797 images, which need no download.

    The test set is 100 images a class and the same for every field; train and val are drawn from the rest by `split_seed`.

    Args:
        shots: Training images a class.
        val_per_class: Images a class to select on.
        split_seed: Which of the images outside the test set they are.

    Example:
        >>> Digits(shots=4).num_classes
        10
    """

    shots: int = Field(default=10, ge=1)
    val_per_class: int = Field(default=20, ge=1)
    split_seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        needed = self.shots + self.val_per_class
        require(needed <= LEFT_PER_CLASS, f"shots + val_per_class <= {LEFT_PER_CLASS}", shots=self.shots, val_per_class=self.val_per_class)
        return self

    @property
    def labels(self) -> tuple[str, ...]:
        """The ten digits."""
        return tuple("0123456789")

    def load(
        self,
        split: Split,
        *,
        spec: InputSpec,
        root: Path | None = None,
        seed: int = 0,
        cache: Path | None = None,
    ) -> Examples:
        """Return grey images repeated over the channels; only `split` and `spec` have something to say here."""
        import torch
        from sklearn.datasets import load_digits

        from pace_tune.benchmarks.images import resize

        data = load_digits()
        index = self.parts(data.target.astype(np.int64)).of(split)
        grey = np.round(data.images[index] * (255 / 16)).astype(np.uint8)
        x = resize(torch.from_numpy(grey)[:, None], size=spec.image_size)
        return Examples({"x": x.repeat(1, spec.channels, 1, 1)}, torch.from_numpy(data.target[index].astype(np.int64)))

    def size(self, split: Split, *, root: Path | None = None) -> int | None:
        """Return how many images a split holds."""
        per_class = {"train": self.shots, "val": self.val_per_class, "test": TEST_PER_CLASS}
        return len(self.labels) * sum(per_class[part] for part in split.split("+"))

    def parts(self, classes: Index) -> Parts:
        """Return which of the 1,797 images each split holds."""
        (test,) = split_per_class(classes, [TEST_PER_CLASS], seed=TEST_SEED)
        rest = np.setdiff1d(np.arange(len(classes)), test)
        train, val = split_per_class(classes[rest], [self.shots, self.val_per_class], seed=self.split_seed)
        return Parts(train=rest[train], val=rest[val], test=test)
