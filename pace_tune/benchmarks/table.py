"""People's own texts: a table with text and label columns."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from pace_tune.benchmarks.own_data import OTHER_NAMES, OwnData, class_names, few_notes, numbered
from pace_tune.benchmarks.problems import first_file
from pace_tune.benchmarks.tables import ENDINGS, read_tables
from pace_tune.benchmarks.task import Split, Target
from pace_tune.benchmarks.text_task import Texts, TextTask
from pace_tune.errors import DataError
from pace_tune.registry import tasks

Row = tuple[tuple[str, ...], Any, str]
"""Texts, label, and where they stand."""
ClassScore = Literal["accuracy", "matthews", "f1"]
UNBALANCED = 0.6
"""Share of the largest class from which accuracy says little."""


class LabelledTexts(OwnData, TextTask):
    """Rows of texts and labels, however they are read.

    Args:
        text: The column of the text, or the two columns of a pair.
        label: The column of the label.
        kind: ``class``, or ``value`` for regression (squared error, scored by Pearson's correlation).
        classes: Class labels in order, where the training rows should not decide.
        score: What a classification is scored by.
    """

    text: tuple[str, ...] = Field(default=("text",), min_length=1, max_length=2)
    label: str = "label"
    kind: Literal["class", "value"] = "class"
    classes: tuple[str, ...] | None = Field(default=None, min_length=2)
    score: ClassScore = "accuracy"

    @property
    def columns(self) -> tuple[str, ...]:
        """The text columns."""
        return self.text

    @property
    def target(self) -> Target:
        """A class or a number."""
        return self.kind

    @property
    def metric(self) -> str:
        """What is optimised."""
        return "pearson" if self.kind == "value" else self.score

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names: as declared, or those of the training rows; empty for regression."""
        if self.kind == "value":
            return ()
        return self.classes or self.declared_classes() or class_names(label for _, label, _ in self.rows("train", []))

    def declared_classes(self) -> tuple[str, ...]:
        """Return the class names that the data itself declares, if it does."""
        return ()

    def row_labels(self) -> tuple[str, ...]:
        """Return what stands in the label column for each class, in their order."""
        return self.labels

    def rows(self, part: str, problems: list[str]) -> list[Row]:
        """Return the rows of a split that the data has."""
        raise NotImplementedError

    def has(self, part: str) -> bool:
        """Whether the data has a split."""
        raise NotImplementedError

    def texts(self, split: Split, *, root: Path | None, problems: list[str]) -> Texts:
        """Return the examples of a split; what the data does not split itself is held out of train."""
        if not self.path.exists():
            raise DataError(f"{self.path}: no such file or folder.")
        given: dict[str, Callable[[], Sequence[Row]]] = {"train": partial(self.rows, "train", problems)}
        given |= {part: partial(self.rows, part, problems) for part in ("val", "test") if self.has(part)}
        value = self.kind == "value"
        chosen = self.chosen(split, given, stratum=lambda row: _number(row[1]) if value else str(row[1]), same=lambda row: row[0])
        found = [label for _, label, _ in chosen]
        if value:
            problems += [f"{where}: {label!r} is no number." for _, label, where in chosen if not _is_number(label)]
            targets: list[Any] = [_number(label) for label in found]
        else:
            targets = numbered(found, names=self._checked(self.row_labels(), problems), where=lambda row: chosen[row][2], problems=problems)
        return Texts([texts for texts, _, _ in chosen], targets)

    def early_problems(self, *, root: Path | None = None) -> list[str]:
        """Return what is wrong with the rows to train and to select on: reading a table costs little beside a worker's start."""
        splits: tuple[Split, ...] = ("train", "val")
        return list(dict.fromkeys(line for split in splits for line in self.problems(split, root=root)))

    def remarks(self, *, root: Path | None = None) -> list[str]:
        """Return small classes, and what else to score by where one class is most of all."""
        totals = self.class_totals(root=root)
        found = few_notes(totals)
        name, count = list(totals.items())[-1] if totals else ("", 0)
        if self.score == "accuracy" and count > UNBALANCED * sum(totals.values()):
            share = count / sum(totals.values())
            found.append(f"{share:.2f} of the examples are {name!r}: `--set task.score=matthews` gives 0 for always saying so")
        return found

    def _whole(self, rows: Iterable[tuple[Sequence[Any], Any, str]], problems: list[str]) -> list[Row]:
        """Return the rows that have texts and label; the others go into `problems`."""
        whole = []
        for texts, label, where in rows:
            empty = [name for name, cell in zip((*self.text, self.label), (*texts, label), strict=True) if _is_empty(cell)]
            if empty:
                problems.append(f"{where}: nothing in the column{'s' * (len(empty) > 1)} {' and '.join(map(repr, empty))}.")
            else:
                whole.append((tuple(map(str, texts)), label, where))
        return whole

    def _empty(self, found: Texts, split: str) -> list[str]:
        if found.texts or self.has(split):
            return super()._empty(found, split)
        return [f"{self.path}: too few rows to hold any out for {split}: a class needs three, or there must be a {split} table."]

    def _checked(self, names: tuple[str, ...], problems: list[str]) -> tuple[str, ...]:
        if len(names) < 2 and not problems:
            problems.append(f"{self.path}: at least two classes are needed, but its training rows hold {len(names)}.")
        return names


@tasks.register("table")
class Table(LabelledTexts):
    """Your own texts: CSV, TSV, JSON lines or Parquet with a text column (or a pair) and a label column.

    Args:
        path: A table, or a folder with `train` and maybe `val` and `test` tables in it.

    Example:
        >>> tasks.build({"name": "table", "path": "reviews.csv", "text": ["review"], "label": "stars"}).metric
        'accuracy'
    """

    def rows(self, part: str, problems: list[str]) -> list[Row]:
        """Return the rows of a table."""
        path = self._file(part)
        if path is None:
            raise DataError(f"{self.path}: holds no train table (train.csv, .tsv, .jsonl or .parquet).")
        table = read_tables([path], columns=(*self.text, self.label), problems=problems)
        texts = zip(*(table.columns[name] for name in self.text), strict=True)
        rows = enumerate(zip(texts, table.columns[self.label], strict=True))
        return self._whole(((text, label, table.where(row)) for row, (text, label) in rows), problems)

    def has(self, part: str) -> bool:
        """Whether there is a table of that name."""
        return self._file(part) is not None

    def _file(self, part: str) -> Path | None:
        if self.path.is_file():
            return self.path if part == "train" else None
        return first_file(self.path, [f"{name}{ending}" for name in OTHER_NAMES[part] for ending in ENDINGS])


def _is_empty(cell: Any) -> bool:
    # NaN is what pandas writes for nothing.
    return cell is None or not str(cell).strip() or (isinstance(cell, float) and math.isnan(cell))


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True


def _number(value: Any) -> float:
    return float(value) if _is_number(value) else 0.0
