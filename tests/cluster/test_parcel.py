"""What a submitted sweep takes along, and what it is called."""

from pathlib import Path

import pytest
import yaml

from pace_tune.cluster import parcel as module
from pace_tune.cluster.parcel import again, pack
from pace_tune.errors import ConfigError, DataError
from pace_tune.study.study_config import Study
from tests.search.studies import tree


@pytest.fixture
def study_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return write(tmp_path / "mine.yaml")


def write(file: Path, **changes) -> Path:
    whole = {**tree(Path("/shared/runs")), **changes}
    del whole["name"]
    file.write_text(yaml.safe_dump(whole))
    return file


def test_the_job_is_called_after_the_sweep_and_runs_the_resolved_study(study_file: Path, tmp_path: Path):
    parcel = pack(study_file)
    assert parcel.name == "mine"
    assert parcel.entrypoint == "exec python -m pace_tune sweep study.yaml"
    folder = tmp_path / "parcel"
    folder.mkdir()
    parcel.write(folder)
    assert [file.name for file in folder.iterdir()] == ["study.yaml"]
    assert Study.load(folder / "study.yaml").as_mapping() == Study.load(study_file).as_mapping()


def test_relative_data_travel_to_one_place_that_all_nodes_share(study_file: Path, tmp_path: Path):
    (tmp_path / "my data" / "cifar").mkdir(parents=True)
    (tmp_path / "my data" / "cifar" / "one.txt").write_text("1")
    write(study_file, data={"root": "my data"})
    parcel = pack(study_file)
    assert parcel.study["data"]["root"] == "/shared/runs/.data/mine/data-root"
    assert parcel.entrypoint == (
        "mkdir -p /shared/runs/.data/mine && cp -R data/. /shared/runs/.data/mine && exec python -m pace_tune sweep study.yaml"
    )
    folder = tmp_path / "parcel"
    folder.mkdir()
    parcel.write(folder)
    assert (folder / "data" / "data-root" / "cifar" / "one.txt").read_text() == "1"


def test_models_and_trained_adapters_travel_or_stay_by_the_same_rule(study_file: Path, tmp_path: Path):
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    write(study_file, method={"name": "lora", "rank": 2}, init_from="adapter")
    parcel = pack(study_file)
    assert parcel.study["init_from"]["path"] == "/shared/runs/.data/mine/init_from-path"
    assert parcel.data == {"init_from-path": Path("adapter")}
    parcel = pack(write(study_file, method={"name": "lora", "rank": 2}, init_from={"path": "/only/on/the/cluster", "head": False}))
    assert parcel.study["init_from"] == {"path": "/only/on/the/cluster", "head": False}
    (tmp_path / "weights.npz").write_bytes(b"1")
    parcel = pack(write(study_file, backbone={"name": "vit_tiny_patch16_224", "checkpoint": "weights.npz"}))
    assert parcel.study["backbone"]["checkpoint"] == "/shared/runs/.data/mine/backbone-checkpoint"


def test_the_shell_of_a_job_takes_a_folder_as_one_word(study_file: Path, tmp_path: Path):
    (tmp_path / "data").mkdir()
    write(study_file, data={"root": "data"})
    parcel = pack(study_file, settings={"output": "/shared/a b; rm -rf x"})
    assert "'/shared/a b; rm -rf x/.data/mine'" in parcel.entrypoint


def test_absolute_paths_are_the_clusters_and_need_not_be_here(study_file: Path):
    write(study_file, data={"root": "/only/on/the/cluster"})
    parcel = pack(study_file)
    assert parcel.study["data"]["root"] == "/only/on/the/cluster"
    assert not parcel.data


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"output": "pace-runs"}, "output: a submitted sweep needs an absolute folder"),
        ({"data": {"cache": "cache"}}, "data.cache: an absolute path"),
        ({"data": {"root": "nowhere"}}, "data.root: a folder must be there"),
        ({"method": {"name": "lora_add", "rank": -1}}, "method.rank"),
    ],
)
def test_what_could_not_work_there_is_refused_here(study_file: Path, changes: dict, said: str):
    with pytest.raises(ConfigError, match=said):
        pack(write(study_file, **changes))


def test_data_that_are_too_large_are_refused_with_a_way_out(study_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "large.bin").write_bytes(bytes(2 * 2**20))
    monkeypatch.setattr(module, "LIMIT_BYTES", 2**20)
    folder = tmp_path / "parcel"
    folder.mkdir()
    with pytest.raises(DataError, match="2 MiB are more than the 1 MiB a job may bring; put it on storage"):
        pack(write(study_file, data={"root": "data"})).write(folder)
    assert not any(folder.iterdir())


def test_more_trials_are_the_same_sweep_and_another_rank_is_not(study_file: Path):
    digest = pack(study_file).digest
    assert pack(study_file, settings={"search.trials": 99}).digest == digest
    assert pack(study_file, settings={"method.rank": 3}).digest != digest


def test_a_study_that_was_sent_is_sent_again_without_its_file(study_file: Path, tmp_path: Path):
    sent = pack(study_file)
    folder = tmp_path / "parcel"
    folder.mkdir()
    sent.write(folder)
    resumed = again((folder / "study.yaml").read_text(), trials=20)
    assert resumed.study["search"]["trials"] == 20
    assert (resumed.name, resumed.digest) == (sent.name, sent.digest)
