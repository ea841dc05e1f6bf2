"""The door: plain mappings in, plain reports out, and a lane's folder that survives whatever happens to the process."""

import json
from unittest import mock

import pytest
import torch
from safetensors import safe_open

from pace_tune.errors import ConfigError, UnknownNameError
from pace_tune.training.lane_state import LaneState
from pace_tune.training.population import Population
from pace_tune.worker import Worker

SETUP = {"task": {"name": "digits", "shots": 4, "val_per_class": 4}, "backbone": "vit_nano_cifar10", "data": {}}
RUN = {
    "task": SETUP["task"],
    "backbone": SETUP["backbone"],
    "method": {"name": "lora_add", "rank": 2},
    "objective": {"name": "pace", "sigma": 1.0, "lambda": 0.1},
    "optim": {"epochs": 3, "batch_size": 20, "lr": 5e-3},
    "measure": {"every_epochs": 2, "samples": 8},
}
STATES = {"running", "finished", "diverged", "out_of_memory", "failed"}


def a_run(**sections) -> dict:
    """RUN with some fields of its sections changed."""
    return {**RUN, **{key: {**RUN[key], **value} if isinstance(value, dict) else value for key, value in sections.items()}}


@pytest.fixture
def worker(tmp_path):
    return Worker(SETUP, storage=tmp_path, threads=1, device="cpu")


def test_a_worker_on_a_cpu_keeps_the_memory_that_it_frees(tmp_path):
    with mock.patch("pace_tune.worker.keep_freed_memory") as keep:
        again(tmp_path)
    keep.assert_called_once()


def again(tmp_path) -> Worker:
    """Another process, later."""
    return Worker(SETUP, storage=tmp_path, threads=1, device="cpu")


def run_out(worker: Worker) -> dict[str, list[dict]]:
    reports: dict[str, list[dict]] = {}
    while found := worker.advance():
        for report in found:
            reports.setdefault(report["lane"], []).append(report)
    return reports


def without_clock(reports: list[dict]) -> list[dict]:
    return [{**r, "metrics": {k: v for k, v in r["metrics"].items() if not k.startswith("speed/")}} for r in reports]


def test_reports_are_plain_and_say_all_there_is_to_say(worker, tmp_path):
    assert worker.open("t0000", RUN) == []
    assert worker.open("t0001", a_run(objective="plain", seed=1)) == []
    reports = run_out(worker)
    assert [(r["epoch"], r["epochs"], r["state"], r["reason"]) for r in reports["t0000"]] == [
        (1, 3, "running", ""),
        (2, 3, "running", ""),
        (3, 3, "finished", ""),
    ]
    assert json.loads(json.dumps(reports)) == reports
    every = {
        "train/loss",
        "train/task_loss",
        "train/consistency",
        "train/accuracy",
        "val/accuracy",
        "val/loss",
        "best/accuracy",
        "best/step",
    }
    measured = {"measure/grad_norm", "measure/jacobian_norm", "measure/fp_distance", "measure/fp_distance_relative", "measure/delta_norm"}
    measured |= {"measure/logit_norm", "gap/loss", "gap/accuracy"}
    for lane in reports.values():
        assert all(every <= set(report["metrics"]) for report in lane)
        # At every second epoch, and at the last.
        assert [measured <= set(report["metrics"]) for report in lane] == [False, True, True]
        best = max(lane, key=lambda report: report["metrics"]["val/accuracy"])["metrics"]
        assert (lane[-1]["metrics"]["best/accuracy"], lane[-1]["metrics"]["best/step"]) == (best["val/accuracy"], best["best/step"])
        assert lane[-1]["metrics"]["train/loss"] < lane[0]["metrics"]["train/loss"]
    assert reports["t0001"][-1]["metrics"]["train/consistency"] == 0.0
    assert sorted(p.name for p in (tmp_path / "t0000").iterdir()) == ["history.jsonl", "lane.safetensors"]
    assert worker.advance() == []


def test_a_finished_lane_is_scored_from_its_file(worker, tmp_path):
    worker.open("t0000", RUN)
    last = run_out(worker)["t0000"][-1]
    scores = worker.score("t0000", "val")
    assert scores == pytest.approx({"loss": last["metrics"]["val/loss"], "accuracy": last["metrics"]["val/accuracy"]}, rel=1e-5)
    assert 0 < again(tmp_path).score("t0000", "test")["accuracy"] < 1
    with pytest.raises(ConfigError, match=r"lane 't0009' has no checkpoint"):
        worker.score("t0009", "val")


def test_a_finished_lane_is_replayed_and_not_trained_again(worker, tmp_path):
    worker.open("t0000", RUN)
    reports = run_out(worker)["t0000"]
    later = again(tmp_path)
    assert later.open("t0000", RUN) == reports
    assert later.advance() == []


def test_a_killed_worker_goes_on_bit_for_bit(tmp_path):
    lanes = {"t0000": RUN, "t0001": a_run(seed=3, method={"rank": 4})}
    for folder in ("killed", "undisturbed"):
        worker = Worker(SETUP, storage=tmp_path / folder, threads=1, device="cpu")
        for lane, run in lanes.items():
            worker.open(lane, run)
        if folder == "killed":
            before = worker.advance()
            worker = Worker(SETUP, storage=tmp_path / folder, threads=1, device="cpu")
            assert [report for lane, run in lanes.items() for report in worker.open(lane, run)] == before
        run_out(worker)
    for lane in lanes:
        killed, undisturbed = (safe_open(tmp_path / folder / lane / "lane.safetensors", "pt") for folder in ("killed", "undisturbed"))
        assert sorted(killed.keys()) == sorted(undisturbed.keys())
        assert all(torch.equal(killed.get_tensor(key), undisturbed.get_tensor(key)) for key in killed.keys())  # noqa: SIM118
        histories = [
            [json.loads(line) for line in (tmp_path / f / lane / "history.jsonl").read_text().splitlines()]
            for f in ("killed", "undisturbed")
        ]
        assert without_clock(histories[0]) == without_clock(histories[1])


def test_an_epoch_that_was_reported_but_not_kept_is_trained_again(worker, tmp_path):
    worker.open("t0000", RUN)
    worker.advance()
    checkpoint = (tmp_path / "t0000" / "lane.safetensors").read_bytes()
    second = worker.advance()
    (tmp_path / "t0000" / "lane.safetensors").write_bytes(checkpoint)  # as if killed right after the report
    later = again(tmp_path)
    assert [report["epoch"] for report in later.open("t0000", RUN)] == [1]
    assert without_clock(later.advance()) == without_clock(second)
    assert len((tmp_path / "t0000" / "history.jsonl").read_text().splitlines()) == 2


def test_a_lane_given_back_can_be_opened_again(worker):
    worker.open("t0000", RUN)
    worker.open("t0001", a_run(seed=1))
    first = worker.advance()
    worker.close("t0000")
    worker.close("t0000")
    worker.close("unknown")
    assert [report["lane"] for report in worker.advance()] == ["t0001"]
    assert worker.open("t0000", RUN) == first[:1]
    assert [(report["lane"], report["epoch"], report["state"]) for report in worker.advance()] == [
        ("t0001", 3, "finished"),
        ("t0000", 2, "running"),
    ]


def test_a_diverged_lane_stays_diverged(worker, tmp_path):
    worker.open("t0000", a_run(optim={"lr": 1e30}))
    worker.open("t0001", RUN)
    reports = run_out(worker)
    (diverged,) = reports["t0000"]
    assert diverged["state"] == "diverged"
    assert "train/loss is nan in epoch 1" in diverged["reason"]
    assert reports["t0001"][-1]["state"] == "finished"
    (replayed,) = again(tmp_path).open("t0000", a_run(optim={"lr": 1e30}))
    assert (replayed["state"], replayed["epoch"]) == ("diverged", 1)


def test_out_of_memory_is_told_from_other_failures(worker, monkeypatch):
    errors = iter([torch.OutOfMemoryError("no room"), ValueError("no sense")])

    def fail(self):
        raise next(errors)

    monkeypatch.setattr(Population, "run_epoch", fail)
    worker.open("t0000", RUN)
    assert [(r["state"], r["reason"]) for r in worker.advance()] == [("out_of_memory", "OutOfMemoryError: no room")]
    worker.open("t0001", RUN)
    assert [(r["state"], r["reason"]) for r in worker.advance()] == [("failed", "ValueError: no sense")]
    assert worker.advance() == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": {"rnak": 3}}, "method.rnak: unknown field of 'lora_add'"),
        ({"task": {"shots": 5}}, "task: all lanes of a worker share it"),
        ({"data": {"train_on": "train+val"}}, "data.train_on: all lanes of a worker share it"),
    ],
)
def test_a_run_that_is_wrong_or_of_another_worker_is_refused(worker, changes, message):
    run = {**RUN, **{key: {**RUN.get(key, {}), **value} for key, value in changes.items()}}
    with pytest.raises(ConfigError, match=message):
        worker.open("t0000", run)
    assert worker.advance() == []


def test_a_lane_whose_reports_end_before_its_checkpoint_begins_anew(worker, tmp_path):
    worker.open("t0000", RUN)
    whole = [worker.advance()[0] for _ in range(2)]
    history = tmp_path / "t0000" / "history.jsonl"
    history.write_bytes(history.read_bytes().splitlines(keepends=True)[0])
    other = again(tmp_path)
    assert other.open("t0000", RUN) == []
    assert without_clock([other.advance()[0] for _ in range(2)]) == without_clock(whole)


def test_a_worker_that_was_given_up_does_not_write_over_what_another_one_has_trained(worker, tmp_path):
    worker.open("t0000", RUN)
    worker.advance()
    other = again(tmp_path)
    other.open("t0000", RUN)
    other.advance()
    other.advance()
    newest = (tmp_path / "t0000" / "lane.safetensors").read_bytes()
    worker.advance()
    assert (tmp_path / "t0000" / "lane.safetensors").read_bytes() == newest


def test_the_checkpoint_of_another_run_is_refused(worker, tmp_path):
    worker.open("t0000", RUN)
    worker.advance()
    with pytest.raises(ConfigError, match="holds a lane of another run"):
        again(tmp_path).open("t0000", a_run(seed=1))


def test_a_checkpoint_from_before_a_field_was_there_is_the_same_run(worker, tmp_path):
    worker.open("t0000", RUN)
    first = worker.advance()
    path = tmp_path / "t0000" / "lane.safetensors"
    state, config = LaneState.load(path)
    del config["measure"]["jacobian_projections"], config["optim"]["drop_path"]
    state.save(path, run=config)
    assert again(tmp_path).open("t0000", RUN) == first
    with pytest.raises(ConfigError, match="holds a lane of another run"):
        again(tmp_path).open("t0000", a_run(optim={"drop_path": 0.3}))


def test_a_setup_that_names_nothing_known_is_refused(tmp_path):
    with pytest.raises(UnknownNameError, match="digits"):
        Worker({**SETUP, "task": "digit"}, storage=tmp_path)
