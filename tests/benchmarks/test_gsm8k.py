"""GSM-8K: what is scored, what is held out, and two readings of an answer."""

import pytest
import torch

from pace_tune.benchmarks.answers import flexible_answer, strict_answer, without_calculator
from pace_tune.errors import DataError
from pace_tune.models.backbone import InputSpec
from pace_tune.registry import tasks
from tests.benchmarks.layouts import jsonl
from tests.models.tiny_hf import tokenizer


@pytest.fixture
def spec(tmp_path):
    tokenizer(tmp_path / "tokenizer")
    return InputSpec(tokenizer=str(tmp_path / "tokenizer"), max_length=64)


def problem(i):
    return {"question": f"the cat {i} ran on {i} mat", "answer": f"{i} + {i} = <<{i}+{i}={2 * i}>>{2 * i}\n#### {2 * i}"}


def written(root, train=10, test=4):
    jsonl(root / "gsm8k" / "train.jsonl", [problem(i) for i in range(train)])
    jsonl(root / "gsm8k" / "test.jsonl", [problem(100 + i) for i in range(test)])
    return {"name": "gsm8k", "val_examples": 3}


@pytest.mark.parametrize(
    ("text", "strict", "flexible"),
    [
        ("so 6 * 2 = 12\n#### 12", "12", "12"),
        ("#### 1,234 and then 7", "1234", "7"),
        ("The answer is $1,234.50.", None, "1234.50"),
        ("it is -5.", None, "-5"),
        ("#### -5", "-5", "-5"),
        ("about $18.", None, "18"),
        ("no idea", None, None),
        ("#### 3\n#### 4", "3", "4"),
    ],
)
def test_readings(text, strict, flexible):
    assert (strict_answer(text), flexible_answer(text)) == (strict, flexible)


def test_both_scores_side_by_side():
    scores = tasks.build("gsm8k").judge_texts(["#### 4", "it is 4", "#### 5", ""], ["x #### 4"] * 4)
    assert scores == {"strict": 0.25, "flexible": 0.5}


def test_calculator_marks_go_unless_kept():
    assert without_calculator("48/2 = <<48/2=24>>24 clips") == "48/2 = 24 clips"


def test_only_the_answer_and_the_end_of_text_are_scored(tmp_path, spec):
    from transformers import AutoTokenizer

    task = tasks.build(written(tmp_path))
    train = task.load("train", spec=spec, root=tmp_path)
    words = AutoTokenizer.from_pretrained(spec.tokenizer)
    for ids, mask, targets, reference in zip(
        train.inputs["input_ids"], train.inputs["attention_mask"], train.targets, train.references, strict=True
    ):
        scored = targets != -100
        assert torch.equal(ids[scored], targets[scored])
        spoken = words.decode(targets[scored])
        assert spoken.replace(" ", "").endswith(f"####{strict_answer(reference)}</s>")
        assert "<<" not in spoken
        assert not scored[mask == 0].any()
        assert (ids[~scored & (mask == 1)] != 3).all()


def test_val_is_held_out_of_train_and_test_read_only_when_asked_for(tmp_path, spec):
    fields = written(tmp_path)
    (tmp_path / "gsm8k" / "test.jsonl").write_text("broken")
    train, val, both = (tasks.build(fields).load(split, spec=spec, root=tmp_path).references for split in ("train", "val", "train+val"))
    assert (len(train), len(val)) == (7, 3)
    assert not set(train) & set(val)
    assert set(both) == set(train) | set(val)
    with pytest.raises(DataError, match=r"test\.jsonl:1: is no JSON object"):
        tasks.build(fields).load("test", spec=spec, root=tmp_path)


def test_sizes_are_bounded_by_fields(tmp_path, spec):
    fields = {**written(tmp_path), "train_examples": 2, "test_examples": 1}
    assert [len(tasks.build(fields).load(split, spec=spec, root=tmp_path)) for split in ("train", "val", "test")] == [2, 3, 1]


def test_problems_that_do_not_fit_are_left_out_of_train_and_said(tmp_path, spec):
    fields = {**written(tmp_path), "instruction": "the " * 30}
    short = InputSpec(tokenizer=spec.tokenizer, max_length=16)
    with pytest.raises(DataError, match=r"no problem of train fits into 16 tokens; raise `backbone\.max_length`"):
        tasks.build(fields).load("train", spec=short, root=tmp_path)
    val = tasks.build(fields).load("val", spec=short, root=tmp_path)
    assert val.inputs["input_ids"].shape[1] == 16
    assert ((val.targets != -100).sum(dim=1) >= 1).all()


def test_bad_rows_are_named(tmp_path):
    fields = written(tmp_path)
    path = tmp_path / "gsm8k" / "train.jsonl"
    path.write_text(path.read_text() + '{"question": "q", "answer": "no mark"}\n{"question": "q"}\n')
    found = tasks.build(fields).problems("train", root=tmp_path)
    assert [line.removeprefix(f"{path}:").split(" ")[0] for line in found] == ["12:", "11:"]
    assert "13 problems are to be held out" not in " ".join(found)
    assert "are to be held out" in tasks.build({**fields, "val_examples": 50}).problems("val", root=tmp_path)[-1]


@pytest.mark.shared_data
def test_the_real_files(shared_data):
    spec = InputSpec(tokenizer=str(shared_data / "models" / "stories260K-hf"), max_length=512)
    test = tasks.build({"name": "gsm8k", "test_examples": 20}).load("test", spec=spec, root=shared_data)
    assert len(test) == 20
    for split in ("train", "test"):
        assert tasks.build("gsm8k").problems(split, root=shared_data) == []
