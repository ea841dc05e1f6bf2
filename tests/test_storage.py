"""One contract for a folder and for a real S3 API: whole or not there, waited for, and never left."""

import errno
import multiprocessing
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pace_tune import files
from pace_tune import storage as storage_module
from pace_tune.errors import ConfigError
from pace_tune.patience import VARIABLE, WAITS, OutageError
from pace_tune.storage import Storage, mirror, open_storage, publish
from tests import servers


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.S3]:
    with servers.s3_here(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture(params=["folder", "s3"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if request.param == "folder":
        return open_storage(tmp_path / "objects")
    request.getfixturevalue("s3")
    return open_storage(f"s3://sweeps/{tmp_path.name}")


def test_what_was_written_is_read(storage: Storage):
    assert storage.read("t0000/lane") is None
    storage.write("t0000/lane", b"first")
    storage.write("t0000/lane", b"second, and longer")
    assert storage.read("t0000/lane") == b"second, and longer"
    assert open_storage(storage.location).below("t0000").read("lane") == b"second, and longer"


def test_nothing_and_much_can_be_kept(storage: Storage):
    much = os.urandom(12 * 2**20)
    storage.write("empty", b"")
    storage.write("much", much)
    assert storage.read("empty") == b""
    assert storage.read("much") == much


def test_everything_below_is_listed(storage: Storage):
    assert storage.versions() == {}
    storage.write("t0000/a", b"1")
    storage.write("t0001/b/c", b"22")
    assert {name: version.size_bytes for name, version in storage.versions().items()} == {"t0000/a": 1, "t0001/b/c": 2}
    assert set(storage.below("t0001").versions()) == {"b/c"}


def test_a_reader_never_sees_half_of_an_object(storage: Storage):
    states = [bytes([letter]) * 3 * 10**6 for letter in b"ab"]
    storage.write("lane", states[0])
    over = threading.Event()

    def write() -> None:
        while not over.is_set():
            for state in states:
                storage.write("lane", state)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert all(storage.read("lane") in states for _ in range(20))
    finally:
        over.set()
        writer.join()


def _write_for_ever(location: str) -> None:
    while True:
        for letter in b"ab":
            open_storage(location).write("lane", bytes([letter]) * 20 * 2**20)


def test_a_killed_writer_leaves_a_whole_object(storage: Storage):
    storage.write("lane", b"a" * 20 * 2**20)
    writer = multiprocessing.get_context("spawn").Process(target=_write_for_ever, args=(storage.location,))
    writer.start()
    time.sleep(2.0)
    writer.kill()
    writer.join()
    found = storage.read("lane")
    assert found is not None
    assert found in (b"a" * 20 * 2**20, b"b" * 20 * 2**20)


@pytest.mark.parametrize("name", ["../t0000", "/etc/passwd", "a/../../b", "", "."])
def test_no_name_leads_out(storage: Storage, name: str):
    for use in (storage.read, storage.below, lambda name: storage.write(name, b"")):
        with pytest.raises(ConfigError, match="a name inside of the storage is needed"):
            use(name)


def test_a_folder_follows_a_storage(storage: Storage, tmp_path: Path):
    here = tmp_path / "here"
    storage.write("t0000/history.jsonl", b"1\n")
    storage.write("t0000/lane.safetensors", b"weights")
    mirror(storage, here, wanted=lambda name: name.endswith(".jsonl"))
    assert [path.relative_to(here).as_posix() for path in here.rglob("*") if path.is_file()] == ["t0000/history.jsonl"]
    first = (here / "t0000" / "history.jsonl").stat()
    mirror(storage, here, wanted=lambda name: name.endswith(".jsonl"))
    assert (here / "t0000" / "history.jsonl").stat().st_ctime_ns == first.st_ctime_ns
    storage.write("t0000/history.jsonl", b"1\n2\n")
    mirror(storage, here)
    assert (here / "t0000" / "history.jsonl").read_bytes() == b"1\n2\n"
    assert (here / "t0000" / "lane.safetensors").read_bytes() == b"weights"


def test_a_folder_is_published(storage: Storage, tmp_path: Path):
    (tmp_path / "model" / "deep").mkdir(parents=True)
    (tmp_path / "model" / "deep" / "file").write_bytes(b"x")
    publish(tmp_path / "model", storage)
    assert storage.read("deep/file") == b"x"


def test_a_full_disk_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    storage, left = open_storage(tmp_path), [3]
    real = files.write_bytes

    def full(path: Path, data: bytes) -> Path:
        left[0] -= 1
        if left[0] >= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        assert "No space left" in WAITS.now()
        return real(path, data)

    monkeypatch.setattr(storage_module, "write_bytes", full)
    storage.write("lane", b"x")
    assert (tmp_path / "lane").read_bytes() == b"x"
    assert WAITS.now() == ""


def test_what_no_waiting_mends_is_said_at_once(storage: Storage, monkeypatch: pytest.MonkeyPatch, s3: servers.S3, tmp_path: Path):
    began = time.monotonic()
    with pytest.raises(OSError, match=r"NO_SUCH_BUCKET|does not exist"):
        open_storage("s3://nobodys-bucket/x").write("lane", b"")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OSError, match=r"Not a directory|File exists"):
        open_storage(tmp_path / "file" / "below").write("lane", b"")
    assert time.monotonic() - began < 20


def test_a_store_that_stays_away_is_given_up(monkeypatch: pytest.MonkeyPatch, s3: servers.S3):
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{servers.free_port()}")
    monkeypatch.setenv(VARIABLE, "0.5")
    storage_module._s3.cache_clear()
    with pytest.raises(OutageError, match=r"waited \d+ s for the storage s3://sweeps/x .*PACE_TUNE_PATIENCE_S sets how long"):
        open_storage("s3://sweeps/x").read("lane")
    storage_module._s3.cache_clear()


def test_a_store_that_is_killed_is_waited_for(s3: servers.S3):
    storage = open_storage("s3://sweeps/killed")
    storage.write("lane", b"before")
    s3.kill()
    again = threading.Timer(1.0, s3.start)
    again.start()
    try:
        storage.write("lane", b"after")
    finally:
        again.join()
    assert storage.read("lane") == b"after"


@pytest.mark.parametrize(
    "location",
    ["s3://", "s3://Bucket/x", "s3://user:secret@bucket/x", "s3://bucket/../x", "s3://bucket/x?endpoint=http://a", "gs://bucket/x", "here"],
)
def test_only_a_bucket_and_a_prefix_are_taken_and_nothing_is_repeated(location: str):
    with pytest.raises(ConfigError, match="`s3://bucket/prefix` or an absolute folder is needed") as caught:
        storage_module.checked_location(location)
    assert "secret" not in str(caught.value)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts a small disk")
def test_a_disk_that_is_really_full_is_waited_for(tmp_path: Path):
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(tmp_path)], check=False, capture_output=True).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        storage, filler = open_storage(tmp_path / "objects"), tmp_path / "filler"
        filler.write_bytes(bytes(200 * 1024))
        threading.Timer(1.0, filler.unlink).start()
        began = time.monotonic()
        storage.write("lane", bytes(100 * 1024))
        assert time.monotonic() - began > 0.8
        assert storage.read("lane") == bytes(100 * 1024)
        assert set(storage.versions()) == {"lane"}
    finally:
        subprocess.run(["umount", "-l", str(tmp_path)], check=False)
