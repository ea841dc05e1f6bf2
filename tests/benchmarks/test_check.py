"""`check_data` finds all that is wrong in all splits at once."""

import pytest

from pace_tune.benchmarks.check import check_data, class_counts
from pace_tune.registry import tasks
from tests.benchmarks.layouts import image_list, jsonl, vtab


def test_sound_data_has_no_line(tmp_path):
    vtab(tmp_path)
    assert check_data(tasks.build("vtab/kitti"), tmp_path) == []
    assert check_data(tasks.build("digits")) == []


def test_one_line_for_each_mistake_of_every_split(tmp_path):
    folder = vtab(tmp_path)
    (folder / "images" / "train800" / "000002.jpg").write_bytes(b"x")
    (folder / "val200.txt").write_text("")
    (folder / "train800val200.txt").unlink()
    with (folder / "test.txt").open("a") as file:
        file.write("images/test/gone.jpg 1\nimages/test/000001.jpg 12\n")
    found = check_data(tasks.build("vtab/kitti"), tmp_path)
    places = ["train800.txt:3", "val200.txt", "train800val200.txt", "test.txt:6", "test.txt:7"]
    assert all(any(place in line for line in found) for place in places), found
    assert all("\n" not in line for line in found)


def test_an_image_in_two_splits_is_named(tmp_path):
    path = image_list(tmp_path, "train.txt", [(f"{i}.png", i % 2) for i in range(8)])
    (tmp_path / "test.txt").write_text("3.png 1\n0.png 0\n")
    assert path.is_file()
    found = check_data(tasks.build({"name": "folder", "path": str(tmp_path)}))
    assert len(found) == 2
    assert "3.png: is in both" in found[0]
    assert "and test." in found[0]


def test_wrong_columns_labels_and_empty_tables_are_named_in_every_split(tmp_path):
    rows = [{"text": f"t{i}", "label": ["bad", "good"][i % 2]} for i in range(10)]
    jsonl(tmp_path / "train.jsonl", rows)
    jsonl(tmp_path / "val.jsonl", [{"text": "v", "label": "ugly"}, {"text": "w", "label": "good"}])
    jsonl(tmp_path / "test.jsonl", [{"body": "x", "label": "bad"}])
    found = check_data(tasks.build({"name": "table", "path": str(tmp_path)}))
    assert any("val.jsonl:1" in line and "'ugly'" in line for line in found)
    assert any("test.jsonl" in line and "'text'" in line for line in found)
    (tmp_path / "test.jsonl").write_text("")
    assert any(
        "test" in line for line in check_data(tasks.build({"name": "table", "path": str(tmp_path), "classes": ["bad", "good", "ugly"]}))
    )


def test_missing_data_says_so_once(tmp_path):
    assert len(check_data(tasks.build("vtab/svhn"), tmp_path)) == 1
    jsonl(tmp_path / "gsm8k" / "train.jsonl", [{"question": "q", "answer": "no number"}])
    found = check_data(tasks.build({"name": "gsm8k", "val_examples": 1}), tmp_path)
    assert any("train.jsonl:1" in line for line in found)
    assert any("holds no test.jsonl" in line for line in found)


def test_the_classes_of_each_split_are_counted_where_there_are_any(tmp_path):
    folder = vtab(tmp_path)
    counts = class_counts(tasks.build("vtab/kitti"), tmp_path)
    lines = (folder / "test.txt").read_text().splitlines()
    assert {split: sum(found.values()) for split, found in counts.items()} == {"train": 8, "val": 4, "test": 5}
    assert max(counts["test"].values()) == next(iter(counts["test"].values()))
    assert set(counts["test"]) == {tasks.build("vtab/kitti").labels[int(line.split()[-1])] for line in lines}
    jsonl(tmp_path / "train.jsonl", [{"text": f"t{i}", "label": i / 2} for i in range(10)])
    assert class_counts(tasks.build({"name": "table", "path": str(tmp_path / "train.jsonl"), "kind": "value"})) == {}


@pytest.mark.shared_data
def test_the_real_cola_is_sound(shared_data):
    assert check_data(tasks.build("glue/cola"), shared_data) == []
