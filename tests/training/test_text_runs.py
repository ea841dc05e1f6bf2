"""Language runs through the door: classification, regression and generation on tiny models, lane by lane as alone."""

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
import torch

from pace_tune.benchmarks.glue import TASKS
from pace_tune.models.backbone import InputSpec
from pace_tune.training.data import ResidentData
from pace_tune.worker import Worker
from tests.benchmarks.layouts import jsonl
from tests.models.tiny_hf import checkpoint

WORDS = ["the", "a", "cat", "dog", "sat", "ran", "on", "mat", "very", "good", "not", "bad"]


def glue_rows(name, count):
    columns, labels = TASKS[name].columns, TASKS[name].labels
    return [
        {
            **{c: " ".join(WORDS[(i * 7 + j * 3 + k) % 12] for j in range(2 + i % 5)) for k, c in enumerate(columns)},
            "label": i % len(labels) if labels else (i % 11) / 2,
        }
        for i in range(count)
    ]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    for name in ("cola", "stsb"):
        folder = root / "glue" / name
        folder.mkdir(parents=True)
        parquet.write_table(pa.Table.from_pylist(glue_rows(name, 40)), folder / "train.parquet")
        parquet.write_table(pa.Table.from_pylist(glue_rows(name, 20)), folder / "validation.parquet")
    problems = [{"question": f"the cat {i} ran", "answer": f"{i} + 1 = {i + 1}\n#### {i + 1}"} for i in range(20)]
    for split in ("train", "test"):
        jsonl(root / "gsm8k" / f"{split}.jsonl", problems)
    for kind in ("bert", "roberta", "llama", "phi3"):
        checkpoint(root / "models" / kind, kind)
    return root


def worker_and_run(root, tmp_path, task, backbone, *, options=None, **fields):
    name = "hf_causal" if task == "gsm8k" else "hf_classifier"
    task_options = {"val_examples": 4, "max_new_tokens": 6, "instruction": ""} if task == "gsm8k" else {"val_share": 0.3}
    run = {
        "task": {"name": task, **task_options},
        "backbone": {"name": name, "path": str(root / "models" / backbone), "max_length": 48, **(options or {})},
        "data": {"root": str(root)},
        "method": {"name": "lora_add", "rank": 2},
        "objective": {"name": "pace", "sigma": 0.5, "lambda": 0.1},
        "optim": {"epochs": 2, "batch_size": 8, "warmup_epochs": 0, "lr": 5e-3},
        "measure": {"every_epochs": 2, "samples": 4},
    } | fields
    return Worker({key: run[key] for key in ("task", "backbone", "data")}, storage=tmp_path), run


CASES = [("glue/cola", "bert"), ("glue/cola", "roberta"), ("glue/stsb", "roberta"), ("gsm8k", "llama"), ("gsm8k", "phi3")]
SCORES = {"glue/cola": {"matthews", "accuracy"}, "glue/stsb": {"pearson"}, "gsm8k": {"strict", "flexible", "token_accuracy"}}


@pytest.mark.parametrize(("task", "backbone"), CASES)
def test_a_run_trains_reports_and_scores(root, tmp_path, task, backbone):
    worker, run = worker_and_run(root, tmp_path, task, backbone)
    worker.open("t0000", run)
    first, last = (worker.advance()[0] for _ in range(2))
    assert (first["state"], last["state"], last["reason"]) == ("running", "finished", "")
    metrics = last["metrics"]
    assert {key.removeprefix("val/") for key in metrics if key.startswith("val/")} == {"loss"} | SCORES[task]
    assert metrics["train/consistency"] > 0
    assert all(abs(value) < 1e9 for value in metrics.values())
    assert metrics["train/loss"] < first["metrics"]["train/loss"] + 0.5
    assert {"measure/grad_norm", "measure/jacobian_norm", "measure/fp_distance", "gap/loss"} <= metrics.keys()
    assert set(worker.score("t0000", "test")) == {"loss"} | SCORES[task]


@pytest.mark.parametrize(("task", "backbone"), [("glue/cola", "roberta"), ("gsm8k", "llama")])
def test_a_lane_does_not_depend_on_its_neighbours(root, tmp_path, task, backbone):
    worker, run = worker_and_run(root, tmp_path, task, backbone)
    other = {**run, "seed": 5, "method": {"name": "lora_add", "rank": 4}}
    worker.open("t0000", run)
    worker.open("t0001", other)
    together = [worker.advance()[0]["metrics"] for _ in range(2)]
    worker.open("t0002", run)
    alone = [worker.advance()[0]["metrics"] for _ in range(2)]
    for a, b in zip(together, alone, strict=True):
        for key in ("train/loss", "val/loss", "train/consistency"):
            assert a[key] == pytest.approx(b[key], rel=1e-4, abs=1e-6)


def test_generation_in_a_batch_says_what_each_prompt_alone_gets(root, tmp_path):
    worker, run = worker_and_run(root, tmp_path, "gsm8k", "llama")
    worker.open("t0000", run)
    worker.open("t0001", {**run, "seed": 1})
    worker.advance()
    adapted = next(iter(worker.crew._populations.values())).adapted
    val = worker.split("val")
    batched = worker.judge.generate(adapted, val)
    one_by_one = [[], []]
    for row in range(len(val)):
        one = ResidentData({key: value[row : row + 1] for key, value in val.inputs.items()}, val.targets[row : row + 1], val.spec)
        for lane, (text,) in enumerate(worker.judge.generate(adapted, one)):
            one_by_one[lane].append(text)
    assert batched == one_by_one
    assert len(batched[0]) == 4


def test_batches_are_cut_to_their_longest_text():
    mask = torch.zeros(4, 40, dtype=torch.int64)
    for row, length in enumerate((3, 9, 17, 40)):
        mask[row, :length] = 1
    data = ResidentData({"input_ids": mask.clone(), "attention_mask": mask}, torch.zeros(4, dtype=torch.int64), InputSpec(tokenizer="t"))
    assert data.batch(torch.tensor([[0, 1]]))["input_ids"].shape == (2, 16)
    assert data.shared_batch(slice(0, 1), lanes=3)["attention_mask"].shape == (3, 8)
    assert data.batch(torch.tensor([[3, 0]]))["input_ids"].shape == (2, 40)


def test_an_objective_that_language_models_cannot_have_says_so(root, tmp_path):
    worker, run = worker_and_run(root, tmp_path, "gsm8k", "llama", objective="pace_fast")
    worker.open("t0000", run)
    (report,) = worker.advance()
    assert report["state"] == "failed"
    assert "use pace_lazy" in report["reason"]


@pytest.mark.parametrize("backbone", ["phi3", "llama"])
def test_checkpointing_and_half_precision_train_a_language_model(root, tmp_path, backbone):
    losses = {}
    for name, more in {"plain": {}, "checkpointed": {"gradient_checkpointing": True}, "half": {"dtype": "bfloat16"}}.items():
        worker, run = worker_and_run(root, tmp_path / name, "gsm8k", backbone, options=more)
        worker.open("t0000", run)
        losses[name] = [worker.advance()[0]["metrics"]["train/loss"] for _ in range(2)]
    assert losses["checkpointed"] == pytest.approx(losses["plain"], rel=1e-4)
    assert losses["half"] == pytest.approx(losses["plain"], rel=0.05)
