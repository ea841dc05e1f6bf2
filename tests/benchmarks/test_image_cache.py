"""The decoded cache: right pixels, shared, checked by content, repaired, safe when two build it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pace_tune.benchmarks import image_cache
from pace_tune.benchmarks.image_cache import ImageCache, cache_folder
from pace_tune.benchmarks.images import ImageFile
from pace_tune.errors import DataError
from tests.benchmarks.layouts import png

ROOT = Path(__file__).parents[2]


@pytest.fixture
def sources(tmp_path):
    return [ImageFile(png(tmp_path / "in" / f"{i}.png", seed=i)) for i in range(5)]


def cache_of(sources, tmp_path, **fields):
    return ImageCache(sources, **{"side": 16, "fit": "squash", "folder": tmp_path / "cache", **fields})


def only(folder, pattern):
    (path,) = folder.glob(pattern)
    return path


def test_pixels_are_pillows_bicubic(sources, tmp_path):
    loaded = cache_of(sources, tmp_path).load()
    expected = np.asarray(Image.open(sources[3].path).convert("RGB").resize((16, 16), Image.Resampling.BICUBIC))
    assert np.array_equal(loaded[3].permute(1, 2, 0).numpy(), expected)
    assert torch.equal(loaded, cache_of(sources, tmp_path, folder=None).load())


def test_shorter_side_and_centre_crop_are_torchvisions(tmp_path):
    from torchvision import transforms

    source = ImageFile(png(tmp_path / "wide.png", seed=1, size=(30, 47)))
    loaded = cache_of([source], tmp_path, fit="shorter", side=18).load()
    with Image.open(source.path) as image:
        expected = transforms.Compose(
            [transforms.Resize(18, interpolation=transforms.InterpolationMode.BICUBIC), transforms.CenterCrop(18), transforms.PILToTensor()]
        )(image.convert("RGB"))
    assert torch.equal(loaded[0], expected)


def test_nothing_is_decoded_twice(sources, tmp_path, monkeypatch):
    first = cache_of(sources, tmp_path).load()
    monkeypatch.setattr(image_cache, "decode", lambda *a, **k: pytest.fail("decoded again"))
    assert torch.equal(cache_of(sources, tmp_path).load(), first)


@pytest.mark.parametrize("damage", ["flipped", "cut", "no record", "broken record"])
def test_a_damaged_cache_is_built_again(sources, tmp_path, damage):
    first = cache_of(sources, tmp_path).load().clone()
    array, record = only(tmp_path / "cache", "*.npy"), only(tmp_path / "cache", "*.json")
    data = bytearray(array.read_bytes())
    if damage == "flipped":
        data[len(data) // 2] ^= 1
        array.write_bytes(data)
    elif damage == "cut":
        array.write_bytes(data[:-7])
    elif damage == "no record":
        record.unlink()
    else:
        record.write_text("{")
    assert torch.equal(cache_of(sources, tmp_path).load(), first)


def test_other_bytes_under_the_same_name_are_seen(sources, tmp_path):
    before = cache_of(sources, tmp_path).load().clone()
    png(sources[2].path, seed=99)
    with pytest.warns(UserWarning, match=r"px-[0-9a-f]+\.npy: was made of other images than those that are there now"):
        after = cache_of(sources, tmp_path).load()
    assert not torch.equal(after[2], before[2])
    assert torch.equal(after[3], before[3])


def test_touched_files_with_the_same_bytes_keep_the_cache(sources, tmp_path, monkeypatch):
    first = cache_of(sources, tmp_path).load()
    os.utime(sources[0].path, ns=(1, 1))
    monkeypatch.setattr(image_cache, "decode", lambda *a, **k: pytest.fail("decoded again"))
    assert torch.equal(cache_of(sources, tmp_path).load(), first)


def test_every_bad_image_is_counted_and_the_first_named(sources, tmp_path):
    whole = sources[1].path.read_bytes()
    sources[1].path.write_bytes(whole[: len(whole) // 2])
    sources[4].path.write_bytes(b"no image")
    with pytest.raises(DataError, match=r"1\.png: damaged image: .*truncated.*\(and 1 more") as caught:
        cache_of(sources, tmp_path).load()
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "cache").glob("*.npy"))
    assert not list((tmp_path / "cache").glob("*.tmp"))


def test_a_folder_that_cannot_be_written_means_memory(sources, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    assert cache_of(sources, tmp_path, folder=blocked / "cache").load().shape == (5, 3, 16, 16)


def test_the_cache_lies_beside_the_data_or_in_the_users_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    assert cache_folder(tmp_path) == tmp_path / ".pace-tune-cache"
    assert cache_folder(tmp_path / "gone") == tmp_path / "home" / "pace-tune"


BUILD = """
import sys, torch
from pathlib import Path
from pace_tune.benchmarks.image_cache import ImageCache
from pace_tune.benchmarks.images import ImageFile
folder = Path(sys.argv[1])
sources = [ImageFile(path) for path in sorted((folder / "in").glob("*.png"))]
print(int(ImageCache(sources, side=64, fit="squash", folder=folder / "cache").load().sum()))
"""


def test_two_processes_that_build_at_once_get_the_same(tmp_path):
    for i in range(60):
        png(tmp_path / "in" / f"{i:02d}.png", seed=i, size=(80, 80))
    started = [
        subprocess.Popen([sys.executable, "-c", BUILD, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    sums = {process.communicate(timeout=120)[0].strip() for process in started}
    assert [process.returncode for process in started] == [0, 0]
    assert len(sums) == 1
    assert json.loads(only(tmp_path / "cache", "*.json").read_text())["array"]
    assert not list((tmp_path / "cache").glob("*.tmp"))
