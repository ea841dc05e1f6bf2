"""Few-shot fine-grained recognition: five data sets, 1 to 16 images a class, three published lists each (NOAH, from CoOp).

``<root>/few-shot/<dataset>/annotations/{train_meta.list.num_shot_<n>.seed_<s>,val_meta.list,test_meta.list}``, lines of
``path label`` relative to ``images/``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field

from pace_tune.benchmarks.image_task import ImageTask, Listed, read_list
from pace_tune.benchmarks.images import Fit
from pace_tune.benchmarks.problems import find_folder
from pace_tune.benchmarks.task import Split
from pace_tune.registry import tasks

CLASSES: Mapping[str, int] = {"aircraft": 100, "cars": 196, "flowers102": 102, "food101": 101, "pets": 37}
FOLDERS: Mapping[str, tuple[str, ...]] = {
    "aircraft": ("fgvc-aircraft",),
    "cars": ("standford-cars", "stanford-cars"),
    "flowers102": ("oxford-flowers102",),
    "food101": ("food101",),
    "pets": ("oxford-pets",),
}
"""As published, a misspelt one included."""


@tasks.register("fewshot/aircraft", "fewshot/cars", "fewshot/flowers102", "fewshot/food101", "fewshot/pets")
class FewShot(ImageTask):
    """Few-shot recognition on the published lists: Resize(256) and CenterCrop(224) in proportion to the backbone's size.

    Published means are over the three lists. The 1-shot lists of the pets hold two lines a class; lines that repeat an image
    are dropped unless `keep_repeats`, and what a list then still holds is used.

    Args:
        shots: Training images a class.
        list_seed: Which of the published lists.
        keep_repeats: Train on an image as often as it is listed.

    Example:
        >>> tasks.build({"name": "fewshot/pets", "shots": 1}).num_classes
        37
    """

    shots: Literal[1, 2, 4, 8, 16] = 16
    list_seed: int = Field(default=0, ge=0, le=2)
    keep_repeats: bool = False

    @property
    def dataset(self) -> str:
        """The data set's name."""
        return self.name.removeprefix("fewshot/")

    @property
    def labels(self) -> tuple[str, ...]:
        """Class numbers; the lists name no classes."""
        return tuple(map(str, range(CLASSES[self.dataset])))

    @property
    def fit(self) -> Fit:
        """The shorter side, then the middle; the engine crops."""
        return "shorter"

    def listed(self, split: Split, *, root: Path | None, problems: list[str]) -> list[Listed]:
        """Return the images of a split's published list."""
        if split == "train+val":
            return [item for part in ("train", "val") for item in self.listed(part, root=root, problems=problems)]
        names = [f"{parent}{name}" for parent in ("few-shot/", "") for name in FOLDERS[self.dataset]]
        folder = find_folder(root, names, task=self.name)
        part = f"train_meta.list.num_shot_{self.shots}.seed_{self.list_seed}" if split == "train" else f"{split}_meta.list"
        items = read_list(folder / "annotations" / part, images=folder / "images", problems=problems)
        return items if self.keep_repeats or split != "train" else without_repeats(items)


def without_repeats(items: list[Listed]) -> list[Listed]:
    """Return the items whose image was not listed before."""
    first = {item.source.name: item for item in reversed(items)}
    return [item for item in items if first[item.source.name] is item]
