"""People's own data: where it lies, what is held out of it where it brings no split of its own, and what its classes are."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from pydantic import Field

from pace_tune.benchmarks.image_task import ENDINGS as IMAGES
from pace_tune.benchmarks.splits import hold_out
from pace_tune.benchmarks.tables import ENDINGS as TABLES
from pace_tune.benchmarks.tables import TEXT_LINES
from pace_tune.benchmarks.task import Split, Task
from pace_tune.errors import DataError
from pace_tune.models.backbone import LocalPath
from pace_tune.wording import counted

T = TypeVar("T")
FEW = 5
"""A class of fewer examples is worth a look: its label may be misspelt."""
OTHER_NAMES = {"train": ("train", "training"), "val": ("val", "valid", "validation", "dev"), "test": ("test", "testing")}
"""What people call their splits."""


class OwnData(Task):
    """A task over files that the user names. Splits that are not there are held out of train.

    The rule: `test_share` of each class first, then `val_share` of what is left of it, in an order that `split_seed` draws
    (`splits.hold_out`). What is listed twice stays on one side.

    Args:
        path: The data; `data.root` has no say here.
        val_share: Of each class, to select on, where the data has no val split.
        test_share: Of each class, to score once, where the data has no test split; 0 for none.
        split_seed: Which examples they are.
    """

    path: LocalPath
    val_share: float = Field(default=0.2, gt=0, lt=1)
    test_share: float = Field(default=0.2, ge=0, lt=1)
    split_seed: int = Field(default=0, ge=0)

    def chosen(
        self, split: Split, given: Mapping[str, Callable[[], Sequence[T]]], *, stratum: Callable[[T], object], same: Callable[[T], Hashable]
    ) -> list[T]:
        """Return the examples of a split.

        Args:
            given: The splits that the data has, by name; each is read only if it is needed.
            stratum: An example's class, or its value.
            same: What is equal for examples that must not be parted.

        Raises:
            DataError: There is no test split, and none is to be held out.
        """
        if split == "train+val":
            return [
                *self.chosen("train", given, stratum=stratum, same=same),
                *self.chosen("val", given, stratum=stratum, same=same),
            ]
        if split != "train" and split in given:
            return list(given[split]())
        if split == "test" and not self.test_share:
            raise DataError(f"{self.path}: has no test split; add one, or set `task.test_share` before anything is trained.")
        rest: list[T] = list(given["train"]())
        parts: dict[str, list[T]] = {}
        for part, share in (("test", self.test_share), ("val", self.val_share)):
            if part not in given and share and rest:
                kept, held = hold_out([stratum(x) for x in rest], share=share, seed=self.split_seed, same=[same(x) for x in rest])
                parts[part], rest = [rest[i] for i in held], [rest[i] for i in kept]
        return parts.get(split, rest)

    def class_totals(self, *, root: Path | None = None) -> dict[str, int]:
        """Return how many examples each class has in all, the smallest first; {} for values."""
        splits: tuple[Split, ...] = ("train+val", "test") if self.test_share else ("train+val",)
        found = Counter(number for split in splits for number in self.class_numbers(split, root=root) or ())
        counts = {name: found[number] for number, name in enumerate(self.labels)}
        return dict(sorted(counts.items(), key=lambda pair: pair[1]))

    def fingerprint(self) -> str:
        """Return a digest of the names and sizes of the data's files, and of the text of its tables and lists."""
        if not self.path.exists():
            return ""
        files = [self.path] if self.path.is_file() else sorted(file for file in self.path.rglob("*") if _is_data(file, below=self.path))
        digest = hashlib.sha256()
        for file in files:
            digest.update(f"{file.relative_to(self.path)} {file.stat().st_size}\n".encode())
            if file.suffix in TEXT_LINES or file.suffix == ".txt":
                digest.update(file.read_bytes())
        return digest.hexdigest()

    def early_remarks(self, *, root: Path | None = None) -> list[str]:
        """Return the classes of few examples, whose labels may be misspelt."""
        return few_notes(self.class_totals(root=root))


def _is_data(file: Path, *, below: Path) -> bool:
    hidden = any(part.startswith(".") for part in file.relative_to(below).parts)
    return not hidden and file.suffix in {*IMAGES, *TABLES, ".txt"} and file.is_file()


def few_notes(totals: Mapping[str, int]) -> list[str]:
    """Return a line on the classes of few examples, if there are any.

    Example:
        >>> few_notes({"godo": 1, "good": 20})
        ['1 class of fewer than 5 examples, perhaps misspelt: godo 1']
    """
    few = [f"{name} {count}" for name, count in totals.items() if count < FEW]
    shown = ", ".join(few[:FEW]) + (" ..." if len(few) > FEW else "")
    return [f"{counted(len(few), 'class', 'classes')} of fewer than {FEW} examples, perhaps misspelt: {shown}"] if few else []


def class_names(labels: Iterable[object]) -> tuple[str, ...]:
    """Return the classes that occur, numbers in their order, words in alphabetical order.

    For training data only: what a validation or test split happens to hold decides nothing.
    """
    names = {str(label) for label in labels}
    if all(re.fullmatch(r"-?\d{1,18}", name) for name in names):
        return tuple(sorted(names, key=lambda name: (int(name), name)))
    return tuple(sorted(names))


def numbered(labels: Sequence[object], *, names: Sequence[str], where: Callable[[int], str], problems: list[str]) -> list[int]:
    """Return the class number of each label; labels that are no class give a line of `problems` and -1."""
    numbers = {name: number for number, name in enumerate(names)}
    known = ", ".join(names[:8]) + (" ..." if len(names) > 8 else "")
    for row, label in enumerate(labels):
        if str(label) not in numbers:
            problems.append(f"{where(row)}: label {str(label)!r} is none of the classes ({known}).")
    return [numbers.get(str(label), -1) for label in labels]
