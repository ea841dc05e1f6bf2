"""What every task is: classes and metric declared, splits disjoint by a stated rule, examples ready for a backbone."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from pace_tune.component import Component
from pace_tune.errors import DataError

if TYPE_CHECKING:  # A study is checked without torch; only `load` needs it.
    from torch import Tensor

    from pace_tune.models.backbone import InputSpec

Split = Literal["train", "val", "train+val", "test"]
Modality = Literal["image", "text", "causal"]
Target = Literal["class", "value", "token"]
Index = NDArray[np.int64]


@dataclass(frozen=True)
class Examples:
    """A split in memory, ready for a backbone.

    Args:
        inputs: Keyword arguments of the backbone's forward, first axis N everywhere: ``x`` uint8 [N, C, H, W] for images,
            ``input_ids`` and ``attention_mask`` int64 [N, T] for text.
        targets: [N] int64 classes or float values; [N, T] int64 with -100 where nothing is scored for causal language models.
        references: What generated text is compared with, one an example; empty where nothing is generated.
    """

    inputs: dict[str, Tensor]
    targets: Tensor
    references: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        counts = {len(value) for value in self.inputs.values()} | {len(self.targets), len(self.references) or len(self.targets)}
        if len(counts) != 1:
            raise DataError(f"inputs and targets of one length must be given, but got lengths {sorted(counts)}.")

    def __len__(self) -> int:
        return len(self.targets)

    def take(self, index: Tensor) -> Examples:
        """Return the examples at `index` [M], in that order."""
        references = tuple(self.references[i] for i in index.tolist()) if self.references else ()
        return Examples({name: value[index] for name, value in self.inputs.items()}, self.targets[index], references)


class Task(Component, ABC):
    """A benchmark by name. Its class count, metric and direction are declared, never read off a split."""

    modality: ClassVar[Modality] = "image"
    higher_is_better: ClassVar[bool] = True

    @property
    def target(self) -> Target:
        """What the model is to say: it decides the loss."""
        return "class"

    @property
    def metric(self) -> str:
        """What `val/<metric>` holds and a sweep optimises by default."""
        return "accuracy"

    @property
    def metrics(self) -> tuple[str, ...]:
        """Every score that is reported, `metric` first."""
        return (self.metric,)

    @property
    def test_sets(self) -> tuple[str, ...]:
        """Names of several test sets, where ``test`` is more than one; each is read by `load_test`."""
        return ()

    @property
    @abstractmethod
    def labels(self) -> tuple[str, ...]:
        """Class names in the order of their numbers; empty for regression and generation."""

    @property
    def num_classes(self) -> int:
        """Outputs the head needs: the number of classes, 1 for regression."""
        return max(1, len(self.labels))

    @classmethod
    def published(cls) -> dict[str, Any]:
        """Return the published protocol's settings as dotted paths; {} where there is none. See `protocols`."""
        from pace_tune.benchmarks.protocols import protocol

        return protocol(cls.name)

    @classmethod
    def published_notes(cls) -> tuple[str, ...]:
        """Return what the published protocol leaves open, and where ours departs from it; () where there is none."""
        from pace_tune.benchmarks.protocols import notes

        return notes(cls.name)

    @abstractmethod
    def load(self, split: Split, *, spec: InputSpec, root: Path | None = None, seed: int = 0, cache: Path | None = None) -> Examples:
        """Read a split, always in the same order.

        Args:
            split: ``train+val`` is ``train`` followed by ``val``; ``test`` is read only when it is asked for.
            spec: What the backbone is fed; images come out at its size, text in its tokens.
            root: Folder with the data sets; tasks that come with the package need none.
            seed: The run's seed, for tasks that draw something at load; which examples a split holds depends on the task's
                own fields only, so that runs with different seeds share their data.
            cache: Folder for decoded images; None takes one beside the data, or in the user's cache folder.

        Raises:
            DataError: A file is missing, damaged or breaks its layout.
        """

    def load_test(self, name: str, *, spec: InputSpec, root: Path | None = None, cache: Path | None = None) -> Examples:
        """Read one of `test_sets`."""
        raise DataError(f"task {self.name!r} has no test set {name!r}.")

    def problems(self, split: Split, *, root: Path | None = None) -> list[str]:
        """Return everything that is wrong with a split's files, a line each, without loading it."""
        return []

    def early_problems(self, *, root: Path | None = None) -> list[str]:
        """Return what is wrong with the data that a sweep reads, where that is seen within seconds; workers see the rest."""
        return []

    def early_remarks(self, *, root: Path | None = None) -> list[str]:
        """Return those of `remarks` that are seen within seconds, and from the labels alone."""
        return []

    def remarks(self, *, root: Path | None = None) -> list[str]:
        """Return what the data holds that one may not expect, a line each; none of it is a mistake."""
        return self.early_remarks(root=root)

    def fingerprint(self) -> str:
        """Return what tells people's own data from what they were before; empty where that is not asked, or they are not here."""
        return ""

    def size(self, split: Split, *, root: Path | None = None) -> int | None:
        """Return how many examples a split holds, without loading it; None where that cannot be said."""
        return None

    def class_numbers(self, split: Split, *, root: Path | None = None) -> Sequence[int] | None:
        """Return the class of each example of a split, without loading it; None where that cannot be said."""
        return None


@dataclass(frozen=True)
class Parts:
    """Disjoint positions in a data set."""

    train: Index
    val: Index
    test: Index

    def of(self, split: Split) -> Index:
        """Return the positions of a split."""
        if split == "train+val":
            return np.concatenate([self.train, self.val])
        return {"train": self.train, "val": self.val, "test": self.test}[split]


def split_per_class(classes: Index, counts: Sequence[int], *, seed: int) -> list[Index]:
    """Cut a data set into stratified, disjoint parts: a seeded permutation a class, then consecutive runs of it.

    Parts are nested in their sizes: a larger `counts[0]` with the same seed keeps the smaller one's examples.

    Args:
        classes: [N] class of each example.
        counts: Examples a class in each part.
        seed: Of the permutations.

    Returns:
        One array of positions a part, classes interleaved so that its first examples hold every class.

    Raises:
        DataError: A class has fewer examples than the parts need.
    """
    generator = np.random.default_rng(seed)
    orders = [generator.permutation(np.flatnonzero(classes == label)) for label in np.unique(classes)]
    smallest = min(len(order) for order in orders)
    if sum(counts) > smallest:
        raise DataError(f"{sum(counts)} examples a class are needed, but the smallest class has {smallest}.")
    ends = np.cumsum(counts)
    return [np.stack([order[end - count : end] for order in orders], axis=1).reshape(-1) for end, count in zip(ends, counts, strict=True)]
