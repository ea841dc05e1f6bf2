"""Runs that start from trained adapters: through the door, in lanes, resumed, from every form that a run is kept in."""

import json

import pytest
import torch
from safetensors.torch import load_file

from pace_tune.errors import ConfigError
from pace_tune.training.export import export_lane
from pace_tune.worker import Worker

TASK = {"name": "digits", "shots": 4, "val_per_class": 4}
RUN = {
    "task": TASK,
    "backbone": "vit_nano_cifar10",
    "method": {"name": "lora", "rank": 2, "alpha": 4.0, "targets": "all"},
    "objective": {"name": "pace", "sigma": 0.5, "lambda": 0.1},
    "optim": {"epochs": 2, "batch_size": 20, "lr": 5e-3},
    "measure": {"every_epochs": 1, "samples": 8},
}


def a_worker(folder, task=TASK) -> Worker:
    return Worker({"task": task, "backbone": RUN["backbone"], "data": {}}, storage=folder, threads=1, device="cpu")


def run_out(worker) -> dict[str, list[dict]]:
    reports: dict[str, list[dict]] = {}
    while found := worker.advance():
        for report in found:
            reports.setdefault(report["lane"], []).append(report)
    return reports


def without_clock(reports) -> list[dict]:
    return [{**r, "metrics": {k: v for k, v in r["metrics"].items() if not k.startswith("speed/")}} for r in reports]


def values(worker, lane) -> dict[str, torch.Tensor]:
    return worker.crew.lane(lane).state.values


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """The folder of a finished lane."""
    folder = tmp_path_factory.mktemp("source")
    worker = a_worker(folder)
    worker.open("t0000", {**RUN, "optim": {**RUN["optim"], "epochs": 6}})
    run_out(worker)
    return folder / "t0000"


@pytest.fixture(scope="module")
def adapter(source):
    folder = source.parent / "adapter"
    export_lane(source, out=folder, form="peft", device="cpu")
    return folder


def still(start, **more) -> dict:
    """A run whose parameters hardly move."""
    return {**RUN, "optim": {**RUN["optim"], "lr": 1e-12, "warmup_lr": 0.0, "min_lr": 0.0, "weight_decay": 0.0}, "init_from": start, **more}


def trained(source) -> dict[str, torch.Tensor]:
    tensors = load_file(source / "lane.safetensors")
    return {key.removeprefix("values:"): value for key, value in tensors.items() if key.startswith("values:")}


@pytest.mark.parametrize("form", ["lane", "checkpoint", "adapter"])
def test_the_first_epoch_starts_where_the_other_run_ended(source, adapter, tmp_path, form):
    start = {"lane": source, "checkpoint": source / "lane.safetensors", "adapter": adapter}[form]
    worker = a_worker(tmp_path)
    worker.open("t0000", still(str(start)))
    (report,) = worker.advance()
    assert report["state"] == "running"
    found = values(worker, "t0000")
    for key, value in trained(source).items():
        torch.testing.assert_close(found[key], value, rtol=0, atol=1e-6)
    last = [json.loads(line) for line in (source / "history.jsonl").read_text().splitlines()][-1]
    assert report["metrics"]["val/loss"] == pytest.approx(last["metrics"]["val/loss"], rel=1e-4)
    assert report["metrics"]["measure/delta_norm"] == pytest.approx(last["metrics"]["measure/delta_norm"], rel=1e-4)


def test_the_head_stays_fresh_where_it_is_not_wanted(source, tmp_path):
    worker = a_worker(tmp_path)
    worker.open("t0000", still({"path": str(source), "head": False}))
    worker.open("t0001", still({"path": None}))
    worker.advance()
    with_start, fresh, before = values(worker, "t0000"), values(worker, "t0001"), trained(source)
    for key, value in before.items():
        torch.testing.assert_close(with_start[key], fresh[key] if key.startswith("head/") else value, rtol=0, atol=1e-6)
    assert any(key.startswith("head/") and not torch.allclose(fresh[key], value, atol=1e-3) for key, value in before.items())


def test_another_number_of_classes_replaces_the_head(source, tmp_path, monkeypatch):
    from pace_tune.benchmarks.digits import Digits

    worker = a_worker(tmp_path)
    monkeypatch.setattr(Digits, "num_classes", property(lambda _: 12))
    twelve = a_worker(tmp_path / "twelve")
    for one in (worker, twelve):
        one.open("t0000", still(str(source)))
        one.advance()
    ten_values, twelve_values, before = values(worker, "t0000"), values(twelve, "t0000"), trained(source)
    assert twelve_values["head/weight"].shape[0] == 12
    assert ten_values["head/weight"].shape[0] == 10
    for key in before.keys() - {"head/weight", "head/bias"}:
        torch.testing.assert_close(twelve_values[key], before[key], rtol=0, atol=1e-6)


def test_lanes_from_trained_adapters_and_fresh_ones_train_together_as_alone(source, tmp_path):
    lanes = {"t0000": {**RUN, "init_from": str(source)}, "t0001": {**RUN, "seed": 3}, "t0002": {**RUN, "seed": 5, "init_from": str(source)}}
    together = a_worker(tmp_path / "together")
    for lane, run in lanes.items():
        together.open(lane, run)
    reports = run_out(together)
    assert reports["t0000"][0]["metrics"]["train/loss"] < 0.9 * reports["t0001"][0]["metrics"]["train/loss"]
    for lane, run in lanes.items():
        alone = a_worker(tmp_path / lane)
        alone.open(lane, run)
        for ours, theirs in zip(run_out(alone)[lane], reports[lane], strict=True):
            for key in ("train/loss", "val/loss", "measure/fp_distance"):
                assert ours["metrics"][key] == pytest.approx(theirs["metrics"][key], rel=1e-4)


def test_it_resumes_bit_for_bit_though_what_it_started_from_is_gone(source, tmp_path):
    import shutil

    copied = shutil.copytree(source, tmp_path / "copied")
    run = {**RUN, "init_from": str(copied)}
    undisturbed = a_worker(tmp_path / "undisturbed")
    undisturbed.open("t0000", run)
    whole = run_out(undisturbed)["t0000"]
    killed = a_worker(tmp_path / "killed")
    killed.open("t0000", run)
    first = killed.advance()
    shutil.rmtree(copied)
    later = a_worker(tmp_path / "killed")
    assert later.open("t0000", run) == first
    assert without_clock([*first, *run_out(later)["t0000"]]) == without_clock(whole)


def test_a_lane_that_started_from_elsewhere_is_another_run(source, tmp_path):
    worker = a_worker(tmp_path)
    worker.open("t0000", {**RUN, "init_from": str(source)})
    worker.advance()
    for other in (RUN, {**RUN, "init_from": {"path": str(source), "head": False}}):
        with pytest.raises(ConfigError, match="holds a lane of another run"):
            a_worker(tmp_path).open("t0000", other)


def test_what_does_not_fit_is_said_before_anything_is_trained(source, adapter, tmp_path):
    worker = a_worker(tmp_path)
    for change, sentence in {
        ("method", "rank"): r"method\.rank: the run that it starts from has 2 .*, but got 3",
        ("method", "alpha"): r"method\.alpha: the run that it starts from has 4\.0",
    }.items():
        run = {**RUN, "init_from": str(source), change[0]: {**RUN[change[0]], change[1]: 3}}
        with pytest.raises(ConfigError, match=sentence):
            worker.open("t0000", run)
    worker.open("t0001", {**RUN, "init_from": str(adapter), "method": {**RUN["method"], "alpha": 6.0}})
    (report,) = worker.advance()
    assert (report["state"], report["epoch"]) == ("failed", 1)
    assert "'lora' scales by alpha / rank = 3, but the adapter in" in report["reason"]
    worker.open("t0002", {**RUN, "init_from": str(adapter), "method": {**RUN["method"], "rank": 4, "alpha": 8.0}})
    (report,) = worker.advance()
    assert "/down has shape (112, 2), but this run's (112, 4)" in report["reason"]
    assert worker.advance() == []
