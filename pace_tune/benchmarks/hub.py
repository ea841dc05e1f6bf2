"""Data sets of the Hugging Face hub that are on disk already: `Dataset.save_to_disk`, or a clone with Parquet files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import Field

from pace_tune.benchmarks.hub_files import HubFiles
from pace_tune.benchmarks.image_task import ImageTask, Listed
from pace_tune.benchmarks.images import Fit, ImageBytes, ImageFile, Source
from pace_tune.benchmarks.own_data import OwnData, class_names, numbered
from pace_tune.benchmarks.table import LabelledTexts, Row
from pace_tune.benchmarks.task import Split
from pace_tune.errors import DataError
from pace_tune.registry import tasks

Labelled = tuple[Source, Any]


@tasks.register("hub/text")
class HubText(LabelledTexts):
    """A text data set of the Hugging Face hub, from its folder on disk; see `hub/image` for how to get one.

    Args:
        path: What ``datasets.load_dataset(NAME).save_to_disk(path)`` wrote, or a folder of its Parquet files.

    Example:
        >>> tasks.build({"name": "hub/text", "path": "imdb"}).text
        ('text',)
    """

    def declared_classes(self) -> tuple[str, ...]:
        """Return the class names that the data set declares."""
        return HubFiles(self.path).class_names(self.label)

    def row_labels(self) -> tuple[str, ...]:
        """Return the numbers of declared classes: rows hold them, not their names."""
        return tuple(map(str, range(len(self.declared_classes())))) or self.labels

    def rows(self, part: str, problems: list[str]) -> list[Row]:
        """Return the rows of a split."""
        read = HubFiles(self.path).rows(part, (*self.text, self.label))
        rows = (([row[name] for name in self.text], row[self.label], f"{self.path}: {part} row {i}") for i, row in enumerate(read, 1))
        return self._whole(rows, problems)

    def has(self, part: str) -> bool:
        """Whether the data set has a split."""
        return part in HubFiles(self.path).split_names()


@tasks.register("hub/image")
class HubImage(OwnData, ImageTask):
    """An image data set of the Hugging Face hub, from its folder on disk.

    Args:
        path: What ``datasets.load_dataset(NAME).save_to_disk(path)`` wrote, or a folder of its Parquet files.
        image: The column of the image.
        label: The column of the label.
        resize: How an image becomes a square.

    Example:
        >>> tasks.build({"name": "hub/image", "path": "beans", "label": "labels"}).label
        'labels'
    """

    image: str = "image"
    label: str = Field(default="label")
    resize: Fit = "squash"

    @property
    def fit(self) -> Fit:
        """How an image becomes a square."""
        return self.resize

    @property
    def labels(self) -> tuple[str, ...]:
        """The class names that the data set declares, else the labels of its training rows."""
        files = HubFiles(self.path)
        return files.class_names(self.label) or class_names(row[self.label] for row in files.rows("train", [self.label]))

    def cache_root(self, root: Path | None) -> Path | None:
        """Return the data's own folder."""
        return self.path

    def listed(self, split: Split, *, root: Path | None, problems: list[str]) -> list[Listed]:
        """Return the images of a split."""
        if not self.path.is_dir():
            raise DataError(f"{self.path}: no such folder.")
        files = HubFiles(self.path)
        given: dict[str, Callable[[], Sequence[Labelled]]] = {part: partial(self._read, files, part) for part in files.split_names()}
        items = self.chosen(split, given, stratum=lambda item: str(item[1]), same=lambda item: item[0].name)
        declared = files.class_names(self.label)
        names = tuple(map(str, range(len(declared)))) if declared else self.labels
        labels = numbered([label for _, label in items], names=names, where=lambda row: items[row][0].where, problems=problems)
        return [Listed(source, label) for (source, _), label in zip(items, labels, strict=True) if label >= 0]

    def _read(self, files: HubFiles, part: str) -> list[Labelled]:
        rows = files.rows(part, (self.image, self.label))
        return [(self._source(row[self.image], f"{self.path}: {part} row {i}"), row[self.label]) for i, row in enumerate(rows, 1)]

    def _source(self, cell: Any, where: str) -> Source:
        data = cell.get("bytes") if isinstance(cell, dict) else cell
        if isinstance(data, bytes):
            return ImageBytes(data, where)
        name = cell.get("path") if isinstance(cell, dict) else cell
        if not name:
            raise DataError(f"{where}: column {self.image!r} holds no image.")
        return ImageFile(self.path / str(name), where)
