"""GLUE: columns, classes and scores as published, selection that never sees what is scored."""

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from pace_tune.benchmarks.glue import TASKS
from pace_tune.errors import DataError
from pace_tune.models.backbone import InputSpec
from pace_tune.registry import tasks
from tests.benchmarks.layouts import jsonl
from tests.models.tiny_hf import tokenizer


@pytest.fixture(scope="module")
def spec(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    tokenizer(folder)
    return InputSpec(tokenizer=str(folder), max_length=12)


def rows(name, count, *, start=0):
    facts = TASKS[name]
    label = (lambda i: i % len(facts.labels)) if facts.labels else (lambda i: (i % 21) / 4)
    return [{**{c: f"the {c} {i}" for c in facts.columns}, "label": label(i), "idx": i} for i in range(start, start + count)]


def written(root, name, *, train=60, scored=10, place="glue/{}"):
    folder = root / place.format(name)
    folder.mkdir(parents=True)
    parquet.write_table(pa.Table.from_pylist(rows(name, train)), folder / "train-00000-of-00001.parquet")
    parquet.write_table(pa.Table.from_pylist(rows(name, scored, start=1000)), folder / f"{TASKS[name].scored}-00000-of-00001.parquet")
    return folder


def texts(task, split, root):
    return tasks.build(task).texts(split, root=root, problems=[])


@pytest.mark.parametrize("name", TASKS)
def test_every_task_has_its_columns_classes_and_score(tmp_path, name, spec):
    written(tmp_path, name)
    task = tasks.build(f"glue/{name}")
    train, test = (task.load(split, spec=spec, root=tmp_path) for split in ("train", "test"))
    assert (len(train), len(test)) == (60 - len(texts(f"glue/{name}", "val", tmp_path).texts), 10)
    assert task.num_classes == (len(TASKS[name].labels) or 1)
    assert train.targets.is_floating_point() == (name == "stsb")
    assert train.inputs["input_ids"].shape[1] <= spec.max_length
    published = {"cola": "matthews", "stsb": "pearson"}
    assert task.metric == published.get(name, "accuracy")


def test_selection_is_held_out_of_train_and_the_scored_split_stays_apart(tmp_path):
    written(tmp_path, "rte")
    train, val, test = (set(texts("glue/rte", split, tmp_path).texts) for split in ("train", "val", "test"))
    assert (len(train), len(val), len(test)) == (54, 6, 10)
    assert not train & val
    assert not (train | val) & test
    assert set(texts("glue/rte", "train+val", tmp_path).texts) == train | val
    published = {"name": "glue/rte", "selection": "published"}
    assert set(texts(published, "val", tmp_path).texts) == test
    assert len(texts(published, "train", tmp_path).texts) == 60


def test_the_scored_file_is_not_read_by_training(tmp_path, spec):
    folder = written(tmp_path, "cola")
    (folder / "validation-00000-of-00001.parquet").write_bytes(b"PAR1")
    for split in ("train", "val", "train+val"):
        tasks.build("glue/cola").load(split, spec=spec, root=tmp_path)
    with pytest.raises(DataError, match="cannot be read as a table"):
        tasks.build("glue/cola").load("test", spec=spec, root=tmp_path)


def test_a_part_of_train_is_stratified_and_leaves_the_selection_as_it_was(tmp_path):
    written(tmp_path, "cola")
    few = {"name": "glue/cola", "train_examples": 10}
    assert sorted(texts(few, "train", tmp_path).targets) == [0] * 5 + [1] * 5
    assert texts(few, "val", tmp_path) == texts("glue/cola", "val", tmp_path)


def test_jsonl_and_other_places_are_read(tmp_path):
    jsonl(tmp_path / "sst2" / "train.jsonl", rows("sst2", 20))
    assert len(texts("glue/sst2", "train+val", tmp_path).texts) == 20


def test_bad_rows_are_named(tmp_path, spec):
    folder = tmp_path / "cola"
    jsonl(folder / "train.jsonl", [{"sentence": "a", "label": 0}, {"sentence": "b", "label": 2}, {"sentence": "c", "label": None}])
    assert tasks.build("glue/cola").problems("train", root=tmp_path) == [
        f"{folder}/train.jsonl:2: label 2 is outside of 0 to 1, the labels of 'glue/cola'.",
        f"{folder}/train.jsonl:3: label None is outside of 0 to 1, the labels of 'glue/cola'.",
    ]
    with pytest.raises(DataError, match=r"train\.jsonl:2: label 2.*\(and 1 more"):
        tasks.build("glue/cola").load("train", spec=spec, root=tmp_path)
    jsonl(folder / "train.jsonl", [{"text": "a", "label": 0}])
    assert "lacks the column 'sentence'" in tasks.build("glue/cola").problems("train", root=tmp_path)[0]
    assert "holds no validation table" in tasks.build("glue/cola").problems("test", root=tmp_path)[0]


@pytest.mark.shared_data
@pytest.mark.parametrize(("name", "train", "test"), [("cola", 8551, 1043), ("rte", 2490, 277)])
def test_the_real_sizes(shared_data, name, train, test):
    assert len(texts(f"glue/{name}", "train+val", shared_data).texts) == train
    assert len(texts(f"glue/{name}", "test", shared_data).texts) == test
    assert tasks.build(f"glue/{name}").problems("val", root=shared_data) == []
