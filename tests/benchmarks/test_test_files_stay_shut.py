"""`train` and `sweep` never read the test split: with its files spoilt they end well, and none of them is opened."""

import os
import sys
from pathlib import Path

import pytest

from pace_tune.cli.commands.train import train
from pace_tune.cli.run_folder import RunFolder
from pace_tune.errors import DataError
from pace_tune.registry import tasks
from pace_tune.study.run_config import RunConfig
from pace_tune.study.study_config import Study
from pace_tune.worker import Worker
from tests.benchmarks.families import make
from tests.models.tiny_hf import checkpoint

FAMILIES = (
    *("vtab/kitti", "fewshot/pets", "fgvc/flowers", "domain/imagenet", "glue/cola", "glue/stsb", "gsm8k"),
    *("folder", "table", "hub/text", "hub/image", "domain/folders"),
)
OPENED: list[str] = []
"""Every file that this process opened while something was watched."""
WATCHING: list[bool] = []


def _note(event: str, arguments: tuple) -> None:
    if event == "open" and WATCHING and isinstance(arguments[0], str | bytes | os.PathLike):
        OPENED.append(os.fsdecode(arguments[0]))


@pytest.fixture(scope="module")
def watched():
    sys.addaudithook(_note)  # it stays, and does nothing while nobody watches
    WATCHING.append(True)
    yield OPENED
    WATCHING.clear()
    OPENED.clear()


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return {kind: str(checkpoint(folder / kind, kind)) for kind in ("bert", "llama")}


def spoilt(name: str, root: Path) -> tuple[dict, set[str]]:
    """A family's tiny data whose test files hold nonsense, and those files."""
    root.mkdir()
    made = make(name, root)
    lists = [*root.rglob("test.txt"), *root.rglob("test_meta.list"), *root.rglob("test.json")]
    files = {*made.tests, *(path for path in lists if path.is_file())}
    for path in files:
        path.write_bytes(b"\xff\xfe spoilt")
    return made.fields, {str(path) for path in files}


def a_run(name: str, root: Path, models) -> tuple[dict, set[str]]:
    fields, files = spoilt(name, root)
    text = {"text": {"name": "hf_classifier", "path": models["bert"]}, "causal": {"name": "hf_causal", "path": models["llama"]}}
    if name == "gsm8k":
        fields = {**fields, "max_new_tokens": 4}
    run = {
        "task": fields,
        "backbone": {**text.get(tasks.build(fields).modality, {"name": "vit_nano_cifar10"})},
        "method": {"name": "lora", "rank": 2},
        "objective": {"name": "pace", "sigma": 0.5},
        "optim": {"epochs": 1, "batch_size": 4, "warmup_epochs": 0},
        "data": {"root": str(root)},
        "measure": {"every_epochs": 1, "samples": 4},
    }
    if "path" in run["backbone"]:
        run["backbone"]["max_length"] = 48
    return run, files


@pytest.mark.parametrize("name", FAMILIES)
def test_train_leaves_them_alone(name, tmp_path, models, watched):
    run, files = a_run(name, tmp_path / "data", models)
    config = RunConfig.model_validate(run)
    folder = RunFolder.claim(tmp_path / "out", config)
    watched.clear()
    assert train(config, folder=folder, quiet=True, threads=1, device="cpu")["state"] == "finished"
    assert files
    assert not files & set(watched)
    assert any(path.startswith(str(tmp_path)) for path in watched), "the watch sees nothing"
    worker = Worker({key: run[key] for key in ("task", "backbone", "data")}, storage=str(folder.lanes), threads=1, device="cpu")
    with pytest.raises((DataError, ValueError)):
        worker.score("t0000", "test")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vtab/kitti", "glue/cola", "gsm8k", "folder", "hub/image"])
def test_a_sweep_leaves_them_alone(name, tmp_path, models, ray_cluster, mlflow_store):
    from pace_tune.search.sweep import run_sweep

    run, _ = a_run(name, tmp_path / "data", models)
    search = {"trials": 2, "sampler": "random", "early_stopping": "none", "baseline": False}
    tree = {**run, "method": {"name": "lora", "rank": {"choice": [2, 3]}}, "search": search, "resources": {"workers": 1, "lanes": 2}}
    study = Study.parse({**tree, "name": name.replace("/", "-"), "output": str(tmp_path / "out"), "tracking": {"uri": mlflow_store}})
    result = run_sweep(study, quiet=True)
    assert result.state == "finished"
    assert [entry.outcome for entry in result.trials] == ["finished", "finished"]
