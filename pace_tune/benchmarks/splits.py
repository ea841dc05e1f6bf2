"""How a held-out part is taken from data that comes without one. The rule is stated, so that anyone can take the same.

Each class's examples are put in a seeded random order and the first of them are held out: the rounded share, at least one,
but never a class's only example. Values (regression) are first sorted into ten groups of equal size, which then count as
classes; there are fewer groups where a group's share would be less than one example. Examples that are the same (one file
or one text listed twice) stay on one side.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from pace_tune.benchmarks.task import Index

VALUE_GROUPS = 10


def hold_out(strata: Sequence[Any], *, share: float, seed: int, same: Sequence[Hashable] | None = None) -> tuple[Index, Index]:
    """Return the positions that stay and those that are held out, each in rising order.

    Args:
        strata: [N] class of each example, or its value.
        share: Of each class that is held out.
        seed: Of the order within each class.
        same: [N] examples with equal entries go together, under the class of the first.

    Example:
        >>> kept, held = hold_out([0, 0, 0, 0, 1, 1], share=0.5, seed=0)
        >>> len(kept), len(held)
        (3, 3)
    """
    firsts = _firsts(same if same is not None else range(len(strata)))
    classes = _classes(strata, groups=min(VALUE_GROUPS, int(share * len(strata))))
    generator = np.random.default_rng(seed)
    unique = np.unique(firsts)
    held: list[int] = []
    for label in np.unique(classes[unique]):
        members = unique[classes[unique] == label]
        count = min(max(1, round(share * len(members))), len(members) - 1)
        held.extend(generator.permutation(members)[:count].tolist())
    is_held = np.isin(firsts, held)
    return np.flatnonzero(~is_held), np.flatnonzero(is_held)


def subset(strata: Sequence[Any], *, count: int | None, seed: int) -> Index:
    """Return positions of `count` examples (None: all) that hold the classes in their proportions, in rising order."""
    if count is None or count >= len(strata):
        return np.arange(len(strata))
    classes = _classes(strata)
    order = np.random.default_rng(seed).permutation(len(classes))
    rank = np.empty(len(classes))
    for label in np.unique(classes):
        members = order[classes[order] == label]
        rank[members] = (np.arange(len(members)) + 0.5) / len(members)
    # Every class's examples are spread evenly over (0, 1), so that any beginning of the merged order is stratified.
    merged = order[np.argsort(rank[order], kind="stable")]
    return np.sort(merged[:count])


def _firsts(same: Sequence[Hashable]) -> Index:
    seen: dict[Hashable, int] = {}
    return np.array([seen.setdefault(entry, position) for position, entry in enumerate(same)], dtype=np.int64)


def _classes(strata: Sequence[Any], *, groups: int = VALUE_GROUPS) -> Index:
    values = np.asarray(strata)
    if not np.issubdtype(values.dtype, np.floating):
        return np.unique(values, return_inverse=True)[1].astype(np.int64)
    ranks = np.argsort(np.argsort(values, kind="stable"), kind="stable")
    return (ranks * max(1, groups) // max(1, len(values))).astype(np.int64)
