"""`validate --data` reads the data and lists everything that is wrong with it."""

import json

import pytest

from pace_tune.cli.main import run
from tests.benchmarks.layouts import png, vtab
from tests.models.tiny_hf import checkpoint


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


def test_a_terminal_is_told_what_is_read_and_a_program_is_not(study, capsys, monkeypatch):
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    assert validate(study) == 0
    said = capsys.readouterr().err
    assert [said.count(f"reading the data of vtab/kitti, {split} ...") for split in ("train", "val", "train+val", "test")] == [1, 1, 1, 1]
    assert validate(study, "--json") == 0
    assert capsys.readouterr().err == ""
    monkeypatch.delenv("TTY_COMPATIBLE")
    assert validate(study) == 0
    assert capsys.readouterr().err == ""


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
    lines = [line.strip() for line in out.splitlines()]
    held = lines.index("data      3 classes, 9 train, 2 val, 2 test")
    assert lines[held + 1 : held + 7] == [
        "cat 6, dog 6, cow 1",
        "always saying 'cat': accuracy 0.5000 on val",
        "1 class of fewer than 5 examples, perhaps misspelt: cow 1",
        "a class needs 3 images, one each for train, val and test",
        "1 class without an image in val: cow",
        "1 class without an image in test: cow",
    ]
    assert validate(study, *own, "--json") == 0
    held = json.loads(capsys.readouterr().out)
    assert "cow" in held["remarks"]["folder"][0]
    assert held["classes"]["folder"]["val"] == {"cat": 1, "dog": 1}


def test_too_few_images_are_counted_and_what_to_do_is_said(study, capsys):
    for place, name in enumerate(("cat", "dog")):
        png(study.parent / "photos" / name / "0.png", seed=place)
    own = ("--set", f"task={{name: folder, path: {study.parent / 'photos'}}}")
    assert validate(study, *own) == 2
    val, test = capsys.readouterr().err.splitlines()
    assert val.startswith(
        f"{study.parent / 'photos'}: too few images to hold any out for val: a class needs 3 images, one each for train, val"
    )
    assert "Found: cat 1, dog 1. Add images." in val
    assert "for test" in test
    for place, name in enumerate(("cat", "dog")):
        for split in ("train", "test"):
            png(study.parent / "split" / split / name / f"{split}.png", seed=10 * place + (split == "test"))
    own = ("--set", f"task={{name: folder, path: {study.parent / 'split'}}}")
    assert validate(study, *own) == 2
    said = capsys.readouterr().err
    assert "for val: a class needs 2 images, one each for train and val. Found: cat 1, dog 1. Add images, or 'val' beside 'train'." in said


def own_table(study, text):
    """A table of one's own, and a tiny language model, as settings."""
    (study.parent / "own.csv").write_text(text)
    model = checkpoint(study.parent / "bert", "bert")
    return ("--set", f"task={{name: table, path: {study.parent / 'own.csv'}}}", "--set", f"backbone={{name: hf_classifier, path: {model}}}")


def test_a_sweep_names_a_class_that_may_be_misspelt_before_it_starts(study, workplace, capsys, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("pace_tune.search.sweep.run_sweep", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
    rows = [f"text {i},{label}" for i, label in enumerate(["good"] * 6 + ["bad"] * 6 + ["godo"])]
    assert run(["sweep", str(study), *own_table(study, "text,label\n" + "\n".join(rows) + "\n")]) == 130
    assert "1 class of fewer than 5 examples, perhaps misspelt: godo 1." in capsys.readouterr().err


def test_of_many_classes_the_largest_are_named(study, capsys):
    rows = [f"text {number} {i},c{number}" for number in range(15) for i in range(5 + 10 * (number == 7))]
    assert validate(study, *own_table(study, "text,label\n" + "\n".join(rows) + "\n")) == 0
    out = capsys.readouterr().out
    assert " c7 15, c0 5, " in out
    assert " and 3 more\n" in out


def test_rows_without_text_or_label_are_mistakes(study, capsys):
    assert validate(study, *own_table(study, "text,label\na b,good\n,bad\nd e,\nx y,good\n")) == 2
    lines = [line.rpartition("/")[2] for line in capsys.readouterr().err.strip().splitlines()]
    assert lines[-2:] == ["own.csv:3: nothing in the column 'text'.", "own.csv:4: nothing in the column 'label'."]


def test_beside_wrong_rows_one_sees_the_classes_of_the_others(study, capsys):
    rows = [f"text {i},{label}" for i, label in enumerate(["good"] * 6 + ["bad"] * 6 + ["godo"])]
    own = own_table(study, "text,label\n" + "\n".join(rows) + "\n,bad\n")
    assert validate(study, *own) == 2
    said = capsys.readouterr()
    assert said.err.endswith("own.csv:15: nothing in the column 'text'.\n")
    misspelt = "1 class of fewer than 5 examples, perhaps misspelt: godo 1"
    lines = said.out.splitlines()
    assert lines[0] == "good 6, bad 6, godo 1"
    assert lines.count(misspelt) == 1
    assert misspelt not in said.err
    assert validate(study, *own, "--json") == 2
    told = json.loads(capsys.readouterr().out)
    assert told["classes"]["table"]["test"] == {"good": 1, "bad": 1}
    assert told["remarks"] == {"table": [misspelt]}


def test_of_published_data_nothing_is_called_misspelt(study, capsys):
    with (study.parent / "vtab-1k" / "kitti" / "test.txt").open("a") as file:
        file.write("images/test/000001.jpg 12\n")
    assert validate(study) == 2
    assert "misspelt" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("rows", "more", "said"),
    [
        ("text,label\na b,good\n,bad\nd e,\nx y,good\n", (), [":3: nothing in the column 'text'.", ":4: nothing in the column 'label'."]),
        ("text,label\na b,good\n", ("--set", "task.label=lable"), [": lacks the column 'lable'; it has 'text', 'label'."]),
    ],
)
def test_a_sweep_refuses_them_before_anything_starts(study, rows, more, said, workplace, capsys, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("pace_tune.search.sweep.run_sweep", lambda *_, **__: pytest.fail("it starts"))
    own = own_table(study, rows)
    capsys.readouterr()
    assert run(["sweep", str(study), *own, *more]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines == [f"{study.parent / 'own.csv'}{line}" for line in said]
    assert not list(workplace.iterdir())


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
