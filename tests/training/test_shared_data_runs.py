"""The development data through the door: a few steps of each family on what its files really look like."""

import lzma
import tarfile
from pathlib import Path

import pytest

from pace_tune.benchmarks.check import check_data
from pace_tune.registry import tasks
from pace_tune.worker import Worker
from tests.models.tiny_hf import checkpoint

pytestmark = pytest.mark.shared_data


@pytest.fixture(scope="session")
def vtab_root(shared_data, tmp_path_factory):
    root = tmp_path_factory.mktemp("vtab")
    for name in ("cifar", "dsprites_loc"):
        with lzma.open(shared_data / f"vtab-1k_{name}.tar.xz") as packed, tarfile.open(fileobj=packed) as archive:
            archive.extractall(root, filter="data")
    return root


def one_epoch(run, storage):
    worker = Worker({key: run[key] for key in ("task", "backbone", "data")}, storage=storage)
    worker.open("t0000", {"method": {"name": "lora_add", "rank": 2}, "measure": {"every_epochs": 0}, **run})
    (report,) = worker.advance()
    assert report["state"] == "finished", report
    return report["metrics"]


OPTIM = {"epochs": 1, "warmup_epochs": 0, "batch_size": 64, "lr": 1e-2}


@pytest.mark.parametrize(("name", "sizes"), [("cifar", (800, 200, 1000, 2000)), ("dsprites_loc", (800, 200, 1000, 2000))])
def test_vtab(vtab_root, tmp_path, name, sizes):
    from pace_tune.models.backbone import InputSpec

    task, spec = tasks.build(f"vtab/{name}"), InputSpec.image(32, normalisation="half")
    assert tuple(len(task.load(split, spec=spec, root=vtab_root)) for split in ("train", "val", "train+val", "test")) == sizes
    assert not [line for split in ("train", "val") for line in task.problems(split, root=vtab_root)]
    run = {"task": f"vtab/{name}", "backbone": "vit_nano_cifar10", "data": {"root": str(vtab_root)}, "optim": OPTIM, "objective": "plain"}
    assert 0 <= one_epoch(run, tmp_path)["val/accuracy"] <= 1


@pytest.mark.parametrize(("name", "score"), [("cola", "matthews"), ("rte", "accuracy")])
def test_glue(shared_data, tmp_path, name, score):
    folder: Path = checkpoint(tmp_path / "bert", "bert")
    run = {
        "task": {"name": f"glue/{name}", "train_examples": 64, "most_val": 64},
        "backbone": {"name": "hf_classifier", "path": str(folder), "max_length": 32},
        "data": {"root": str(shared_data)},
        "optim": {**OPTIM, "batch_size": 16},
    }
    assert f"val/{score}" in one_epoch(run, tmp_path / "runs")
    assert check_data(tasks.build(f"glue/{name}"), shared_data) == []


def test_gsm8k(shared_data, tmp_path):
    run = {
        "task": {"name": "gsm8k", "train_examples": 8, "val_examples": 4, "max_new_tokens": 8},
        "backbone": {"name": "hf_causal", "path": str(shared_data / "models" / "stories260K-hf")},
        "data": {"root": str(shared_data)},
        "optim": {**OPTIM, "batch_size": 4},
    }
    metrics = one_epoch(run, tmp_path / "runs")
    assert {"val/strict", "val/flexible", "val/token_accuracy"} <= metrics.keys()
    assert metrics["train/consistency"] > 0
