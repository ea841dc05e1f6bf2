"""What is wrong with data: a check lists all of it, a load stops at it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from pace_tune.errors import DataError


def refuse(problems: Sequence[str]) -> None:
    """Raise one line with the first problem and the number of the others, if there is any.

    Raises:
        DataError: There is a problem.
    """
    if problems:
        more = f" (and {len(problems) - 1} more: `pace-tune validate --data` lists them)" if len(problems) > 1 else ""
        raise DataError(problems[0] + more)


def find_folder(root: Path | None, candidates: Iterable[str], *, task: str) -> Path:
    """Return the first of several folders below `root` that is there; data sets are unpacked under more than one name.

    Raises:
        DataError: There is no root, or it holds none of them.
    """
    candidates = list(candidates)
    if root is None:
        raise DataError(f"task {task!r} reads files: set `data.root` to the folder that holds {candidates[0]!r}.")
    for name in candidates:
        if (root / name).is_dir():
            return root / name
    raise DataError(f"{root}: task {task!r} needs one of these folders in it: {', '.join(candidates)}.")


def first_file(folder: Path, names: Iterable[str]) -> Path | None:
    """Return the first of several files that a folder holds; names may be patterns."""
    return next((path for name in names for path in sorted(folder.glob(name)) if path.is_file()), None)
