"""Images decoded once: a memory-mapped uint8 file that all workers of a node share.

A cache is two files, `<label>-<key>.npy` and `.json` beside it. The key names what was asked for (which images, at which
size); the JSON says what was found: a stamp of the sources (sizes and times), a digest of their bytes, and a digest of the
array. A cache whose array was damaged, or whose sources hold other bytes now, is built again.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pace_tune.benchmarks.images import Fit, Source, decode
from pace_tune.benchmarks.problems import refuse
from pace_tune.benchmarks.waiting import waiting
from pace_tune.files import write_text

FORMAT = 1
"""Part of the key: raised when the same request gives other pixels."""
FOLDER = ".pace-tune-cache"
LONGEST_WAIT_S = 600.0
"""For another process that builds the same cache; then it is built a second time, which is safe."""
HASH_BYTES = 1 << 26
Pixels = NDArray[np.uint8]


def cache_folder(root: Path | None) -> Path | None:
    """Return where decoded images of the data in `root` go: beside it if it can be written, else the user's cache folder."""
    if root is not None and os.access(root, os.W_OK):
        return root / FOLDER
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return home / "pace-tune"


@dataclass(frozen=True)
class ImageCache:
    """The decoded form of some images.

    Args:
        sources: In the order of the result.
        side: Pixels of the square that they become.
        fit: How they become square.
        folder: Where the cache lies; None decodes into memory.
        label: Start of the file's name, for people who look into the folder.

    Example:
        >>> ImageCache((), side=8, fit="squash", folder=None).load().shape
        torch.Size([0, 3, 8, 8])
    """

    sources: Sequence[Source]
    side: int
    fit: Fit
    folder: Path | None
    channels: int = 3
    label: str = "images"

    def load(self) -> Tensor:
        """Return the images [N, C, side, side], from the cache if it is whole and theirs, else decoded now.

        Raises:
            DataError: An image is missing or damaged.
        """
        if self.folder is None or not self._can_write():
            return torch.from_numpy(self._decode(np.empty(self._shape, np.uint8)))
        stamp = _digest(source.stamp().encode() for source in self.sources)
        if not self._is_valid(stamp):
            with _locked(self._path.with_suffix(".lock")):
                if not self._is_valid(stamp):  # another process may have built it meanwhile
                    self._build(stamp)
        return self._open()

    @property
    def _shape(self) -> tuple[int, int, int, int]:
        return len(self.sources), self.channels, self.side, self.side

    @property
    def _path(self) -> Path:
        assert self.folder is not None
        names = (source.name.encode() for source in self.sources)
        key = _digest([repr((FORMAT, self._shape, self.fit)).encode(), *names])
        return self.folder / f"{self.label}-{self.side}px-{key[:16]}.npy"

    def _can_write(self) -> bool:
        assert self.folder is not None
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError:
            return False
        return os.access(self.folder, os.W_OK)

    def _is_valid(self, stamp: str) -> bool:
        """Whether the cache is there, undamaged, and made of these very bytes."""
        record, path = _record(self._path), self._path
        if not record or not path.is_file() or record.get("array") != _array_digest(path, label=f"checking {self.label}"):
            return False
        if record["stamp"] == stamp:
            return True
        # Copied or touched files have another time but may hold the same bytes.
        if record["content"] != self._content():
            warnings.warn(f"{path}: was made of other images than those that are there now; it is made again.", stacklevel=2)
            return False
        self._write_record({**record, "stamp": stamp})
        return True

    def _build(self, stamp: str) -> None:
        unfinished = self._path.with_suffix(f".{os.getpid()}.tmp")
        try:
            pixels = np.lib.format.open_memmap(unfinished, mode="w+", dtype=np.uint8, shape=self._shape)
            self._decode(pixels)
            pixels.flush()
            array = _array_digest(unfinished, label=f"checking {self.label}")
            self._path.with_suffix(".json").unlink(missing_ok=True)
            unfinished.replace(self._path)
        finally:
            unfinished.unlink(missing_ok=True)
        self._write_record({"stamp": stamp, "content": self._content(), "array": array})

    def _write_record(self, record: dict[str, str]) -> None:
        write_text(self._path.with_suffix(".json"), json.dumps(record))

    def _open(self) -> Tensor:
        # Copy-on-write: pages stay shared between processes, and torch gets memory that it may call writable.
        return torch.from_numpy(np.load(self._path, mmap_mode="c"))

    def _content(self) -> str:
        with _pool() as pool:
            read = pool.map(lambda source: hashlib.blake2b(source.read()).digest(), self.sources)
            return _digest(waiting(read, total=len(self.sources), label=f"reading {self.label}"))

    def _decode(self, out: Pixels) -> Pixels:
        """Decode every image into its row; all the bad ones are named, not only the first."""
        problems: list[str] = []
        with _pool() as pool:
            rows = pool.map(partial(self._decode_row, out), range(len(self.sources)))
            problems.extend(filter(None, waiting(rows, total=len(self.sources), label=f"decoding {self.label}")))
        refuse(problems)
        return out

    def _decode_row(self, out: Pixels, row: int) -> str | None:
        try:
            out[row] = decode(self.sources[row].read(), side=self.side, fit=self.fit, channels=self.channels)
        except Exception as error:  # noqa: BLE001  (each image format raises its own; the file is what matters)
            return image_problem(self.sources[row], error)
        return None


def image_problems(sources: Sequence[Source], *, label: str) -> list[str]:
    """Decode images at a small size and return a line for each that is missing or damaged."""

    def problem(source: Source) -> str | None:
        try:
            decode(source.read(), side=8, fit="squash")
        except Exception as error:  # noqa: BLE001
            return image_problem(source, error)
        return None

    with _pool() as pool:
        return [line for line in waiting(pool.map(problem, sources), total=len(sources), label=f"checking {label}") if line]


def image_problem(source: Source, error: Exception) -> str:
    """Return the line that says which image is bad, and how."""
    if isinstance(error, FileNotFoundError):
        return f"{source.where}: no such file."
    reason = "cannot be read as an image" if type(error).__name__ == "UnidentifiedImageError" else f"damaged image: {error}"
    return f"{source.where}: {reason}."


def _record(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) and {"stamp", "content", "array"} <= record.keys() else {}


def _array_digest(path: Path, *, label: str) -> str:
    def blocks() -> Iterator[bytes]:
        with path.open("rb") as file:
            while block := file.read(HASH_BYTES):
                yield block

    return _digest(waiting(blocks(), total=-(-path.stat().st_size // HASH_BYTES), label=label))


def _digest(parts: Iterable[bytes]) -> str:
    total = hashlib.blake2b(digest_size=16)
    for part in parts:
        total.update(len(part).to_bytes(8, "little"))
        total.update(part)
    return total.hexdigest()


def _pool() -> ThreadPoolExecutor:
    # Pillow decodes and resizes without holding the interpreter's lock.
    return ThreadPoolExecutor(max_workers=min(16, len(os.sched_getaffinity(0))))


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a file's lock; the kernel releases it when its process dies."""
    with path.open("w") as file:
        ends_at = time.monotonic() + LONGEST_WAIT_S
        while time.monotonic() < ends_at:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(0.2)
            except OSError as error:  # some network file systems have no locks; renaming keeps it safe
                warnings.warn(f"{path}: cannot be locked ({error}).", stacklevel=2)
                break
        yield
