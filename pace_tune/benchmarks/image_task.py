"""Tasks whose examples are images named by lists or folders."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, ClassVar

from pace_tune.benchmarks.images import Fit, ImageFile, Source, stored_size
from pace_tune.benchmarks.problems import refuse
from pace_tune.benchmarks.task import Examples, Modality, Split, Task

if TYPE_CHECKING:
    from pace_tune.models.backbone import InputSpec

ENDINGS = (".jpg", ".jpeg", ".png", ".JPEG", ".JPG", ".PNG", ".bmp", ".gif", ".webp", ".ppm", ".tif", ".tiff")


@dataclass(frozen=True)
class Listed:
    """An image and its class."""

    source: Source
    label: int


class ImageTask(Task):
    """A classification task over encoded images. A family says which images a split holds, and this does the rest."""

    modality: ClassVar[Modality] = "image"

    @property
    def fit(self) -> Fit:
        """How an image becomes a square."""
        return "squash"

    @abstractmethod
    def listed(self, split: Split, *, root: Path | None, problems: list[str]) -> list[Listed]:
        """Return the images of a split in order; what is wrong with the lists goes into `problems`."""

    def load(self, split: Split, *, spec: InputSpec, root: Path | None = None, seed: int = 0, cache: Path | None = None) -> Examples:
        """Return the images at the backbone's size (larger by 8/7 where the protocol crops), from the decoded cache."""
        problems: list[str] = []
        items = self.listed(split, root=root, problems=problems)
        return self._examples(items, split, problems, spec=spec, root=root, cache=cache)

    def problems(self, split: Split, *, root: Path | None = None) -> list[str]:
        """Return what is wrong with the lists of a split and with each image."""
        from pace_tune.benchmarks.image_cache import image_problems

        problems: list[str] = []
        items = self.listed(split, root=root, problems=problems)
        problems += self._wrong_items(items, split)
        return problems + image_problems([item.source for item in items], label=f"{self.name} {split}")

    def size(self, split: Split, *, root: Path | None = None) -> int | None:
        """Return how many images the lists of a split name."""
        return len(self.listed(split, root=root, problems=[]))

    def class_numbers(self, split: Split, *, root: Path | None = None) -> Sequence[int] | None:
        """Return the class of each image of a split."""
        return [item.label for item in self.listed(split, root=root, problems=[])]

    def cache_root(self, root: Path | None) -> Path | None:
        """Return the folder beside which decoded images go."""
        return root

    def _examples(
        self, items: Sequence[Listed], split: str, problems: list[str], *, spec: InputSpec, root: Path | None, cache: Path | None
    ) -> Examples:
        import torch

        from pace_tune.benchmarks.image_cache import ImageCache, cache_folder

        side = stored_size(spec.image_size, fit=self.fit)
        refuse([*problems, *self._wrong_items(items, split)])
        x = ImageCache(
            [item.source for item in items],
            side=side,
            fit=self.fit,
            folder=cache or cache_folder(self.cache_root(root)),
            channels=spec.channels,
            label=f"{self.name}-{split}".replace("/", "-").replace(":", "-"),
        ).load()
        return Examples({"x": x}, torch.tensor([item.label for item in items], dtype=torch.int64))

    def _nothing_in(self, split: str) -> str:
        return f"task {self.name!r}: its {split} split holds no images."

    def _wrong_items(self, items: Sequence[Listed], split: str) -> list[str]:
        if not items:
            return [self._nothing_in(split)]
        classes = self.num_classes
        return [
            f"{item.source.where}: label {item.label} is outside of 0 to {classes - 1}, the classes of {self.name!r}."
            for item in items
            if not 0 <= item.label < classes
        ]


def read_list(path: Path, *, images: Path, problems: list[str]) -> list[Listed]:
    """Read `path label` lines whose labels are class numbers; see `read_names`."""
    items = []
    for source, label in read_names(path, images=images, problems=problems):
        if re.fullmatch(r"-?[0-9]+", label):
            items.append(Listed(source, int(label)))
        else:
            problems.append(f"{source.where}: a label is a class number, but got {label!r}.")
    return items


def read_names(path: Path, *, images: Path, problems: list[str]) -> list[tuple[ImageFile, str]]:
    """Read `path label` lines. Paths may hold spaces, so the label is what follows the last one.

    Args:
        images: Folder that the paths are relative to.
        problems: Gets a line for each that cannot be read or names a missing file.
    """
    items: list[tuple[ImageFile, str]] = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        problems.append(f"{path}: cannot be read as a list of images ({getattr(error, 'strerror', None) or error}).")
        return items
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        name, _, label = line.rstrip().rpartition(" ")
        origin = f"{path.name}:{number}"
        if not name:
            problems.append(f"{path}:{number}: a line is `path label`, but got {line!r}.")
            continue
        found = existing(images, name)
        if found is None:
            problems.append(f"{path}:{number}: names {name}, which is not in {images}.")
            continue
        items.append((ImageFile(found, origin), label))
    if not items and not problems:
        problems.append(f"{path}: holds no images.")
    return items


def existing(folder: Path, name: str) -> Path | None:
    """Return an image file of a folder, under another ending if need be: copies of a data set differ in it while the lists do not.

    None where there is none, and for a name that leads out of the folder.
    """
    path, inside = folder / name, PurePosixPath(name)
    if inside.is_absolute() or ".." in inside.parts:
        return None
    try:
        if path.is_file():
            return path
        return next((other for ending in ENDINGS if (other := path.with_suffix(ending)).is_file()), None)
    except (OSError, ValueError):  # longer than a name can be, or none at all
        return None
