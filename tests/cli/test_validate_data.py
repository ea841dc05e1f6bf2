"""`validate --data` reads the data and lists everything that is wrong with it."""

import json

import pytest

from pace_tune.cli.main import run
from tests.benchmarks.layouts import png, vtab


@pytest.fixture
def study(tmp_path):
    vtab(tmp_path)
    path = tmp_path / "study.yaml"
    path.write_text("task: vtab/kitti\nbackbone: vit_nano_cifar10\nmethod: linear\nsearch: {trials: 1}\n")
    return path


def validate(study, *more):
    return run(["validate", str(study), "--data", "--set", f"data.root={study.parent}", *more])


def test_sound_data_passes(study, capsys):
    assert validate(study) == 0
    assert "is right" in capsys.readouterr().out


def test_what_the_data_holds_is_said(study, capsys):
    assert validate(study) == 0
    assert "data      4 classes, 8 train, 4 val, 5 test" in capsys.readouterr().out
    assert validate(study, "--json") == 0
    assert json.loads(capsys.readouterr().out)["data"] == {"vtab/kitti": {"classes": 4, "train": 8, "val": 4, "test": 5}}


def test_what_one_may_not_expect_is_said_beside_the_counts(study, capsys):
    for place, name in enumerate(("cat", "dog", "cow")):
        for number in range(1 if name == "cow" else 6):
            png(study.parent / "photos" / name / f"{number}.png", seed=10 * place + number)
    own = ("--set", f"task={{name: folder, path: {study.parent / 'photos'}}}")
    assert validate(study, *own) == 0
    out = capsys.readouterr().out
    assert "data      3 classes, 9 train, 2 val, 2 test\n            1 class without an image in val: cow\n" in out
    assert validate(study, *own, "--json") == 0
    assert "cow" in json.loads(capsys.readouterr().out)["remarks"]["folder"][0]


def test_each_mistake_is_a_line_and_nothing_is_written(study, capsys):
    folder = study.parent / "vtab-1k" / "kitti"
    (folder / "images" / "val200" / "000001.jpg").write_bytes(b"x")
    with (folder / "test.txt").open("a") as file:
        file.write("images/test/000001.jpg 12\n")
    assert validate(study) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 2
    assert "val200.txt:2" in lines[0]
    assert "test.txt:6" in lines[1]
    assert validate(study, "--json") == 2
    assert len(json.loads(capsys.readouterr().out)["mistakes"]) == 2
    assert not (study.parent / ".pace-tune-cache").exists()
