"""From real runs to verdicts and pictures, with a violation planted in each half: in training, and in a model."""

import dataclasses
import math
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from pace_tune.pace.objective import Step, Terms
from pace_tune.pace.pace import Pace
from pace_tune.theory import checkpoint
from pace_tune.theory.checkpoint import Expansion, Opener, Reading
from pace_tune.theory.checkpoint_claims import checkpoint_claims
from pace_tune.theory.distance import alignment
from pace_tune.theory.expansion import d_pace, first_order, jacobian
from pace_tune.theory.runs import read_runs
from pace_tune.theory.verify import figures, gather, verdicts, verify
from pace_tune.worker import Worker
from tests.theory.planned_runs import write_run
from tests.theory.toys import DOUBLE, quadratic, rng

SETUP = {"task": {"name": "digits", "shots": 1, "val_per_class": 2}, "backbone": {"name": "vit_nano_cifar10"}, "data": {}}
OPTIM = {"lr": 0.02, "epochs": 4, "warmup_epochs": 0, "batch_size": 5, "drop_path": 0.0, "schedule": "constant"}


def reversed_terms(self: Pace, step: Step) -> Terms:
    """Task loss minus lambda times the squashed distance, which rewards views that disagree."""
    logits_KVBC = step.forward(step.draw(views=2), views=2)
    first, second = logits_KVBC.unbind(dim=1)
    task_loss, distance = step.task_loss(first), step.distance(first, second)
    total = task_loss - step.strengths["lambda_"] * distance.log1p()
    return Terms(total, task_loss.detach(), distance.detach(), first.detach())


@pytest.fixture(autouse=True)
def _small_readings(monkeypatch: pytest.MonkeyPatch):
    """A quarter of the samples and draws: what is tested here is the way from files to verdicts."""
    monkeypatch.setattr(checkpoint, "SAMPLES", 4)
    monkeypatch.setattr(checkpoint, "PAIRS", 4)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seeds of plain and PACE, and of a PACE that is turned round, under its name."""
    root = tmp_path_factory.mktemp("runs")
    _train(root / "true", ["plain", "pace"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Pace, "terms", reversed_terms)
        _train(root / "false", ["plain", "pace"])
    return root


def _train(storage: Path, kinds: list[str]) -> None:
    worker = Worker(SETUP, storage=storage, threads=1, device="cpu")
    for kind in kinds:
        for seed in range(3):
            fields = {"sigma": 1.0, "lambda": 2.0} if kind == "pace" else {}
            config = {**SETUP, "method": {"name": "lora_add", "rank": 2}, "objective": {"name": kind, **fields}, "seed": seed}
            worker.open(f"{kind}{seed}", {**config, "optim": OPTIM, "measure": {"every_epochs": 2, "samples": 20}})
    while worker.advance():
        pass


def test_real_training_that_breaks_a_claim_does_not_hold(trained: Path):
    claim = "thm2/jacobian_norm/pace-plain"
    good = {verdict.claim: verdict for verdict in verify(trained / "true", models=0)}
    bad = {verdict.claim: verdict for verdict in verify(trained / "false", models=0)}
    assert good[claim].verdict == "holds"
    assert bad[claim].verdict == "does not hold"


def test_models_are_opened_measured_and_drawn(trained: Path, tmp_path: Path):
    said: list[str] = []
    evidence = gather(trained / "true", models=2, progress=said.append)
    found = {verdict.claim: verdict for verdict in verdicts(evidence)}
    assert [re.search(r", about \d+ \w+ left$", line) is not None for line in said] == [False, False, True]
    assert found["thm2/small_change"].verdict in {"holds", "cannot tell"}
    assert found["thm3/bound"].verdict == "holds"
    assert found["thm1/taylor"].verdict == "holds"
    paths = figures(evidence, tmp_path / "figures")
    stems = {path.stem for path in paths}
    assert {"curves", "controls", "expansion", "distance", "calibration", "sharpness"} <= stems
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)
    assert {verdict.plot for verdict in found.values()} <= stems | {"generalisation", "lambda_sweep"}


def test_a_single_run_gets_verdicts_about_its_model(trained: Path):
    found = {verdict.claim: verdict for verdict in verify(trained / "true" / "pace0")}
    assert found["thm2/small_change"].count == 1
    assert "thm2/jacobian_norm/pace-plain" not in found
    assert all(verdict.verdict == "cannot tell" for claim, verdict in found.items() if claim.startswith("thm1/") and claim != "thm1/taylor")


class Kinked:
    """f(z) = sum |z - 1|: at z = 1 its slope is 0, so no first order describes any noise, however small."""

    samples = 1

    def __init__(self, scale: float) -> None:
        self.scale, self.sigma_D = scale, torch.ones(8, dtype=DOUBLE)

    def __call__(self, z_ND: Tensor) -> Tensor:
        shift = self.scale * (z_ND - 1)
        return (shift.abs().sum(dim=1) + 1e-3 * shift.sum(dim=1))[:, None]


def reading(tmp_path: Path, make: Any, name: str) -> Reading:
    folder = write_run(tmp_path, name, objective={"name": "pace", "sigma": 1.0, "lambda": 1.0})
    expansions = []
    for scale in (1.0, 0.1):
        f = make(scale)
        slopes = jacobian(f)
        parts = alignment(f, slopes) if not isinstance(f, Kinked) else alignment(quadratic(), jacobian(quadratic()))
        expansions.append(Expansion(scale, d_pace(f, pairs=4000, generator=rng()), first_order(f, slopes), parts))
    return Reading(read_runs(folder)[0], 1.0, tuple(expansions), 1e9, 0.1, 0.5)


def test_a_model_without_a_first_order_does_not_hold(tmp_path: Path):
    kinked = reading(tmp_path, Kinked, "kinked")
    found = {verdict.claim: verdict for verdict in checkpoint_claims([kinked])}
    assert found["thm2/small_change"].verdict == "does not hold"
    assert found["thm2/operating"].verdict == "does not hold"


def test_a_distance_above_its_bound_does_not_hold(tmp_path: Path):
    above = dataclasses.replace(reading(tmp_path, Kinked, "above"), bound=1e-6)
    assert {v.claim: v for v in checkpoint_claims([above])}["thm3/bound"].verdict == "does not hold"


def test_models_that_noise_does_not_reach_are_left_out_in_words(tmp_path: Path):
    worker = Worker(SETUP, storage=tmp_path, threads=1, device="cpu")
    worker.open("probe", {**SETUP, "method": "linear", "objective": "plain", "optim": {**OPTIM, "epochs": 1}})
    worker.advance()
    said: list[str] = []
    evidence = gather(tmp_path, progress=said.append)
    assert not evidence.readings
    assert "noise reaches no delta of method 'linear'" in said[-1]
    assert all(verdict.verdict == "cannot tell" for verdict in verdicts(evidence))


def test_runs_that_measured_nothing_do_not_hide_those_that_did(tmp_path: Path):
    for kind in ("pace", "plain"):
        for seed in range(3):
            write_run(tmp_path / "lanes", f"{kind}{seed}", objective={"name": kind}, seed=seed)
            write_run(tmp_path / "confirm", f"{kind}{seed}", objective={"name": kind}, seed=seed, confirmed=True)
            write_run(tmp_path / "confirm", f"noise{kind}{seed}", objective={"name": f"noise{kind}"}, seed=seed, confirmed=True)
    said: list[str] = []
    found = {claim.claim: claim for claim in verdicts(gather(tmp_path, models=0, progress=said.append))}
    assert said == ["12 runs of 18, such as those of `confirm`, measured nothing: claims about training leave them out"]
    assert found["generalisation/accuracy/pace-plain"].count == 3
    assert all(claim.count for claim in found.values())
    assert not verdicts(gather(tmp_path / "confirm", models=0))


def test_calibration_is_not_read_on_what_a_run_was_trained_on(tmp_path: Path):
    for train_on, known in (("train", True), ("train+val", False)):
        setup = {**SETUP, "data": {"train_on": train_on}}
        worker = Worker(setup, storage=tmp_path / train_on, threads=1, device="cpu")
        config = {
            **setup,
            "method": {"name": "lora_add", "rank": 2},
            "objective": {"name": "plain"},
            "optim": OPTIM,
            "measure": {"every_epochs": 0},
        }
        worker.open("one", config)
        while worker.advance():
            pass
        (reading,) = gather(tmp_path / train_on).readings
        assert math.isfinite(reading.calibration_error) == known


def test_what_was_measured_is_kept_until_the_checkpoint_changes(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = tmp_path / "runs"
    shutil.copytree(trained / "true", folder, ignore=shutil.ignore_patterns("measured.json"))
    first = gather(folder, models=2)
    opened: list[str] = []
    real = Opener.open
    monkeypatch.setattr(Opener, "open", lambda self, run: opened.append(run.folder.name) or real(self, run))
    assert repr(gather(folder, models=2)) == repr(first)
    assert opened == []
    os.utime(first.readings[0].run.folder / "lane.safetensors", (1, 1))
    (first.readings[1].run.folder / "measured.json").write_text("{")
    assert repr(gather(folder, models=2)) == repr(first)
    assert sorted(opened) == sorted(reading.run.folder.name for reading in first.readings)
