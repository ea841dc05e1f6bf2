import signal
from pathlib import Path

import pytest

from pace_tune.study.yaml_text import to_yaml

ROOT = Path(__file__).parents[2]


@pytest.fixture
def workplace(tmp_path, monkeypatch) -> Path:
    """An empty folder to work in, so that whatever a command writes is seen."""
    folder = tmp_path / "workplace"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def digits() -> Path:
    return ROOT / "search_spaces" / "digits.yaml"


@pytest.fixture
def run_file(tmp_path) -> Path:
    """A run of two short epochs."""
    path = tmp_path / "RUN.yaml"
    optim = {"lr": 3e-3, "epochs": 2, "batch_size": 32, "warmup_epochs": 1}
    run = {"task": "digits", "backbone": "vit_nano_cifar10", "method": {"name": "lora_add", "rank": 2}, "optim": optim}
    path.write_text(to_yaml({**run, "objective": {"name": "pace", "lambda": 0.5}, "measure": {"every_epochs": 0}}))
    return path


def hear_interrupts() -> None:
    """For a process that is started: a shell's background job, and all that it starts, ignores SIGINT until told otherwise."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
