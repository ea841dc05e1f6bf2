"""What a folder of images holds that one may not expect: no mistake, but worth a look before anything is trained."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from pace_tune.benchmarks.image_task import ENDINGS, Listed
from pace_tune.wording import counted

SHOWN = 3
"""Names that a note shows."""


def layout_notes(folder: Path) -> Iterator[str]:
    """Yield what is passed over in a folder of class folders, and what is taken where one may not look for it."""
    files = [path for path in folder.rglob("*") if path.is_file() and not _hidden(path.relative_to(folder))]
    beside = [path.name for path in files if path.parent == folder and path.suffix in ENDINGS]
    if beside:
        yield f"{counted(len(beside), 'image')} beside the class folders of {folder}, not read: {_some(beside)}"
    skipped = Counter(path.suffix or "no ending" for path in files if path.suffix not in ENDINGS and path.parent != folder)
    if skipped:
        kinds = ", ".join(f"{count} {kind}" for kind, count in skipped.most_common())
        yield f"{counted(skipped.total(), 'file')} below {folder}, not read as an image: {kinds}"
    deeper = sum(len(path.relative_to(folder).parts) > 2 and path.suffix in ENDINGS for path in files)
    if deeper:
        yield f"{counted(deeper, 'image')} in subfolders of the class folders of {folder}, counted to the class above"
    full = {path.relative_to(folder).parts[0] for path in files if path.suffix in ENDINGS}
    empty = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".") and path.name not in full)
    if empty:
        yield f"{counted(len(empty), 'folder')} of {folder} without an image, and so no class: {_some(empty)}"


def split_notes(splits: Mapping[str, Sequence[Listed]], classes: Sequence[str]) -> Iterator[str]:
    """Yield the classes that a split lacks, and the pictures that stand under two labels.

    Args:
        splits: Its images, by split.
        classes: Their names.
    """
    for split, items in splits.items():
        held = {item.label for item in items}
        lacking = [name for number, name in enumerate(classes) if number not in held]
        if lacking:
            yield f"{counted(len(lacking), 'class', 'classes')} without an image in {split}: {_some(lacking)}"
    twice = [pair for pair in _same(item for items in splits.values() for item in items) if len({item.label for item in pair}) > 1]
    if twice:
        first = " = ".join(item.source.name for item in twice[0][:2])
        yield f"{counted(len(twice), 'picture')} under more than one label: {first}{' ...' if len(twice) > 1 else ''}"


def _same(items: Iterable[Listed]) -> Iterator[list[Listed]]:
    """Yield the images that hold the same bytes; only those of one size are read."""
    by_size: dict[str, list[Listed]] = defaultdict(list)
    for item in items:
        by_size[item.source.stamp().partition(":")[0]].append(item)
    for group in by_size.values():
        by_digest: dict[bytes, list[Listed]] = defaultdict(list)
        for item in group if len(group) > 1 else ():
            by_digest[hashlib.sha256(item.source.read()).digest()].append(item)
        yield from (equal for equal in by_digest.values() if len(equal) > 1)


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (" ..." if len(names) > SHOWN else "")
