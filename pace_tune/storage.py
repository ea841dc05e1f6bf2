"""Where lanes are kept: a folder, or an object store that all nodes reach. One interface, and the same promises from both.

Every object is whole or not there. A disk that is full, and a store that is away, are waited for (see `pace_tune.patience`).
Address and credentials of a store come from the environment only: `AWS_ENDPOINT_URL`, `AWS_ACCESS_KEY_ID`,
`AWS_SECRET_ACCESS_KEY`, `AWS_REGION`, or whatever else Amazon's own tools find there.
"""

from __future__ import annotations

import os
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any, Self, TypeVar

from pace_tune.errors import ConfigError
from pace_tune.files import write_bytes
from pace_tune.patience import patiently

SCHEME = "s3://"
ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "MLFLOW_S3_ENDPOINT_URL")
REGIONS = ("AWS_REGION", "AWS_DEFAULT_REGION")
CONNECT_S, REQUEST_S, ATTEMPTS = 3.0, 20.0, 3
# What Amazon's client calls mistakes of ours: waiting mends none of them.
HOPELESS = re.compile(
    r"ACCESS_DENIED|NO_SUCH_BUCKET|INVALID_ACCESS_KEY|SIGNATURE_DOES_NOT_MATCH|InvalidAccessKeyId|AccessDenied|NoSuchBucket"
)
LOCATION = re.compile(r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?P<prefix>(/[A-Za-z0-9._=-]+)*)/?")
Value = TypeVar("Value")


@dataclass(frozen=True)
class Version:
    """What tells one state of an object from another."""

    size_bytes: int
    modified_ns: int


class Storage(ABC):
    """Objects under names with slashes; `location` is a folder or ``s3://bucket/prefix``.

    Example:
        >>> import tempfile
        >>> storage = open_storage(tempfile.mkdtemp())
        >>> storage.write("t0000/history.jsonl", b"{}")
        >>> storage.below("t0000").read("history.jsonl")
        b'{}'
    """

    def __init__(self, location: str) -> None:
        self.location = location.rstrip("/") or "/"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.location!r})"

    def below(self, name: str) -> Self:
        """Return what lies under a name."""
        return type(self)(f"{self.location}/{_checked(name)}")

    def read(self, name: str) -> bytes | None:
        """Return an object, None where there is none."""
        return self._patiently(lambda: self._read(_checked(name)))

    def write(self, name: str, data: bytes) -> None:
        """Write an object; whoever reads it sees all of it, or what was there before."""
        self._patiently(lambda: self._write(_checked(name), data))

    def versions(self) -> Mapping[str, Version]:
        """Return every object here and below, by name."""
        return self._patiently(self._versions)

    @abstractmethod
    def _read(self, name: str) -> bytes | None: ...

    @abstractmethod
    def _write(self, name: str, data: bytes) -> None: ...

    @abstractmethod
    def _versions(self) -> Mapping[str, Version]: ...

    def _patiently(self, do: Callable[[], Value]) -> Value:
        return patiently(do, what=f"the storage {self.location}", passing=_passing)


class FolderStorage(Storage):
    """A folder, on this machine's disk or on one that all nodes share."""

    def _read(self, name: str) -> bytes | None:
        try:
            return (Path(self.location) / name).read_bytes()
        except FileNotFoundError:
            return None

    def _write(self, name: str, data: bytes) -> None:
        write_bytes(Path(self.location) / name, data)

    def _versions(self) -> Mapping[str, Version]:
        root, found = Path(self.location), {}
        for path in root.rglob("*"):
            if path.is_file() and not path.name.endswith(".tmp"):
                stat = path.stat()
                found[path.relative_to(root).as_posix()] = Version(stat.st_size, stat.st_mtime_ns)
        return found


class S3Storage(Storage):
    """A bucket, or a part of one."""

    def _read(self, name: str) -> bytes | None:
        try:
            while True:
                # One request for all of it, and so of one state; but the size was asked for before.
                with _s3().open_input_file(self._key(name)) as file:
                    data = bytes(file.read_at(file.size(), 0))
                if _s3().get_file_info(self._key(name)).size == len(data):
                    return data
        except FileNotFoundError:
            return None

    def _write(self, name: str, data: bytes) -> None:
        # One put: the object appears when the store has all of it.
        with _s3().open_output_stream(self._key(name)) as stream:
            stream.write(data)

    def _versions(self) -> Mapping[str, Version]:
        from pyarrow.fs import FileSelector, FileType

        root = self.location.removeprefix(SCHEME)
        found = _s3().get_file_info(FileSelector(root, recursive=True, allow_not_found=True))
        files = [each for each in found if each.type == FileType.File]
        return {each.path[len(root) + 1 :]: Version(each.size, each.mtime_ns) for each in files}

    def _key(self, name: str) -> str:
        return f"{self.location.removeprefix(SCHEME)}/{name}"


def open_storage(location: str | Path) -> Storage:
    """Return the storage at a folder or at ``s3://bucket/prefix``; nothing is made or asked yet."""
    text = str(location)
    return S3Storage(checked_location(text)) if text.startswith(SCHEME) else FolderStorage(text)


def checked_location(location: str) -> str:
    """Return a storage's location in the form that this module takes.

    Raises:
        ConfigError: It is neither ``s3://bucket/prefix`` nor an absolute folder.
    """
    if not location.startswith(SCHEME) and Path(location).expanduser().is_absolute():
        return str(Path(location).expanduser())
    found = LOCATION.fullmatch(location)
    if found is None or any(set(part) == {"."} for part in location.removeprefix(SCHEME).split("/") if part):
        rule = "`s3://bucket/prefix` or an absolute folder is needed"
        # What was written may hold a password: it is not repeated.
        raise ConfigError(f"{rule}; a store's address and credentials are read from the environment.", path="storage")
    return location.rstrip("/")


def address(location: str) -> str:
    """Return a location as others write it: a folder's begins with ``file://``."""
    return location if location.startswith(SCHEME) else Path(location).as_uri()


def mirror(storage: Storage, folder: Path, *, wanted: Callable[[str], bool] = lambda _: True) -> None:
    """Bring a folder up to date with a storage: objects that are new or changed are fetched, nothing is deleted."""
    for name, version in storage.versions().items():
        path = folder / _checked(name)
        if not wanted(name) or _same(path, version):
            continue
        data = storage.read(name)
        if data is not None:
            write_bytes(path, data)
            os.utime(path, ns=(version.modified_ns, version.modified_ns))


def publish(folder: Path, storage: Storage) -> None:
    """Write every file of a folder into a storage, under its path in the folder."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            storage.write(path.relative_to(folder).as_posix(), path.read_bytes())


def _same(path: Path, version: Version) -> bool:
    if not path.is_file():
        return False
    stat = path.stat()
    return (stat.st_size, stat.st_mtime_ns) == (version.size_bytes, version.modified_ns)


def _checked(name: str) -> str:
    """Refuse a name that leads out of the storage."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise ConfigError(f"a name inside of the storage is needed, but got {name!r}.", path="storage")
    return str(path)


def _passing(error: Exception) -> bool:
    """Whether an error of a disk or a store may pass."""
    mistakes = (FileNotFoundError, PermissionError, NotADirectoryError, IsADirectoryError)
    return isinstance(error, OSError) and not isinstance(error, mistakes) and not HOPELESS.search(str(error))


@cache
def _s3() -> Any:
    """Return the store that the environment names; its connections are shared by the process."""
    from pyarrow.fs import AwsStandardS3RetryStrategy, S3FileSystem

    endpoint = next((os.environ[name] for name in ENDPOINTS if os.environ.get(name)), None)
    # Named always, or each bucket's is asked for first.
    region = next((os.environ[name] for name in REGIONS if os.environ.get(name)), "us-east-1")
    address = {"endpoint_override": endpoint.rstrip("/"), "force_virtual_addressing": False} if endpoint else {}
    limits = {
        "connect_timeout": CONNECT_S,
        "request_timeout": REQUEST_S,
        "retry_strategy": AwsStandardS3RetryStrategy(max_attempts=ATTEMPTS),
    }
    # Delayed: what is small goes in one request and not in the three of an upload in parts.
    return S3FileSystem(region=region, allow_delayed_open=True, **address, **limits)
