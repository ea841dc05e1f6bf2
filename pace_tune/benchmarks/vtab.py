"""VTAB-1k: 19 tasks of 1,000 training images (Zhai et al. 2019), in the layout that the PEFT literature shares.

``<root>/vtab-1k/<task>/{train800,val200,train800val200,test}.txt``, lines of ``images/<split>/<file> <label>``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pace_tune.benchmarks.image_task import ImageTask, Listed, read_list
from pace_tune.benchmarks.problems import find_folder
from pace_tune.benchmarks.task import Split
from pace_tune.registry import tasks

CLASSES: Mapping[str, int] = {
    "caltech101": 102,
    "cifar": 100,
    "dtd": 47,
    "oxford_flowers102": 102,
    "oxford_iiit_pet": 37,
    "sun397": 397,
    "svhn": 10,
    "diabetic_retinopathy": 5,
    "eurosat": 10,
    "patch_camelyon": 2,
    "resisc45": 45,
    "clevr_count": 8,
    "clevr_dist": 6,
    "dmlab": 6,
    "dsprites_loc": 16,
    "dsprites_ori": 16,
    "kitti": 4,
    "smallnorb_azi": 18,
    "smallnorb_ele": 9,
}
NATURAL = ("caltech101", "cifar", "dtd", "oxford_flowers102", "oxford_iiit_pet", "sun397", "svhn")
SPECIALIZED = ("diabetic_retinopathy", "eurosat", "patch_camelyon", "resisc45")
STRUCTURED = ("clevr_count", "clevr_dist", "dmlab", "dsprites_loc", "dsprites_ori", "kitti", "smallnorb_azi", "smallnorb_ele")
OTHER_NAMES = {"cifar": ("cifar100",), "oxford_iiit_pet": ("oxford_pet", "pets"), "oxford_flowers102": ("flowers102",)}
"""Folder names that other code bases use."""
# The 1,000 images have a list and copies of their own, in another order: never the one list behind the other.
LISTS: Mapping[Split, str] = {"train": "train800.txt", "val": "val200.txt", "train+val": "train800val200.txt", "test": "test.txt"}


@tasks.register(
    "vtab/caltech101",
    "vtab/cifar",
    "vtab/clevr_count",
    "vtab/clevr_dist",
    "vtab/diabetic_retinopathy",
    "vtab/dmlab",
    "vtab/dsprites_loc",
    "vtab/dsprites_ori",
    "vtab/dtd",
    "vtab/eurosat",
    "vtab/kitti",
    "vtab/oxford_flowers102",
    "vtab/oxford_iiit_pet",
    "vtab/patch_camelyon",
    "vtab/resisc45",
    "vtab/smallnorb_azi",
    "vtab/smallnorb_ele",
    "vtab/sun397",
    "vtab/svhn",
)
class Vtab(ImageTask):
    """VTAB-1k: 800 images to train on, 200 to select on, the full test set; squashed to the backbone's size.

    Example:
        >>> tasks.build("vtab/cifar").num_classes
        100
    """

    @property
    def dataset(self) -> str:
        """The folder's name."""
        return self.name.removeprefix("vtab/")

    @property
    def group(self) -> str:
        """Natural, Specialized or Structured: published means are means of the three groups' means."""
        if self.dataset in NATURAL:
            return "Natural"
        return "Specialized" if self.dataset in SPECIALIZED else "Structured"

    @property
    def labels(self) -> tuple[str, ...]:
        """Class numbers; the lists name no classes."""
        return tuple(map(str, range(CLASSES[self.dataset])))

    def listed(self, split: Split, *, root: Path | None, problems: list[str]) -> list[Listed]:
        """Return the images of a split's own list; ``train+val`` is the published list of all 1,000."""
        names = (self.dataset, *OTHER_NAMES.get(self.dataset, ()))
        folder = find_folder(root, [f"{parent}{name}" for parent in ("vtab-1k/", "") for name in names], task=self.name)
        return read_list(folder / LISTS[split], images=folder, problems=problems)
