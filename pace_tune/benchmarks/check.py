"""Everything that is wrong with a task's data, found at once and before anything is trained."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import get_args

from pace_tune.benchmarks.image_task import ImageTask
from pace_tune.benchmarks.task import Split, Task
from pace_tune.errors import DataError

SPLITS: tuple[Split, ...] = get_args(Split)
PARTS = tuple(split for split in SPLITS if "+" not in split)


def check_data(task: Task, root: Path | None = None, *, progress: Callable[[str], None] | None = None) -> list[str]:
    """Return a line for each thing that is wrong with any split of a task: file, line, rule.

    Lists and tables are read, every image is decoded, and images that two splits share are named. The test split is read
    here too: nothing is learned from it.

    Args:
        task: What to check.
        root: Folder with the data sets, as in `data.root`.
        progress: Told what is read next.

    Example:
        >>> from pace_tune.registry import tasks
        >>> check_data(tasks.build("digits"))
        []
    """
    found: list[str] = []
    for split in SPLITS:
        if progress is not None:
            progress(f"reading the data of {task.name}, {split}")
        try:
            found.extend(task.problems(split, root=root))
        except DataError as error:  # the data set is not there, or has no such split
            found.append(str(error))
    if isinstance(task, ImageTask) and not found:
        found.extend(_shared(task, root))
    return list(dict.fromkeys(found))


def data_facts(task: Task, root: Path | None = None) -> dict[str, int]:
    """Return how many classes a task has, and how many examples each split holds, as far as either can be said.

    Example:
        >>> from pace_tune.registry import tasks
        >>> data_facts(tasks.build("digits"))
        {'classes': 10, 'train': 100, 'val': 200, 'test': 1000}
    """
    counts: dict[str, int | None] = {"classes": len(task.labels)}
    counts |= {split: task.size(split, root=root) for split in PARTS}
    return {key: count for key, count in counts.items() if count}


def class_counts(task: Task, root: Path | None = None, *, splits: Sequence[Split] = PARTS) -> dict[str, dict[str, int]]:
    """Return how many examples of each class each split holds, the largest class first; {} where that cannot be said.

    Labels that are no class are not counted, and no other split than `splits` is looked at.
    """
    labels = task.labels
    found = {split: task.class_numbers(split, root=root) for split in splits}
    counted = {split: Counter(number for number in numbers if 0 <= number < len(labels)) for split, numbers in found.items() if numbers}
    return {split: {labels[number]: count for number, count in counts.most_common()} for split, counts in counted.items()}


def _shared(task: ImageTask, root: Path | None) -> Iterator[str]:
    """Yield the images of val and test that are trained on, or selected on, too."""
    seen: dict[str, Split] = {}
    for split in ("train", "val", "test"):
        names = [item.source.name for item in task.listed(split, root=root, problems=[])]
        yield from (f"{name}: is in both {seen[name]} and {split}." for name in names if name in seen)
        seen |= dict.fromkeys(names, split)
