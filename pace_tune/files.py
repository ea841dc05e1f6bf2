"""Files that are either whole or not there."""

from __future__ import annotations

import os
from pathlib import Path

PREDICTIONS = "predictions.npz"
"""In a scored lane's folder: `probabilities`, (examples, classes), and `targets`, (examples,)."""


def write_text(path: Path, text: str) -> Path:
    """Write a text file under a temporary name and rename it, so that a reader never sees half of it.

    Folders that are missing are made. Returns the path.
    """
    return write_bytes(path, text.encode())


def write_bytes(path: Path, data: bytes) -> Path:
    """Write a file as `write_text` does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # The process id: two writers of one file must not share the temporary one.
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    unfinished.write_bytes(data)
    unfinished.replace(path)
    return path


def append_bytes(path: Path, data: bytes) -> None:
    """Add to a file; where the disk takes only a part of it, the part is taken back."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab", buffering=0) as file:
        before = file.tell()
        try:
            written = 0
            while written < len(data):
                written += file.write(data[written:]) or 0
        except OSError:
            file.truncate(before)
            raise
