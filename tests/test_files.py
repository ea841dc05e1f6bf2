"""Files that are whole or not there."""

import errno
from pathlib import Path

import pytest

from pace_tune.files import append_bytes


def test_half_an_append_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "file"
    append_bytes(path, b"whole\n")

    class Full:
        def __init__(self, file) -> None:
            self.file = file

        def __enter__(self):
            return self

        def __exit__(self, *error) -> None:
            self.file.close()

        def write(self, data: bytes) -> int:
            if len(data) < 5:
                raise OSError(errno.ENOSPC, "full")
            return self.file.write(data[:5])

        def __getattr__(self, name: str):
            return getattr(self.file, name)

    real = Path.open
    monkeypatch.setattr(Path, "open", lambda self, *words, **more: Full(real(self, *words, **more)))
    with pytest.raises(OSError, match="full"):
        append_bytes(path, b"not all")
    monkeypatch.undo()
    assert path.read_bytes() == b"whole\n"
