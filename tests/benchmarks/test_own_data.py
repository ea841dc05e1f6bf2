"""People's own images and texts: every layout, classes from training data only, held-out parts by the stated rule."""

import csv
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from pace_tune.benchmarks.own_data import class_names
from pace_tune.benchmarks.splits import hold_out, subset
from pace_tune.errors import ConfigError, DataError
from pace_tune.registry import tasks
from tests.benchmarks.layouts import SPEC, image_list, jsonl, png, png_bytes


def sizes(task):
    return {split: len(task.load(split, spec=SPEC)) for split in ("train", "val", "train+val", "test")}


def names_of(task, split):
    return [item.source.name for item in task.listed(split, root=None, problems=[])]


def class_folders(folder, counts, *, seed=0):
    for number, (label, count) in enumerate(counts.items()):
        for i in range(count):
            png(folder / label / f"im {i}.png", seed=seed + 100 * number + i, size=(6, 6))
    return folder


# The rule


def test_each_class_gives_its_share_and_never_its_only_example():
    classes = [0] * 10 + [1] * 5 + [2]
    kept, held = hold_out(classes, share=0.2, seed=3)
    assert np.bincount(np.array(classes)[held], minlength=3).tolist() == [2, 1, 0]
    assert sorted([*kept, *held]) == list(range(16))
    assert all(np.array_equal(a, b) for a, b in zip(hold_out(classes, share=0.2, seed=3), (kept, held), strict=True))
    assert not np.array_equal(hold_out(classes, share=0.2, seed=4)[1], held)


def test_what_is_listed_twice_stays_on_one_side():
    same = ["a", "b", "a", "c", "b", "d"]
    for seed in range(5):
        kept, held = hold_out([0] * 6, share=0.5, seed=seed, same=same)
        assert not {same[i] for i in kept} & {same[i] for i in held}


def test_values_are_held_out_over_their_whole_range():
    values = np.linspace(0.0, 5.0, 100)
    _, held = hold_out(values.tolist(), share=0.1, seed=0)
    assert len(held) == 10
    assert all(np.any((values[held] >= low) & (values[held] <= low + 0.5)) for low in np.arange(0, 5, 0.5))


def test_a_subset_holds_the_classes_in_their_proportions():
    classes = [0] * 60 + [1] * 30 + [2] * 10
    taken = subset(classes, count=20, seed=1)
    assert np.bincount(np.array(classes)[taken]).tolist() == [12, 6, 2]
    assert subset(classes, count=None, seed=1).tolist() == list(range(100))


# Images


def test_a_folder_a_class_is_split_by_the_rule(tmp_path):
    task = tasks.build({"name": "folder", "path": str(class_folders(tmp_path, {"cat": 10, "dog": 10, "a b": 5}))})
    assert task.labels == ("a b", "cat", "dog")
    assert sizes(task) == {"train": 15, "val": 5, "train+val": 20, "test": 5}
    parts = [set(names_of(task, split)) for split in ("train", "val", "test")]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 25
    assert names_of(task, "train") == names_of(tasks.build(task.as_mapping()), "train")


def test_given_splits_are_taken_as_they_are_and_val_decides_no_class(tmp_path):
    class_folders(tmp_path / "train", {"cat": 4, "dog": 4})
    class_folders(tmp_path / "valid", {"cat": 2}, seed=40)
    class_folders(tmp_path / "test", {"dog": 3}, seed=60)
    task = tasks.build({"name": "folder", "path": str(tmp_path)})
    assert sizes(task) == {"train": 8, "val": 2, "train+val": 10, "test": 3}
    assert task.load("test", spec=SPEC).targets.tolist() == [1, 1, 1]
    png(tmp_path / "valid" / "bird" / "1.png")
    with pytest.raises(DataError, match=r"bird/1\.png: label 'bird' is none of the classes \(cat, dog\)"):
        task.load("val", spec=SPEC)


def test_what_one_may_not_expect_of_a_folder_is_said(tmp_path):
    class_folders(tmp_path, {"cat": 10, "dog": 10, "one": 1})
    task = tasks.build({"name": "folder", "path": str(tmp_path)})
    few = "1 class of fewer than 5 examples, perhaps misspelt: one 1"
    lacking = [f"1 class without an image in {split}: one" for split in ("val", "test")]
    assert task.remarks() == [few, "a class needs 3 images, one each for train, val and test", *lacking]
    (tmp_path / "empty").mkdir()
    (tmp_path / "dog" / "new.heic").touch()
    png(tmp_path / "stray.png", seed=1, size=(6, 6))
    png(tmp_path / "cat" / "more" / "x.png", seed=2, size=(6, 6))
    (tmp_path / "dog" / "again.png").write_bytes((tmp_path / "cat" / "im 0.png").read_bytes())
    assert task.labels == ("cat", "dog", "one")
    assert task.remarks()[:4] == [
        f"1 image beside the class folders of {tmp_path}, not read: stray.png",
        f"1 file below {tmp_path}, not read as an image: 1 .heic",
        f"1 image in subfolders of the class folders of {tmp_path}, counted to the class above",
        f"1 folder of {tmp_path} without an image, and so no class: empty",
    ]
    twice = {
        f"1 picture under more than one label: {tmp_path}/{pair}"
        for pair in (f"cat/im 0.png = {tmp_path}/dog/again.png", f"dog/again.png = {tmp_path}/cat/im 0.png")
    }
    assert task.remarks()[-1] in twice


def test_a_flat_folder_is_told_what_is_expected(tmp_path):
    png(tmp_path / "1.png", seed=1, size=(6, 6))
    with pytest.raises(DataError, match=r"shows 0: none\. A folder of images per class is expected, such as cat/1\.jpg"):
        tasks.build({"name": "folder", "path": str(tmp_path)}).load("train", spec=SPEC)


def test_the_test_folder_is_not_read_by_the_others(tmp_path):
    class_folders(tmp_path / "train", {"cat": 5, "dog": 5})
    png(tmp_path / "test" / "cat" / "1.png").write_bytes(b"")
    task = tasks.build({"name": "folder", "path": str(tmp_path)})
    assert len(task.load("train", spec=SPEC)) == 8
    with pytest.raises(DataError, match=r"cat/1\.png"):
        task.load("test", spec=SPEC)


@pytest.mark.parametrize("form", ["list", "lists", "lists with classes"])
def test_lists_with_words_spaces_and_repeats(tmp_path, form):
    lines = [(f"p q/{i}.jpg", i % 2) for i in range(10)]
    path = image_list(tmp_path, "train.txt", lines)
    words = {0: "zebra", 1: "ant"}
    path.write_text("".join(f"{name} {words[label]}\n" for name, label in lines) + "p q/0.jpg zebra\n")
    if form == "lists with classes":
        (tmp_path / "classes.txt").write_text("zebra\nant\nyak\n")
    if form != "list":
        image_list(tmp_path, "val.txt", [("v/1.jpg", 0)], first_seed=50).write_text("v/1.jpg zebra\n")
    task = tasks.build({"name": "folder", "path": str(path if form == "list" else tmp_path)})
    assert task.labels == (("zebra", "ant", "yak") if form == "lists with classes" else ("ant", "zebra"))
    assert sizes(task)["test"] in (2, 3)
    together = [names_of(task, split) for split in ("train", "val", "test")]
    assert not set(together[0]) & set(together[1])
    assert not set(together[0]) & set(together[2])


def test_no_test_split_is_an_error_only_when_it_is_asked_for(tmp_path):
    task = tasks.build({"name": "folder", "path": str(class_folders(tmp_path, {"a": 5, "b": 5})), "test_share": 0})
    assert len(task.load("train", spec=SPEC)) == 8
    with pytest.raises(DataError, match="no test split"):
        task.load("test", spec=SPEC)


def test_what_is_no_data_is_named(tmp_path):
    with pytest.raises(DataError, match="no such file or folder"):
        tasks.build({"name": "folder", "path": str(tmp_path / "gone")}).load("train", spec=SPEC)
    with pytest.raises(DataError, match="shows 0: none"):
        tasks.build({"name": "folder", "path": str(tmp_path)}).load("train", spec=SPEC)
    with pytest.raises(ConfigError, match=r"task\.path"):
        tasks.build("folder")


# Texts

ROWS = [{"review": f"text {i}", "stars": ["good", "bad"][i % 2], "score": i / 4} for i in range(20)]


def written(folder, ending, rows=ROWS, name="train"):
    path = folder / f"{name}{ending}"
    if ending == ".parquet":
        parquet.write_table(pa.Table.from_pylist(rows), path)
    elif ending == ".jsonl":
        jsonl(path, rows)
    else:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0].keys(), delimiter="\t" if ending == ".tsv" else ",")
            writer.writeheader()
            writer.writerows(rows)
    return path


def table(path, **fields):
    return tasks.build({"name": "table", "path": str(path), "text": ["review"], "label": "stars", **fields})


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_a_table_of_any_kind_is_split_by_the_rule(tmp_path, ending):
    task = table(written(tmp_path, ending))
    assert task.labels == ("bad", "good")
    found = {split: task.texts(split, root=None, problems=[]) for split in ("train", "val", "test")}
    assert [len(part.texts) for part in found.values()] == [12, 4, 4]
    assert sorted(text for part in found.values() for (text,) in part.texts) == sorted(row["review"] for row in ROWS)
    assert set(found["val"].targets) == {0, 1}


def test_tables_by_split_name_and_labels_that_val_lacks(tmp_path):
    written(tmp_path, ".csv")
    written(tmp_path, ".jsonl", ROWS[:2][::2], name="validation")
    written(tmp_path, ".parquet", ROWS[:5], name="test")
    task = table(tmp_path)
    assert [len(task.texts(split, root=None, problems=[]).texts) for split in ("train", "val", "test")] == [20, 1, 5]


def test_regression_and_declared_classes(tmp_path):
    path = written(tmp_path, ".csv")
    value = table(path, label="score", kind="value")
    assert (value.num_classes, value.labels, value.metric, value.target) == (1, (), "pearson", "value")
    assert max(value.texts("train", root=None, problems=[]).targets) > 3
    declared = table(path, classes=["good", "bad", "ugly"], score="matthews")
    assert (declared.num_classes, declared.metric) == (3, "matthews")
    assert table(path, classes=["good", "other"]).problems("val")


def test_broken_tables_are_one_line_with_the_place(tmp_path):
    path = written(tmp_path, ".csv")
    with pytest.raises(DataError, match=r"train\.csv: lacks the column 'body'; it has 'review', 'stars', 'score'"):
        table(path, text=["body"]).load("train", spec=SPEC)
    path.write_text(path.read_text() + "one field\n")
    assert table(path).problems("train") == [f"{path}:22: has another number of fields than the header."]
    bad = tmp_path / "bad.jsonl"
    bad.write_text(json.dumps(ROWS[0]) + "\nnot json\n" + json.dumps({"review": "x"}) + "\n")
    assert [line.split(": ")[0] for line in table(bad, classes=["good", "bad"]).problems("train")] == [f"{bad}:2", f"{bad}:3"]
    assert "no number" in table(written(tmp_path, ".tsv"), kind="value").problems("val")[0]


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".parquet"])
def test_a_row_without_text_or_label_is_named(tmp_path, ending):
    # What a file has for nothing: an empty cell, a null, a NaN.
    nothing = {".csv": "", ".jsonl": None, ".parquet": None}[ending]
    more = [{"review": nothing, "stars": "good"}, {"review": "x", "stars": nothing}, {"review": "  ", "stars": nothing}]
    path = written(tmp_path, ending, [{key: row[key] for key in ("review", "stars")} for row in ROWS] + more)
    start = {".csv": f"{path}:2", ".jsonl": f"{path}:2", ".parquet": f"{path}: row 2"}[ending]
    first = {".csv": 2, ".jsonl": 1, ".parquet": 1}[ending]
    assert table(path).problems("train") == [
        f"{start}{first}: nothing in the column 'review'.",
        f"{start}{first + 1}: nothing in the column 'stars'.",
        f"{start}{first + 2}: nothing in the columns 'review' and 'stars'.",
    ]
    assert table(path).labels == ("bad", "good")
    with pytest.raises(DataError, match=r"nothing in the column 'review'\. \(and 2 more"):
        table(path).load("val", spec=SPEC)


def test_nan_is_nothing(tmp_path):
    rows = [{"review": f"text {i}", "score": float("nan") if i == 7 else i / 4} for i in range(20)]
    path = written(tmp_path, ".parquet", rows)
    assert table(path, label="score", kind="value").problems("train") == [f"{path}: row 8: nothing in the column 'score'."]


def test_a_table_too_small_to_be_split_says_so(tmp_path):
    assert table(written(tmp_path, ".csv", ROWS[:2])).problems("val") == [
        f"{tmp_path}/train.csv: too few rows to hold any out for val: a class needs three, or there must be a val table."
    ]
    assert table(written(tmp_path, ".csv", ROWS[:6])).problems("val") == []


def test_misspelt_labels_and_a_class_that_is_most_of_all_are_said(tmp_path):
    assert table(written(tmp_path, ".csv")).remarks() == []
    rows = [{"review": f"text {i}", "stars": "bad" if i < 5 else "good"} for i in range(16)] + [{"review": "x", "stars": "godo"}]
    path = written(tmp_path, ".csv", rows)
    few = "1 class of fewer than 5 examples, perhaps misspelt: godo 1"
    assert table(path).class_totals() == {"godo": 1, "bad": 5, "good": 11}
    assert table(path).remarks() == [few, "0.65 of the examples are 'good': `--set task.score=matthews` gives 0 for always saying so"]
    assert table(path, score="matthews").remarks() == [few]
    assert table(written(tmp_path, ".csv"), label="score", kind="value").remarks() == []


# Data sets of the hub, on disk


def saved(folder, splits, features, schema):
    """What `DatasetDict.save_to_disk` writes."""
    (folder / "dataset_dict.json").parent.mkdir(parents=True)
    (folder / "dataset_dict.json").write_text(json.dumps({"splits": list(splits)}))
    for name, rows in splits.items():
        (folder / name).mkdir()
        with pa.OSFile(str(folder / name / "data-00000-of-00001.arrow"), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
            writer.write_table(pa.Table.from_pylist(rows, schema=schema))
        (folder / name / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}))
        (folder / name / "dataset_info.json").write_text(json.dumps({"features": features}))
    return folder


LABEL = {"_type": "ClassLabel", "names": ["neg", "pos", "unused"]}


def test_a_saved_text_data_set_with_declared_names(tmp_path):
    rows = [{"text": f"t{i}", "label": i % 2} for i in range(10)]
    schema = pa.schema({"text": pa.string(), "label": pa.int64()})
    folder = saved(tmp_path / "imdb", {"train": rows, "test": rows[:3]}, {"label": LABEL}, schema)
    task = tasks.build({"name": "hub/text", "path": str(folder)})
    assert task.labels == ("neg", "pos", "unused")
    found = {split: task.texts(split, root=None, problems=[]) for split in ("train", "val", "test")}
    assert [len(part.texts) for part in found.values()] == [8, 2, 3]
    assert found["test"].targets == [0, 1, 0]
    (tmp_path / "gap").mkdir()
    gap = saved(tmp_path / "gap" / "imdb", {"train": [*rows, {"text": "", "label": 1}]}, {"label": LABEL}, schema)
    assert tasks.build({"name": "hub/text", "path": str(gap)}).problems("train") == [f"{gap}: train row 11: nothing in the column 'text'."]
    with pytest.raises(DataError, match="lacks the column 'body'; it has text, label"):
        tasks.build({"name": "hub/text", "path": str(folder), "text": ["body"]}).texts("train", root=None, problems=[])


def test_an_image_data_set_in_parquet(tmp_path):
    rows = [{"image": {"bytes": png_bytes(seed=i), "path": None}, "labels": i % 2} for i in range(10)]
    found = pa.Table.from_pylist(rows)
    features = json.dumps({"info": {"features": {"labels": {"_type": "ClassLabel", "names": ["sick", "well"]}}}})
    (tmp_path / "data").mkdir()
    parquet.write_table(found.replace_schema_metadata({"huggingface": features}), tmp_path / "data" / "train-00000-of-00001.parquet")
    task = tasks.build({"name": "hub/image", "path": str(tmp_path), "label": "labels"})
    assert task.labels == ("sick", "well")
    assert sizes(task) == {"train": 6, "val": 2, "train+val": 8, "test": 2}
    with pytest.raises(DataError, match="neither a saved data set"):
        tasks.build({"name": "hub/image", "path": str(tmp_path / "data" / "..")}).path.joinpath("x").mkdir() or tasks.build(
            {"name": "hub/image", "path": str(tmp_path / "x")}
        ).load("train", spec=SPEC)


def test_numbers_are_classes_in_their_order_and_other_digits_are_words():
    assert class_names([10, 9, -1]) == ("-1", "9", "10")
    assert class_names(["2", "02", "1"]) == ("1", "02", "2")
    assert class_names(["²", "1"]) == ("1", "²")
    assert class_names(["9" * 5000, "1"]) == ("1", "9" * 5000)
