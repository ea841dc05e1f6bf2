"""People's own images: a folder a class, with or without splits, or lists of files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from pydantic import Field

from pace_tune.benchmarks.folder_notes import SHOWN, layout_notes, split_notes
from pace_tune.benchmarks.image_task import ENDINGS, ImageTask, Listed, read_names
from pace_tune.benchmarks.images import Fit, ImageFile, Source
from pace_tune.benchmarks.own_data import OTHER_NAMES, OwnData, class_names, numbered
from pace_tune.benchmarks.problems import first_file
from pace_tune.benchmarks.task import Split
from pace_tune.errors import DataError
from pace_tune.registry import tasks

EXPECTED = "A folder of images per class is expected, such as cat/1.jpg and dog/2.jpg; or train, val and test of those; or a train.txt."
Named = tuple[Source, str]
"""An image and the name of its class."""


@tasks.register("folder")
class Folder(OwnData, ImageTask):
    """Your own images: a folder a class, or train/val/test of those, or `path label` lists; see `path`.

    Classes are the folders of train, the lines of a `classes.txt` beside lists, or the labels of the training list.

    Args:
        path: One of: a folder with a folder of images per class; a folder with `train` and maybe `val` and `test`, each of
            that kind; a folder with `train.txt` and maybe `val.txt` and `test.txt`, lines of ``path label``; such a list.
        classes: Class names in order, where the layout should not decide.
        resize: How an image becomes a square: ``squash``, or the middle of it by its ``shorter`` side.

    Example:
        >>> tasks.build({"name": "folder", "path": "photos"}).val_share
        0.2
    """

    classes: tuple[str, ...] | None = Field(default=None, min_length=2)
    resize: Fit = "squash"

    @property
    def fit(self) -> Fit:
        """How an image becomes a square."""
        return self.resize

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names, from the layout of the training data."""
        if self.classes:
            return self.classes
        folder = self._split_folder("train") or self.path
        if self._list("train") is None:
            return tuple(path.name for path in _class_folders(folder))
        named = first_file(self.path if self.path.is_dir() else self.path.parent, ["classes.txt"])
        if named is not None:
            return tuple(line.strip() for line in named.read_text(encoding="utf-8").splitlines() if line.strip())
        return class_names(label for _, label in self._read("train", []))

    def cache_root(self, root: Path | None) -> Path | None:
        """Return the data's own folder."""
        return self.path if self.path.is_dir() else self.path.parent

    def listed(self, split: Split, *, root: Path | None, problems: list[str]) -> list[Listed]:
        """Return the images of a split; what the data does not split itself is held out of train."""
        if not self.path.exists():
            raise DataError(f"{self.path}: no such file or folder.")
        names = self.labels
        if len(names) < 2:
            shown = f"its layout shows {len(names)}: {', '.join(names) or 'none'}"
            raise DataError(f"{self.path}: at least two classes are needed, but {shown}. {EXPECTED}")
        given: dict[str, Callable[[], Sequence[Named]]] = {"train": partial(self._read, "train", problems)}
        given |= {part: partial(self._read, part, problems) for part in ("val", "test") if self._has(part)}
        items = self.chosen(split, given, stratum=lambda item: item[1], same=lambda item: item[0].name)
        labels = numbered([label for _, label in items], names=names, where=lambda row: items[row][0].where, problems=problems)
        return [Listed(source, label) for (source, _), label in zip(items, labels, strict=True) if label >= 0]

    def remarks(self, *, root: Path | None = None) -> list[str]:
        """Return what is passed over, small classes, those that a split lacks, and pictures under two labels."""
        folder = self._split_folder("train") or self.path
        found = list(layout_notes(folder)) if self._list("train") is None else []
        splits: tuple[Split, ...] = ("train", "val", "test") if self.test_share or self._has("test") else ("train", "val")
        found += super().remarks(root=root)
        held: dict[str, list[Listed]] = {split: self.listed(split, root=root, problems=[]) for split in splits}
        lacking = [split for split in ("val", "test") if split in held and len({item.label for item in held[split]}) < len(self.labels)]
        least = [f"a class needs {self._need()}"] if any(not self._has(split) for split in lacking) else []
        return found + least + list(split_notes(held, self.labels))

    def _nothing_in(self, split: str) -> str:
        if self._has(split):
            return f"{self.path}: its {split} split holds no images; fill it, or take it away to have {split} held out of train."
        small = [f"{name} {count}" for name, count in self._counts().items()]
        shown = ", ".join(small[:SHOWN]) + (" ..." if len(small) > SHOWN else "")
        ways = f"Add images, or {split!r} beside 'train'." if self._has("train") else "Add images."
        return f"{self.path}: too few images to hold any out for {split}: a class needs {self._need()}. Found: {shown}. {ways}"

    def _need(self) -> str:
        """Return how many images make a class have one in each split."""
        held = [part for part, share in (("val", self.val_share), ("test", self.test_share)) if share and not self._has(part)]
        where = " and ".join([", ".join(["train", *held[:-1]]), *held[-1:]])
        return f"{1 + len(held)} images, one each for {where}"

    def _counts(self) -> dict[str, int]:
        """Return how many images of each class there are to hold out of, the smallest first."""
        found = Counter(name for _, name in self._read("train", []))
        return dict(sorted(found.items(), key=lambda pair: pair[1]))

    def _has(self, part: str) -> bool:
        return self._split_folder(part) is not None or self._list(part) is not None

    def _read(self, part: str, problems: list[str]) -> list[Named]:
        listed = self._list(part)
        if listed is not None:
            return list(read_names(listed, images=listed.parent, problems=problems))
        folder = self._split_folder(part) or self.path
        return [(ImageFile(image), place.name) for place in _class_folders(folder) for image in _images(place)]

    def _split_folder(self, part: str) -> Path | None:
        return next((self.path / name for name in OTHER_NAMES[part] if (self.path / name).is_dir()), None)

    def _list(self, part: str) -> Path | None:
        if self.path.is_file():
            return self.path if part == "train" else None
        if self._split_folder(part):
            return None
        return first_file(self.path, [f"{name}.txt" for name in OTHER_NAMES[part]])


def _class_folders(folder: Path) -> list[Path]:
    """Return the folders that hold an image: one without is no class."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".") and any(_found(path)))


def _images(folder: Path) -> list[Path]:
    return sorted(_found(folder))


def _found(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.suffix in ENDINGS and path.is_file())
