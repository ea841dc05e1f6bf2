"""A sweep whose lanes lie on S3, seen from a machine that has only its books."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from pace_tune.cli.main import run
from pace_tune.storage import open_storage, publish
from tests import servers
from tests.results.planned_sweeps import Planned, write_sweep
from tests.training.finished_lanes import DIGITS, run_of, write_lane

STORAGE = "s3://sweeps/users"


@pytest.fixture
def sweep(workplace: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = write_sweep(workplace / "pace-runs", [Planned(value=0.5), Planned(value=0.9, rank=2)])
    write_lane(folder / "lanes" / "t0001", run_of(DIGITS, {"name": "lora_add", "rank": 2}))
    with servers.s3_here(tmp_path_factory.mktemp("s3")):
        publish(folder / "lanes", open_storage(f"{STORAGE}/{folder.name}/lanes"))
        shutil.rmtree(folder / "lanes")
        with (folder / "study.yaml").open("a") as file:
            file.write(f"storage: {STORAGE}\n")
        yield folder


def test_the_winner_is_found_and_exported_to_a_store(sweep: Path, capsys: pytest.CaptureFixture[str]):
    assert run(["best", "digits", "--json"]) == 0
    assert "t0001" in capsys.readouterr().out
    assert run(["export", "digits", "-o", "s3://sweeps/models/digits", "--json"]) == 0
    row = json.loads(capsys.readouterr().out)
    assert (row["folder"], row["form"]) == ("s3://sweeps/models/digits", "timm")
    model = open_storage("s3://sweeps/models/digits")
    assert {"README.md", "export.json"} <= set(model.versions())
    assert any(name.endswith(".safetensors") for name in model.versions())
    assert run(["export", "digits", "-o", "s3://sweeps/models/digits"]) == 2
    assert "holds a model already" in capsys.readouterr().err
    assert run(["export", "digits", "-o", "s3://UPPER/x", "--json"]) == 2
