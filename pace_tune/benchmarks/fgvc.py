"""Fine-grained recognition on five full data sets, in the splits of VPT: ``{train,val,test}.json``, path -> class id.

Ids are whatever the data set uses. VPT numbers them anew in each file, which goes wrong where a file lacks a class; here
train's ids, in their order, are the classes, and an id that train does not have is an error.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pace_tune.benchmarks.image_task import ImageTask, Listed, existing
from pace_tune.benchmarks.images import Fit, ImageFile
from pace_tune.benchmarks.problems import find_folder
from pace_tune.benchmarks.task import Split
from pace_tune.registry import tasks


@dataclass(frozen=True)
class Dataset:
    """Where a data set lies and how many classes it has.

    Args:
        images: Folder that the JSON's paths are relative to.
    """

    folders: tuple[str, ...]
    classes: int
    images: str = "."


DATASETS: Mapping[str, Dataset] = {
    "cars": Dataset(("StanfordCars", "Stanford-cars", "stanford_cars", "cars"), 196),
    "cub": Dataset(("CUB_200_2011", "cub"), 200, "images"),
    "dogs": Dataset(("Stanford-dogs", "stanford_dogs", "dogs"), 120, "Images"),
    "flowers": Dataset(("OxfordFlower", "OxfordFlowers", "flowers"), 102),
    "nabirds": Dataset(("nabirds", "NABirds"), 555, "images"),
}


@tasks.register("fgvc/cars", "fgvc/cub", "fgvc/dogs", "fgvc/flowers", "fgvc/nabirds")
class Fgvc(ImageTask):
    """Fine-grained recognition in VPT's splits: Resize(256) and CenterCrop(224) in proportion to the backbone's size.

    Example:
        >>> tasks.build("fgvc/cub").num_classes
        200
    """

    @property
    def dataset(self) -> Dataset:
        """Where it lies."""
        return DATASETS[self.name.removeprefix("fgvc/")]

    @property
    def labels(self) -> tuple[str, ...]:
        """Class numbers; the files name ids only."""
        return tuple(map(str, range(self.dataset.classes)))

    @property
    def fit(self) -> Fit:
        """The shorter side, then the middle; the engine crops."""
        return "shorter"

    def listed(self, split: Split, *, root: Path | None, problems: list[str]) -> list[Listed]:
        """Return the images of a split's JSON file, numbered by train's ids."""
        names = [f"{parent}{name}" for parent in ("fgvc/", "FGVC/", "") for name in self.dataset.folders]
        folder = find_folder(root, names, task=self.name)
        train = _read(folder / "train.json", problems)
        numbers = {label: number for number, label in enumerate(sorted(set(train.values()), key=_in_order))}
        if train and len(numbers) != self.dataset.classes:
            problems.append(f"{folder / 'train.json'}: holds {len(numbers)} classes, but {self.name!r} has {self.dataset.classes}.")
        parts = ("train", "val") if split == "train+val" else (split,)
        return [
            item
            for part in parts
            for item in self._items(folder / f"{part}.json", train if part == "train" else None, numbers, folder, problems)
        ]

    def _items(
        self, file: Path, known: Mapping[str, object] | None, numbers: Mapping[object, int], folder: Path, problems: list[str]
    ) -> list[Listed]:
        items = []
        for position, (name, label) in enumerate((_read(file, problems) if known is None else known).items(), start=1):
            path = existing(folder / self.dataset.images, name)
            if path is None:
                problems.append(f"{file}: entry {position} names {name}, which is not in {folder / self.dataset.images}.")
            elif label not in numbers:
                problems.append(f"{file}: entry {position}, {name}: class id {label!r} does not occur in train.json.")
            else:
                items.append(Listed(ImageFile(path, f"{file.name} entry {position}"), numbers[label]))
        return items


def _read(file: Path, problems: list[str]) -> dict[str, object]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        problems.append(f"{file}: {error.strerror or error}.")
        return {}
    except ValueError as error:
        problems.append(f"{file}: is not JSON: {error}.")
        return {}
    if not isinstance(content, dict) or not content:
        problems.append(f"{file}: an object of image paths and class ids is needed.")
        return {}
    # Numbers and words; a list or an object is no class.
    if wrong := next((name for name, label in content.items() if not isinstance(label, int | str)), None):
        problems.append(f"{file}: {wrong}: a class id is a number or a word, but got {content[wrong]!r}.")
        return {}
    return content


def _in_order(label: object) -> tuple[int, str]:
    """Sort ids as numbers where they are numbers."""
    text = str(label)
    return (int(text), "") if re.fullmatch(r"-?[0-9]+", text) else (0, text)
